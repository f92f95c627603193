//! The small grammar that header values share (RFC 3261 §25.1): tokens, quoted strings, parameters, lists.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Whether a byte may stand in a token.
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

/// Splits at `separator` where it stands neither in quotes nor between angle brackets; empty parts drop out.
pub fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped, mut depth) = (false, false, 0usize);
    text.split(move |c| {
        if quoted {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => quoted = false,
                _ => {}
            }
            return false;
        }
        match c {
            '"' => quoted = true,
            '<' => depth = depth.saturating_add(1),
            '>' => depth = depth.saturating_sub(1),
            _ => return c == separator && depth == 0,
        }
        false
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

/// A quoted string's content, or the text as it is.
pub fn unquote(text: &str) -> String {
    let text = text.trim();
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return text.to_owned();
    };
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out
}

/// `text` as a quoted string.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len().saturating_add(2));
    out.push('"');
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// Reads `;name=value;flag` (or with another separator); values are unquoted, names are in lower case.
pub fn params(text: &str, separator: char) -> Vec<(String, Option<String>)> {
    split(text, separator)
        .map(|part| match part.split_once('=') {
            Some((name, value)) => (name.trim().to_ascii_lowercase(), Some(unquote(value))),
            None => (part.to_ascii_lowercase(), None),
        })
        .collect()
}

/// The value of a parameter in a header such as `90;refresher=uac`.
pub fn param(text: &str, name: &str) -> Option<String> {
    let list = params(text, ';');
    list.into_iter().skip(1).find(|(known, _)| known == name).map(|(_, value)| value.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_split_outside_quotes_and_brackets() {
        let list = r#""a, \"b\"" <sip:x;y,z@h>;q=1, <sip:c>,, d"#;
        let parts: Vec<_> = split(list, ',').collect();
        assert_eq!(parts, [r#""a, \"b\"" <sip:x;y,z@h>;q=1"#, "<sip:c>", "d"]);
    }

    #[test]
    fn quoting_is_undone_by_unquoting() {
        let text = r#"say "hi" \ there"#;
        assert_eq!(unquote(&quote(text)), text);
        assert_eq!(unquote(" plain "), "plain");
        assert_eq!(param("90;Refresher=UAC", "refresher").as_deref(), Some("UAC"));
    }
}
