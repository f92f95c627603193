//! Answers to requests that cannot be read (RFC 3261 §21.4.1, RFC 4475): made of whatever headers can be told apart, so
//! that an honest sender learns what is wrong.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::sip::error::WireError;
use crate::sip::wire::message::{
    Headers, Message, Response, WireLimits, long_name, reason_phrase, split_head, unfold,
};
use crate::sip::wire::value;

/// Headers that a response repeats (RFC 3261 §8.2.6.2).
const REPEATED: &[&str] = &["Via", "From", "To", "Call-ID", "CSeq"];

/// The answer to a request that was not understood because of `error`. None: it is a response, an ACK, or nothing at all.
pub fn refusal(data: &[u8], error: &WireError, limits: &WireLimits, tag: &str) -> Option<Response> {
    let data = crate::sip::wire::message::skip_line_ends(data);
    let (head, _) = split_head(data)?;
    let head = head.get(..limits.max_header_bytes).unwrap_or(head);
    let head = String::from_utf8_lossy(head);
    // Their bytes are bounded; of too many, the first ones serve.
    let mut lines = unfold(&head, &WireLimits { max_headers: head.len(), ..*limits }).ok()?.into_iter();
    let start = lines.next()?;
    let method = start.split_ascii_whitespace().next()?;
    let of_sip = start.to_ascii_uppercase().contains(" SIP/");
    if !of_sip || method == "ACK" || !method.bytes().all(value::is_token) {
        return None;
    }
    let mut headers = Headers::default();
    let known = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        let name = REPEATED.iter().find(|known| long_name(name.trim_end()).eq_ignore_ascii_case(known))?;
        Some((*name, value.trim().to_owned()))
    });
    for (name, value) in known {
        if name == "Via" || headers.get(name).is_none() {
            headers.push(name, value);
        }
    }
    headers.get("Via")?;
    if let Some(to) = headers.get("To").filter(|_| headers.tag("To").is_none()).map(str::to_owned) {
        headers.set("To", format!("{to};tag={tag}"));
    }
    let status = match error {
        WireError::Version => 505,
        WireError::TooLarge(_) => 513,
        _ => 400,
    };
    let reason = match status {
        400 => format!("{}: {error}", reason_phrase(400)),
        status => reason_phrase(status).to_owned(),
    };
    Some(Response { status, reason, headers, body: Vec::new() })
}

/// The same as bytes to send.
pub fn refusal_bytes(data: &[u8], error: &WireError, limits: &WireLimits, tag: &str) -> Option<Vec<u8>> {
    refusal(data, error, limits, tag).map(|response| Message::Response(response).to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: WireLimits = WireLimits { max_bytes: 4000, max_header_bytes: 2000, max_headers: 50 };

    fn answer(text: &str) -> Option<Response> {
        let text = text.replace('\n', "\r\n");
        let error = Message::parse(text.as_bytes(), &LIMITS).expect_err("unreadable");
        refusal(text.as_bytes(), &error, &LIMITS, "t")
    }

    #[test]
    fn senders_of_broken_requests_learn_what_is_wrong() {
        let broken = "INVITE sip:u@h SIP/2.0\nv: SIP/2.0/UDP h;;,;,,\nt: <sip:u@h>\nf: <sip:a@h>;tag=1\ni: 7\nCSeq: 1 INVITE\n\n";
        let response = answer(broken).expect("an answer");
        assert_eq!((response.status, response.headers.get("Via")), (400, Some("SIP/2.0/UDP h;;,;,,")));
        assert_eq!(response.headers.get("To"), Some("<sip:u@h>;tag=t"));
        assert!(response.reason.contains("Via"), "{}", response.reason);
        let version = answer(&broken.replace("SIP/2.0\n", "SIP/7.0\n").replace(";;,;,,", ""));
        assert_eq!(version.map(|response| response.status), Some(505));
        let twice =
            answer(&broken.replace(";;,;,,", "").replace("i: 7\n", "i: 7\ni: 8\n")).expect("an answer");
        assert_eq!((twice.status, twice.headers.get("Call-ID")), (400, Some("7")));
        let many = "X: y\n".repeat(60);
        let large = answer(&broken.replace("\n\n", &format!("\n{many}\n")));
        assert_eq!(large.map(|response| response.status), Some(513));
    }

    #[test]
    fn responses_acknowledgements_and_noise_get_none() {
        let rest = "Via: SIP/2.0/UDP h\nTo: <sip:u@h>\n\n";
        for start in ["SIP/2.0 99999 OK\n", "ACK sip:u@h SIP/2.0\n", "GET / HTTP/1.1\n", "noise\n", ""] {
            assert!(answer(&format!("{start}{rest}")).is_none(), "{start}");
        }
        assert!(answer("INVITE sip:u@h SIP/2.0\nTo: <sip:u@h>\n\n").is_none(), "nobody to answer");
    }
}
