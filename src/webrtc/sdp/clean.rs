//! What comes before the SDP parser: bounds, broken line ends, bytes that are not UTF-8.
//!
//! Of an offer only its media and attribute lines matter here, and bandwidths where they belong, so nothing else
//! is handed on: a strange `o=`, `b=` or `y=` line cannot spoil what is readable.

use crate::webrtc::{SdpError, SdpLimits};

const SESSION: &str = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";

/// The lines of a text, whatever ends them (CR LF, LF, CR), without blank ones.
pub(super) fn lines<'a>(
    bytes: &'a [u8],
    limits: &SdpLimits,
) -> Result<Vec<std::borrow::Cow<'a, str>>, SdpError> {
    if bytes.len() > limits.max_bytes {
        let (length, most) = (bytes.len(), limits.max_bytes);
        return Err(SdpError::TooLarge(format!("{length} bytes, at most {most} are taken")));
    }
    let ends = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
    Ok(bytes
        .split(ends)
        .map(|line| line.trim_ascii())
        .filter(|line| !line.is_empty())
        .map(String::from_utf8_lossy)
        .collect())
}

/// Whether a line is a bandwidth that can be read.
fn is_bandwidth(line: &str) -> bool {
    let parts = line.strip_prefix("b=").and_then(|rest| rest.split_once(':'));
    parts.is_some_and(|(kind, value)| {
        kind.bytes().all(|byte| byte.is_ascii_alphanumeric()) && value.parse::<u64>().is_ok()
    })
}

/// The session's and media sections' attributes as a text that the parser takes.
pub(super) fn sanitize(bytes: &[u8], limits: &SdpLimits) -> Result<String, SdpError> {
    let lines = lines(bytes, limits)?;
    let first = lines.first().map(|line| line.trim_start_matches('\u{feff}')).unwrap_or_default();
    if !first.starts_with("v=") {
        return Err(SdpError::Malformed("it does not begin with v=0".to_owned()));
    }
    let count = |prefix: &str| lines.iter().filter(|line| line.starts_with(prefix)).count();
    for (what, found, most) in [
        ("media sections", count("m="), limits.max_media),
        ("attributes", count("a="), limits.max_attributes),
    ] {
        if found > most {
            return Err(SdpError::TooLarge(format!("{found} {what}, at most {most} are taken")));
        }
    }
    let mut text = SESSION.to_owned();
    let mut bandwidth = false;
    for line in lines.iter().filter(|line| line.len() > 2) {
        let (media, attribute) = (line.starts_with("m="), line.starts_with("a="));
        if media || attribute || (bandwidth && is_bandwidth(line)) {
            text.push_str(line);
            text.push_str("\r\n");
        }
        // Its place is before the attributes of a media section.
        bandwidth = media || (bandwidth && !attribute);
    }
    Ok(text)
}
