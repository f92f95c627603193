//! `rtpMapping` of `router.createProducer`: what the numbers that a producer's party chose are called in its router.
//! Receivers speak the router's numbers, so among several codecs of one name (H.264 in two profiles) the number says
//! which is meant. Header extensions are told apart by what they are; their numbers are only told.

use serde::Deserialize;

/// Pairs of the party's number and the router's.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct RtpMapping {
    /// Payload types.
    pub codec_payload_types: Vec<(u8, u8)>,
    /// Ids of header extensions.
    pub header_extension_ids: Vec<(u8, u8)>,
}

impl RtpMapping {
    /// What the router calls payload type `own`, where it was said.
    pub fn payload_type(&self, own: u8) -> Option<u8> {
        find(&self.codec_payload_types, own)
    }

    /// What the router calls header extension `own`.
    pub fn extension(&self, own: u8) -> u8 {
        find(&self.header_extension_ids, own).unwrap_or(own)
    }
}

fn find(pairs: &[(u8, u8)], own: u8) -> Option<u8> {
    pairs.iter().find(|(from, _)| *from == own).map(|(_, to)| *to)
}
