//! What is wrong with a configuration, said with the place and, for a key nobody knows, the key that was
//! probably meant. No message quotes a line of the file: it may hold a secret.

use std::fmt;

use crate::core::auth::AuthConfigError;

/// Why a configuration was refused.
#[derive(Debug)]
pub enum ConfigError {
    /// The file, or a file it names, cannot be read.
    Unreadable {
        /// Which file.
        file: String,
        /// Why.
        fault: String,
    },
    /// The file says something that cannot be.
    File {
        /// The file's name.
        file: String,
        /// Line and column, from 1, where known.
        at: Option<(u64, u64)>,
        /// What is wrong.
        fault: String,
    },
    /// An environment variable or a flag says something that cannot be.
    Override {
        /// The variable, or the flag as given.
        origin: String,
        /// What is wrong.
        fault: String,
    },
    /// Each value can be; together they cannot.
    Contradiction(String),
}

impl ConfigError {
    pub(super) fn file(file: &str, error: &serde_saphyr::Error) -> Self {
        let at = error.location().filter(|at| at.line() > 0).map(|at| (at.line(), at.column()));
        ConfigError::File { file: file.into(), at, fault: explain(error) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unreadable { file, fault } => write!(f, "{file}: {fault}"),
            ConfigError::File { file, at: Some((line, column)), fault } => {
                write!(f, "{file}:{line}:{column}: {fault}")
            }
            ConfigError::File { file, at: None, fault } => write!(f, "{file}: {fault}"),
            ConfigError::Override { origin, fault } => write!(f, "{origin}: {fault}"),
            ConfigError::Contradiction(fault) => f.write_str(fault),
        }
    }
}

impl std::error::Error for ConfigError {}

impl From<AuthConfigError> for ConfigError {
    fn from(error: AuthConfigError) -> Self {
        ConfigError::Contradiction(error.to_string())
    }
}

/// The fault in words, without the place.
pub(super) fn explain(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error as Yaml;
    match error.without_snippet() {
        Yaml::SerdeUnknownField { field, expected, .. } => unknown_key(field, expected),
        Yaml::SerdeMissingField { field, .. } => format!("the key `{field}` is missing"),
        Yaml::SerdeInvalidType { expected, .. } | Yaml::SerdeInvalidValue { expected, .. } => {
            format!("expected {expected}")
        }
        Yaml::SerdeUnknownVariant { expected, .. } => format!("expected one of {}", list(expected)),
        Yaml::DuplicateMappingKey { key: Some(key), .. } => format!("the key `{key}` stands here twice"),
        other => {
            let text = other.to_string();
            let end = text.find(" at line ").unwrap_or(text.len());
            text.split_at(end).0.trim_end_matches([',', ':']).to_string()
        }
    }
}

/// Says that `key` is none of `known`, and which was probably meant.
pub(super) fn unknown_key(key: &str, known: &[&str]) -> String {
    let near = known.iter().map(|name| (distance(key, name), name)).min();
    match near {
        Some((away, name)) if away <= 1 + key.len() / 3 => {
            format!("unknown key `{key}`; did you mean `{name}`?")
        }
        _ => format!("unknown key `{key}`; known here are {}", list(known)),
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Edits (insert, delete, replace) that lead from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        row[0] = left;
        for (j, to) in b.iter().enumerate() {
            let above = row[j + 1];
            left = (diagonal + usize::from(from != *to)).min(above + 1).min(left + 1);
            diagonal = above;
            row[j + 1] = left;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_offered_only_when_it_is_near() {
        let known = ["listen", "tls", "origins"];
        assert!(unknown_key("lisen", &known).ends_with("did you mean `listen`?"));
        assert!(unknown_key("tsl", &known).ends_with("did you mean `tls`?"));
        assert!(unknown_key("password", &known).ends_with("known here are `listen`, `tls`, `origins`"));
    }

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("port", "ports", 1)] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }
}
