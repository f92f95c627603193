//! Our end of RTMP as a client: whatever a server says after the handshake costs at most the session, and what it says
//! of where to go is an address or none.

use std::sync::Arc;

use crate::core::io::clock;
use crate::core::session::{Command, Event, Input, Output, Session};
use crate::rtmp::wire::handshake::BLOCK;
use crate::rtmp::{RtmpClient, RtmpConfig, RtmpUrl, Wish};

/// The first bit says what is wanted, the rest is the server's.
pub fn rtmp_client(data: &[u8]) {
    let Some((first, said)) = data.split_first() else { return };
    if let Ok(url) = std::str::from_utf8(said).map_or_else(|_| RtmpUrl::parse(""), RtmpUrl::parse) {
        let again =
            RtmpUrl::parse(&format!("{}/{}", url.connect_url(), url.stream())).expect("our own address");
        assert_eq!((again.host(), again.port(), again.app()), (url.host(), url.port(), url.app()));
    }
    let wish = if first & 1 == 0 { Wish::Play } else { Wish::Publish };
    let Ok(url) = RtmpUrl::parse("rtmp://there.example/app/name") else { return };
    let (now, epoch) = (clock::now(), clock::epoch());
    let config =
        RtmpConfig { max_message_bytes: 1 << 16, max_partial_bytes: 1 << 17, ..RtmpConfig::default() };
    let mut client = RtmpClient::new(Arc::new(config), epoch, now, url, wish);
    let mut opening = vec![3];
    opening.resize(1 + 2 * BLOCK, 0);
    let mut closed = 0;
    for bytes in [&opening[..], said] {
        client.handle_input(now, Input::Bytes(bytes));
        closed += drain(&mut client);
    }
    if let Some(to) = client.take_redirect() {
        let _ = RtmpUrl::parse(&to);
    }
    let _ = client.command(now, Command::Close { reason: "over".to_owned() });
    closed += drain(&mut client);
    assert_eq!(closed, 1, "a session ends once");
}

/// Takes what it says; answers how often it said that it is over.
fn drain(client: &mut RtmpClient) -> usize {
    let mut closed = 0;
    while let Some(output) = client.poll_output() {
        closed += usize::from(matches!(output, Output::Event(Event::Closed { .. })));
    }
    closed
}
