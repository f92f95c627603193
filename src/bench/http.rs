//! The requests a WHIP or WHEP client makes (RFC 9725 §4.2) and their answers, as text.

/// A POST of an offer.
pub fn post(host: &str, path: &str, token: Option<&str>, offer: &str) -> String {
    let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\n{bearer}Content-Type: application/sdp\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{offer}",
        offer.len()
    )
}

/// A GET.
pub fn get(host: &str, path: &str, token: Option<&str>) -> String {
    let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{bearer}Connection: close\r\n\r\n")
}

/// A DELETE: the session is over.
pub fn delete(host: &str, path: &str, token: Option<&str>) -> String {
    let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!("DELETE {path} HTTP/1.1\r\nHost: {host}\r\n{bearer}Connection: close\r\n\r\n")
}

/// What a server said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// The path of its Location header, where it has one.
    pub location: Option<String>,
    /// The body.
    pub body: String,
}

/// Reads a whole answer, at the end of which the connection was closed.
pub fn response(text: &str) -> Option<Response> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let header = |name: &str| {
        let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let chunked = header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let location = header("location").map(|url| {
        let path = url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
        path.unwrap_or(url).to_owned()
    });
    Some(Response { status, location, body: if chunked { unchunk(body)? } else { body.to_owned() } })
}

/// RFC 9112 §7.1, without extensions and trailers.
fn unchunk(mut body: &str) -> Option<String> {
    let mut whole = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n")?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        let (chunk, rest) = rest.split_at_checked(size)?;
        whole.push_str(chunk);
        body = rest.strip_prefix("\r\n")?;
    }
}
