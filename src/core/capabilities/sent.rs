//! Whether the parameters of a track into a router can be true: what would make two streams one is refused where it
//! is said, not where packets go astray.

use std::collections::BTreeSet;
use std::fmt::Display;

use crate::core::capabilities::{Encoding, Kind, RtpParameters};
use crate::core::profile::Profile;

impl RtpParameters {
    /// Refuses, in words, what contradicts itself.
    pub fn check_sent(&self, kind: Kind) -> Result<(), String> {
        let media = || self.codecs.iter().filter(|codec| !codec.is_feature());
        if media().next().is_none() {
            return Err("rtpParameters.codecs holds no media codec".into());
        }
        let group = match kind {
            Kind::Audio => "audio/",
            Kind::Video => "video/",
        };
        let is_other =
            |mime: &str| !mime.get(..group.len()).is_some_and(|own| own.eq_ignore_ascii_case(group));
        if let Some(other) = media().find(|codec| is_other(&codec.mime_type)) {
            return Err(format!("rtpParameters.codecs holds {:?}, which is not {group}*", other.mime_type));
        }
        if self
            .codecs
            .iter()
            .any(|codec| codec.mime_type.to_ascii_lowercase().ends_with("/rtx") && codec.apt().is_none())
        {
            return Err("rtpParameters.codecs holds an rtx codec without a numeric `apt`".into());
        }
        unique("payloadType in rtpParameters.codecs", self.codecs.iter().map(|codec| codec.payload_type))?;
        unique("ssrc in rtpParameters.encodings", self.encodings.iter().flat_map(Encoding::ssrcs))?;
        unique(
            "encodingId in rtpParameters.encodings",
            self.encodings.iter().filter_map(|it| it.encoding_id.as_deref()),
        )?;
        self.check_profiles()
    }

    fn check_profiles(&self) -> Result<(), String> {
        let profiles = || self.encodings.iter().filter_map(|encoding| encoding.profile);
        if profiles().any(|profile| matches!(profile, Profile::None | Profile::Default)) {
            return Err("an encoding's profile is `low`, `medium` or `high`".into());
        }
        if self.encodings.len() == 1 && profiles().next().is_some() {
            return Err("a single encoding has no profile".into());
        }
        unique("profile in rtpParameters.encodings", profiles().map(Profile::as_str))
    }

    /// What of it makes its streams look like those of `other`, which comes by the same transport.
    pub fn check_beside(&self, other: &RtpParameters) -> Result<(), String> {
        if self.mux_id.is_some() && self.mux_id == other.mux_id {
            return Err("another producer of the transport has that muxId".into());
        }
        let theirs: BTreeSet<u32> = other.encodings.iter().flat_map(Encoding::ssrcs).collect();
        if let Some(ssrc) = self.encodings.iter().flat_map(Encoding::ssrcs).find(|ssrc| theirs.contains(ssrc))
        {
            return Err(format!("another producer of the transport has the ssrc {ssrc}"));
        }
        // Where media ids tell the tracks apart, stream ids need not.
        let rids = |it: &RtpParameters| -> BTreeSet<String> {
            it.encodings.iter().filter_map(|encoding| encoding.encoding_id.clone()).collect()
        };
        if (self.mux_id.is_none() || other.mux_id.is_none()) && !rids(self).is_disjoint(&rids(other)) {
            return Err("another producer of the transport has such an encodingId".into());
        }
        Ok(())
    }
}

impl Encoding {
    /// Every source it comes as.
    fn ssrcs(&self) -> impl Iterator<Item = u32> {
        let fec = self.fec.as_ref().and_then(|fec| fec.ssrc).filter(|ssrc| Some(*ssrc) != self.ssrc);
        [self.ssrc, self.rtx.as_ref().map(|rtx| rtx.ssrc), fec].into_iter().flatten()
    }
}

fn unique<T: Ord + Display>(what: &str, values: impl Iterator<Item = T>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for value in values {
        if seen.contains(&value) {
            return Err(format!("duplicated {what}: {value}"));
        }
        seen.insert(value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(codecs: Value, encodings: Value) -> RtpParameters {
        serde_json::from_value(json!({"codecs": codecs, "encodings": encodings})).expect("parameters")
    }

    fn vp8() -> Value {
        json!([{"mimeType": "video/VP8", "payloadType": 101, "clockRate": 90_000},
            {"mimeType": "video/rtx", "payloadType": 102, "clockRate": 90_000, "parameters": {"apt": 101}}])
    }

    #[test]
    fn what_contradicts_itself_is_refused_by_name() {
        let mut twice = vp8();
        twice[1]["payloadType"] = json!(101);
        let mut lost = vp8();
        lost[1]["parameters"] = json!({});
        for (codecs, encodings, why) in [
            (json!([]), json!([]), "no media codec"),
            (json!([vp8()[1]]), json!([]), "no media codec"),
            (
                json!([{"mimeType": "audio/opus", "payloadType": 1, "clockRate": 48_000}]),
                json!([]),
                "not video/*",
            ),
            (twice, json!([]), "duplicated payloadType in rtpParameters.codecs: 101"),
            (lost, json!([]), "without a numeric `apt`"),
            (vp8(), json!([{"ssrc": 1}, {"ssrc": 1}]), "duplicated ssrc in rtpParameters.encodings: 1"),
            (vp8(), json!([{"ssrc": 1, "rtx": {"ssrc": 1}}]), "duplicated ssrc"),
            (vp8(), json!([{"encodingId": "a"}, {"encodingId": "a"}]), "duplicated encodingId"),
            (
                vp8(),
                json!([{"ssrc": 1, "profile": "low"}, {"ssrc": 2, "profile": "low"}]),
                "duplicated profile",
            ),
            (vp8(), json!([{"ssrc": 1, "profile": "low"}]), "single encoding"),
            (vp8(), json!([{"ssrc": 1, "profile": "default"}, {"ssrc": 2}]), "`low`, `medium` or `high`"),
        ] {
            let refused = read(codecs, encodings).check_sent(Kind::Video).expect_err(why);
            assert!(refused.contains(why), "{refused}");
        }
        let fec = json!([{"ssrc": 1, "rtx": {"ssrc": 2}, "fec": {"mechanism": "ulpfec", "ssrc": 1}, "profile": "low"},
            {"ssrc": 3, "profile": "high"}]);
        read(vp8(), fec).check_sent(Kind::Video).expect("in order");
    }

    #[test]
    fn two_tracks_of_a_transport_are_told_apart() {
        let track = |mid: Option<&str>, encodings: Value| RtpParameters {
            mux_id: mid.map(str::to_owned),
            ..read(vp8(), encodings)
        };
        let rid = || json!([{"encodingId": "q"}, {"encodingId": "h"}]);
        for (one, other, fits) in [
            (track(None, json!([{"ssrc": 1}])), track(None, json!([{"ssrc": 2}])), true),
            (track(None, json!([{"ssrc": 1}])), track(None, json!([{"ssrc": 2, "rtx": {"ssrc": 1}}])), false),
            (track(Some("0"), rid()), track(Some("1"), rid()), true),
            (track(Some("0"), rid()), track(Some("0"), json!([{"ssrc": 1}])), false),
            (track(Some("0"), rid()), track(None, rid()), false),
            (track(None, json!([{}])), track(None, json!([{}])), true),
        ] {
            assert_eq!(one.check_beside(&other).is_ok(), fits, "{one:?} {other:?}");
        }
    }
}
