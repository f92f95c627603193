//! A telephone of the bench: what it says at the door (RFC 3261, RFC 4566), what it says in the room, and
//! whether it hears those it should.
//!
//! In each room some telephones sing a note of their own and the others send silence; all send all the time, as
//! telephones do. At the end everybody must hear every note but its own.

use std::collections::VecDeque;
use std::f64::consts::TAU;
use std::net::SocketAddr;

use anyhow::Context;

/// Notes of those who sing, in Hz: no one is a harmonic of another.
pub const NOTES: [f64; 6] = [350.0, 450.0, 620.0, 790.0, 1010.0, 1270.0];
/// Packets a second.
pub const PACKET_RATE: u64 = 50;
/// Sound that is looked at for notes, in samples: half a second.
const LISTEN: usize = 4000;
const RATE: f64 = 8000.0;
/// Frames of one loop of a note: a second.
const LOOP: usize = PACKET_RATE as usize;

/// Which codec the telephones speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Codec {
    /// G.711 µ-law.
    Pcmu,
    /// Opus.
    Opus,
}

impl Codec {
    /// Payload type.
    pub fn payload_type(self) -> u8 {
        match self {
            Codec::Pcmu => 0,
            Codec::Opus => 111,
        }
    }

    /// RTP clock.
    pub fn clock(self) -> u32 {
        match self {
            Codec::Pcmu => 8000,
            Codec::Opus => 48_000,
        }
    }

    fn rtpmap(self) -> &'static str {
        match self {
            Codec::Pcmu => "PCMU/8000",
            Codec::Opus => "opus/48000/2",
        }
    }
}

/// A second of sound, coded: silence, or a note that has no seam when repeated.
pub fn sound(codec: Codec, note: Option<f64>) -> anyhow::Result<Vec<Vec<u8>>> {
    let sample = |at: usize| note.map_or(0.0, |note| 0.15 * (TAU * note * at as f64 / RATE).sin());
    let samples: Vec<i16> = (0..LOOP * 160).map(|at| (sample(at) * 32_767.0) as i16).collect();
    match codec {
        Codec::Pcmu => {
            Ok(samples.chunks(160).map(|frame| frame.iter().map(|s| to_ulaw(*s)).collect()).collect())
        }
        Codec::Opus => {
            let mut encoder = opus::Encoder::new(8000, opus::Channels::Mono, opus::Application::Voip)?;
            samples.chunks(160).map(|frame| Ok(encoder.encode_vec(frame, 400)?)).collect()
        }
    }
}

/// One telephone.
pub struct Phone {
    /// Its place: the room is `number / room size`.
    pub number: usize,
    /// Where its RTP goes, once answered.
    pub remote: Option<SocketAddr>,
    /// For BYE: the other side's tag and Contact.
    dialog: Option<(String, String)>,
    /// Its note, by its place among [`NOTES`].
    pub note: Option<usize>,
    /// Packets received since the last restart.
    pub received: u64,
    sequence: u16,
    frame: usize,
    first: Option<u64>,
    newest: u64,
    heard: VecDeque<i16>,
    decoder: Option<opus::Decoder>,
    codec: Codec,
}

impl Phone {
    /// The `number`th telephone; in each room of `size` the first `singing` sing.
    pub fn new(number: usize, size: usize, singing: usize, codec: Codec) -> Self {
        let place = number % size.max(1);
        Phone {
            number,
            remote: None,
            dialog: None,
            note: (place < singing.min(NOTES.len())).then_some(place),
            received: 0,
            sequence: 0,
            frame: number * 7,
            first: None,
            newest: 0,
            heard: VecDeque::new(),
            decoder: None,
            codec,
        }
    }

    fn call_id(&self) -> String {
        format!("bench-{}", self.number)
    }

    fn head(&self, method: &str, uri: &str, to_tag: &str, at: SocketAddr, sequence: u32) -> String {
        let (number, id) = (self.number, self.call_id());
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{id}-{method}-{sequence};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:phone{number}@{at}>;tag=f{number}\r\nTo: <{uri}>{to_tag}\r\n\
             Call-ID: {id}\r\nCSeq: {sequence} {method}\r\nContact: <sip:phone{number}@{at}>\r\n"
        )
    }

    /// The INVITE into `room` of the server at `server`; signalling is at `at`, RTP at `rtp`.
    pub fn invite(&self, room: &str, server: SocketAddr, at: SocketAddr, rtp: SocketAddr) -> String {
        let (payload_type, map) = (self.codec.payload_type(), self.codec.rtpmap());
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP {payload_type} 101\r\na=rtpmap:{payload_type} {map}\r\n\
             a=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n",
            ip = rtp.ip(),
            port = rtp.port(),
        );
        let head = self.head("INVITE", &format!("sip:{room}@{server}"), "", at, 1);
        format!("{head}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len())
    }

    /// The ACK of the answer that [`Phone::answered`] took.
    pub fn ack(&self, at: SocketAddr) -> Option<String> {
        let (tag, contact) = self.dialog.as_ref()?;
        Some(self.head("ACK", contact, &format!(";tag={tag}"), at, 1) + "Content-Length: 0\r\n\r\n")
    }

    /// The ACK of a refusal, which is of the INVITE's own transaction (RFC 3261 §17.1.1.3).
    pub fn ack_refusal(
        &self,
        room: &str,
        server: SocketAddr,
        at: SocketAddr,
        answer: &Answer<'_>,
    ) -> Option<String> {
        let tag = answer.header("To")?.split_once(";tag=").map_or("", |(_, tag)| tag);
        let uri = format!("sip:{room}@{server}");
        let ack = self.head("ACK", &uri, &format!(";tag={tag}"), at, 1);
        Some(ack.replacen("-ACK-1;rport", "-INVITE-1;rport", 1) + "Content-Length: 0\r\n\r\n")
    }

    /// The BYE.
    pub fn bye(&self, at: SocketAddr) -> Option<String> {
        let (tag, contact) = self.dialog.as_ref()?;
        Some(self.head("BYE", contact, &format!(";tag={tag}"), at, 2) + "Content-Length: 0\r\n\r\n")
    }

    /// Takes a 200 to the INVITE.
    pub fn answered(&mut self, answer: &Answer<'_>) -> anyhow::Result<()> {
        let tag = answer.header("To").and_then(|to| to.split_once(";tag=")).context("no tag in To")?.1;
        let tag = tag.split(';').next().unwrap_or(tag);
        let contact = answer.header("Contact").context("no Contact")?;
        let contact = contact.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(uri, _)| uri);
        self.dialog = Some((tag.to_owned(), contact.context("no URI in Contact")?.to_owned()));
        let line = |start: &str| answer.body.lines().find_map(|line| line.strip_prefix(start));
        let ip = line("c=IN IP4 ").context("no c= line")?.trim();
        let port = line("m=audio ").and_then(|media| media.split(' ').next()).context("no m= line")?;
        self.remote = Some(format!("{ip}:{port}").parse()?);
        Ok(())
    }

    /// The next packet; `sounds` is what [`sound`] made of each note, silence last.
    pub fn packet(&mut self, sounds: &[Vec<Vec<u8>>]) -> Option<Vec<u8>> {
        let sound = sounds.get(self.note.unwrap_or(NOTES.len()))?;
        let payload = sound.get(self.frame % sound.len().max(1))?;
        self.frame += 1;
        self.sequence = self.sequence.wrapping_add(1);
        let timestamp = (self.frame as u32).wrapping_mul(self.codec.clock() / PACKET_RATE as u32);
        let mut packet = vec![0x80, self.codec.payload_type()];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend((0x6c65_0000 + self.number as u32).to_be_bytes());
        packet.extend(payload);
        Some(packet)
    }

    /// Takes a datagram; with `listening`, its sound is kept.
    pub fn hear(&mut self, datagram: &[u8], listening: bool) -> anyhow::Result<()> {
        let [_, kind, s0, s1, ..] = *datagram else { return Ok(()) };
        if kind & 0x7f != self.codec.payload_type() {
            return Ok(());
        }
        let sequence = u16::from_be_bytes([s0, s1]);
        let step = i64::from(sequence.wrapping_sub(self.newest as u16) as i16);
        let extended = match self.first {
            Some(_) => self.newest.saturating_add_signed(step),
            None => u64::from(sequence) + (1 << 16),
        };
        self.first.get_or_insert(extended);
        self.newest = self.newest.max(extended);
        self.received += 1;
        if listening {
            self.decode(datagram.get(12..).unwrap_or_default())?;
        }
        Ok(())
    }

    fn decode(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        match self.codec {
            Codec::Pcmu => self.heard.extend(payload.iter().map(|byte| from_ulaw(*byte))),
            Codec::Opus => {
                let decoder = match &mut self.decoder {
                    Some(decoder) => decoder,
                    none => none.insert(opus::Decoder::new(8000, opus::Channels::Mono)?),
                };
                let mut samples = [0; 960];
                let count = decoder.decode(payload, &mut samples, false)?;
                self.heard.extend(&samples[..count]);
            }
        }
        while self.heard.len() > LISTEN {
            self.heard.pop_front();
        }
        Ok(())
    }

    /// Begins to count anew.
    pub fn restart(&mut self) {
        (self.received, self.first) = (0, None);
        self.newest = 0;
    }

    /// Packets that did not come since.
    pub fn lost(&self) -> i64 {
        match self.first {
            Some(first) => (self.newest - first + 1) as i64 - self.received as i64,
            None => 0,
        }
    }

    /// What is wrong with what it hears, where `singing` sing in its room.
    pub fn complaint(&self, singing: usize) -> Option<String> {
        if self.heard.len() < LISTEN {
            return Some("too little sound".into());
        }
        let samples: Vec<f64> = self.heard.iter().map(|sample| f64::from(*sample)).collect();
        for (place, note) in NOTES.iter().enumerate().take(singing) {
            let (heard, own) = (loudness(&samples, *note) > 200.0, self.note == Some(place));
            if heard == own {
                return Some(format!("{} {note} Hz", if own { "hears its own" } else { "does not hear" }));
            }
        }
        None
    }
}

/// Amplitude of a frequency (Goertzel).
fn loudness(samples: &[f64], frequency: f64) -> f64 {
    let turn = 2.0 * (TAU * frequency / RATE).cos();
    let (mut one, mut two) = (0.0, 0.0);
    for sample in samples {
        (one, two) = (sample + turn * one - two, one);
    }
    (one * one + two * two - turn * one * two).max(0.0).sqrt() * 2.0 / samples.len() as f64
}

/// A SIP response, as text.
pub struct Answer<'a> {
    /// Status code.
    pub status: u16,
    head: &'a str,
    /// Its body.
    pub body: &'a str,
}

impl<'a> Answer<'a> {
    /// Reads one; `None` for a request.
    pub fn read(text: &'a str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.strip_prefix("SIP/2.0 ")?.split(' ').next()?.parse().ok()?;
        Some(Answer { status, head, body })
    }

    /// A header by its long name.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.trim().eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// Whose call it is of, and to which method.
    pub fn call(&self) -> Option<(usize, &'a str)> {
        let number = self.header("Call-ID")?.strip_prefix("bench-")?.parse().ok()?;
        Some((number, self.header("CSeq")?.split(' ').nth(1)?))
    }
}

/// A 200 to whatever request `text` is, so that nobody repeats it.
pub fn agree(text: &str) -> Option<String> {
    let (head, _) = text.split_once("\r\n\r\n")?;
    let keep = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        matches!(name.as_str(), "via" | "from" | "to" | "call-id" | "cseq" | "record-route")
    };
    let lines: Vec<&str> = head.lines().skip(1).filter(keep).collect();
    Some(format!("SIP/2.0 200 OK\r\n{}\r\nContent-Length: 0\r\n\r\n", lines.join("\r\n")))
}

/// G.711 µ-law (ITU-T G.711), by its segments.
pub fn to_ulaw(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(32_635) + 0x84;
    let exponent = (31 - magnitude.leading_zeros() as i32) - 7;
    let mantissa = (magnitude >> (exponent + 3)) & 0x0f;
    !(sign | ((exponent as u8) << 4) | mantissa as u8)
}

/// The sample that a byte of it stands for.
pub fn from_ulaw(byte: u8) -> i16 {
    let byte = !byte;
    let magnitude = ((i32::from(byte & 0x0f) << 3) + 0x84) << ((byte >> 4) & 7);
    let sample = (magnitude - 0x84) as i16;
    if byte & 0x80 != 0 { -sample } else { sample }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1:1;branch=z\r\nTo: <sip:x@y>;tag=abc;x=1\r\n\
        Call-ID: bench-12\r\nCSeq: 1 INVITE\r\nContact: <sip:gw@127.0.0.1:5060>\r\n\r\n\
        v=0\r\nc=IN IP4 127.0.0.1\r\nm=audio 10002 RTP/AVP 0\r\n";

    #[test]
    fn a_call_is_made_and_ended() {
        let mut phone = Phone::new(12, 10, 3, Codec::Pcmu);
        let at = "127.0.0.1:4000".parse().expect("address");
        let invite = phone.invite("r1", "127.0.0.1:5060".parse().expect("address"), at, at);
        let (head, body) = invite.split_once("\r\n\r\n").expect("a message");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        assert_eq!((phone.note, phone.ack(at)), (Some(2), None));
        let answer = Answer::read(OK).expect("an answer");
        assert_eq!((answer.status, answer.call()), (200, Some((12, "INVITE"))));
        phone.answered(&answer).expect("understood");
        assert_eq!(phone.remote.map(|remote| remote.port()), Some(10_002));
        let bye = phone.bye(at).expect("in a call");
        assert!(bye.starts_with("BYE sip:gw@127.0.0.1:5060 SIP/2.0\r\n") && bye.contains(";tag=abc\r\n"));
        assert!(Answer::read(&bye).is_none());
        assert!(agree(&bye).is_some_and(|ok| ok.contains("CSeq: 2 BYE")));
    }

    #[test]
    fn notes_are_heard_and_missed() {
        for codec in [Codec::Pcmu, Codec::Opus] {
            let mut sounds: Vec<_> =
                NOTES.iter().map(|note| sound(codec, Some(*note)).expect("a note")).collect();
            sounds.push(sound(codec, None).expect("silence"));
            let (mut singer, mut listener) = (Phone::new(0, 10, 1, codec), Phone::new(5, 10, 1, codec));
            assert!(listener.complaint(1).is_some());
            for _ in 0..60 {
                let packet = singer.packet(&sounds).expect("a packet");
                listener.hear(&packet, true).expect("decoded");
                singer.hear(&packet, true).expect("decoded");
            }
            assert_eq!(listener.complaint(1), None, "{codec:?}");
            assert_eq!(listener.complaint(2).as_deref(), Some("does not hear 450 Hz"));
            assert_eq!(singer.complaint(1).as_deref(), Some("hears its own 350 Hz"));
            assert_eq!((listener.received, listener.lost()), (60, 0));
        }
    }

    #[test]
    fn ulaw_goes_both_ways() {
        for sample in [0i16, 100, -100, 1000, -5000, 32_000, i16::MIN] {
            let back = i32::from(from_ulaw(to_ulaw(sample)));
            let error = (back - i32::from(sample).max(-32_635)).abs();
            assert!(error <= i32::from(sample).abs() / 16 + 8, "{sample} {back}");
        }
    }
}
