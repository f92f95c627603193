//! What peers send: transports, producers, and the tracks of stream sessions that become producers by
//! themselves.

use std::collections::BTreeSet;

use futures_channel::oneshot;
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::core::capabilities::{Encoding, RtpCodec, RtpParameters};
use crate::core::control::error::ControlError;
use crate::core::control::events::RoomEvent;
use crate::core::control::handle::Produce;
use crate::core::control::peer_events::PeerEvent;
use crate::core::control::state::{
    Answer, Reply, SessionTrack, State, Target, Waiter, on_producer, on_transport,
};
use crate::core::convert::Format;
use crate::core::id::{ConnId, ProducerId, RouterId, TransportId, WorkerId};
use crate::core::mail::Mail;
use crate::core::message::{Internal, Method, WebRtcOptions};
use crate::core::peer::{Layers, Member, Path, Track};
use crate::core::room::RoomName;

/// Where an answer comes from.
pub(super) type Pending = oneshot::Receiver<Answer>;

impl State {
    /// The member behind a handle, if it is still there.
    pub fn member(&mut self, conn: ConnId) -> Result<&mut Member, ControlError> {
        self.members.get_mut(&conn).map(|entry| &mut entry.peer).ok_or(ControlError::Closed)
    }

    /// The router and worker of a member that has `transport`.
    pub fn place(
        &mut self,
        conn: ConnId,
        transport: TransportId,
    ) -> Result<(RouterId, WorkerId), ControlError> {
        let path = self.member(conn)?.path(transport);
        let path = path.ok_or(ControlError::NotAllowed("that is no transport of this peer"))?;
        Ok((path.router, path.worker))
    }

    /// Enters a transport to be made among those of a member; one by which a publisher only receives may be anywhere.
    pub fn new_transport(
        &mut self,
        conn: ConnId,
        receives: bool,
    ) -> Result<(RouterId, WorkerId, TransportId), ControlError> {
        let limit = self.config.max_transports_per_peer;
        let id = TransportId(self.dispatcher.allocate());
        let peer = self.member(conn)?;
        if peer.transports.len() >= limit {
            return Err(ControlError::NotAllowed("the peer has all the transports it may have"));
        }
        let (mut router, mut worker) = (peer.router, peer.worker);
        let counted = receives && peer.publishes;
        if counted {
            let room = self.members.get(&conn).map(|entry| entry.room.clone()).ok_or(ControlError::Closed)?;
            (router, worker) = self.receiver_seat(&room).unwrap_or((router, worker));
            self.take_seat(&room, router);
            self.dispatcher.add_load(worker);
        }
        self.member(conn)?.transports.push(Path { id, router, worker, counted });
        self.dispatcher.subscribe(id.0, worker, Target::Transport(conn));
        Ok((router, worker, id))
    }

    /// Asks for a WebRTC transport.
    pub fn create_webrtc(&mut self, conn: ConnId, options: WebRtcOptions) -> Result<Pending, ControlError> {
        let (router, worker, id) = self.new_transport(conn, options.receives)?;
        let (waiter, pending) = oneshot::channel();
        let mut data = json!(options);
        if let Some(fields) = data.as_object_mut() {
            fields.insert("x.connId".into(), json!(conn));
        }
        let reply = Reply::Transport(conn, id, waiter);
        self.ask(worker, Method::RouterCreateWebRtcTransport, on_transport(router, id), data, reply);
        Ok(pending)
    }

    /// Hands a stream session to the worker and asks for a transport around it.
    pub fn adopt(
        &mut self,
        conn: ConnId,
        mail: impl FnOnce(u32) -> Mail,
    ) -> Result<(TransportId, Pending), ControlError> {
        let (router, worker, id) = self.new_transport(conn, false)?;
        let attach = self.dispatcher.allocate();
        let sent = self.dispatcher.mail(worker).is_some_and(|mailbox| mailbox.send(mail(attach)).is_ok());
        if !sent {
            self.forget_transport(conn, id);
            return Err(ControlError::Overloaded);
        }
        let (waiter, pending) = oneshot::channel();
        let data = json!({"attach": attach, "x.connId": conn});
        let reply = Reply::Transport(conn, id, waiter);
        self.ask(worker, Method::XRouterCreateStreamTransport, on_transport(router, id), data, reply);
        Ok((id, pending))
    }

    /// Asks a transport of a peer something.
    pub fn ask_transport(
        &mut self,
        conn: ConnId,
        transport: TransportId,
        method: Method,
        data: Value,
    ) -> Result<Pending, ControlError> {
        let (router, worker) = self.place(conn, transport)?;
        let (waiter, pending) = oneshot::channel();
        self.ask(worker, method, on_transport(router, transport), data, Reply::Value(waiter));
        Ok(pending)
    }

    /// Asks for a producer of what a peer sends.
    pub fn produce(
        &mut self,
        conn: ConnId,
        transport: TransportId,
        track: Produce,
    ) -> Result<(ProducerId, Pending), ControlError> {
        self.check_app_data(&track.app_data)?;
        let codec = track.rtp.codecs.iter().find(|codec| !codec.is_feature()).cloned();
        let codec = codec.ok_or(ControlError::NotAllowed("a track needs a media codec"))?;
        let format = Format { kind: track.kind, codec, config: Vec::new(), reordered: false };
        let (waiter, pending) = oneshot::channel();
        let producer = self.create_producer(conn, transport, format, track, (None, Some(waiter)))?;
        Ok((producer, pending))
    }

    /// What an application lays beside a peer or a track stays small.
    pub fn check_app_data(&self, data: &Value) -> Result<(), ControlError> {
        match data.is_null() || data.to_string().len() <= self.config.max_app_data_bytes {
            true => Ok(()),
            false => Err(ControlError::NotAllowed("the application's data is too big")),
        }
    }

    /// Asks for a producer, and makes it a track of its member.
    pub fn create_producer(
        &mut self,
        conn: ConnId,
        transport: TransportId,
        format: Format,
        Produce { rtp, paused, app_data, .. }: Produce,
        (session_track, waiter): (Option<u32>, Option<Waiter>),
    ) -> Result<ProducerId, ControlError> {
        let (router, worker) = self.place(conn, transport)?;
        let limit = self.config.max_tracks_per_peer;
        let sent = ProducerId(self.dispatcher.allocate());
        let peer = self.member(conn)?;
        if !peer.publishes {
            return Err(ControlError::NotAllowed("the peer joined to watch, not to publish"));
        }
        if peer.tracks.len() >= limit {
            return Err(ControlError::NotAllowed("the peer sends all the tracks it may send"));
        }
        let muted = peer.muted.holds(format.kind);
        let mut data = json!({"kind": format.kind, "rtpParameters": rtp, "paused": paused || muted});
        if let (Some(track), Some(map)) = (session_track, data.as_object_mut()) {
            map.insert("x.track".into(), track.into());
        }
        let (ready, layers, takers) = (false, Layers::of(&rtp), BTreeSet::new());
        let internal = Internal { producer_id: Some(sent.0), ..on_transport(router, transport) };
        self.ask(worker, Method::RouterCreateProducer, internal, data, Reply::Track(conn, sent, waiter));
        let room = self.members.get(&conn).map(|entry| entry.room.clone()).ok_or(ControlError::Closed)?;
        let (producer, carrier) = self.pipe_home(&room, router, sent, (&format, &rtp.encodings));
        self.member(conn)?.tracks.push(Track {
            producer,
            sent,
            carrier,
            transport,
            format,
            encodings: rtp.encodings,
            session_track,
            ready,
            paused,
            muted,
            layers,
            app_data,
            takers,
        });
        self.owners.insert(producer, conn);
        self.dispatcher.subscribe(sent.0, worker, Target::Track(conn));
        Ok(sent)
    }

    /// A producer was made or refused.
    pub fn track_answered(&mut self, conn: ConnId, sent: ProducerId, waiter: Option<Waiter>, result: Answer) {
        let known = self.member(conn).ok().and_then(|peer| peer.track_called(sent));
        let producer = known.map_or(sent, |track| track.producer);
        match &result {
            Ok(_) => self.track_ready(conn, producer),
            Err(error) => {
                if waiter.is_none() && *error != ControlError::WorkerLost {
                    warn!(%conn, %error, "a track was not taken");
                }
                if let Some(entry) = self.members.get_mut(&conn) {
                    let room = entry.room.clone();
                    let failed = entry.peer.tracks.extract_if(.., |track| track.producer == producer);
                    for mut track in failed.collect::<Vec<_>>() {
                        self.track_gone(&room, conn, &mut track);
                        self.end_at_home(&room, &track);
                    }
                }
            }
        }
        if let Some(waiter) = waiter {
            drop(waiter.send(result));
        }
    }

    fn track_ready(&mut self, conn: ConnId, producer: ProducerId) {
        self.lives += 1;
        let lives = self.lives;
        let Some(entry) = self.members.get_mut(&conn) else { return };
        let room = entry.room.clone();
        let Some(track) = entry.peer.tracks.iter_mut().find(|track| track.producer == producer) else {
            return;
        };
        track.ready = true;
        let (muted, sent) = (track.muted, track.sent);
        info!(%conn, %room, codec = track.format.codec.mime_type, "live");
        entry.peer.live_since.get_or_insert(lives);
        if let Some(state) = self.rooms.get_mut(&room)
            && state.awaited == Some(conn)
        {
            state.awaited = None;
        }
        self.emit_track(conn, producer, RoomEvent::TrackAdded);
        if muted {
            self.tell_peer(conn, PeerEvent::ProducerPaused { producer: sent });
        }
        self.refresh(&room);
    }

    /// A stream session announced a track, or changed one.
    pub fn session_track(&mut self, conn: ConnId, transport: TransportId, event: SessionTrack) {
        let format = Format {
            kind: event.kind,
            codec: event.codec.clone(),
            config: event.config_bytes(),
            reordered: event.reordered,
        };
        let Some(entry) = self.members.get_mut(&conn) else { return };
        let room = entry.room.clone();
        let known = entry
            .peer
            .tracks
            .iter_mut()
            .find(|track| track.transport == transport && track.session_track == Some(event.track));
        match known {
            Some(track)
                if same_codec(&track.format.codec, &format.codec) && same_config(&track.format, &format) =>
            {
                let stale =
                    track.format.config != format.config || track.format.reordered != format.reordered;
                let producer = track.producer;
                if format.reordered && !track.format.reordered {
                    info!(%conn, "the picture has B-frames that browsers cannot take as they are");
                }
                track.format = format;
                self.emit_track(conn, producer, RoomEvent::TrackChanged);
                if stale {
                    self.end_jobs_of(producer);
                    self.refresh(&room);
                    self.point_takers(producer);
                }
            }
            Some(track) => {
                let producer = track.producer;
                self.drop_track(conn, producer);
                self.produce_session_track(conn, transport, format, event.track);
            }
            None => self.produce_session_track(conn, transport, format, event.track),
        }
    }

    fn produce_session_track(&mut self, conn: ConnId, transport: TransportId, format: Format, track: u32) {
        let rtp = RtpParameters {
            codecs: vec![format.codec.clone()],
            encodings: vec![Encoding::default()],
            ..RtpParameters::default()
        };
        let produce = Produce::new(format.kind, rtp);
        if let Err(error) = self.create_producer(conn, transport, format, produce, (Some(track), None)) {
            warn!(%conn, %error, "a track was not taken");
        }
    }

    /// Ends one track of a peer that stays.
    pub fn drop_track(&mut self, conn: ConnId, producer: ProducerId) {
        let Some(entry) = self.members.get_mut(&conn) else { return };
        let room: RoomName = entry.room.clone();
        let Some(at) = entry.peer.tracks.iter().position(|track| track.producer == producer) else { return };
        let mut track = entry.peer.tracks.remove(at);
        let path = entry.peer.path(track.transport);
        self.track_gone(&room, conn, &mut track);
        self.refresh(&room);
        self.end_derived(&room, producer);
        self.end_at_home(&room, &track);
        if let Some(path) = path {
            let internal = on_producer(path.router, track.sent);
            self.tell(path.worker, Method::ProducerClose, internal, json!({}));
        }
    }
}

impl State {
    /// A track is no longer its member's: those who took it are told, and those who watch.
    pub fn track_gone(&mut self, room: &RoomName, conn: ConnId, track: &mut Track) {
        let producer = track.producer;
        self.owners.remove(&producer);
        self.dispatcher.unsubscribe(track.sent.0);
        self.close_takers(std::mem::take(&mut track.takers));
        self.unheard(room, producer);
        if track.ready {
            self.emit(room, || RoomEvent::TrackRemoved { conn, producer });
        }
    }
}

/// Whether what a receiver needs to know of AAC is the same: it is told once.
fn same_config(a: &Format, b: &Format) -> bool {
    a.codec.parameter("config") == b.codec.parameter("config")
}

/// Whether two codecs are the same but for the payload type.
pub(super) fn same_codec(a: &RtpCodec, b: &RtpCodec) -> bool {
    a.is(&b.mime_type) && a.clock_rate == b.clock_rate && a.channels == b.channels
}
