//! Sessions and what they tell. A session that panics loses its own transport and nothing else: it is a
//! value, so it leaves no lock and no task behind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use serde_json::{Value, json};
use tracing::{debug, error, info};

use crate::core::id::ConnId;
use crate::core::rtp::path::Path;
use crate::core::session::{Command, Ending, Event, Input, Output, Session};
use crate::core::time::MediaTime;
use crate::core::transport::webrtc::MAX_PATHS;
use crate::core::transport::{Transport, TransportKind};
use crate::core::worker::{Action, Place, Space, Verdict, Worker};

impl Transport {
    /// The session behind it, if there is one.
    pub(super) fn session(&self) -> Option<&dyn Session> {
        match &self.kind {
            TransportKind::WebRtc(webrtc) => Some(&*webrtc.session),
            TransportKind::Stream(stream) => Some(&*stream.session),
            TransportKind::Plain(plain) => plain.session.as_deref(),
            _ => None,
        }
    }

    fn session_mut(&mut self) -> Option<&mut Box<dyn Session>> {
        match &mut self.kind {
            TransportKind::WebRtc(webrtc) => Some(&mut webrtc.session),
            TransportKind::Stream(stream) => Some(&mut stream.session),
            TransportKind::Plain(plain) => plain.session.as_mut(),
            _ => None,
        }
    }
}

impl Worker {
    /// Gives `input` to the session at `place` and acts on what it says.
    pub(super) fn session_input(&mut self, now: Instant, place: Place, input: Input<'_>) -> Verdict {
        let claim = match &input {
            Input::Datagram { path, .. } => Some(*path),
            _ => None,
        };
        self.with_session(place, |session| session.handle_input(now, input));
        self.drain_session(now, place, claim);
        Verdict::Claimed
    }

    /// Gives a command to the session at `place`.
    pub(super) fn session_command(
        &mut self,
        now: Instant,
        place: Place,
        command: Command,
    ) -> Result<Value, String> {
        let answer = self.with_session(place, |session| session.command(now, command));
        self.drain_session(now, place, None);
        answer.unwrap_or_else(|| Err("the transport has no session".into()))
    }

    /// Tells the session at `place` that its time has come.
    pub(super) fn session_timeout(&mut self, now: Instant, place: Place) {
        let due = self
            .spaces
            .get(place.0)
            .and_then(|space| space.transports.get(place.1)?.session()?.poll_timeout())
            .is_some_and(|at| at <= now);
        if due {
            self.with_session(place, |session| session.handle_timeout(now));
            self.drain_session(now, place, None);
        }
    }

    /// Runs `step` on the session at `place`; a panic ends its transport.
    fn with_session<T>(&mut self, place: Place, step: impl FnOnce(&mut dyn Session) -> T) -> Option<T> {
        let transport = self.spaces.get_mut(place.0)?.transports.get_mut(place.1)?;
        let conn = transport.conn;
        let session = transport.session_mut()?;
        match catch_unwind(AssertUnwindSafe(|| step(&mut **session))) {
            Ok(value) => Some(value),
            Err(_) => {
                self.session_broke(conn, place);
                None
            }
        }
    }

    /// Gives a stream session what its consumers have put together.
    pub(super) fn pass_frames(&mut self, place: Place, now: MediaTime) {
        let now = self.epoch.instant(now);
        let Some(Space { router, transports, .. }) = self.spaces.get_mut(place.0) else { return };
        let Some(transport) = transports.get_mut(place.1) else { return };
        let conn = transport.conn;
        let TransportKind::Stream(stream) = &mut transport.kind else { return };
        let (consumers, router) = (&transport.consumers, &*router);
        match catch_unwind(AssertUnwindSafe(|| stream.pass_frames(now, consumers, router))) {
            Ok(true) => self.drain_session(now, place, None),
            Ok(false) => {}
            Err(_) => self.session_broke(conn, place),
        }
    }

    fn session_broke(&mut self, conn: ConnId, place: Place) {
        error!(%conn, "a session broke an invariant of its own and is closed");
        self.end_transport(place, "internal error", Ending::Error);
    }

    /// Does what the session asks until it asks nothing. `claim`: the path whose datagram it just took; an
    /// answer there shows that the path is its own.
    pub(super) fn drain_session(&mut self, now: Instant, place: Place, claim: Option<Path>) {
        while let Some(Some(output)) = self.with_session(place, |session| session.poll_output()) {
            match output {
                Output::Datagram { path, data } => {
                    if claim == Some(path) {
                        self.claim(place, path);
                    }
                    self.datagrams.push_back((path, data));
                }
                Output::Bytes(bytes) => {
                    let stream = self.with_transport(place, |transport| match &transport.kind {
                        TransportKind::Stream(stream) => stream.stream,
                        _ => None,
                    });
                    if let Some(Some(stream)) = stream {
                        self.actions.push_back(Action::Write { stream, bytes });
                    }
                }
                Output::Event(event) => self.take_event(now, place, event),
            }
        }
        self.reschedule(place);
    }

    /// Makes datagrams from `path` this transport's, unless another's media comes from there.
    fn claim(&mut self, place: Place, path: Path) {
        if self.paths.contains_key(&path) {
            return;
        }
        let kept = self.with_transport(place, |transport| match &mut transport.kind {
            TransportKind::WebRtc(webrtc) => {
                let out = (webrtc.paths.len() >= MAX_PATHS)
                    .then(|| webrtc.paths.iter().position(|old| Some(*old) != webrtc.path))
                    .flatten()
                    .map(|oldest| webrtc.paths.remove(oldest));
                webrtc.paths.push(path);
                Some(out)
            }
            _ => None,
        });
        if let Some(Some(dropped)) = kept {
            if let Some(dropped) = dropped {
                self.paths.remove(&dropped);
            }
            self.paths.insert(path, place);
        }
    }

    pub(super) fn with_transport<T>(
        &mut self,
        place: Place,
        step: impl FnOnce(&mut Transport) -> T,
    ) -> Option<T> {
        self.spaces.get_mut(place.0)?.transports.get_mut(place.1).map(step)
    }

    fn take_event(&mut self, now: Instant, place: Place, event: Event) {
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        let Some(transport) = space.transports.get_mut(place.1) else { return };
        let (id, conn) = (transport.id.0, transport.conn);
        match (event, &mut transport.kind) {
            (Event::Route { key }, TransportKind::WebRtc(webrtc)) => {
                webrtc.routes.push(key.clone());
                self.routes.insert(key, place);
            }
            (Event::Unroute { key }, TransportKind::WebRtc(webrtc)) => {
                webrtc.routes.retain(|known| *known != key);
                self.routes.remove(&key);
            }
            (Event::IceState(state), TransportKind::WebRtc(_)) => {
                debug!(target: "viaduct::ice", %conn, state, "ICE");
                self.notify(id, "icestatechange", json!({"iceState": state}));
            }
            (Event::DtlsState { state, certificate }, TransportKind::WebRtc(_) | TransportKind::Plain(_)) => {
                debug!(target: "viaduct::dtls", %conn, state, "DTLS");
                let mut data = json!({"dtlsState": state});
                if let Some(certificate) = certificate {
                    data["dtlsRemoteCert"] = json!(certificate);
                }
                self.notify(id, "dtlsstatechange", data);
            }
            (Event::SelectedPath { path, probation }, TransportKind::WebRtc(webrtc)) => {
                let moved = webrtc.path != Some(path);
                (webrtc.path, webrtc.allowance) = (Some(path), probation);
                if let Some(other) = self.paths.insert(path, place).filter(|other| *other != place) {
                    // Its old owner moved away or is gone; its keys would refuse what comes now.
                    debug!(target: "viaduct::ice", %conn, space = other.0, "a path changes hands");
                }
                self.claim_selected(place, path);
                if moved {
                    let tuple = self.with_transport(place, |transport| {
                        transport.session().map(|s| s.dump()["iceSelectedTuple"].clone())
                    });
                    self.notify(id, "iceselectedtuplechange", json!({"iceSelectedTuple": tuple.flatten()}));
                }
                self.start_sending(place);
            }
            (Event::PathLost, TransportKind::WebRtc(webrtc)) => webrtc.path = None,
            (Event::SrtpKeys(keys), TransportKind::WebRtc(webrtc)) => {
                if let Err(fault) = webrtc.set_keys(&keys) {
                    self.end_transport(place, &fault.to_string(), Ending::Error);
                    return;
                }
                debug!(target: "viaduct::srtp", %conn, profile = ?keys.profile, "SRTP");
                self.start_sending(place);
            }
            (Event::SrtpKeys(keys), TransportKind::Plain(plain)) => {
                if let Err(fault) = plain.set_keys(&keys) {
                    self.end_transport(place, &fault, Ending::Error);
                    return;
                }
                debug!(target: "viaduct::srtp", %conn, profile = ?keys.profile, "SRTP");
                self.start_sending(place);
            }
            (Event::Track(track), TransportKind::Stream(stream)) => {
                if let Some(data) = stream.announce(track) {
                    self.notify(id, "x.track", data);
                }
            }
            (Event::TrackChanged(track), TransportKind::Stream(stream)) => {
                if let Some(data) = stream.announce(track) {
                    self.notify(id, "x.trackchange", data);
                }
            }
            (Event::Frame(frame), TransportKind::Stream(stream)) => {
                let media = self.epoch.media_time(now);
                stream.receive(frame, &mut space.router, media);
            }
            (Event::Data(event), TransportKind::WebRtc(_)) => self.take_data_event(now, place, event),
            (Event::Message(message), _) => self.notify(id, "x.message", message),
            (Event::Notice(text), _) => {
                info!(%conn, "{text}");
                self.notify(id, "x.notice", json!({"text": text}));
            }
            (Event::Closed { reason, ending }, _) => self.end_transport(place, &reason, ending),
            (event, _) => debug!(%conn, ?event, "an event that its kind of transport does not have"),
        }
    }

    fn claim_selected(&mut self, place: Place, path: Path) {
        self.with_transport(place, |transport| {
            if let TransportKind::WebRtc(webrtc) = &mut transport.kind
                && !webrtc.paths.contains(&path)
            {
                webrtc.paths.push(path);
            }
        });
    }
}
