//! Data channels under any SCTP packets of a party that got through DTLS, and the messages that open them.

use std::time::{Duration, Instant};

use crate::core::data::{DataCommand, DataEvent, DataMessage, Delivery, SctpStreamParameters};
use crate::core::io::clock;
use crate::webrtc::SctpConfig;
use crate::webrtc::session::channels::Channels;
use crate::webrtc::wire::dcep::Dcep;

const LOSSY: Delivery = Delivery { ordered: false, max_packet_life_time: None, max_retransmits: Some(0) };

/// Our channels and those of an honest party, connected.
struct Pair {
    now: Instant,
    ours: Channels,
    theirs: Channels,
    config: SctpConfig,
    /// Of packets to us: the verification tag and the TSN of the last data.
    tag: [u8; 4],
    tsn: u32,
    received: usize,
}

/// DCEP: what is read is written and read the same.
pub fn dcep(data: &[u8]) {
    if let Ok(message) = Dcep::parse(data) {
        assert_eq!(Dcep::parse(&message.to_bytes()), Ok(message));
    }
}

/// Each packet is led by a byte that says how it is made fit to be looked at (how far its first TSN is from the
/// last one; whether time passes before; whether an honest message follows) and by its length. Whatever comes:
/// what we hold stays within the bounds.
pub fn sctp(data: &[u8]) {
    let mut pair = Pair::new();
    let mut rest = data;
    while let Some((&[how, length], behind)) = rest.split_first_chunk::<2>() {
        let (chunks, next) = behind.split_at(usize::from(length).min(behind.len()));
        rest = next;
        if how & 0x80 != 0 {
            pair.pass(Duration::from_secs(u64::from(how & 0x0f)));
        }
        pair.attack(how, chunks);
        if how & 0x40 != 0 {
            pair.chat();
        }
        pair.check();
    }
    pair.pass(Duration::from_secs(30));
    pair.check();
}

impl Pair {
    fn new() -> Pair {
        let config = SctpConfig {
            max_channels: 8,
            receive_buffer_bytes: 100_000,
            send_buffer_bytes: 50_000,
            connect_delay_ms: 10,
            ..SctpConfig::default()
        };
        let mut pair = Pair {
            now: clock::now(),
            ours: Channels::new(&config, 1_200, "ours".to_owned()),
            theirs: Channels::new(&config, 1_200, "theirs".to_owned()),
            config,
            tag: [0; 4],
            tsn: 0,
            received: 0,
        };
        for stream_id in [0, 1] {
            let delivery = if stream_id == 0 { Delivery::RELIABLE } else { LOSSY };
            let take = DataCommand::Take(SctpStreamParameters { stream_id, delivery });
            pair.ours.command(pair.now, take, false).expect("taken");
            let open = || DataCommand::Open { stream: Some(stream_id), delivery, announce: None };
            pair.ours.command(pair.now, open(), false).expect("opened");
            pair.theirs.command(pair.now, open(), true).expect("opened");
        }
        pair.theirs.start(pair.now, true);
        pair.ours.start(pair.now, false);
        pair.pass(Duration::from_secs(1));
        assert_eq!(pair.ours.dump().0, "connected");
        pair.chat();
        assert_eq!(pair.received, 4_000, "what is honest arrives");
        pair
    }

    /// Both say something on both channels.
    fn chat(&mut self) {
        for stream in [0, 1] {
            let send = || DataCommand::Send { stream, message: DataMessage::binary(vec![1; 2_000]) };
            // Either may have lost its channel.
            let _ = self.ours.command(self.now, send(), false);
            let _ = self.theirs.command(self.now, send(), true);
        }
        self.pass(Duration::from_millis(500));
    }

    fn attack(&mut self, how: u8, chunks: &[u8]) {
        let mut packet =
            [&5_000u16.to_be_bytes()[..], &5_000u16.to_be_bytes(), &self.tag, &[0; 4], chunks].concat();
        if let Some(tsn) = packet.get_mut(16..20).filter(|_| how & 0x20 != 0) {
            tsn.copy_from_slice(&self.tsn.wrapping_add(u32::from(how & 0x0f)).to_be_bytes());
        }
        let sum = crc32c(&packet).to_le_bytes();
        packet[8..12].copy_from_slice(&sum);
        self.ours.handle_packet(self.now, &packet);
        self.exchange();
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.exchange();
        for _ in 0..10_000 {
            let due = [self.ours.poll_timeout(), self.theirs.poll_timeout()].into_iter().flatten().min();
            let Some(due) = due.filter(|due| *due <= end) else { break };
            self.now = due.max(self.now);
            self.ours.handle_timeout(self.now);
            self.theirs.handle_timeout(self.now);
            self.exchange();
        }
        self.now = end;
    }

    fn exchange(&mut self) {
        for _ in 0..1_000 {
            let to_us: Vec<_> = std::iter::from_fn(|| self.theirs.poll_packet()).collect();
            let to_them: Vec<_> = std::iter::from_fn(|| self.ours.poll_packet()).collect();
            if to_us.is_empty() && to_them.is_empty() {
                break;
            }
            for packet in to_us {
                self.note(&packet);
                self.ours.handle_packet(self.now, &packet);
            }
            for packet in to_them {
                assert!(packet.len() <= 1_200 * 8, "a packet of {} bytes", packet.len());
                self.theirs.handle_packet(self.now, &packet);
            }
        }
        while let Some(event) = self.ours.poll_event() {
            if let DataEvent::Message { message, .. } = event {
                self.received += message.payload.len();
                assert!(message.payload.len() <= self.config.max_message_bytes as usize);
            }
        }
        while self.theirs.poll_event().is_some() {}
    }

    fn note(&mut self, packet: &[u8]) {
        if let Some(tag) = packet.get(4..8).filter(|tag| **tag != [0; 4]) {
            self.tag.copy_from_slice(tag);
        }
        if let (Some(0), Some(tsn)) = (packet.get(12), packet.get(16..20).and_then(|tsn| tsn.first_chunk())) {
            self.tsn = u32::from_be_bytes(*tsn);
        }
    }

    fn check(&self) {
        let (state, fields) = self.ours.dump();
        assert!(["connecting", "connected", "failed", "closed"].iter().any(|known| state == *known));
        let number = |name: &str| fields[name].as_u64().expect("a number") as usize;
        assert!(number("x.channels") <= self.config.max_channels);
        assert!(number("sctpBufferedAmount") <= self.config.send_buffer_bytes + 4_000);
    }
}

/// RFC 9260 appendix A.
fn crc32c(data: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}
