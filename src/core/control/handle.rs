//! [`Peer`]: what a door holds of the party it let in.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::core::auth::Principal;
use crate::core::capabilities::{Kind, RtpParameters};
use crate::core::control::error::ControlError;
use crate::core::id::{ConnId, ConsumerId, ProducerId, TransportId};
use crate::core::message::{IceParameters, WebRtcTransport};
use crate::core::peer::CloseReason;
use crate::core::room::RoomName;
use crate::core::session::{DtlsRole, Fingerprint, Session};

/// One member of a room; cheap to clone. Dropping it closes nothing: [`Peer::close`] does.
#[derive(Clone)]
pub struct Peer(Arc<()>);

impl Peer {
    /// The connection's id, for log lines, events and API objects.
    pub fn conn(&self) -> ConnId {
        todo!()
    }

    /// The room it is in.
    pub fn room(&self) -> &RoomName {
        todo!()
    }

    /// Who it is, as far as rights go.
    pub fn principal(&self) -> &Principal {
        todo!()
    }

    /// Makes a WebRTC transport for it on its room's worker.
    pub async fn create_webrtc_transport(&self) -> Result<WebRtcTransport, ControlError> {
        todo!()
    }

    /// Tells the transport the remote's DTLS role and fingerprints, and its ICE credentials where known.
    /// Answers our own role.
    pub async fn connect_webrtc(
        &self,
        _transport: TransportId,
        _role: DtlsRole,
        _fingerprints: Vec<Fingerprint>,
        _ice: Option<(String, String)>,
    ) -> Result<DtlsRole, ControlError> {
        todo!()
    }

    /// Gives the transport new ICE credentials.
    pub async fn restart_ice(&self, _transport: TransportId) -> Result<IceParameters, ControlError> {
        todo!()
    }

    /// Makes a track of what the party sends; `track` is the session's number on a stream transport.
    pub async fn produce(
        &self,
        _transport: TransportId,
        _kind: Kind,
        _rtp: RtpParameters,
        _track: Option<u32>,
    ) -> Result<ProducerId, ControlError> {
        todo!()
    }

    /// Sends the party the room's program (or the publisher it watches) from now on. `rtp` lists every
    /// codec the party takes, and one encoding with its ssrc.
    pub async fn consume_program(
        &self,
        _transport: TransportId,
        _kind: Kind,
        _rtp: RtpParameters,
    ) -> Result<ConsumerId, ControlError> {
        todo!()
    }

    /// Hands a stream session to the room's worker. The tracks it announces become producers by themselves.
    pub async fn adopt(
        &self,
        _session: Box<dyn Session>,
        _socket: Option<OwnedFd>,
    ) -> Result<TransportId, ControlError> {
        todo!()
    }

    /// What the party should be told in words: why a track of the program is not sent to it.
    pub fn notices(&self) -> Vec<String> {
        todo!()
    }

    /// Ends it; does nothing when it has ended already.
    pub async fn close(&self, _reason: CloseReason) {
        todo!()
    }

    /// Resolves when the peer is gone, whoever ended it.
    pub async fn closed(&self) -> CloseReason {
        todo!()
    }
}
