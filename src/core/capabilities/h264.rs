//! H.264 profiles as `profile-level-id` tells them (RFC 6184 §8.1, table 5): the profile is in the first
//! byte and in some bits of the second, so that equal bytes are not needed for equal profiles.

use super::RtpCodec;

/// What a decoder must be able to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    High,
    ConstrainedHigh,
    High444,
}

/// profile_idc, the bits of profile-iop that matter, what they must be, and what that means.
const TABLE: &[(u8, u8, u8, Profile)] = &[
    (0x42, 0x4f, 0x40, Profile::ConstrainedBaseline),
    (0x4d, 0x8f, 0x80, Profile::ConstrainedBaseline),
    (0x58, 0xcf, 0xc0, Profile::ConstrainedBaseline),
    (0x42, 0x4f, 0x00, Profile::Baseline),
    (0x58, 0xcf, 0x80, Profile::Baseline),
    (0x4d, 0xaf, 0x00, Profile::Main),
    (0x64, 0xff, 0x00, Profile::High),
    (0x64, 0xff, 0x0c, Profile::ConstrainedHigh),
    (0xf4, 0xff, 0x00, Profile::High444),
];

/// The profile of a codec; constrained baseline where it says nothing, which is what everybody reads into
/// silence. `None` for one that we do not know.
pub(super) fn profile(codec: &RtpCodec) -> Option<Profile> {
    let Some(text) = codec.parameter("profile-level-id") else { return Some(Profile::ConstrainedBaseline) };
    let bits = u32::from_str_radix(&text, 16).ok().filter(|_| text.len() == 6)?;
    let [_, idc, iop, _] = bits.to_be_bytes();
    let found = TABLE.iter().find(|(known, mask, value, _)| *known == idc && iop & mask == *value);
    found.map(|(.., profile)| *profile)
}

/// `packetization-mode`; 0 where it is not said.
pub(super) fn packetization_mode(codec: &RtpCodec) -> u8 {
    codec.parameter("packetization-mode").and_then(|mode| mode.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_that_mean_the_same_are_equal() {
        let of = |id: &str| {
            let parameters = [("profile-level-id".to_owned(), id.into())].into_iter().collect();
            profile(&RtpCodec { mime_type: "video/H264".into(), parameters, ..RtpCodec::default() })
        };
        for id in ["42e01f", "42c00a", "42E034", "4d801f", "58c01f"] {
            assert_eq!(of(id), Some(Profile::ConstrainedBaseline), "{id}");
        }
        assert_eq!(of("42001f"), Some(Profile::Baseline));
        assert_eq!(of("4d001f"), Some(Profile::Main));
        assert_eq!(of("640034"), Some(Profile::High));
        assert_eq!(of("640c1f"), Some(Profile::ConstrainedHigh));
        assert_eq!(of("f4001f"), Some(Profile::High444));
        for bad in ["", "42e0", "zzzzzz", "+42e01", "001122"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
