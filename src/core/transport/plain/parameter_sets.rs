//! H.264 parameter sets that a party has only in its SDP (`sprop-parameter-sets`, RFC 6184 §8.1): a packet with
//! them is laid before each keyframe that comes without, because receivers here get them in band.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::core::base64;
use crate::core::capabilities::RtpParameters;
use crate::core::payload::h264::{FU_A, NAL_IDR, NAL_PPS, NAL_SPS, STAP_A, nal_type};
use crate::core::rtp::header::RtpView;

/// No honest parameter sets are longer, all together.
const MAX_BYTES: usize = 1000;

/// See the module.
pub(super) struct ParameterSets {
    payload_type: u8,
    /// The payload that carries them all.
    packet: Vec<u8>,
    /// How many were laid between the party's packets so far.
    laid: u16,
    /// The picture that has them already.
    has: Option<u32>,
}

impl ParameterSets {
    /// Those in the codecs' parameters, if there are any.
    pub fn new(parameters: &RtpParameters) -> Option<Self> {
        let codec = parameters.codecs.iter().find(|codec| codec.is("video/H264"))?;
        let sprop = codec.parameter("sprop-parameter-sets")?;
        let sets: Option<Vec<Vec<u8>>> =
            sprop.split(',').map(|set| base64::decode(set.trim()).filter(|set| !set.is_empty())).collect();
        let sets = sets?;
        let known = |set: &Vec<u8>| matches!(nal_type(set), NAL_SPS | NAL_PPS);
        if !sets.iter().all(known) || !sets.iter().any(|set| nal_type(set) == NAL_SPS) {
            return None;
        }
        let mut packet = vec![0x60 | STAP_A];
        for set in &sets {
            packet.extend(u16::try_from(set.len()).ok()?.to_be_bytes());
            packet.extend(set);
        }
        let payload_type = codec.payload_type;
        (packet.len() <= MAX_BYTES).then_some(ParameterSets { payload_type, packet, laid: 0, has: None })
    }

    /// Renumbers a packet by what was laid before it; first the packet to lay before it, if there is one.
    pub fn pass<'a>(&'a mut self, view: &mut RtpView<'_>) -> Option<RtpView<'a>> {
        let own = view.sequence.wrapping_add(self.laid);
        view.sequence = own;
        if view.payload_type != self.payload_type {
            return None;
        }
        let (sps, idr) = contents(view.payload);
        if sps {
            self.has = Some(view.timestamp);
        }
        if !idr || self.has == Some(view.timestamp) {
            return None;
        }
        self.has = Some(view.timestamp);
        self.laid = self.laid.wrapping_add(1);
        view.sequence = own.wrapping_add(1);
        Some(view.replaced(own, &self.packet))
    }
}

/// Whether a payload holds an SPS, and whether a keyframe begins in it.
fn contents(payload: &[u8]) -> (bool, bool) {
    let of = |nal: &[u8]| (nal_type(nal) == NAL_SPS, nal_type(nal) == NAL_IDR);
    match (nal_type(payload), payload) {
        (FU_A, [_, header, ..]) => (false, header & 0x80 != 0 && header & 0x1f == NAL_IDR),
        (STAP_A, [_, rest @ ..]) => {
            let (mut rest, mut found) = (rest, (false, false));
            while let Some((length, tail)) = rest.split_first_chunk::<2>() {
                let length = usize::from(u16::from_be_bytes(*length));
                let Some((nal, tail)) = tail.split_at_checked(length) else { break };
                let (sps, idr) = of(nal);
                (found, rest) = ((found.0 || sps, found.1 || idr), tail);
            }
            found
        }
        _ => of(payload),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::rtp::header::{HeaderFields, write_header};

    fn sets(sprop: &str) -> Option<ParameterSets> {
        let parameters = json!({"codecs": [{"mimeType": "video/H264", "payloadType": 96, "clockRate": 90000,
            "parameters": {"sprop-parameter-sets": sprop}}]});
        ParameterSets::new(&serde_json::from_value(parameters).unwrap())
    }

    /// Passes a packet; what came out: number and first byte of each.
    fn pass(sets: &mut ParameterSets, sequence: u16, timestamp: u32, payload: &[u8]) -> Vec<(u16, u8)> {
        let fields = HeaderFields { payload_type: 96, sequence, timestamp, ..Default::default() };
        let mut packet = vec![0; 100];
        let header = write_header(&mut packet, &fields, &[]).unwrap();
        packet.truncate(header);
        packet.extend(payload);
        let mut view = RtpView::parse(&packet).unwrap();
        let laid = sets.pass(&mut view).map(|laid| (laid.sequence, laid.payload[0]));
        laid.into_iter().chain([(view.sequence, view.payload[0])]).collect()
    }

    #[test]
    fn a_bare_keyframe_gets_its_parameter_sets_once() {
        // SPS 67 42 and PPS 68 ce.
        let mut sets = sets("Z0I=,aM4=").unwrap();
        assert_eq!(sets.packet, [0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xce]);
        assert_eq!(pass(&mut sets, 10, 1, &[0x41, 1]), [(10, 0x41)]);
        assert_eq!(pass(&mut sets, 11, 2, &[0x7c, 0x85, 1]), [(11, 0x78), (12, 0x7c)], "the first piece");
        assert_eq!(pass(&mut sets, 12, 2, &[0x7c, 0x05, 1]), [(13, 0x7c)]);
        assert_eq!(pass(&mut sets, 13, 2, &[0x65, 1]), [(14, 0x65)], "another slice of it");
        assert_eq!(pass(&mut sets, 65_535, 3, &[0x65, 1]), [(0, 0x78), (1, 0x65)]);
    }

    #[test]
    fn a_keyframe_that_brings_its_own_is_left_alone() {
        let mut sets = sets("Z0I=,aM4=").unwrap();
        assert_eq!(pass(&mut sets, 1, 1, &[0x67, 0x42]), [(1, 0x67)]);
        assert_eq!(pass(&mut sets, 2, 1, &[0x65, 1]), [(2, 0x65)]);
        let whole = [0x78, 0, 2, 0x67, 0x42, 0, 2, 0x65, 0x88];
        assert_eq!(pass(&mut sets, 3, 2, &whole), [(3, 0x78)]);
    }

    #[test]
    fn what_is_no_parameter_set_is_not_laid() {
        for sprop in ["", "Z0I", "aM4=", "Z0I=,QQ==", "Z0I=,!"] {
            assert_eq!(sets(sprop).is_some(), sprop == "Z0I", "{sprop}");
        }
    }
}
