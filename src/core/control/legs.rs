//! What a door does with plain RTP legs (SIP): making and connecting them, tones, hold, and the events
//! that come back.

use futures_channel::oneshot;
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::core::control::error::ControlError;
use crate::core::control::events::RoomEvent;
use crate::core::control::handle::{Peer, answer, read};
use crate::core::control::peer_events::PeerEvent;
use crate::core::control::publish::Pending;
use crate::core::control::state::{Reply, State, on_transport};
use crate::core::data::SctpStreamParameters;
use crate::core::id::{ConnId, ConsumerId, TransportId};
use crate::core::message::Method;
use crate::core::peer::PeerKind;
use crate::core::plain::{PlainOptions, PlainRemote, PlainTransport};

impl Peer {
    /// Makes a plain RTP transport for it on its room's worker: a port pair, or one port.
    pub async fn create_plain_transport(
        &self,
        options: PlainOptions,
    ) -> Result<PlainTransport, ControlError> {
        let pending = self.rooms().step(|state| state.create_plain(self.conn(), &options))?;
        read(answer(pending).await?)
    }

    /// Tells the transport the remote side, as its SDP says; again after each re-INVITE. A new address
    /// makes it learn anew where media comes from.
    pub async fn connect_plain(
        &self,
        transport: TransportId,
        remote: PlainRemote,
    ) -> Result<(), ControlError> {
        let method = Method::TransportSetRemoteParameters;
        let ask = |state: &mut State| state.ask_transport(self.conn(), transport, method, json!(remote));
        answer(self.rooms().step(ask)?).await.map(drop)
    }

    /// Plays telephone events into what `consumer` sends, one after another: `0`-`9`, `*`, `#`, `A`-`D`,
    /// `,` for a pause, each `ms` long.
    pub async fn send_dtmf(&self, consumer: ConsumerId, digits: &str, ms: u32) -> Result<(), ControlError> {
        let data = json!({"digits": digits, "duration": ms});
        self.ask_consumer(consumer, Method::XConsumerSendDtmf, data).await.map(drop)
    }
}

/// Data of `x.datachannel`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChannelData {
    sctp_stream_parameters: SctpStreamParameters,
    label: String,
    protocol: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DtmfData {
    digit: char,
    duration: u32,
}

impl State {
    /// Asks for a plain transport.
    pub fn create_plain(&mut self, conn: ConnId, options: &PlainOptions) -> Result<Pending, ControlError> {
        let (router, worker, id) = self.new_transport(conn, false)?;
        let (waiter, pending) = oneshot::channel();
        let mut data = json!(options);
        if let Some(map) = data.as_object_mut() {
            map.insert("x.connId".into(), json!(conn));
        }
        let reply = Reply::Transport(conn, id, waiter);
        self.ask(worker, Method::RouterCreatePlainRtpTransport, on_transport(router, id), data, reply);
        Ok(pending)
    }

    /// Hands a leg's event to those who listen; `false` when it is none.
    pub fn leg_event(&mut self, conn: ConnId, transport: TransportId, event: &str, data: &Value) -> bool {
        let event = match event {
            "x.dtmf" => match DtmfData::deserialize(data) {
                Ok(DtmfData { digit, duration }) => {
                    PeerEvent::Dtmf { transport, digit, duration_ms: duration }
                }
                Err(error) => {
                    warn!(%conn, %error, "a tone's event was not understood");
                    return true;
                }
            },
            "x.mediastarted" => PeerEvent::MediaStarted { transport },
            "x.oneway" => {
                let text = data.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
                PeerEvent::OneWay { transport, text }
            }
            "x.mediatimeout" => PeerEvent::MediaTimeout { transport },
            "x.keyframerequest" => PeerEvent::KeyframeRequested { transport },
            "x.datachannel" => match ChannelData::deserialize(data) {
                Ok(ChannelData { sctp_stream_parameters: parameters, label, protocol }) => {
                    PeerEvent::DataChannel { transport, parameters, label, protocol }
                }
                Err(error) => {
                    warn!(%conn, %error, "a data channel's event was not understood");
                    return true;
                }
            },
            _ => return false,
        };
        match &event {
            PeerEvent::MediaTimeout { .. } => info!(%conn, %transport, "no media comes any more"),
            // Whoever has to find the fault needs the addresses.
            PeerEvent::OneWay { text, .. } => info!(%conn, %transport, "{text}"),
            _ => {}
        }
        self.tell_peer(conn, event.clone());
        let Some(entry) = self.members.get(&conn) else { return true };
        let (room, kind) = (entry.room.clone(), entry.peer.kind);
        match event {
            // A telephone's door tells its keys itself: they may belong to a PIN.
            PeerEvent::Dtmf { digit, duration_ms, .. } if kind != PeerKind::Sip => {
                self.emit(&room, || RoomEvent::Dtmf { conn, digit, duration_ms });
            }
            // Its words hold addresses, which are the door's and the log's alone.
            PeerEvent::OneWay { .. } => {
                let text = "media goes one way only, or not at all".to_owned();
                self.emit(&room, || RoomEvent::Notice { conn: Some(conn), text });
            }
            _ => {}
        }
        true
    }
}
