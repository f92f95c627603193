//! SDP offer and answer (RFC 8866, 8829, 8843): what a WHIP or WHEP offer asks for, what of it we take,
//! and the answer that says so.
//!
//! ```text
//! bytes -> Offer -> negotiate_publish / negotiate_play -> Negotiated -> answer(LocalTransport) -> text
//! ```

pub mod candidate;

use crate::core::capabilities::{Kind, RtpParameters};
use crate::core::session::{DtlsRole, Fingerprint, LocalCandidate};
use crate::webrtc::{SdpError, SdpLimits};

/// A parsed offer.
#[derive(Clone, Debug)]
pub struct Offer {}

impl Offer {
    /// Parses an offer within the default limits.
    pub fn parse(text: &str) -> Result<Offer, SdpError> {
        Offer::from_bytes(text.as_bytes(), &SdpLimits::default())
    }

    /// Parses an offer as it came over the wire.
    pub fn from_bytes(_bytes: &[u8], _limits: &SdpLimits) -> Result<Offer, SdpError> {
        todo!()
    }
}

/// What we are willing to do.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Take every layer of a simulcast offer; without it the publisher is asked for one stream.
    pub simulcast: bool,
}

/// A track both sides agreed on.
#[derive(Clone, Debug)]
pub struct NegotiatedTrack {
    /// Sound or picture.
    pub kind: Kind,
    /// Its `a=mid`; empty where the offer has none.
    pub mid: String,
    /// For a publisher: what it sends, for `Peer::produce`. For a player: every codec it takes and the
    /// SSRCs we send with, for `Peer::consume_program`.
    pub rtp: RtpParameters,
}

/// What an offer and a policy come to.
#[derive(Clone, Debug)]
pub struct Negotiated {
    /// The tracks taken: at most one of each kind.
    pub tracks: Vec<NegotiatedTrack>,
    /// The remote party's `(ufrag, pwd)`.
    pub remote_ice: (String, String),
    /// The remote party's DTLS role and certificate fingerprints.
    pub remote_dtls: (DtlsRole, Vec<Fingerprint>),
}

/// Our end, as an answer tells it.
#[derive(Clone, Debug)]
pub struct LocalTransport {
    /// Our ICE username fragment.
    pub ufrag: String,
    /// Our ICE password.
    pub pwd: String,
    /// Where we can be reached.
    pub candidates: Vec<LocalCandidate>,
    /// Our certificate's fingerprints.
    pub fingerprints: Vec<Fingerprint>,
    /// Our DTLS role, as `Peer::connect_webrtc` answered it.
    pub role: DtlsRole,
}

impl Negotiated {
    /// The answer, ready to send.
    pub fn answer(&self, _local: &LocalTransport) -> String {
        todo!()
    }

    /// The `application/trickle-ice-sdpfrag` body that answers an ICE restart (RFC 9725 §4.3.3).
    pub fn restart_answer(&self, _local: &LocalTransport) -> String {
        todo!()
    }
}

/// The offer of somebody who sends (WHIP): which tracks we take, in which codecs.
pub fn negotiate_publish(_offer: &Offer, _policy: &Policy) -> Result<Negotiated, SdpError> {
    todo!()
}

/// The offer of somebody who receives (WHEP): every codec of it that can be forwarded. `random` gives
/// SSRCs and the CNAME.
pub fn negotiate_play(
    _offer: &Offer,
    _policy: &Policy,
    _random: &mut dyn FnMut() -> u64,
) -> Result<Negotiated, SdpError> {
    todo!()
}

/// The body of a PATCH (RFC 8840 §9): candidates that come late, or new credentials.
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
    pub fn parse(_text: &str) -> Result<Fragment, SdpError> {
        todo!()
    }

    /// Whether it asks for an ICE restart: it names credentials other than `current`.
    pub fn restarts(&self, _current: &(String, String)) -> bool {
        todo!()
    }
}
