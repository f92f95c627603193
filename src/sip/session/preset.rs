//! What is usual with well-known kinds of trunks. Each key of a trunk that the file leaves out has the value that stands
//! here, else the general one.

use crate::sip::config::{NumberFormat, Preset};

/// The values of one preset.
#[derive(Clone, Copy, Debug)]
pub struct Usual {
    /// `host`.
    pub host: Option<&'static str>,
    /// `peers`: where calls come from, beside `host` and `proxy`.
    pub peers: &'static [&'static str],
    /// `register`.
    pub register: bool,
    /// `options_s`.
    pub options_s: u32,
    /// `codecs`; empty: those of `calls`.
    pub codecs: &'static [&'static str],
    /// `number_format`.
    pub number_format: NumberFormat,
}

/// What every server has that nothing else is known of.
const PLAIN: Usual = Usual {
    host: None,
    peers: &[],
    register: false,
    options_s: 0,
    codecs: &[],
    number_format: NumberFormat::AsDialled,
};

/// A PBX that we are an extension of; OPTIONS keep the way through a NAT open in both directions.
const PBX: Usual = Usual { register: true, options_s: 60, ..PLAIN };

impl Usual {
    /// Those of a preset.
    pub fn of(preset: Preset) -> Self {
        match preset {
            Preset::Twilio => Usual {
                peers: TWILIO,
                options_s: 60,
                codecs: &["pcmu", "pcma"],
                number_format: NumberFormat::E164,
                ..PLAIN
            },
            Preset::Telnyx => Usual {
                host: Some("sip.telnyx.com"),
                peers: TELNYX,
                codecs: &["g722", "pcmu", "pcma"],
                number_format: NumberFormat::E164,
                ..PBX
            },
            Preset::Asterisk => Usual { codecs: &["g722", "pcma", "pcmu"], ..PBX },
            Preset::Freeswitch => PBX,
            Preset::Registrar => Usual { options_s: 0, ..PBX },
            Preset::Peer => Usual { options_s: 60, ..PLAIN },
        }
    }
}

/// Signalling addresses that providers publish.
const TWILIO: &[&str] = &[
    "54.172.60.0/30",
    "54.244.51.0/30",
    "54.171.127.192/30",
    "35.156.191.128/30",
    "54.65.63.192/30",
    "54.169.127.128/30",
    "54.252.254.64/30",
    "177.71.206.192/30",
];
const TELNYX: &[&str] = &[
    "192.76.120.10",
    "64.16.250.10",
    "185.246.41.140",
    "185.246.41.141",
    "103.115.244.145",
    "103.115.244.146",
    "192.76.120.31",
    "64.16.250.13",
];

impl NumberFormat {
    /// A number as the trunk wants it written.
    pub fn write(self, number: &str) -> String {
        let digits: String = number.chars().filter(|c| !" -./()".contains(*c)).collect();
        let whole = digits.strip_prefix('+').or(digits.strip_prefix("00")).unwrap_or(&digits);
        // What is no number of the world's plan (a name, an emergency call, a service) stays what it is.
        let worldwide = (7..=15).contains(&whole.len()) && whole.bytes().all(|byte| byte.is_ascii_digit());
        match self {
            NumberFormat::E164 if worldwide => format!("+{whole}"),
            NumberFormat::E164 | NumberFormat::AsDialled => number.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_trunk_wants_them() {
        for (dialled, written) in [
            ("+49 30 1234-567", "+49301234567"),
            ("0049301234567", "+49301234567"),
            ("14155550100", "+14155550100"),
            ("112", "112"),
            ("desk", "desk"),
            ("*43", "*43"),
        ] {
            assert_eq!(NumberFormat::E164.write(dialled), written);
            assert_eq!(NumberFormat::AsDialled.write(dialled), dialled);
        }
    }
}
