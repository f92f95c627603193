//! What the fuzz targets run: one function a target, each taking any bytes and panicking where a reader breaks
//! its promise. The targets under `fuzz/` only call these; a test replays their seeds through [`TARGETS`].

mod dtls;
mod leg;
mod rooms;
mod rtmp;
mod sctp;

use crate::core::control::controller::wire::{Heard, Wire};
use crate::core::control::netstring::{self, CHANNEL_LIMIT};
use crate::core::control::text;
use crate::core::message::{FromWorker, Request};
use crate::core::rtp::header::{HeaderFields, RtpView, header_length, write_header};
use crate::core::rtp::keys::{KeyingMaterial, SrtpProfile};
use crate::core::rtp::rtcp::{Compound, Packet, write};
use crate::core::rtp::srtp::{SrtpReceiver, SrtpSender};
use crate::rtmp::wire::amf0::{AmfLimits, Reader, write_all};
use crate::rtmp::wire::chunk::{ChunkLimits, ChunkReader};
use crate::rtmp::wire::{flv, kind};
use crate::sip::config::Transport;
use crate::sip::session::locate::{Search, Step};
use crate::sip::session::refer::{refer_to, replaced};
use crate::sip::wire::auth::Credentials;
use crate::sip::wire::dns::answer;
use crate::sip::wire::refusal::refusal_bytes;
use crate::sip::wire::sdp::Description;
use crate::sip::wire::via::Via;
use crate::sip::wire::{self as sip, NameAddr, Uri, WireLimits, frame};
use crate::webrtc::SdpLimits;
use crate::webrtc::sdp::{Fragment, Offer, Policy, negotiate_play, negotiate_publish};
use crate::webrtc::wire::hello::HelloReader;
use crate::webrtc::wire::stun::{IntegrityKey, Message};

pub use dtls::dtls;
pub use leg::leg;
pub use rooms::rooms;
pub use rtmp::rtmp_client;
pub use sctp::{dcep, sctp};

/// A target's body.
pub type Target = fn(&[u8]);

/// Each target by its name, which is also the name of its folder of seeds.
pub const TARGETS: &[(&str, Target)] = &[
    ("amf0", amf0),
    ("control", control),
    ("controller", controller),
    ("dcep", dcep),
    ("dns", dns),
    ("dtls", dtls),
    ("hello", hello),
    ("leg", leg),
    ("rooms", rooms),
    ("rtcp", rtcp),
    ("rtmp_chunk", rtmp_chunk),
    ("rtmp_client", rtmp_client),
    ("rtp", rtp),
    ("sctp", sctp),
    ("sdp", sdp),
    ("sip", sip),
    ("srtp", srtp),
    ("stun", stun),
];

/// SIP messages: what is read is written and read the same; framing agrees with reading; bodies do no harm; a call is
/// replaced only as it is named.
pub fn sip(data: &[u8]) {
    let limits = WireLimits { max_bytes: 65_536, max_header_bytes: 16_384, max_headers: 200 };
    if let frame::Frame::Message(length) | frame::Frame::Skip(length) = frame::next(data, &limits) {
        assert!(length <= data.len());
    }
    if let Ok(description) = Description::parse(data) {
        assert!(!description.media.is_empty());
    }
    let message = match sip::Message::parse(data, &limits) {
        Ok(message) => message,
        Err(error) => {
            let answer = refusal_bytes(data, &error, &limits, "tag");
            assert!(answer.is_none_or(|answer| answer.starts_with(b"SIP/2.0 ")));
            return;
        }
    };
    for value in message.headers().all("Via") {
        if let Ok(via) = Via::parse(value) {
            assert_eq!(Via::parse(&via.to_string()), Ok(via));
        }
    }
    let again = sip::Message::parse(&message.to_bytes(), &limits);
    // The written form may pass a bound that the read one did not.
    if let Ok(again) = again {
        assert_eq!(again.headers().cseq(), message.headers().cseq());
        assert_eq!(again.headers().call_id(), message.headers().call_id());
    }
    for name in ["From", "To", "Contact", "Route", "Refer-To"] {
        for value in message.headers().all(name) {
            if let Ok(uri) = NameAddr::parse(value).and_then(|name| name.uri()) {
                let _ = Uri::parse(&uri.to_string());
                let _ = uri.number();
            }
        }
    }
    for line in message.headers().lines("Authorization") {
        let _ = Credentials::parse(line);
    }
    if let sip::Message::Request(request) = &message {
        let _ = refer_to(request);
        let named = replaced(request).ok().flatten();
        assert!(named.is_none_or(|named| {
            request.headers.get("Replaces").is_some_and(|line| line.contains(&named.dialog.call_id))
        }));
    }
}

/// Answers of name servers: whatever they hold leads to a bounded number of places in a bounded number of questions.
pub fn dns(data: &[u8]) {
    let Some((id, _)) = data.split_first_chunk::<2>() else { return };
    let Ok(answer) = answer(data, u16::from_be_bytes(*id)) else { return };
    let Ok(uri) = Uri::parse("sip:user@example.com") else { return };
    let mut search = Search::new(&uri, Transport::Udp, true);
    for _ in 0..=answer.records.len() + 4 {
        match search.step() {
            Step::Ask(..) => search.handle_records(&answer.records),
            Step::Try(hops) => {
                assert!((1..=8).contains(&hops.len()));
                return;
            }
        }
    }
    panic!("a search without an end");
}

/// RTP headers: what is read fits together, and written anew it reads the same.
pub fn rtp(data: &[u8]) {
    let Ok(view) = RtpView::parse(data) else { return };
    assert_eq!(header_length(data), Ok(view.header_len));
    assert_eq!(view.header_len + view.payload.len() + usize::from(view.padding), data.len());
    let extensions: Vec<_> = view.extensions().collect();
    let fields = HeaderFields {
        marker: view.marker,
        padding: false,
        payload_type: view.payload_type,
        sequence: view.sequence,
        timestamp: view.timestamp,
        ssrc: view.ssrc,
    };
    let mut out = vec![0; 4 * data.len() + 64];
    let Ok(len) = write_header(&mut out, &fields, &extensions) else {
        return; // more elements than the length field of a two-byte block can tell
    };
    let again = RtpView::parse(&out[..len]).expect("our own header");
    assert_eq!(again.extensions().collect::<Vec<_>>(), extensions);
    assert_eq!((again.sequence, again.timestamp, again.ssrc), (view.sequence, view.timestamp, view.ssrc));
}

/// RTCP compounds: each iterator ends, and feedback written anew reads the same.
pub fn rtcp(data: &[u8]) {
    for packet in Compound::new(data) {
        let Ok(packet) = packet else { return };
        match packet {
            Packet::SenderReport(report) => assert!(report.reports.count() <= 31),
            Packet::ReceiverReport(report) => assert!(report.reports.count() <= 31),
            Packet::SourceDescription(sdes) => {
                assert!(sdes.cnames().map(|(_, name)| name.len()).sum::<usize>() <= data.len());
            }
            Packet::Goodbye(bye) => assert!(bye.ssrcs().count() <= 31),
            Packet::Nack(nack) => assert!(nack.lost().count() <= data.len() * 17 / 4),
            Packet::FullIntraRequest(fir) => assert!(fir.entries().count() <= data.len() / 8),
            Packet::Remb(remb) => assert!(remb.ssrcs().count() <= 255),
            Packet::TransportFeedback(feedback) => {
                let arrivals: Vec<_> = feedback.arrivals().collect();
                assert!(arrivals.len() <= usize::from(feedback.count));
                let mut out = Vec::new();
                let taken = write::transport_feedback(&mut out, 1, 2, 3, &arrivals);
                if taken > 0 {
                    let again = Compound::new(&out).next();
                    let Some(Ok(Packet::TransportFeedback(again))) = again else { panic!("{again:?}") };
                    assert_eq!(again.arrivals().count(), taken);
                }
            }
            Packet::PictureLoss { .. } | Packet::Other { .. } => {}
        }
    }
}

/// SRTP: nobody without the keys gets anything opened, and one changed bit closes what was sealed.
pub fn srtp(data: &[u8]) {
    let [choice, at, flip, rest @ ..] = data else { return };
    let (profile, key, salt) = match choice % 4 {
        0 => (SrtpProfile::Aes128CmSha1_80, 16, 14),
        1 => (SrtpProfile::Aes128CmSha1_32, 16, 14),
        2 => (SrtpProfile::AeadAes128Gcm, 16, 12),
        _ => (SrtpProfile::AeadAes256Gcm, 32, 12),
    };
    let keys = KeyingMaterial { key: vec![7; key], salt: vec![9; salt] };
    let mut sender = SrtpSender::new(profile, &keys).expect("keys of the right length");
    let mut receiver = SrtpReceiver::new(profile, &keys, 4).expect("keys of the right length");
    assert!(receiver.open_rtp(&mut rest.to_vec()).is_err(), "forged RTP");
    assert!(receiver.open_rtcp(&mut rest.to_vec()).is_err(), "forged RTCP");

    let mut out = vec![0; rest.len() + 64];
    let header = match header_length(rest) {
        Ok(header) => header,
        Err(_) => write_header(&mut out, &HeaderFields::default(), &[]).expect("room"),
    };
    if header_length(rest).is_ok() {
        out[..header].copy_from_slice(&rest[..header]);
    }
    let index = u64::from(u16::from_be_bytes([out[2], out[3]]));
    let ssrc = u32::from_be_bytes([out[8], out[9], out[10], out[11]]);
    let payload = rest.get(header..).unwrap_or_default();
    let len = sender.seal_rtp(&mut out, header, index, ssrc, payload).expect("room");
    if *flip != 0 {
        let mut bad = out[..len].to_vec();
        bad[usize::from(*at) % len] ^= flip;
        assert!(receiver.open_rtp(&mut bad).is_err(), "changed RTP");
    }
    assert_eq!(receiver.open_rtp(&mut out[..len]), Ok((header + payload.len(), index)));
    assert_eq!(&out[header..header + payload.len()], payload);
    assert!(receiver.open_rtp(&mut out[..len]).is_err(), "once only");
}

/// STUN messages.
pub fn stun(data: &[u8]) {
    if let Ok(message) = Message::parse(data) {
        assert!(Message::is_stun(data));
        let _ = (message.local_ufrag(), message.remote_ufrag());
        assert!(!message.verify(&IntegrityKey::new("a password that no seed was signed with")));
    }
}

/// Fragments of DTLS ClientHellos.
pub fn hello(data: &[u8]) {
    let mut reader = HelloReader::default();
    let (first, second) = data.split_at(data.len() / 2);
    let _ = (reader.push(data), reader.push(first), reader.push(second));
}

/// SDP offers, their negotiation both ways, and trickle fragments.
pub fn sdp(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Fragment::parse(text);
    }
    let Ok(offer) = Offer::from_bytes(data, &SdpLimits::default()) else { return };
    let mut number = 0;
    let mut random = || {
        number += 0x1_0000_0001;
        number
    };
    for policy in [Policy::default(), Policy { transport_cc: false, video_codecs: vec!["h264".into()] }] {
        let both = [negotiate_publish(&offer, &policy), negotiate_play(&offer, &policy, &mut random)];
        for negotiated in both.into_iter().flatten() {
            assert!((1..=2).contains(&negotiated.tracks.len()));
        }
    }
}

/// RTMP chunks and what their messages carry. Whether the bytes come at once or one by one makes no
/// difference, and no more than the limits is held.
pub fn rtmp_chunk(data: &[u8]) {
    let whole = messages(data, data.len().max(1));
    assert_eq!(whole, messages(data, 1));
    for (kind, payload) in whole {
        match kind {
            kind::AUDIO => drop(flv::audio(&payload)),
            kind::VIDEO => drop(flv::video(&payload)),
            kind::COMMAND_AMF0 | kind::DATA_AMF0 => amf0(&payload),
            _ => {}
        }
    }
}

fn messages(data: &[u8], step: usize) -> Vec<(u8, Vec<u8>)> {
    let limits = ChunkLimits { message_bytes: 1 << 16, partial_bytes: 1 << 17, streams: 8 };
    let mut reader = ChunkReader::new(limits);
    let mut found = Vec::new();
    for mut piece in data.chunks(step) {
        loop {
            match reader.read(&mut piece) {
                Ok(Some(message)) => {
                    assert!(message.payload.len() <= limits.message_bytes);
                    let size = message.payload.first_chunk().map(|size| u32::from_be_bytes(*size));
                    if let (kind::SET_CHUNK_SIZE, Some(size)) = (message.kind, size) {
                        let _ = reader.set_chunk_size(size);
                    }
                    found.push((message.kind, message.payload));
                }
                Ok(None) => break,
                Err(_) => return found,
            }
            assert!(reader.partial_bytes() <= limits.partial_bytes);
        }
    }
    found
}

/// AMF0 values: what is read can be written and reads the same.
pub fn amf0(data: &[u8]) {
    let limits = AmfLimits { depth: 8, values: 256, string_bytes: 4096 };
    let Ok(values) = Reader::new(data, limits).all() else { return };
    let bytes = write_all(&values);
    // What was no UTF-8 grew when it was replaced.
    let limits = AmfLimits { string_bytes: 1 << 16, ..limits };
    let again = Reader::new(&bytes, limits).all().expect("our own values");
    // NaN is no equal of itself, its text is.
    assert_eq!(format!("{again:?}"), format!("{values:?}"));
}

/// The control protocol: netstrings read the same however they are cut, and their messages, written anew,
/// are the same messages.
pub fn control(data: &[u8]) {
    let whole = payloads(data, data.len());
    assert_eq!(whole, payloads(data, 1));
    let mut written = Vec::new();
    for payload in &whole {
        assert!(payload.len() <= CHANNEL_LIMIT);
        netstring::write(payload, CHANNEL_LIMIT, &mut written).expect("short enough");
        if let Some(request) = Request::parse(payload) {
            let again = Request::parse(&request.to_json()).expect("our own request");
            assert_eq!(
                (again.id, &again.method, again.internal),
                (request.id, &request.method, request.internal)
            );
        }
        match FromWorker::parse(payload) {
            Some(FromWorker::Response(response)) => {
                let again = FromWorker::parse(&response.to_json());
                let Some(FromWorker::Response(again)) = again else { panic!("{again:?}") };
                assert_eq!((again.id, again.result.is_ok()), (response.id, response.result.is_ok()));
            }
            Some(FromWorker::Notification(event)) => {
                let again = FromWorker::parse(&event.to_json());
                let Some(FromWorker::Notification(again)) = again else { panic!("{again:?}") };
                assert_eq!((again.target_id, again.event), (event.target_id, event.event));
            }
            None => {}
        }
    }
    assert_eq!(whole, payloads(&written, 7));
    recovers(data);
}

/// A reader that goes on after faults comes to an end, and holds no more than what it was given.
fn recovers(data: &[u8]) {
    let mut reader = netstring::Reader::new(CHANNEL_LIMIT);
    reader.feed(data);
    loop {
        let before = reader.buffered();
        match reader.next_payload() {
            Ok(Some(payload)) => assert!(payload.len() <= CHANNEL_LIMIT),
            Ok(None) => break,
            Err(_) => {
                reader.recover();
                assert!(reader.buffered() < before);
            }
        }
    }
    reader.feed(b"x");
    assert!(reader.buffered() <= data.len().saturating_add(1));
}

/// What a controller says: it is heard the same however it is cut, no more than a message is held, and what is
/// written in text is read the same.
pub fn controller(data: &[u8]) {
    let whole = heard(data, data.len());
    assert_eq!(whole, heard(data, 1));
    let mut reader = text::Reader::new(CHANNEL_LIMIT);
    reader.feed(data);
    let (mut messages, mut written) = (Vec::new(), Vec::new());
    while let Ok(Some(message)) = reader.next_message() {
        message.write(&mut written);
        messages.push(message);
    }
    let mut reader = text::Reader::new(CHANNEL_LIMIT);
    reader.feed(&written);
    for message in messages {
        assert_eq!(reader.next_message(), Ok(Some(message)));
    }
    for said in whole {
        let Heard::Ask(ask) = said else { continue };
        let data = serde_json::Value::Object(ask.data);
        for (key, value) in text::write_parameters(&data) {
            assert!(!value.contains(char::is_control));
            let expected = if key == "data" { data.get("data").unwrap_or(&data) } else { &data[&key] };
            assert_eq!(&text::read_value(&value, false), expected);
        }
    }
}

fn heard(data: &[u8], cut: usize) -> Vec<Heard> {
    let (mut wire, mut found) = (Wire::new(1_000), Vec::new());
    for piece in data.chunks(cut.max(1)) {
        wire.feed(piece);
        while let Ok(Some(said)) = wire.next_heard() {
            found.push(said);
        }
        assert!(cut != 1 || wire.buffered() <= 1_006);
    }
    found
}

fn payloads(data: &[u8], cut: usize) -> Vec<Vec<u8>> {
    let mut reader = netstring::Reader::new(CHANNEL_LIMIT);
    let mut found = Vec::new();
    for piece in data.chunks(cut.max(1)) {
        reader.feed(piece);
        while let Ok(Some(payload)) = reader.next_payload() {
            found.push(payload.to_vec());
        }
    }
    found
}
