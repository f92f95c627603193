//! The pieces of the bench that could lie: stamps, percentiles, loss, and what is read of an answer.

mod forwarding;

use super::control::{Forwarded, Line, Memory, Percentiles, Report, Said, furnish, routine};
use super::media::{self, FRAME_PACKETS, KEYFRAME_PACKETS, PAYLOAD};
use super::result::{Delays, Stage, Usage};
use super::viewer::Viewer;
use super::{http, sdp};
use crate::core::control::netstring::Reader;
use crate::core::message::Request;
use crate::core::rtp::header::{HeaderFields, write_header};
use crate::core::time::MediaTime;

#[test]
fn frames_are_equal_packets_with_a_stamp() {
    let mut frame = media::frame(false);
    frame.iter_mut().for_each(|piece| piece.stamp(123_456_789));
    assert_eq!(frame.len(), FRAME_PACKETS);
    assert!(frame.iter().all(|piece| piece.payload.len() == PAYLOAD));
    assert_eq!(frame.iter().filter(|piece| piece.marker).count(), 1);
    let stamp = media::stamp(&frame[3].payload).unwrap();
    assert_eq!((stamp.sent, stamp.key), (123_456_789, false));
    let mut key = media::frame(true);
    key[0].stamp(5);
    assert_eq!(key.len(), 1 + KEYFRAME_PACKETS);
    assert_eq!(media::stamp(&key[0].payload), None, "parameter sets stay what they are");
    assert!(media::stamp(&key[1].payload).unwrap().key);
}

#[test]
fn percentiles() {
    let mut delays = Delays::default();
    assert_eq!(delays.percentile(50.0), None);
    (1..=1000u64).rev().for_each(|millis| delays.add(millis * 1_000_000));
    assert_eq!(delays.percentile(50.0), Some(501.0));
    assert_eq!(delays.percentile(99.0), Some(991.0));
    assert_eq!(delays.percentile(99.9), Some(1000.0));
    assert_eq!(delays.percentile(100.0), Some(1000.0));
}

#[test]
fn cost_is_by_the_servers_own_count_where_it_tells() {
    let before = Usage { cpu: 1_000, packets: Some(10), ..Default::default() };
    let after = Usage { cpu: 101_000, packets: Some(110), ..Default::default() };
    let mut stage = Stage { received: 50, usage: (before, after), seconds: 1.0, ..Default::default() };
    assert_eq!(stage.cpu_per_packet(), 1000.0);
    stage.usage.1.packets = None;
    assert_eq!(stage.cpu_per_packet(), 2000.0);
    stage.viewers = 10;
    (stage.resident, stage.resident_empty) = (3 << 20, 2 << 20);
    assert_eq!(stage.resident_per_viewer(), 102.4);
    let json = stage.json();
    assert_eq!((&json["cpuNanosPerPacket"], &json["delay"]["p99.9"]), (&2000.0.into(), &().into()));
    let table = super::result::report("here", &mut [stage]);
    let widths: Vec<_> =
        table.lines().filter(|line| line.starts_with('|')).map(|row| row.split(" | ").count()).collect();
    assert!(widths.len() == 3 && widths.iter().all(|width| *width == widths[0]), "{table}");
}

#[test]
fn a_viewer_counts_and_reports() {
    let mut viewer = Viewer::new(9, true, 1_000);
    let packet = |sequence: u16| {
        let fields =
            HeaderFields { sequence, ssrc: 5, payload_type: sdp::PAYLOAD_TYPE, ..Default::default() };
        let mut out = vec![0; 1500];
        let wide = sequence.to_be_bytes();
        let len = write_header(&mut out, &fields, &[(sdp::TRANSPORT_CC_ID, &wide)]).unwrap();
        out.truncate(len);
        let mut piece = media::frame(false).swap_remove(0);
        piece.stamp(77);
        out.extend_from_slice(&piece.payload);
        out
    };
    for sequence in [1, 2, 3] {
        assert_eq!(viewer.rtp(MediaTime(0), &packet(sequence), u64::from(sequence), 0).unwrap().sent, 77);
    }
    viewer.restart();
    viewer.rtp(MediaTime(0), &packet(6), 6, 0);
    assert_eq!((viewer.packets, viewer.lost()), (1, 2));
    let report = viewer.report(MediaTime::from_millis(100)).unwrap();
    let kinds: Vec<_> =
        crate::core::rtp::rtcp::Compound::new(&report).map(|packet| packet.unwrap()).collect();
    assert_eq!(kinds.len(), 3, "receiver report, transport feedback, NACK: {kinds:?}");
    assert_eq!(viewer.report(MediaTime::from_millis(101)), None);
}

#[test]
fn an_offer_and_an_answer() {
    let local = sdp::Local { ufrag: "abcd", pwd: "p", fingerprint: "AA:BB", ssrc: Some(7) };
    let offer = sdp::offer(&local);
    let parsed = crate::webrtc::sdp::Offer::parse(&offer).expect("our own offer");
    let policy = crate::webrtc::sdp::Policy::default();
    let publish = crate::webrtc::sdp::negotiate_publish(&parsed, &policy).expect("can be published");
    assert_eq!(publish.tracks.len(), 1);
    let viewer = sdp::offer(&sdp::Local { ssrc: None, ..local });
    let parsed = crate::webrtc::sdp::Offer::parse(&viewer).expect("our own offer");
    let mut number = 0;
    let mut random = || {
        number += 0x1_0000_0001;
        number
    };
    let play = crate::webrtc::sdp::negotiate_play(&parsed, &policy, &mut random).expect("can be watched");
    assert_eq!(play.tracks.len(), 1);

    let text = "v=0\r\na=ice-ufrag:u\r\na=ice-pwd:w\r\na=fingerprint:sha-256 aa:bb\r\n\
                a=candidate:1 1 tcp 9 10.0.0.1 9 typ host tcptype passive\r\n\
                a=candidate:2 1 UDP 9 ::1 8189 typ host\r\na=candidate:3 1 udp 9 10.0.0.1 8189 typ host\r\n";
    let answer = sdp::answer(text).expect("an answer");
    assert_eq!((answer.ufrag.as_str(), answer.pwd.as_str()), ("u", "w"));
    assert_eq!(answer.address.to_string(), "10.0.0.1:8189");
    assert_eq!((answer.fingerprint.as_str(), answer.transport_cc), ("AA:BB", false));
}

#[test]
fn the_first_picture_is_there_when_its_last_packet_is() {
    let mut viewer = Viewer::new(9, false, 1_000);
    for (sequence, piece) in (0u16..).zip(media::frame(true)) {
        assert_eq!(viewer.first_picture, None);
        let fields = HeaderFields { sequence, payload_type: sdp::PAYLOAD_TYPE, ..Default::default() };
        let mut out = vec![0; 1500];
        let len = write_header(&mut out, &fields, &[]).unwrap();
        out.truncate(len);
        out.extend_from_slice(&piece.payload);
        viewer.rtp(MediaTime(0), &out, u64::from(sequence), 2_000 + u64::from(sequence));
    }
    assert_eq!(viewer.first_picture, Some(1_000 + KEYFRAME_PACKETS as u64));
}

#[test]
fn a_source_sends_by_the_clock_and_makes_keyframes_when_asked() {
    use super::source::{FRAME_INTERVAL, Pattern, Source};
    let begin = std::time::Instant::now();
    let keys = crate::core::rtp::keys::KeyingMaterial { key: vec![1; 16], salt: vec![2; 12] };
    let profile = crate::core::rtp::keys::SrtpProfile::AeadAes128Gcm;
    let mut sender = crate::core::rtp::srtp::SrtpSender::new(profile, &keys).unwrap();
    let mut lengths = |paced: bool, asked: bool| {
        let mut source = Source::new(5, Pattern { keyframe_every: 60, paced, deaf: false }, begin);
        let mut counts = Vec::new();
        for frame in 0..62u32 {
            if asked && frame == 40 {
                let mut request = Vec::new();
                crate::core::rtp::rtcp::write::picture_loss(&mut request, 9, 5);
                source.rtcp(&request);
            }
            let (mut count, end) = (0, begin + FRAME_INTERVAL * (frame + 1));
            while source.next_due() < end {
                let sent = source.poll(source.next_due(), 7, &mut sender).unwrap();
                assert!(!paced || sent.len() == 1, "one at a time");
                count += sent.len();
            }
            counts.push(count);
        }
        counts
    };
    let is_key = |counts: &[usize]| -> Vec<_> {
        (0..counts.len()).filter(|at| counts[*at] == 1 + KEYFRAME_PACKETS).collect()
    };
    assert_eq!(is_key(&lengths(false, false)), [0, 60]);
    assert_eq!(is_key(&lengths(true, false)), [0, 60]);
    assert_eq!(is_key(&lengths(false, true)), [0, 40]);
}

#[test]
fn http_answers() {
    let response = |text: &str| http::response(text);
    let plain = response("HTTP/1.1 201 Created\r\nlocation: http://h:1/a/b\r\n\r\nv=0").unwrap();
    assert_eq!((plain.status, plain.location.as_deref(), &plain.body[..]), (201, Some("/a/b"), "v=0"));
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nv=0\r\n2\r\n\r\n\r\n0\r\n\r\n";
    assert_eq!(response(chunked).unwrap().body, "v=0\r\n");
    assert_eq!(response("rubbish"), None);
    assert!(
        http::post("h", "/r/whip", Some("t"), "v=0")
            .ends_with("Content-Length: 3\r\nConnection: close\r\n\r\nv=0")
    );
}

#[test]
fn controllers_ask_in_netstrings_and_read_what_comes_in_pieces() {
    let mut line = Line::default();
    assert_eq!(furnish(&mut line), 5);
    let mut reader = Reader::new(1 << 20);
    reader.feed(line.out());
    let mut methods = Vec::new();
    while let Ok(Some(payload)) = reader.next_payload() {
        methods.push(Request::parse(payload).expect("a request").method().expect("a known one"));
    }
    assert_eq!(methods.len(), 5);
    let made = |line: &mut Line, turn| {
        line.out().clear();
        routine(line, turn);
        String::from_utf8(std::mem::take(line.out())).expect("text")
    };
    let (first, second) = (made(&mut line, 3), made(&mut line, 11));
    assert!(first.contains("router.createConsumer") && first.contains("1000"), "{first}");
    assert!(second.contains("1001") && made(&mut line, 13).contains("1001"), "what came goes: {second}");
    let said = br#"24:{"id":7,"accepted":true},{"#;
    for byte in &said[..said.len() - 1] {
        line.feed(&[*byte]);
    }
    assert!(matches!(line.hear(), Ok(Some(Said::Answer(7, Ok(_))))));
    assert!(matches!(line.hear(), Ok(None)));
}

#[test]
fn what_is_left_of_memory_is_told_of_both_ends() {
    let memory = Memory { before: 1_000, after_first: 2_000, after_last: 1_040, ..Memory::default() };
    assert!((memory.left_percent() - 4.0).abs() < 1e-9 && (memory.grown_percent() + 48.0).abs() < 1e-9);
    let quiet = Percentiles { p50: 1.0, p99: 2.0, max: 3.0 };
    let busy = Percentiles { p99: 2.5, ..quiet };
    let forwarded = Some(Forwarded { viewers: 9, quiet, busy, lost: (0, 1) });
    let report = Report { forwarded, memory: Some(memory), ..Report::default() };
    let text = report.text();
    assert!(text.contains("moved by | 0.00 | 0.50 |") && text.contains("+4.0 % of before"), "{text}");
}
