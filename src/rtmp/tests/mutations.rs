//! Sessions with bytes changed, cut out and doubled: nothing panics, nothing grows.

use super::*;

/// xorshift, so that every run is the same.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }
}

/// Everything a publisher sends after the handshake, a little of each kind.
fn whole_session() -> (Vec<u8>, Vec<u8>) {
    let client = Client::new();
    let before = client.commands("live", "studio?key=k3y");
    let data =
        Value::object([("encoder", Value::text("Lavf")), ("list", Value::Array(vec![Value::Bool(true)]))]);
    let metadata = amf0::write_all(&[Value::text("@setDataFrame"), Value::text("onMetaData"), data]);
    let video = |time, body: Vec<u8>| client.message(6, 1, kind::VIDEO, time, body);
    let after = [
        client.message(4, 1, kind::DATA_AMF0, 0, metadata),
        video(0, avc(true, 0, 0, &bytes(MAIN))),
        client.message(4, 1, kind::AUDIO, 0, AAC_48K.to_vec()),
        video(0, avc(true, 1, 67, &unit(&[IDR]))),
        client.message(4, 1, kind::AUDIO, 21, vec![0xaf, 1, 1, 2, 3]),
        video(0x0100_0000, avc(false, 1, 33, &unit(&[P, &[0x41; 150]]))),
        client.message(2, 0, kind::USER_CONTROL, 0, vec![0, 6, 0, 0, 0, 1]),
        client.message(2, 0, kind::SET_CHUNK_SIZE, 0, vec![0, 0, 0, 128]),
        video(66, b"\x96\x13avc1\x01\0\0\x02no\x00\0\0\x03yes".to_vec()),
        client.message(4, 1, kind::AUDIO, 40, b"\x91Opus\x78\x01".to_vec()),
        video(99, avc(false, 1, 0, &unit(&[B]))),
        client
            .command(1, &[Value::text("deleteStream"), Value::Number(6.0), Value::Null, Value::Number(1.0)]),
    ];
    (before, after.concat())
}

fn mutate(dice: &mut Dice, data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(data.len());
        let count = dice.roll(16).min(data.len() - at);
        match dice.roll(5) {
            0 => data[at] ^= 1 << dice.roll(8),
            1 => data[at] = dice.roll(256) as u8,
            2 => drop(data.drain(at..at + count)),
            3 => data.splice(at..at, vec![dice.roll(256) as u8; count]).for_each(drop),
            _ => data.truncate(data.len().saturating_sub(dice.roll(40)).max(1)),
        }
        if data.is_empty() {
            data.push(3);
        }
    }
    data
}

#[test]
fn a_hundred_thousand_mutated_sessions() {
    let (before, after) = whole_session();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut accepted, mut frames, mut most) = (0, 0, 0);
    let config =
        RtmpConfig { max_message_bytes: 64 << 10, max_partial_bytes: 96 << 10, ..RtmpConfig::default() };
    let config = Arc::new(config);
    let start = Instant::now();
    let epoch = Epoch { instant: start, unix: Duration::ZERO };
    let opening = [3; 1 + 2 * handshake::BLOCK];
    for round in 0..100_000 {
        let mut session = RtmpSession::new(config.clone(), epoch, start);
        session.handle_input(start, Input::Bytes(&opening));
        let first = if round % 2 == 0 { before.clone() } else { mutate(&mut dice, &before) };
        let second = mutate(&mut dice, &after);
        for part in first.chunks(1 + dice.roll(2000)) {
            session.handle_input(start, Input::Bytes(part));
        }
        if session.take_request().is_some() {
            accepted += 1;
            session.accept(start);
        }
        for part in second.chunks(1 + dice.roll(2000)) {
            session.handle_input(start, Input::Bytes(part));
            most = most.max(session.held_bytes());
        }
        session.handle_timeout(start + Duration::from_secs(6));
        while let Some(output) = session.poll_output() {
            frames += usize::from(matches!(output, Output::Event(Event::Frame(_))));
        }
    }
    assert!(
        accepted > 50_000 && frames > 100_000,
        "{accepted} accepted, {frames} frames: too little was reached"
    );
    assert!(most <= 96 << 10, "{most} bytes held");
}
