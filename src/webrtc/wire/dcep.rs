//! Data channel establishment (RFC 8832 §5): the two messages by which a party opens a channel in band.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::core::data::Delivery;
use crate::webrtc::WebRtcError;

const ACK: u8 = 0x02;
const OPEN: u8 = 0x03;
const UNORDERED: u8 = 0x80;
const REXMIT: u8 = 0x01;
const TIMED: u8 = 0x02;

/// A message of the protocol.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Dcep {
    /// DATA_CHANNEL_OPEN.
    Open(Open),
    /// DATA_CHANNEL_ACK.
    Ack,
}

/// What a party says of the channel it opens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Open {
    /// How it delivers.
    pub delivery: Delivery,
    /// Its name for applications.
    pub label: String,
    /// The sub-protocol spoken on it.
    pub protocol: String,
}

impl Dcep {
    /// Reads one message.
    pub fn parse(data: &[u8]) -> Result<Dcep, WebRtcError> {
        match data.split_first() {
            Some((&ACK, _)) => Ok(Dcep::Ack),
            Some((&OPEN, rest)) => Open::parse(rest).map(Dcep::Open).ok_or(WebRtcError::Dcep("OPEN")),
            _ => Err(WebRtcError::Dcep("unknown type")),
        }
    }

    /// The message's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Dcep::Ack => vec![ACK],
            Dcep::Open(open) => open.to_bytes(),
        }
    }
}

impl Open {
    /// Reads what stands behind the message type.
    fn parse(rest: &[u8]) -> Option<Open> {
        let (&kind, rest) = rest.split_first()?;
        let (_priority, rest) = rest.split_first_chunk::<2>()?;
        let (value, rest) = rest.split_first_chunk::<4>()?;
        let (label, rest) = rest.split_first_chunk::<2>()?;
        let (protocol, rest) = rest.split_first_chunk::<2>()?;
        let (label, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*label)))?;
        let protocol = rest.get(..usize::from(u16::from_be_bytes(*protocol)))?;
        // Nobody means more than a minute or 65,535 tries.
        let value = u16::try_from(u32::from_be_bytes(*value)).unwrap_or(u16::MAX);
        let (max_packet_life_time, max_retransmits) = match kind & !UNORDERED {
            0 => (None, None),
            REXMIT => (None, Some(value)),
            TIMED => (Some(value), None),
            _ => return None,
        };
        let ordered = kind & UNORDERED == 0;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        Some(Open {
            delivery: Delivery { ordered, max_packet_life_time, max_retransmits },
            label: text(label)?,
            protocol: text(protocol)?,
        })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let (kind, value) = match (self.delivery.max_retransmits, self.delivery.max_packet_life_time) {
            (Some(retransmits), _) => (REXMIT, retransmits),
            (None, Some(life_time)) => (TIMED, life_time),
            (None, None) => (0, 0),
        };
        let (label, protocol) = (bounded(&self.label), bounded(&self.protocol));
        let mut out = vec![OPEN, if self.delivery.ordered { kind } else { kind | UNORDERED }];
        out.extend(PRIORITY_NORMAL.to_be_bytes());
        out.extend(u32::from(value).to_be_bytes());
        for text in [label, protocol] {
            out.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
        out.extend(label);
        out.extend(protocol);
        out
    }
}

/// RFC 8831 §6.4.
const PRIORITY_NORMAL: u16 = 256;

fn bounded(text: &str) -> &[u8] {
    text.as_bytes().get(..usize::from(u16::MAX)).unwrap_or(text.as_bytes())
}
