//! `application/trickle-ice-sdpfrag` (RFC 8840 §9), the body of a PATCH in WHIP and WHEP (RFC 9725 §4.3).

use super::clean;
use crate::webrtc::{SdpError, SdpLimits};

/// Candidates that come late, or new credentials.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Fragment {
    /// `a=ice-ufrag`.
    pub ufrag: Option<String>,
    /// `a=ice-pwd`.
    pub pwd: Option<String>,
    /// Values of `a=candidate`. An ICE-lite agent has no use for them: it answers checks.
    pub candidates: Vec<String>,
    /// `a=end-of-candidates`.
    pub end_of_candidates: bool,
}

impl Fragment {
    /// Parses a fragment within the default limits.
    pub fn parse(text: &str) -> Result<Fragment, SdpError> {
        let limits = SdpLimits::default();
        let mut fragment = Fragment::default();
        let lines = clean::lines(text.as_bytes(), &limits)?;
        if lines.len() > limits.max_attributes {
            return Err(SdpError::TooLarge(format!("{} lines", lines.len())));
        }
        for line in lines.iter().filter_map(|line| line.strip_prefix("a=")) {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.trim();
            match name {
                "ice-ufrag" => fragment.ufrag = Some(value.to_owned()),
                "ice-pwd" => fragment.pwd = Some(value.to_owned()),
                "candidate" => fragment.candidates.push(value.to_owned()),
                "end-of-candidates" => fragment.end_of_candidates = true,
                _ => {}
            }
        }
        if fragment == Fragment::default() {
            return Err(SdpError::Malformed(
                "the fragment has neither ICE credentials nor candidates".to_owned(),
            ));
        }
        Ok(fragment)
    }

    /// Whether it asks for an ICE restart: it names credentials other than `current`. An ordinary trickle
    /// fragment carries the current ones.
    pub fn restarts(&self, current: &(String, String)) -> bool {
        match (&self.ufrag, &self.pwd) {
            (Some(ufrag), Some(pwd)) => *ufrag != current.0 || *pwd != current.1,
            _ => false,
        }
    }
}
