//! The data channels of one party (RFC 8831): which streams are taken, what waits for each, and those that
//! are opened in band (RFC 8832). Messages wait here, where those of an unreliable channel can still be
//! dropped, and only as much as is worthwhile is handed to SCTP.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use sctp_proto::PayloadProtocolIdentifier as Ppid;
use serde_json::{Value, json};
use tracing::{debug, trace};

use super::sctp::{Association, PORT, Said};
use crate::core::data::{
    DataCommand, DataEvent, DataKind, DataMessage, Delivery, SctpStreamParameters, SendQueue,
};
use crate::core::message::SctpParameters;
use crate::webrtc::SctpConfig;
use crate::webrtc::wire::dcep::{Dcep, Open};

const GONE: &str = "no such data channel";

/// See the module.
pub(crate) struct Channels {
    config: SctpConfig,
    conn: String,
    association: Association,
    state: &'static str,
    channels: BTreeMap<u16, Channel>,
    /// Streams whose channel is closed and which SCTP still has bytes of.
    closing: BTreeMap<u16, usize>,
    /// Bytes of all channels: waiting here, and handed to SCTP.
    waiting: usize,
    handed: usize,
    /// Messages on streams that nobody takes.
    unclaimed: u64,
    events: VecDeque<DataEvent>,
}

struct Channel {
    delivery: Delivery,
    /// What the party sends goes on.
    taken: bool,
    /// We send on it.
    outgoing: Option<Outgoing>,
}

struct Outgoing {
    queue: SendQueue,
    /// Bytes handed to SCTP and not acknowledged.
    handed: usize,
    /// The party is told of the channel first, and nothing is sent before it has answered.
    announce: Option<Open>,
    /// More than `low` bytes waited.
    high: bool,
    low: usize,
}

impl Outgoing {
    fn buffered(&self) -> usize {
        self.queue.payload_bytes() + self.handed
    }
}

impl Channels {
    /// No channels yet; packets fit into DTLS datagrams of `mtu` bytes.
    pub fn new(config: &SctpConfig, mtu: usize, conn: String) -> Self {
        Channels {
            config: config.clone(),
            conn,
            association: Association::new(config, mtu),
            state: "new",
            channels: BTreeMap::new(),
            closing: BTreeMap::new(),
            waiting: 0,
            handed: 0,
            unclaimed: 0,
            events: VecDeque::new(),
        }
    }

    /// DTLS is through, we being its client or its server.
    pub fn start(&mut self, now: Instant, client: bool) {
        self.association.start(now, client);
        self.set_state("connecting");
    }

    /// Takes one SCTP packet.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        self.association.handle_packet(now, packet);
        self.follow(now);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.association.handle_timeout(now);
        self.follow(now);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.association.poll_timeout()
    }

    /// The next packet for DTLS.
    pub fn poll_packet(&mut self) -> Option<Bytes> {
        self.association.poll_packet()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<DataEvent> {
        self.events.pop_front()
    }

    /// Does as it is told; `client`: we are, or may become, the DTLS client.
    pub fn command(&mut self, now: Instant, command: DataCommand, client: bool) -> Result<Value, String> {
        let answer = match command {
            DataCommand::Take(parameters) => self.take(now, parameters),
            DataCommand::Open { stream, delivery, announce } => {
                let announce = announce.map(|(label, protocol)| Open { delivery, label, protocol });
                let open = |this: &mut Self, stream| this.open(now, stream, delivery, announce);
                let stream = match stream {
                    Some(stream) => Some(stream),
                    None => self.free_stream(now, client),
                };
                let stream = stream.ok_or("every stream is in use")?;
                open(self, stream).map(|()| json!({ "streamId": stream }))
            }
            DataCommand::Send { stream, message } => self.send(now, stream, message),
            DataCommand::SetLow { stream, threshold } => {
                let outgoing = self.outgoing(stream)?;
                outgoing.low = threshold;
                outgoing.high = outgoing.buffered() > threshold;
                Ok(json!({}))
            }
            DataCommand::Buffered { stream } => self.outgoing(stream).map(|it| json!(it.buffered())),
            DataCommand::Close { stream } => {
                self.close(now, stream);
                Ok(json!({}))
            }
        };
        self.follow(now);
        answer
    }

    /// SCTP's part of the transport's dump.
    pub fn dump(&self) -> (Value, Value) {
        let parameters = SctpParameters {
            port: PORT,
            os: self.config.max_streams,
            mis: self.config.max_streams,
            max_message_size: self.config.max_message_bytes,
            max_send_message_size: self.config.max_message_bytes,
            max_receive_message_size: self.config.max_message_bytes,
            is_data_channel: true,
        };
        let mut fields = json!(parameters);
        fields["x.channels"] = json!(self.channels.len());
        fields["sctpBufferedAmount"] = json!(self.waiting + self.handed);
        fields["x.unclaimedMessages"] = json!(self.unclaimed);
        (json!(self.state), fields)
    }

    fn take(&mut self, now: Instant, parameters: SctpStreamParameters) -> Result<Value, String> {
        let SctpStreamParameters { stream_id: stream, delivery } = parameters;
        let channel = self.channel(stream, delivery)?;
        if channel.taken {
            return Err("another data producer has this stream".to_owned());
        }
        (channel.taken, channel.delivery) = (true, delivery);
        if self.state == "connected" {
            // So that we hear of its end even if nothing is ever sent on it. One whose last channel is still
            // being closed comes by itself.
            self.association.open(now, stream, delivery);
        }
        Ok(json!({}))
    }

    fn open(
        &mut self,
        now: Instant,
        stream: u16,
        delivery: Delivery,
        announce: Option<Open>,
    ) -> Result<(), String> {
        let channel = self.channel(stream, delivery)?;
        if channel.outgoing.is_some() {
            return Err("another data consumer has this stream".to_owned());
        }
        let queue = SendQueue::new(delivery.is_reliable());
        channel.outgoing = Some(Outgoing { queue, handed: 0, announce, high: false, low: 0 });
        if self.state == "connected" && !self.begin(now, stream) {
            self.close(now, stream);
            return Err("its stream cannot be opened".to_owned());
        }
        Ok(())
    }

    /// The channel on a stream; a new one has `delivery`.
    fn channel(&mut self, stream: u16, delivery: Delivery) -> Result<&mut Channel, String> {
        if stream >= self.config.max_streams {
            return Err(format!("a stream's number is below {}", self.config.max_streams));
        }
        if matches!(self.state, "failed" | "closed") {
            return Err("SCTP is over on this transport".to_owned());
        }
        if !self.channels.contains_key(&stream) && self.channels.len() >= self.config.max_channels {
            return Err("the transport has all the data channels it may have".to_owned());
        }
        Ok(self.channels.entry(stream).or_insert(Channel { delivery, taken: false, outgoing: None }))
    }

    /// A stream for a channel of ours: one that the party does not give to channels it opens in band
    /// (RFC 8832 §6: the DTLS client takes the even ones), as long as there are any.
    fn free_stream(&mut self, now: Instant, client: bool) -> Option<u16> {
        let first = u16::from(!client);
        let (ours, theirs) = (first..self.config.max_streams, (1 - first)..self.config.max_streams);
        let mut candidates = ours.step_by(2).chain(theirs.step_by(2));
        let connected = self.state == "connected";
        candidates.find(|stream| {
            // A stream whose last channel is still being closed cannot be used yet.
            !self.channels.contains_key(stream)
                && (!connected || self.association.open(now, *stream, Delivery::RELIABLE))
        })
    }

    /// Opens a channel's stream; `false` when it cannot be sent on.
    fn begin(&mut self, now: Instant, stream: u16) -> bool {
        let Some(channel) = self.channels.get(&stream) else { return false };
        let announce = channel.outgoing.as_ref().and_then(|outgoing| outgoing.announce.clone());
        // Establishment is reliable, whatever the channel is (RFC 8832 §6).
        let delivery = if announce.is_some() { Delivery::RELIABLE } else { channel.delivery };
        let opened = self.association.open(now, stream, delivery);
        let told = opened
            && announce.is_none_or(|open| {
                self.association.write(now, stream, Ppid::Dcep, Dcep::Open(open).to_bytes().into())
            });
        let usable = told || channel_is_silent(self.channels.get(&stream));
        self.pump(now, stream);
        usable
    }

    fn outgoing(&mut self, stream: u16) -> Result<&mut Outgoing, String> {
        let channel = self.channels.get_mut(&stream);
        channel.and_then(|channel| channel.outgoing.as_mut()).ok_or_else(|| GONE.to_owned())
    }

    fn send(&mut self, now: Instant, stream: u16, message: DataMessage) -> Result<Value, String> {
        if message.payload.len() > self.config.max_message_bytes as usize {
            return Err(format!("a message has at most {} bytes", self.config.max_message_bytes));
        }
        let total = (self.config.send_buffer_bytes).saturating_sub(self.waiting + self.handed);
        let own = self.config.channel_send_buffer_bytes;
        let outgoing = self.outgoing(stream)?;
        let before = outgoing.queue.bytes();
        let limit = own.saturating_sub(outgoing.handed).min(before + total);
        let pushed = outgoing.queue.push(message, limit);
        let after = outgoing.queue.bytes();
        self.waiting = self.waiting + after - before;
        if pushed.is_err() {
            let reason = "the remote party does not take what is sent to it";
            self.lose(now, stream, reason);
            return Err(reason.to_owned());
        }
        self.pump(now, stream);
        self.outgoing(stream).map(|outgoing| json!(outgoing.buffered()))
    }

    /// Hands to SCTP what waits, as much as is worthwhile, and notes how much is on its way.
    fn pump(&mut self, now: Instant, stream: u16) {
        let Some(outgoing) = self.channels.get_mut(&stream).and_then(|channel| channel.outgoing.as_mut())
        else {
            return;
        };
        self.handed -= outgoing.handed;
        outgoing.handed = self.association.buffered(stream);
        let before = outgoing.queue.bytes();
        let mut refused = false;
        while self.state == "connected"
            && outgoing.announce.is_none()
            && outgoing.handed < self.config.in_flight_bytes
            && let Some(message) = outgoing.queue.pop()
        {
            let (ppid, payload) = encode(&message);
            let length = payload.len();
            refused = !self.association.write(now, stream, ppid, payload);
            if refused {
                break;
            }
            outgoing.handed += length;
        }
        self.handed += outgoing.handed;
        self.waiting -= before - outgoing.queue.bytes();
        let buffered = outgoing.buffered();
        if std::mem::replace(&mut outgoing.high, buffered > outgoing.low) && buffered <= outgoing.low {
            self.events.push_back(DataEvent::Low { stream });
        }
        if refused {
            self.lose(now, stream, "its stream is closed");
        }
    }

    /// Acts on what the association says, and hands it what it now takes.
    fn follow(&mut self, now: Instant) {
        self.listen(now);
        if self.waiting + self.handed > 0 {
            let busy = |(stream, channel): (&u16, &Channel)| {
                channel.outgoing.as_ref().is_some_and(|it| it.buffered() > 0).then_some(*stream)
            };
            let streams: Vec<u16> = self.channels.iter().filter_map(busy).collect();
            streams.into_iter().for_each(|stream| self.pump(now, stream));
            self.note_closing();
            self.listen(now);
        }
    }

    fn note_closing(&mut self) {
        self.closing.retain(|stream, bytes| {
            self.handed -= *bytes;
            *bytes = self.association.buffered(*stream);
            self.handed += *bytes;
            *bytes > 0
        });
    }

    fn listen(&mut self, now: Instant) {
        while let Some(said) = self.association.poll_said() {
            match said {
                Said::Connected => self.connected(now),
                Said::Message { stream, ppid, payload } => self.take_message(now, stream, ppid, payload),
                Said::Finished(stream) => self.lose(now, stream, "the remote party closed it"),
                Said::Over(reason) => self.over(reason),
            }
        }
    }

    fn connected(&mut self, now: Instant) {
        self.set_state("connected");
        let streams: Vec<u16> = self.channels.keys().copied().collect();
        for stream in streams {
            if !self.begin(now, stream) {
                self.lose(now, stream, "its stream cannot be opened");
            }
        }
    }

    fn take_message(&mut self, now: Instant, stream: u16, ppid: Ppid, payload: Bytes) {
        let kind = match ppid {
            Ppid::Dcep => return self.take_dcep(now, stream, &payload),
            Ppid::String | Ppid::StringEmpty => DataKind::Text,
            Ppid::Binary | Ppid::BinaryEmpty => DataKind::Binary,
            Ppid::Unknown => return self.unclaimed += 1,
        };
        if !self.channels.get(&stream).is_some_and(|channel| channel.taken) {
            self.unclaimed += 1;
            return trace!(conn = %self.conn, stream, "a message on a data channel that nobody takes");
        }
        // SCTP has no empty messages, so one of these holds a byte that means nothing (RFC 8831 §6.6).
        let empty = matches!(ppid, Ppid::StringEmpty | Ppid::BinaryEmpty);
        let payload = if empty { Bytes::new() } else { payload };
        self.events.push_back(DataEvent::Message { stream, message: DataMessage { kind, payload } });
    }

    fn take_dcep(&mut self, now: Instant, stream: u16, payload: &[u8]) {
        match Dcep::parse(payload) {
            Ok(Dcep::Ack) => {
                let channel = self.channels.get_mut(&stream);
                let Some(channel) = channel.filter(|channel| channel.outgoing.is_some()) else { return };
                let delivery = channel.delivery;
                let announced = channel.outgoing.as_mut().and_then(|outgoing| outgoing.announce.take());
                if announced.is_some() && self.association.open(now, stream, delivery) {
                    self.pump(now, stream);
                }
            }
            Ok(Dcep::Open(open)) => self.opened(now, stream, open),
            Err(error) => debug!(conn = %self.conn, %error, "data channel establishment"),
        }
    }

    /// The party opened a channel.
    fn opened(&mut self, now: Instant, stream: u16, open: Open) {
        let Open { delivery, label, protocol } = open;
        let (delivery, known) = match self.channel(stream, delivery) {
            Ok(channel) => (channel.delivery, channel.taken),
            Err(reason) => {
                debug!(conn = %self.conn, stream, reason, "a data channel is refused");
                return self.association.close(now, stream);
            }
        };
        let ack = Dcep::Ack.to_bytes().into();
        let answered = self.association.open(now, stream, Delivery::RELIABLE)
            && self.association.write(now, stream, Ppid::Dcep, ack)
            && self.association.open(now, stream, delivery);
        if !answered {
            return self.lose(now, stream, "its stream is closed");
        }
        if !known {
            let parameters = SctpStreamParameters { stream_id: stream, delivery };
            self.events.push_back(DataEvent::Opened { parameters, label, protocol });
        }
    }

    fn close(&mut self, now: Instant, stream: u16) {
        self.forget(stream);
        self.association.close(now, stream);
    }

    /// A channel is over, and not because we were told so.
    fn lose(&mut self, now: Instant, stream: u16, reason: &'static str) {
        if self.channels.contains_key(&stream) {
            self.close(now, stream);
            self.events.push_back(DataEvent::Closed { stream, reason });
        }
    }

    fn forget(&mut self, stream: u16) {
        let Some(channel) = self.channels.remove(&stream) else { return };
        if let Some(outgoing) = channel.outgoing {
            self.waiting -= outgoing.queue.bytes();
            *self.closing.entry(stream).or_default() += outgoing.handed;
        }
    }

    fn over(&mut self, reason: &'static str) {
        debug!(conn = %self.conn, reason, "SCTP");
        let state = if self.state == "connected" { "closed" } else { "failed" };
        self.set_state(state);
        let streams: Vec<u16> = self.channels.keys().copied().collect();
        for stream in streams {
            self.forget(stream);
            self.events.push_back(DataEvent::Closed { stream, reason });
        }
        self.note_closing();
    }

    fn set_state(&mut self, state: &'static str) {
        self.state = state;
        self.events.push_back(DataEvent::State(state));
    }
}

/// Nothing is sent on it: it need not be open.
fn channel_is_silent(channel: Option<&Channel>) -> bool {
    channel.is_none_or(|channel| channel.outgoing.is_none())
}

/// A message as SCTP carries it (RFC 8831 §6.6); its bytes stay where they are.
fn encode(message: &DataMessage) -> (Ppid, Bytes) {
    match (message.kind, message.payload.is_empty()) {
        (DataKind::Text, false) => (Ppid::String, message.payload.clone()),
        (DataKind::Text, true) => (Ppid::StringEmpty, Bytes::from_static(&[0])),
        (DataKind::Binary, false) => (Ppid::Binary, message.payload.clone()),
        (DataKind::Binary, true) => (Ppid::BinaryEmpty, Bytes::from_static(&[0])),
    }
}
