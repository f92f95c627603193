//! What a worker process tells in its log (`worker.updateSettings` of the v2 worker channel): lines up to a
//! level, and below errors only those about the subjects asked for.

use serde_json::{Value, json};

use crate::core::message::Request;
use crate::core::worker::{Action, Worker};

/// How grave a line is, the gravest first.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum LogLevel {
    /// Nothing at all.
    None,
    /// What went wrong.
    #[default]
    Error,
    /// What may.
    Warn,
    /// What happens.
    Debug,
}

impl LogLevel {
    /// The level called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "none" => Some(LogLevel::None),
            "error" => Some(LogLevel::Error),
            "warn" => Some(LogLevel::Warn),
            "debug" => Some(LogLevel::Debug),
            _ => None,
        }
    }

    /// The first letter of its lines on the channel.
    pub fn letter(self) -> u8 {
        match self {
            LogLevel::None | LogLevel::Error => b'E',
            LogLevel::Warn => b'W',
            LogLevel::Debug => b'D',
        }
    }
}

macro_rules! tags {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// What a line is about.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[repr(u8)]
        pub enum LogTag {
            $($(#[$doc])* $variant,)*
        }

        impl LogTag {
            /// The subject called `name`.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(LogTag::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

tags! {
    /// The worker itself.
    Info = "info";
    /// Connectivity.
    Ice = "ice";
    /// The handshake.
    Dtls = "dtls";
    /// Packets of media.
    Rtp = "rtp";
    /// Their protection.
    Srtp = "srtp";
    /// Reports.
    Rtcp = "rtcp";
    /// Retransmission.
    Rtx = "rtx";
    /// Estimates of bandwidth.
    Rbe = "rbe";
    /// What somebody is looking into at the moment.
    Tmp = "tmp";
}

/// Level and subjects.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LogSettings {
    /// Lines up to this level.
    pub level: LogLevel,
    tags: u16,
}

/// Bits of the level in [`LogSettings::to_bits`].
const LEVEL_BITS: u32 = 2;

impl LogSettings {
    /// Lines up to `level`, below errors about `tags`; names nobody knows are passed over.
    pub fn new<'a>(level: LogLevel, tags: impl IntoIterator<Item = &'a str>) -> Self {
        let known = tags.into_iter().filter_map(LogTag::from_name);
        LogSettings { level, tags: known.fold(0, |tags, tag| tags | 1 << tag as u16) }
    }

    /// Whether a line of `level` about `tag` is wanted.
    pub fn wants(self, level: LogLevel, tag: LogTag) -> bool {
        level <= self.level && (level <= LogLevel::Error || self.tags & 1 << tag as u16 != 0)
    }

    /// In a number.
    pub fn to_bits(self) -> u16 {
        self.tags << LEVEL_BITS | self.level as u16
    }

    /// Out of the number.
    pub fn from_bits(bits: u16) -> Self {
        let level = match bits & ((1 << LEVEL_BITS) - 1) {
            0 => LogLevel::None,
            1 => LogLevel::Error,
            2 => LogLevel::Warn,
            _ => LogLevel::Debug,
        };
        LogSettings { level, tags: bits >> LEVEL_BITS }
    }
}

impl Worker {
    /// `worker.updateSettings`: both fields may be absent.
    pub(super) fn update_settings(&mut self, request: &Request) -> Result<Value, String> {
        let (level, tags) = (request.data.get("logLevel"), request.data.get("logTags"));
        let level = match level.and_then(Value::as_str) {
            Some(name) => {
                Some(LogLevel::from_name(name).ok_or_else(|| format!("no logLevel is called \"{name}\""))?)
            }
            None => None,
        };
        // The log of a worker that is a thread is its host's.
        let Some(channel) = &mut self.config.channel else { return Ok(json!({})) };
        let mut log = channel.log;
        log.level = level.unwrap_or(log.level);
        if let Some(names) = tags.and_then(Value::as_array) {
            log = LogSettings::new(log.level, names.iter().filter_map(Value::as_str));
        }
        channel.log = log;
        self.actions.push_back(Action::Log(log));
        Ok(json!({}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_always_wanted_and_the_rest_by_its_subject() {
        let settings = LogSettings::new(LogLevel::Warn, ["ice", "rtcp", "weather"]);
        assert!(settings.wants(LogLevel::Error, LogTag::Dtls));
        assert!(settings.wants(LogLevel::Warn, LogTag::Ice) && settings.wants(LogLevel::Warn, LogTag::Rtcp));
        assert!(!settings.wants(LogLevel::Warn, LogTag::Info));
        assert!(!settings.wants(LogLevel::Debug, LogTag::Ice));
        let silent = LogSettings::new(LogLevel::None, ["ice"]);
        assert!(!silent.wants(LogLevel::Error, LogTag::Ice));
        for settings in [settings, silent, LogSettings::default(), LogSettings::new(LogLevel::Debug, ["tmp"])]
        {
            assert_eq!(LogSettings::from_bits(settings.to_bits()), settings);
        }
    }
}
