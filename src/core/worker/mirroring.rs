//! `transport.startMirroring` and `transport.stopMirroring`: a socket of its own for the copies of a transport's
//! packets, asked for and opened, and the copies on their way.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::message::{Request, Response};
use crate::core::rtp::mirror::{Mirror, Wanted};
use crate::core::rtp::path::{LegSocket, Path};
use crate::core::transport::TransportKind;
use crate::core::worker::{Action, Place, Worker};

/// Where copies go.
#[derive(Deserialize)]
struct Target {
    #[serde(rename = "remoteIP")]
    ip: IpAddr,
    #[serde(rename = "remotePort")]
    port: u16,
    #[serde(rename = "localIP", default)]
    local_ip: Option<IpAddr>,
    #[serde(flatten)]
    wanted: Wanted,
}

/// A mirror of a transport, as the worker sees it.
pub(super) struct Mirroring {
    transport: u32,
    place: Place,
    wanted: Wanted,
    remote: SocketAddr,
    state: State,
}

enum State {
    /// The request that is answered once the socket is open.
    Asked(u32),
    /// The socket's number, and the way the copies take.
    Open(u32, Path),
}

impl Worker {
    /// `transport.startMirroring`; the answer follows when the socket is open.
    pub(super) fn start_mirroring(&mut self, request: &Request) -> Result<(), String> {
        let place = self.transport(request)?;
        let target = Target::deserialize(&request.data).map_err(|fault| format!("data: {fault}"))?;
        let transport = self.with_transport(place, |transport| match transport.kind {
            TransportKind::WebRtc(_) | TransportKind::Plain(_) => Ok(transport.id.0),
            _ => Err("only packets of a network can be mirrored".to_owned()),
        });
        let transport = transport.ok_or("Transport does not exist")??;
        if self.mirrors.iter().any(|mirror| mirror.transport == transport) {
            return Err("Transport is already mirroring".into());
        }
        let remote = SocketAddr::new(target.ip, target.port);
        let state = State::Asked(request.id);
        self.mirrors.push(Mirroring { transport, place, wanted: target.wanted, remote, state });
        self.actions.push_back(Action::OpenMirror { transport, ip: target.local_ip, ipv6: remote.is_ipv6() });
        Ok(())
    }

    /// The socket asked for by [`Action::OpenMirror`] is open, or cannot be.
    pub fn handle_mirror_opened(&mut self, transport: u32, opened: Result<LegSocket, String>) {
        let waits = |mirror: &&mut Mirroring| {
            mirror.transport == transport && matches!(mirror.state, State::Asked(_))
        };
        let Some(mirror) = self.mirrors.iter_mut().find(waits) else {
            self.actions.extend(opened.ok().map(|leg| Action::CloseSocket { socket: leg.socket }));
            return;
        };
        let State::Asked(id) = mirror.state else { return };
        let (place, wanted) = (mirror.place, mirror.wanted);
        let response = match opened {
            Ok(LegSocket { socket, address }) => {
                let path = Path::Udp { socket, local: address.ip(), remote: mirror.remote };
                mirror.state = State::Open(socket, path);
                self.set_mirror(place, Some(Mirror::new(wanted)));
                Response::accepted(id, json!({}))
            }
            Err(reason) => {
                self.mirrors.retain(|mirror| mirror.transport != transport);
                Response::rejected(id, reason)
            }
        };
        self.answers.push_back(response.to_json());
    }

    /// `transport.stopMirroring`, also of one that is not mirrored.
    pub(super) fn stop_mirroring(&mut self, request: &Request) -> Result<Value, String> {
        let place = self.transport(request)?;
        self.end_mirroring(place, "the mirroring was stopped");
        self.set_mirror(place, None);
        Ok(json!({}))
    }

    /// The transport at `place` is not mirrored any more.
    pub(super) fn end_mirroring(&mut self, place: Place, reason: &str) {
        let Some(at) = self.mirrors.iter().position(|mirror| mirror.place == place) else { return };
        match self.mirrors.swap_remove(at).state {
            State::Asked(id) => self.answers.push_back(Response::rejected(id, reason).to_json()),
            State::Open(socket, _) => self.actions.push_back(Action::CloseSocket { socket }),
        }
    }

    fn set_mirror(&mut self, place: Place, mirror: Option<Mirror>) {
        self.with_transport(place, |transport| {
            if let Some(slot) = transport.mirror() {
                *slot = mirror.map(Box::new);
            }
        });
    }

    /// Puts the copies that wait among what is sent; whether there were any.
    pub(super) fn take_mirrored(&mut self) -> bool {
        let before = self.datagrams.len();
        for mirror in &self.mirrors {
            let State::Open(_, path) = mirror.state else { continue };
            let space = self.spaces.get_mut(mirror.place.0);
            let transport = space.and_then(|space| space.transports.get_mut(mirror.place.1));
            let Some(Some(copies)) = transport.and_then(|transport| transport.mirror()) else { continue };
            while let Some(copy) = copies.pop() {
                self.datagrams.push_back((path, copy));
            }
        }
        self.datagrams.len() > before
    }
}
