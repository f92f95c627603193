//! Where messages begin and end in a stream (RFC 3261 §18.3), and its keepalives (RFC 5626 §4.4.1).
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::sip::wire::message::{WireLimits, head_length};

/// What stands at the beginning of a stream's bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Frame {
    /// More bytes are needed.
    More,
    /// This many bytes of line ends, which are skipped.
    Skip(usize),
    /// A ping of this many bytes, which wants a CR LF.
    Ping(usize),
    /// A message of this many bytes.
    Message(usize),
    /// Nothing that could be told from the next message: the connection is of no use any more.
    Bad,
}

/// Looks at what has arrived so far.
pub fn next(data: &[u8], limits: &WireLimits) -> Frame {
    let ends = data.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    if data.starts_with(b"\r\n\r\n") {
        return Frame::Ping(4);
    }
    if ends > 0 {
        // A ping may still be under way.
        let partial = b"\r\n\r\n".starts_with(data);
        return if partial && ends == data.len() { Frame::More } else { Frame::Skip(ends) };
    }
    let Some(head) = head_length(data) else {
        return if data.len() > limits.max_header_bytes { Frame::Bad } else { Frame::More };
    };
    if head > limits.max_header_bytes {
        return Frame::Bad;
    }
    let Some(body) = data.get(..head).and_then(content_length) else { return Frame::Bad };
    match head.checked_add(body) {
        Some(whole) if whole > limits.max_bytes => Frame::Bad,
        Some(whole) if whole <= data.len() => Frame::Message(whole),
        Some(_) => Frame::More,
        None => Frame::Bad,
    }
}

/// `Content-Length` of a head; 0 where there is none. None: it cannot be read.
fn content_length(head: &[u8]) -> Option<usize> {
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at_checked(colon)?;
        let name = name.trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"l") {
            let value = std::str::from_utf8(value.get(1..)?).ok()?;
            return value.trim().parse().ok();
        }
    }
    Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: WireLimits = WireLimits { max_bytes: 400, max_header_bytes: 200, max_headers: 20 };

    #[test]
    fn messages_are_cut_out_of_a_stream() {
        let of = |text: &str| next(text.as_bytes(), &LIMITS);
        assert_eq!(of(""), Frame::More);
        assert_eq!(of("\r\n"), Frame::More);
        assert_eq!(of("\r\n\r\nOPT"), Frame::Ping(4));
        assert_eq!(of("\r\nOPTIONS"), Frame::Skip(2));
        assert_eq!(of("A\r\nl : 3\r\n\r\nab"), Frame::More);
        assert_eq!(of("A\r\nl : 3\r\n\r\nabcd"), Frame::Message(15));
        assert_eq!(of("A\nContent-Length: 1\n\nab"), Frame::Message(22));
        assert_eq!(of("A\r\nContent-Length: x\r\n\r\n"), Frame::Bad);
        assert_eq!(of("A\r\nContent-Length: 900\r\n\r\n"), Frame::Bad);
        assert_eq!(of(&"A".repeat(201)), Frame::Bad);
    }
}
