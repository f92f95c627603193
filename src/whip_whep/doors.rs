//! What these doors ask of the rooms behind them; the tests put something of their own there.

use std::future::Future;

use crate::core::capabilities::{Kind, RtpParameters};
use crate::core::control::{
    ControlError, IceParameters, Join, JoinError, Peer, Produce, Rooms, WebRtcOptions, WebRtcTransport,
};
use crate::core::id::{ConnId, ConsumerId, ProducerId, TransportId};
use crate::core::peer::CloseReason;
use crate::core::session::{DtlsRole, Fingerprint};

/// The rooms.
pub trait Doors: Send + Sync + 'static {
    /// A member of a room.
    type Member: Member;

    /// See [`Rooms::join`].
    fn join(&self, join: Join) -> impl Future<Output = Result<Self::Member, JoinError>> + Send;

    /// See [`Rooms::video_codecs`].
    fn video_codecs(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A member of a room; see [`Peer`].
pub trait Member: Clone + Send + Sync + 'static {
    /// See [`Peer::conn`].
    fn conn(&self) -> ConnId;
    /// See [`Peer::create_webrtc_transport`].
    fn transport(&self) -> impl Future<Output = Result<WebRtcTransport, ControlError>> + Send;
    /// See [`Peer::connect_webrtc`].
    fn connect(
        &self,
        transport: TransportId,
        dtls: (DtlsRole, Vec<Fingerprint>),
        ice: (String, String),
    ) -> impl Future<Output = Result<DtlsRole, ControlError>> + Send;
    /// New ICE credentials on both sides (RFC 8445 §9); answers ours.
    fn restart_ice(
        &self,
        transport: TransportId,
        remote: (String, String),
    ) -> impl Future<Output = Result<IceParameters, ControlError>> + Send;
    /// See [`Peer::produce`].
    fn produce(
        &self,
        transport: TransportId,
        kind: Kind,
        rtp: RtpParameters,
    ) -> impl Future<Output = Result<ProducerId, ControlError>> + Send;
    /// See [`Peer::consume_program`].
    fn consume(
        &self,
        transport: TransportId,
        kind: Kind,
        rtp: RtpParameters,
    ) -> impl Future<Output = Result<ConsumerId, ControlError>> + Send;
    /// See [`Peer::close`].
    fn close(&self, reason: CloseReason) -> impl Future<Output = ()> + Send;
    /// See [`Peer::closed`].
    fn closed(&self) -> impl Future<Output = CloseReason> + Send;
}

impl Doors for Rooms {
    type Member = Peer;

    fn video_codecs(&self) -> Vec<String> {
        Rooms::video_codecs(self)
    }

    async fn join(&self, join: Join) -> Result<Peer, JoinError> {
        Rooms::join(self, join).await
    }
}

impl Member for Peer {
    fn conn(&self) -> ConnId {
        Peer::conn(self)
    }

    async fn transport(&self) -> Result<WebRtcTransport, ControlError> {
        self.create_webrtc_transport(WebRtcOptions::default()).await
    }

    async fn connect(
        &self,
        transport: TransportId,
        (role, fingerprints): (DtlsRole, Vec<Fingerprint>),
        ice: (String, String),
    ) -> Result<DtlsRole, ControlError> {
        self.connect_webrtc(transport, role, fingerprints, Some(ice)).await
    }

    async fn restart_ice(
        &self,
        transport: TransportId,
        (ufrag, pwd): (String, String),
    ) -> Result<IceParameters, ControlError> {
        let ours = Peer::restart_ice(self, transport).await?;
        self.set_remote_ice(transport, ufrag, pwd).await?;
        Ok(ours)
    }

    async fn produce(
        &self,
        transport: TransportId,
        kind: Kind,
        rtp: RtpParameters,
    ) -> Result<ProducerId, ControlError> {
        Peer::produce(self, transport, Produce::new(kind, rtp)).await
    }

    async fn consume(
        &self,
        transport: TransportId,
        kind: Kind,
        rtp: RtpParameters,
    ) -> Result<ConsumerId, ControlError> {
        self.consume_program(transport, kind, rtp).await
    }

    async fn close(&self, reason: CloseReason) {
        Peer::close(self, reason).await;
    }

    async fn closed(&self) -> CloseReason {
        Peer::closed(self).await
    }
}
