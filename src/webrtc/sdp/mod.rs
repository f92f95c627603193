//! SDP offer and answer (RFC 8866, 8829, 8843): what a WHIP or WHEP offer asks for, what of it we take,
//! and the answer that says so.
//!
//! ```text
//! bytes -> Offer -> negotiate_publish / negotiate_play -> Negotiated -> answer(LocalTransport) -> text
//! ```

use crate::core::capabilities::{Direction, Kind, RtpParameters};
use crate::core::session::{DtlsRole, Fingerprint, LocalCandidate};

mod answer;
pub mod candidate;
mod clean;
mod fragment;
mod negotiate;
mod offer;

pub use fragment::Fragment;
pub use negotiate::{negotiate_play, negotiate_publish};
pub use offer::{MediaOffer, Offer, OfferedCodec, OfferedExtension, OfferedSsrc, Setup};

/// What we are willing to do.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Take transport-wide congestion control (feedback and header extension). Default on.
    pub transport_cc: bool,
    /// Codecs of pictures that a publisher is asked for first, in this order (`h264`, `vp8`, ...); of H.264 the
    /// constrained baseline comes first. The rest stays as offered. Default none.
    pub video_codecs: Vec<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { transport_cc: true, video_codecs: Vec::new() }
    }
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
    sections: Vec<Section>,
    bundled: bool,
}

/// A media section of the offer and what became of it.
#[derive(Clone, Debug)]
struct Section {
    media: String,
    proto: String,
    fmt: String,
    mid: Option<String>,
    accepted: Option<Accepted>,
}

impl Section {
    fn rejected(media: &MediaOffer) -> Section {
        Section {
            media: media.media.clone(),
            proto: media.proto.clone(),
            fmt: media.fmt.clone(),
            mid: media.mid.clone(),
            accepted: None,
        }
    }
}

/// What the answer says of a section we take.
#[derive(Clone, Debug)]
struct Accepted {
    rtp: RtpParameters,
    /// Payload type and its `a=fmtp`, as offered.
    fmtp: Vec<(u8, String)>,
    /// Simulcast layers we take.
    layers: Vec<String>,
    rtcp_rsize: bool,
    mixed_extensions: bool,
    /// Ids of extensions that were offered for one direction only.
    one_way: Vec<u8>,
    /// The media stream we send, where we send.
    stream: Option<String>,
}

impl Accepted {
    fn new(
        media: &MediaOffer,
        codecs: &[OfferedCodec],
        rtp: RtpParameters,
        layers: Vec<String>,
        stream: Option<String>,
    ) -> Accepted {
        let fmtp = codecs
            .iter()
            .filter_map(|offered| Some((offered.codec.payload_type, offered.fmtp.clone()?)))
            .collect();
        let one_way = media
            .extensions
            .iter()
            .filter(|offered| offered.direction != Direction::SendRecv)
            .map(|offered| offered.extension.id)
            .collect();
        let (rtcp_rsize, mixed_extensions) = (media.rtcp_rsize, media.mixed_extensions);
        Accepted { rtp, fmtp, layers, rtcp_rsize, mixed_extensions, one_way, stream }
    }
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
