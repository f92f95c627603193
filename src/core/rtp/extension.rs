//! Header extensions we know: their URIs, the ids each side chose for them, and the encoding of those
//! that we write ourselves.

use crate::core::time::MediaTime;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $uri:literal;)*) => {
        /// A header extension we forward, read or write.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[repr(u8)]
        pub enum ExtensionKind {
            $($(#[$doc])* $name = $value,)*
        }

        impl ExtensionKind {
            /// Each kind, in the order of its number.
            pub const ALL: &'static [ExtensionKind] = &[$(ExtensionKind::$name,)*];

            /// Its URI in SDP.
            pub const fn uri(self) -> &'static str {
                match self {
                    $(ExtensionKind::$name => $uri,)*
                }
            }
        }
    };
}

kinds! {
    /// RFC 8843 §15: the media id.
    Mid = 0, "urn:ietf:params:rtp-hdrext:sdes:mid";
    /// RFC 8852: the stream id of a simulcast layer.
    Rid = 1, "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
    /// RFC 8852: the stream id that an RTX stream repairs.
    RepairedRid = 2, "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
    /// 24-bit 6.18 fixed-point send time.
    AbsSendTime = 3, "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
    /// draft-holmer-rmcat-transport-wide-cc-extensions-01: a sequence number over the whole transport.
    TransportCc = 4, "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
    /// RFC 6464: audio level of the packet.
    AudioLevel = 5, "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
    /// 3GPP TS 26.114: rotation of the picture.
    VideoOrientation = 6, "urn:3gpp:video-orientation";
    /// Bounds of the receiver's playout delay.
    PlayoutDelay = 7, "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
    /// AV1 RTP payload specification, appendix A.
    DependencyDescriptor = 8, "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
    /// Absolute capture time.
    AbsCaptureTime = 9, "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
}

/// How many kinds there are.
pub const KINDS: usize = ExtensionKind::ALL.len();

impl ExtensionKind {
    /// The kind of a URI.
    pub fn from_uri(uri: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.uri() == uri)
    }

    /// The kind of a number (`kind as u8`).
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// The ids one side uses for the extensions it negotiated: ten bytes, searched in one direction.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ExtensionMap {
    ids: [u8; KINDS],
}

impl ExtensionMap {
    /// No extension.
    pub const EMPTY: ExtensionMap = ExtensionMap { ids: [0; KINDS] };

    /// Builds the map from (URI, id) pairs; unknown URIs and id 0 are left out.
    pub fn from_uris<'a>(pairs: impl IntoIterator<Item = (&'a str, u8)>) -> Self {
        let mut map = Self::EMPTY;
        for (uri, id) in pairs {
            if let Some(kind) = ExtensionKind::from_uri(uri) {
                map.set(kind, id);
            }
        }
        map
    }

    /// Gives `kind` the id `id`; 0 takes it out.
    pub fn set(&mut self, kind: ExtensionKind, id: u8) {
        self.ids[kind as usize] = id;
    }

    /// The id of `kind`, if it was negotiated.
    pub fn id(&self, kind: ExtensionKind) -> Option<u8> {
        Some(self.ids[kind as usize]).filter(|id| *id != 0)
    }

    /// The kind that `id` stands for.
    pub fn kind(&self, id: u8) -> Option<ExtensionKind> {
        if id == 0 {
            return None;
        }
        let place = self.ids.iter().position(|known| *known == id)?;
        ExtensionKind::ALL.get(place).copied()
    }
}

/// The abs-send-time element of a packet sent at `time`: seconds modulo 64 in 6.18 fixed point.
pub fn abs_send_time(time: MediaTime) -> [u8; 3] {
    let micros = time.as_micros().rem_euclid(64_000_000) as u64;
    let [.., a, b, c] = ((micros << 18) / 1_000_000).to_be_bytes();
    [a, b, c]
}

/// An audio-level element: whether the sender hears a voice, and the level in -dBov (0 loudest, 127 silence).
pub fn audio_level(element: &[u8]) -> Option<(bool, u8)> {
    element.first().map(|byte| (byte & 0x80 != 0, byte & 0x7f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_numbers_and_uris_agree() {
        for (number, kind) in ExtensionKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, number);
            assert_eq!(ExtensionKind::from_number(number as u8), Some(*kind));
            assert_eq!(ExtensionKind::from_uri(kind.uri()), Some(*kind));
        }
        assert_eq!(ExtensionKind::from_number(KINDS as u8), None);
        assert_eq!(ExtensionKind::from_uri("urn:nobody"), None);
    }

    #[test]
    fn the_map_goes_both_ways() {
        let uris =
            [(ExtensionKind::Mid.uri(), 4), ("urn:nobody", 5), (ExtensionKind::TransportCc.uri(), 200)];
        let mut map = ExtensionMap::from_uris(uris);
        assert_eq!((map.id(ExtensionKind::Mid), map.id(ExtensionKind::Rid)), (Some(4), None));
        assert_eq!((map.kind(200), map.kind(5), map.kind(0)), (Some(ExtensionKind::TransportCc), None, None));
        map.set(ExtensionKind::Mid, 0);
        assert_eq!(map.kind(4), None);
    }

    #[test]
    fn send_times_have_18_bits_of_fraction_and_wrap_at_64_seconds() {
        assert_eq!(abs_send_time(MediaTime::from_millis(1500)), [0x06, 0, 0]);
        assert_eq!(abs_send_time(MediaTime::from_millis(64_500)), [0x02, 0, 0]);
        assert_eq!(abs_send_time(MediaTime::from_millis(-500)), [0xfe, 0, 0]);
    }

    #[test]
    fn audio_levels() {
        assert_eq!(audio_level(&[0x80 | 30]), Some((true, 30)));
        assert_eq!(audio_level(&[127]), Some((false, 127)));
        assert_eq!(audio_level(&[]), None);
    }
}
