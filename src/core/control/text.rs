//! The text form of the control protocol: requests, responses and notifications as lines, as mediasoup's
//! first ControlProtocol of 2014 had them.
//!
//! ```text
//! Request SP type CRLF       uuid CRLF                   *( key ": " value CRLF ) CRLF
//! Response SP type CRLF      uuid SP ("OK" / "ERROR") CRLF
//!     [ "code: " code CRLF ] [ "reason: " reason CRLF ]  *( key ": " value CRLF ) CRLF
//! Notification SP type CRLF                              *( key ": " value CRLF ) CRLF
//! ```
//!
//! A message ends with an empty line and nothing says its length before, so after a fault the next message
//! cannot be found: a reader that has failed stays failed. Values are UTF-8 in one line; nested ones are JSON.

#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use serde_json::Value;

/// Characters of a type or a key.
const MAX_NAME: usize = 64;
/// Digits of a uuid, which is a number despite its name.
const MAX_DIGITS: usize = 9;
const END: &[u8] = b"\r\n\r\n";

/// The framing is lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TextError {
    /// It is longer than the limit.
    #[error("a message is longer than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// The bytes are no UTF-8, or hold control characters.
    #[error("a message is text in UTF-8 without control characters, its lines end with CR LF")]
    NoText,
    /// The first line is none.
    #[error("a message begins with `Request`, `Response` or `Notification`, a space and a type")]
    BadStart,
    /// The uuid is none.
    #[error("the second line is a number of 1 to 9 digits (in a response followed by OK or ERROR)")]
    BadUuid,
    /// A parameter is none.
    #[error("a parameter is a key, a colon, a space and a value")]
    BadParameter,
    /// A key stands twice.
    #[error("a key stands in a message once")]
    TwoOfAKey,
}

impl TextError {
    /// Whether a remote party can bring this about: always.
    pub fn is_expected(&self) -> bool {
        true
    }
}

/// Keys and values, in their order.
pub type Parameters = Vec<(String, String)>;

/// One message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// Wants an answer.
    Request {
        /// What is asked for.
        kind: String,
        /// Repeated in the answer.
        uuid: u32,
        /// The rest.
        parameters: Parameters,
    },
    /// Is one.
    Response {
        /// The type of the request.
        kind: String,
        /// Its uuid.
        uuid: u32,
        /// Whether it was carried out; otherwise `code` and `reason` come first among the parameters.
        ok: bool,
        /// The rest.
        parameters: Parameters,
    },
    /// Wants none.
    Notification {
        /// What happened.
        kind: String,
        /// The rest.
        parameters: Parameters,
    },
}

/// Cuts a byte stream into messages.
pub struct Reader {
    buffer: Vec<u8>,
    consumed: usize,
    /// No message ends before this place.
    searched: usize,
    limit: usize,
    failed: Option<TextError>,
}

impl Reader {
    /// A reader of messages of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Reader { buffer: Vec::new(), consumed: 0, searched: 0, limit, failed: None }
    }

    /// Takes bytes in. Drain [`next_message`](Self::next_message) afterwards: then no more than one
    /// unfinished message is ever held.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        self.buffer.drain(..self.consumed.min(self.buffer.len()));
        self.searched = self.searched.saturating_sub(self.consumed);
        self.consumed = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, if it is there.
    pub fn next_message(&mut self) -> Result<Option<Message>, TextError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let cut = self.cut();
        if let Err(error) = cut {
            self.failed = Some(error);
            self.buffer = Vec::new();
            self.consumed = 0;
        }
        cut
    }

    /// How many bytes wait for the rest of their message.
    pub fn buffered(&self) -> usize {
        self.buffer.len().saturating_sub(self.consumed)
    }

    fn cut(&mut self) -> Result<Option<Message>, TextError> {
        let from = self.searched.max(self.consumed);
        let rest = self.buffer.get(from..).unwrap_or_default();
        let found = rest.windows(END.len()).position(|window| window == END);
        let Some(at) = found.map(|at| from.saturating_add(at)) else {
            if self.buffered() >= self.limit {
                return Err(TextError::TooLong { limit: self.limit });
            }
            // The end may be there but for its last bytes.
            self.searched = self.buffer.len().saturating_sub(END.len()).max(self.consumed);
            return Ok(None);
        };
        let message = self.buffer.get(self.consumed..at).unwrap_or_default();
        if message.len().saturating_add(END.len()) > self.limit {
            return Err(TextError::TooLong { limit: self.limit });
        }
        let message = Message::parse(message)?;
        self.consumed = at.saturating_add(END.len());
        self.searched = self.consumed;
        Ok(Some(message))
    }
}

impl Message {
    /// Reads one, without the CR LF of its last line and the empty line.
    fn parse(bytes: &[u8]) -> Result<Message, TextError> {
        let text = std::str::from_utf8(bytes).map_err(|_| TextError::NoText)?;
        let mut lines = text.split("\r\n");
        if text.split("\r\n").any(|line| line.contains(char::is_control)) {
            return Err(TextError::NoText);
        }
        let (word, kind) = lines.next().and_then(|line| line.split_once(' ')).ok_or(TextError::BadStart)?;
        if !is_name(kind) {
            return Err(TextError::BadStart);
        }
        let kind = kind.to_owned();
        match word {
            "Request" => {
                let uuid = read_uuid(lines.next().unwrap_or_default())?;
                Ok(Message::Request { kind, uuid, parameters: read_parameters(lines)? })
            }
            "Response" => {
                let line = lines.next().unwrap_or_default();
                let (uuid, status) = line.split_once(' ').ok_or(TextError::BadUuid)?;
                let ok = match status {
                    "OK" => true,
                    "ERROR" => false,
                    _ => return Err(TextError::BadUuid),
                };
                let uuid = read_uuid(uuid)?;
                Ok(Message::Response { kind, uuid, ok, parameters: read_parameters(lines)? })
            }
            "Notification" => Ok(Message::Notification { kind, parameters: read_parameters(lines)? }),
            _ => Err(TextError::BadStart),
        }
    }

    /// Appends it to `out`. Types and keys must be names and values one line, as whatever is read is.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (head, parameters) = match self {
            Message::Request { kind, uuid, parameters } => (format!("Request {kind}\r\n{uuid}"), parameters),
            Message::Response { kind, uuid, ok, parameters } => {
                let status = if *ok { "OK" } else { "ERROR" };
                (format!("Response {kind}\r\n{uuid} {status}"), parameters)
            }
            Message::Notification { kind, parameters } => (format!("Notification {kind}"), parameters),
        };
        out.extend_from_slice(head.as_bytes());
        for (key, value) in parameters {
            for piece in ["\r\n", key, ": ", value] {
                out.extend_from_slice(piece.as_bytes());
            }
        }
        out.extend_from_slice(END);
    }
}

fn read_uuid(text: &str) -> Result<u32, TextError> {
    let digits = !text.is_empty() && text.len() <= MAX_DIGITS && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().map_err(|_| TextError::BadUuid) } else { Err(TextError::BadUuid) }
}

fn read_parameters<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Parameters, TextError> {
    let mut parameters = Parameters::new();
    for line in lines {
        let (key, value) = line.split_once(": ").ok_or(TextError::BadParameter)?;
        if !is_name(key) {
            return Err(TextError::BadParameter);
        }
        parameters.push((key.to_owned(), value.to_owned()));
    }
    let mut keys: Vec<&str> = parameters.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    if keys.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(TextError::TwoOfAKey);
    }
    Ok(parameters)
}

/// Whether a text can be a type or a key: letters, digits, `.`, `_` and `-`.
fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(fits)
}

/// A value as JSON: what reads as JSON is that, anything else is a text. `text`: a text is expected, and what
/// looks like a number stays one; only within quotes it is read as JSON.
pub fn read_value(value: &str, text: bool) -> Value {
    let json = || serde_json::from_str(value).ok();
    let read = if text { json().filter(Value::is_string) } else { json() };
    read.unwrap_or_else(|| Value::String(value.to_owned()))
}

/// JSON as a value in one line, which [`read_value`] reads as the same.
pub fn write_value(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        other => other.to_string().chars().fold(String::new(), |mut line, c| {
            // JSON leaves some control characters as they are; they stand in its strings only.
            match c.is_control() {
                true => line.push_str(&format!("\\u{:04x}", u32::from(c))),
                false => line.push(c),
            }
            line
        }),
    }
}

/// Whether a text can stand without quotes and is not taken for something else.
fn is_plain(text: &str) -> bool {
    !text.contains(char::is_control) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_err()
}

/// What an object holds as parameters; `data` holds the whole where it is none, or cannot be split.
pub fn write_parameters(value: &Value) -> Parameters {
    match value {
        Value::Null => Parameters::new(),
        Value::Object(map) if map.keys().all(|key| is_name(key)) => {
            map.iter().map(|(key, value)| (key.clone(), write_value(value))).collect()
        }
        other => vec![("data".to_owned(), write_value(other))],
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read_all(bytes: &[u8], cut: usize) -> Result<Vec<Message>, TextError> {
        let (mut reader, mut found) = (Reader::new(200), Vec::new());
        for piece in bytes.chunks(cut) {
            reader.feed(piece);
            while let Some(message) = reader.next_message()? {
                found.push(message);
            }
        }
        Ok(found)
    }

    fn read(text: &str) -> Result<Message, TextError> {
        read_all(text.as_bytes(), text.len()).map(|found| found[0].clone())
    }

    #[test]
    fn the_three_kinds_are_read() {
        let parameters = vec![("user".to_owned(), "a: b".to_owned()), ("x.y_z-0".to_owned(), String::new())];
        assert_eq!(
            read("Request Authenticate\r\n000000012\r\nuser: a: b\r\nx.y_z-0: \r\n\r\n"),
            Ok(Message::Request { kind: "Authenticate".into(), uuid: 12, parameters })
        );
        let parameters = vec![("code".to_owned(), "x".to_owned())];
        assert_eq!(
            read("Response Hello\r\n7 ERROR\r\ncode: x\r\n\r\n"),
            Ok(Message::Response { kind: "Hello".into(), uuid: 7, ok: false, parameters })
        );
        assert_eq!(
            read("Notification close\r\n\r\n"),
            Ok(Message::Notification { kind: "close".into(), parameters: Vec::new() })
        );
    }

    #[test]
    fn faults_are_told_apart() {
        for (text, error) in [
            ("Request\r\n1\r\n\r\n", TextError::BadStart),
            ("Request Hel lo\r\n1\r\n\r\n", TextError::BadStart),
            ("Request / HTTP/1.1\r\nHost: x\r\n\r\n", TextError::BadStart),
            ("request Hello\r\n1\r\n\r\n", TextError::BadStart),
            ("\r\n\r\n", TextError::BadStart),
            ("Request Hello\r\n\r\n", TextError::BadUuid),
            ("Request Hello\r\n1234567890\r\n\r\n", TextError::BadUuid),
            ("Request Hello\r\n-1\r\n\r\n", TextError::BadUuid),
            ("Request Hello\r\n1 OK\r\n\r\n", TextError::BadUuid),
            ("Response Hello\r\n1 FINE\r\n\r\n", TextError::BadUuid),
            ("Request Hello\r\n1\r\na:b\r\n\r\n", TextError::BadParameter),
            ("Request Hello\r\n1\r\na b: c\r\n\r\n", TextError::BadParameter),
            ("Request Hello\r\n1\r\na: b\r\na: c\r\n\r\n", TextError::TwoOfAKey),
            ("Request Hello\r\n1\r\na: b\nc\r\n\r\n", TextError::NoText),
            ("Request Hello\r\n1\r\na: \0\r\n\r\n", TextError::NoText),
        ] {
            assert_eq!(read(text), Err(error), "{text:?}");
        }
        let long = format!("Request Hello\r\n1\r\na: {}\r\n\r\n", "x".repeat(200));
        for cut in [1, 150, 1000] {
            assert_eq!(read_all(long.as_bytes(), cut), Err(TextError::TooLong { limit: 200 }));
        }
        assert_eq!(read_all(b"Request Hello\r\n1\r\na: \xff\r\n\r\n", 100), Err(TextError::NoText));
    }

    #[test]
    fn a_reader_that_failed_stays_failed() {
        let mut reader = Reader::new(100);
        reader.feed(b"nonsense\r\n\r\nRequest Hello\r\n1\r\n\r\n");
        assert_eq!(reader.next_message(), Err(TextError::BadStart));
        reader.feed(b"Request Hello\r\n1\r\n\r\n");
        assert_eq!(reader.next_message(), Err(TextError::BadStart));
        assert_eq!(reader.buffered(), 0);
    }

    #[test]
    fn values_keep_their_type_in_one_line() {
        for value in [
            json!("plain text"),
            json!("12"),
            json!("null"),
            json!("{not json"),
            json!("\"quoted\""),
            json!("a\r\nb"),
            json!(""),
            json!(12.5),
            json!(true),
            json!(null),
            json!({"a": [1, "\r\n"]}),
            json!(["\u{7f}\u{85}"]),
        ] {
            let text = write_value(&value);
            assert!(!text.contains(char::is_control), "{text:?}");
            assert_eq!(read_value(&text, false), value, "{text:?}");
        }
        assert_eq!(read_value("0123", true), json!("0123"));
        assert_eq!(read_value("1e5", true), json!("1e5"));
        assert_eq!(read_value("\"1\"", true), json!("1"));
    }

    #[test]
    fn an_answer_that_is_no_object_stands_in_one_parameter() {
        assert_eq!(write_parameters(&json!([1, 2])), [("data".to_owned(), "[1,2]".to_owned())]);
        assert_eq!(write_parameters(&json!({"a b": 1})), [("data".to_owned(), "{\"a b\":1}".to_owned())]);
        assert_eq!(write_parameters(&Value::Null), []);
    }

    fn message() -> impl Strategy<Value = Message> {
        let parameters = prop::collection::btree_map("[a-z.]{1,5}", "[ -~é]{0,9}", 0..4)
            .prop_map(|map| map.into_iter().collect::<Parameters>());
        (0..3, "[a-zA-Z.]{1,9}", 0u32..1_000_000_000, any::<bool>(), parameters).prop_map(
            |(which, kind, uuid, ok, parameters)| match which {
                0 => Message::Request { kind, uuid, parameters },
                1 => Message::Response { kind, uuid, ok, parameters },
                _ => Message::Notification { kind, parameters },
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_the_same_however_it_is_cut(
            messages in prop::collection::vec(message(), 0..6),
            cut in 1usize..40,
        ) {
            let mut bytes = Vec::new();
            messages.iter().for_each(|message| message.write(&mut bytes));
            prop_assert_eq!(read_all(&bytes, cut), Ok(messages));
        }

        #[test]
        fn garbage_is_never_held_beyond_the_limit(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut reader = Reader::new(50);
            for byte in bytes {
                reader.feed(&[byte]);
                if reader.next_message().is_err() {
                    break;
                }
                prop_assert!(reader.buffered() < 50);
            }
        }
    }
}
