//! The simple handshake (specification 1.0, section 5.2). The version in our block is 0, by which
//! encoders that began the digest form of the handshake know that its checks do not apply.

use crate::rtmp::RtmpError;

/// Bytes of C1, C2, S1 and S2.
pub const BLOCK: usize = 1536;
/// The one version in use.
const VERSION: u8 = 3;

/// The server's side: gathers C0 and C1, answers, lets C2 pass.
#[derive(Default)]
pub struct Handshake {
    gathered: Vec<u8>,
    answered: bool,
}

/// What came of the bytes taken.
#[derive(Debug, Eq, PartialEq)]
pub enum Progress {
    /// More bytes are needed.
    More,
    /// S0, S1 and S2, to be sent.
    Answer(Vec<u8>),
    /// The handshake is over; what is left of the bytes are chunks.
    Done,
}

impl Handshake {
    /// Takes bytes off `data`. `time` (milliseconds) and `seed` fill our block.
    pub fn take(&mut self, data: &mut &[u8], time: u32, seed: u64) -> Result<Progress, RtmpError> {
        let wanted = if self.answered { BLOCK } else { BLOCK.saturating_add(1) };
        let count = wanted.saturating_sub(self.gathered.len()).min(data.len());
        self.gathered.extend_from_slice(super::take(data, count).unwrap_or_default());
        if let Some(first) = self.gathered.first().filter(|&&first| !self.answered && first != VERSION) {
            return Err(RtmpError::NotRtmp(guess(*first)));
        }
        if self.gathered.len() < wanted {
            return Ok(Progress::More);
        }
        let block = std::mem::take(&mut self.gathered);
        if self.answered {
            return Ok(Progress::Done);
        }
        self.answered = true;
        Ok(Progress::Answer(answer(block.get(1..).unwrap_or_default(), time, seed)))
    }
}

/// What a first byte other than 3 usually means.
fn guess(first: u8) -> &'static str {
    match first {
        0x16 => "this looks like TLS; RTMPS has a port of its own",
        b'G' | b'P' | b'H' | b'O' | b'D' => "this looks like HTTP",
        6 | 8 => "encrypted RTMP (RTMPE) is not spoken here",
        _ => "the first byte is not 3",
    }
}

fn answer(theirs: &[u8], time: u32, seed: u64) -> Vec<u8> {
    let mut out = opening(time, seed);
    out.extend_from_slice(theirs);
    out
}

/// The version and a block of our own.
fn opening(time: u32, seed: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(BLOCK.saturating_mul(2).saturating_add(1));
    out.push(VERSION);
    out.extend_from_slice(&time.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    // Nothing secret: the block only has to be unlike the next one (xorshift).
    let mut state = seed | 1;
    while out.len() < BLOCK.saturating_add(1) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_be_bytes());
    }
    out
}

/// The client's side: gathers S0, S1 and S2, and answers with C2.
#[derive(Default)]
pub struct ClientHandshake {
    gathered: Vec<u8>,
}

impl ClientHandshake {
    /// Begins; C0 and C1 are to be sent. `micros` fills our block.
    pub fn begin(micros: u64) -> (Self, Vec<u8>) {
        (ClientHandshake::default(), opening((micros / 1_000) as u32, micros))
    }

    /// Takes bytes off `data`. Whether S2 repeats our block is not asked: old servers send something else.
    pub fn take(&mut self, data: &mut &[u8]) -> Result<Progress, RtmpError> {
        let wanted = BLOCK.saturating_mul(2).saturating_add(1);
        let count = wanted.saturating_sub(self.gathered.len()).min(data.len());
        self.gathered.extend_from_slice(super::take(data, count).unwrap_or_default());
        if let Some(first) = self.gathered.first().filter(|first| **first != VERSION) {
            return Err(RtmpError::NotRtmp(guess(*first)));
        }
        match self.gathered.get(1..BLOCK.saturating_add(1)).filter(|_| self.gathered.len() == wanted) {
            Some(theirs) => Ok(Progress::Answer(theirs.to_vec())),
            None => Ok(Progress::More),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    #[test]
    fn byte_by_byte_and_the_block_comes_back() {
        let mut client: Vec<u8> = vec![3];
        client.extend((0..BLOCK).map(|n| n as u8));
        let mut handshake = Handshake::default();
        let mut sent = Vec::new();
        for byte in &client {
            if let Progress::Answer(bytes) = handshake.take(&mut &[*byte][..], 7, 9).unwrap() {
                sent = bytes;
            }
        }
        assert_eq!(sent.len(), 1 + 2 * BLOCK);
        assert_eq!(&sent[..9], &[3, 0, 0, 0, 7, 0, 0, 0, 0]);
        assert_eq!(&sent[1 + BLOCK..], &client[1..]);
        let mut rest: &[u8] = &[0; BLOCK + 5];
        assert_eq!(handshake.take(&mut rest, 0, 0).unwrap(), Progress::Done);
        assert_eq!(rest.len(), 5);
    }

    #[test]
    fn a_client_and_a_server_shake_hands() {
        let (mut client, opening) = ClientHandshake::begin(123_456);
        let mut server = Handshake::default();
        let Progress::Answer(answer) = server.take(&mut &opening[..], 7, 9).unwrap() else {
            panic!("no answer")
        };
        let (mut rest, mut last) = (&answer[..], None);
        while !rest.is_empty() {
            let (mut piece, tail) = rest.split_at(rest.len().min(1000));
            if let Progress::Answer(bytes) = client.take(&mut piece).unwrap() {
                last = Some(bytes);
            }
            rest = tail;
        }
        assert_eq!(last.as_deref(), answer.get(1..BLOCK + 1), "C2 is the server's block");
        assert_eq!(server.take(&mut &last.unwrap()[..], 0, 0).unwrap(), Progress::Done);
        assert!(ClientHandshake::default().take(&mut &b"HTTP/1.1"[..]).is_err());
    }

    #[test]
    fn other_protocols_are_named() {
        let refuse = |data: &[u8]| Handshake::default().take(&mut &*data, 0, 0).unwrap_err().to_string();
        assert!(refuse(b"\x16\x03\x01").contains("TLS"));
        assert!(refuse(b"GET / HTTP/1.1").contains("HTTP"));
        assert!(refuse(b"\0").contains("not 3"));
    }
}
