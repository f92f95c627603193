//! The client's transports: one to send by, one to receive by, as a rule. ICE and DTLS are the core's; here ids,
//! directions and order. A client that sends is DTLS server, and we begin the handshake; one that receives tells
//! its certificate only later.

use serde_json::{Value, json};
use tracing::debug;

use super::messages::{CreateTransport, Direction, Ref, UpdateTransport};
use super::{Ask, Inside, Link, RequestId, Then, notify, unexpected};
use crate::core::control::{DtlsParameters, WebRtcOptions, WebRtcTransport};
use crate::core::id::TransportId;
use crate::rooms::error::Refusal;
use crate::rooms::session::Answered;
use crate::rooms::session::asks::Answer;

/// A transport of a client.
pub(super) struct Transport {
    pub direction: Direction,
    /// The core's id, once it stands.
    pub id: Option<TransportId>,
    /// The client's certificate, until the transport stands.
    dtls: Option<DtlsParameters>,
}

impl Inside {
    pub(super) fn create_transport(
        &mut self,
        link: &mut Link,
        request: RequestId,
        create: CreateTransport,
    ) -> Result<(), Refusal> {
        if create.plain_rtp_parameters.is_some() {
            // It would let any client aim a stream at any address.
            let reason =
                "clients get WebRTC transports; plain RTP comes in by the SIP door, or by a controller";
            return Err(Refusal::new(403, reason));
        }
        if self.transports.contains_key(&create.id) {
            return Err(Refusal::new(409, format!("there is a transport {} already", create.id)));
        }
        if create.direction == Direction::Send && !self.publishes {
            return Err(Refusal::new(403, "this peer may watch, not send"));
        }
        let CreateTransport { id, direction, options, dtls_parameters: dtls, .. } = create;
        self.transports.insert(id, Transport { direction, id: None, dtls });
        let options = WebRtcOptions { receives: direction == Direction::Recv, ..options.unwrap_or_default() };
        link.ask(Ask::CreateTransport(options), Then::TransportMade(request, id));
        Ok(())
    }

    pub(super) fn transport_made(&mut self, link: &mut Link, request: RequestId, id: u32, answer: Answered) {
        let made = match answer {
            Ok(Answer::Transport(made)) => made,
            other => {
                self.transports.remove(&id);
                return link.respond(request, Err(other.err().unwrap_or_else(unexpected)));
            }
        };
        let Some(transport) = self.transports.get_mut(&id) else {
            // The client closed it meanwhile.
            link.ask(Ask::CloseTransport(made.id), Then::Nothing);
            return link.respond(request, Err(Refusal::new(410, "the transport was closed")));
        };
        transport.id = Some(made.id);
        match transport.dtls.take() {
            Some(DtlsParameters { role, fingerprints }) => {
                let ask = Ask::ConnectTransport(made.id, role, fingerprints);
                link.ask(ask, Then::TransportConnected(request, id, Box::new(made)));
            }
            None => link.respond(request, Ok(describe(&made))),
        }
    }

    pub(super) fn transport_connected(
        &mut self,
        link: &mut Link,
        request: RequestId,
        id: u32,
        mut made: WebRtcTransport,
        answer: Answered,
    ) {
        let role = match answer {
            Ok(Answer::Role(role)) => role,
            other => {
                self.drop_transport(link, id);
                return link.respond(request, Err(other.err().unwrap_or_else(unexpected)));
            }
        };
        made.dtls.role = role;
        link.respond(request, Ok(describe(&made)));
    }

    pub(super) fn restart_transport(
        &mut self,
        link: &mut Link,
        request: RequestId,
        Ref { id }: Ref,
    ) -> Result<(), Refusal> {
        let transport = self.transport(id)?;
        link.ask(Ask::RestartIce(transport), Then::TransportRestarted(request));
        Ok(())
    }

    pub(super) fn update_transport(
        &mut self,
        link: &mut Link,
        update: UpdateTransport,
    ) -> Result<(), Refusal> {
        let transport = self.transport(update.id)?;
        let DtlsParameters { role, fingerprints } =
            update.dtls_parameters.ok_or_else(|| Refusal::bad("dtlsParameters are missing"))?;
        let ask = Ask::ConnectTransport(transport, role, fingerprints);
        link.ask(ask, Then::TransportUpdated(update.id));
        Ok(())
    }

    pub(super) fn transport_updated(&mut self, link: &mut Link, id: u32, answer: Answered) {
        if let Err(refusal) = answer {
            debug!(%refusal, "a client's DTLS parameters were refused; its transport is closed");
            if self.drop_transport(link, id) {
                notify(link, "transportClosed", json!({"id": id}));
            }
        }
    }

    pub(super) fn close_transport(&mut self, link: &mut Link, Ref { id }: Ref) -> Result<(), Refusal> {
        if self.drop_transport(link, id) { Ok(()) } else { Err(Refusal::unknown("transport", id)) }
    }

    /// A transport ended by itself.
    pub(super) fn transport_gone(&mut self, link: &mut Link, gone: TransportId) {
        let found = self.transports.iter().find(|(_, transport)| transport.id == Some(gone));
        if let Some(id) = found.map(|(id, _)| *id) {
            self.forget_transport(id);
            notify(link, "transportClosed", json!({"id": id}));
        }
    }

    /// Closes a transport, if there is such a one.
    fn drop_transport(&mut self, link: &mut Link, id: u32) -> bool {
        let Some(transport) = self.forget_transport(id) else { return false };
        if let Some(transport) = transport.id {
            link.ask(Ask::CloseTransport(transport), Then::Nothing);
        }
        true
    }

    /// What was sent by it is over; what was received by it can be received by another.
    fn forget_transport(&mut self, id: u32) -> Option<Transport> {
        let transport = self.transports.remove(&id)?;
        self.producers.retain(|_, producer| producer.transport != id);
        self.consumers.values_mut().for_each(|consumer| consumer.unhandle(id));
        Some(transport)
    }

    /// The core's id of a transport that stands.
    pub(super) fn transport(&self, id: u32) -> Result<TransportId, Refusal> {
        let transport = self.transports.get(&id).ok_or_else(|| Refusal::unknown("transport", id))?;
        transport.id.ok_or_else(|| Refusal::new(409, format!("transport {id} does not stand yet")))
    }
}

/// `iceParameters` of the response to `restartTransport`.
pub(super) fn restarted(answer: Answer) -> Option<Value> {
    match answer {
        Answer::Ice(ice) => Some(json!({"iceParameters": ice})),
        _ => None,
    }
}

/// The response to `createTransport`.
fn describe(made: &WebRtcTransport) -> Value {
    json!({"iceParameters": made.ice, "iceCandidates": made.candidates, "dtlsParameters": made.dtls})
}
