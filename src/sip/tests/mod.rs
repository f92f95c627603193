//! The switchboard with a hand-moved clock: both the network below it and media beside it are played here.

mod browsers;
mod inbound;
mod offers;
mod outbound;
mod presets;
mod registering;
mod replacing;
mod ringing;
mod rules;
mod torture;
mod whole;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::control::RoomEvent;
use crate::core::control::calls::{CallEvent, CallState};
use crate::core::convert::Sound;
use crate::core::id::{ConnId, WorkerId};
use crate::core::rtp::keys::SrtpProfile;
use crate::sip::config::{SipConfig, Transport};
use crate::sip::demux::Switchboard;
use crate::sip::session::media::{ConnectStream, Enter, Local, MediaAsk, MediaEvent, OpenStream};
use crate::sip::session::registrar::{Registrar, read_users, user_line};
use crate::sip::session::trunk::Trunk;
use crate::sip::session::{
    Action, Addresses, ClientTx, Destination, Incoming, ServerTx, SessionId, Source, TxFailure,
};
use crate::sip::wire::{Message, Method, Request, Response, WireLimits};

pub const LIMITS: WireLimits = WireLimits { max_bytes: 65_536, max_header_bytes: 16_384, max_headers: 200 };
/// Where the trunk `office` calls from, and a phone at no trunk's address.
pub const OFFICE: &str = "192.0.2.10:5060";
pub const ELSEWHERE: &str = "198.51.100.7:40000";

pub const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n\
                         m=audio 4000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";

struct Fixed;

impl Addresses for Fixed {
    fn toward(&self, _: Option<IpAddr>, _: Transport) -> SocketAddr {
        "203.0.113.1:5060".parse().expect("address")
    }
}

/// Everything the switchboard wanted done, by kind.
pub struct Bench {
    pub board: Switchboard,
    pub now: Instant,
    pub sent: Vec<(ClientTx, Request, Destination)>,
    pub cancelled: Vec<ClientTx>,
    pub acks: Vec<Request>,
    pub answers: Vec<(ServerTx, Response)>,
    pub told: Vec<(String, RoomEvent)>,
    /// Calls in the order they came into rooms.
    pub ids: Vec<SessionId>,
    /// What rooms hear: while a call goes out, and when nothing came of it.
    pub heard: Vec<Vec<Sound>>,
    pub blamed: usize,
    pub entered: Vec<Enter>,
    pub opened: Vec<OpenStream>,
    pub connected: Vec<ConnectStream>,
    pub left: Vec<String>,
    /// Places of ends that were closed while the call went on.
    pub closed: Vec<usize>,
    pub keyframes: usize,
    pub played: Vec<&'static str>,
    /// Media does at once what it is asked.
    pub media_works: bool,
    /// Media that really flows, in place of one that is only said to.
    pub line: Option<whole::Line>,
    /// Refreshes of sessions that were agreed to.
    pub refreshes: usize,
    last_tx: u64,
    ports: u16,
    seqs: HashMap<String, u32>,
}

impl Bench {
    /// A switchboard of `config` in YAML, with users alice and bob whose passwords are their names.
    pub fn new(config: &str) -> Self {
        let mut config: SipConfig = serde_saphyr::from_str(config).expect("a configuration");
        config.realm = "gw".into();
        let now = Instant::now();
        let trunks =
            config.trunks.iter().map(|trunk| Trunk::new(trunk, &config, None).expect("a trunk")).collect();
        let lines = ["alice", "bob"].map(|user| user_line(user, "gw", user)).join("\n");
        let registrar = Registrar::new(read_users(&lines, "gw").expect("users"));
        let board = Switchboard::new(Arc::new(config), Box::new(Fixed), trunks, registrar, now);
        let mut bench = Bench {
            board,
            now,
            sent: Vec::new(),
            cancelled: Vec::new(),
            acks: Vec::new(),
            answers: Vec::new(),
            told: Vec::new(),
            ids: Vec::new(),
            heard: Vec::new(),
            blamed: 0,
            entered: Vec::new(),
            opened: Vec::new(),
            connected: Vec::new(),
            left: Vec::new(),
            closed: Vec::new(),
            keyframes: 0,
            played: Vec::new(),
            media_works: true,
            line: None,
            refreshes: 0,
            last_tx: 0,
            ports: 20_000,
            seqs: HashMap::new(),
        };
        bench.drain();
        bench
    }

    pub fn drain(&mut self) {
        while let Some(action) = self.board.poll_action() {
            match action {
                Action::Send { tx, request, to } => self.sent.push((tx, round_trip(request), to)),
                Action::Cancel { tx, .. } => self.cancelled.push(tx),
                Action::Ack { request, .. } => self.acks.push(round_trip(request)),
                Action::Respond { tx, response } => self.answers.push((tx, response)),
                Action::Media { call, ask } => self.media(call, ask),
                Action::Tell { room, event, .. } => self.told.push((room, event)),
                Action::Blame { .. } => self.blamed += 1,
                Action::Refer { .. } | Action::Redirect { .. } => {
                    panic!("the switchboard decides these itself")
                }
            }
        }
    }

    fn media(&mut self, call: SessionId, ask: MediaAsk) {
        let flows = self.line.as_mut().and_then(|line| line.serve(self.now, &ask));
        if let Some(event) = flows {
            self.board.handle_media(self.now, call, event);
            return;
        }
        let event = match ask {
            MediaAsk::Enter(enter) => {
                self.entered.push(enter);
                self.ids.push(call);
                MediaEvent::Entered { conn: ConnId::new(0, WorkerId(0), self.ids.len() as u128) }
            }
            MediaAsk::Move { room } => MediaEvent::Moved { room },
            MediaAsk::Open { serial, streams } => {
                let local = |stream: &OpenStream| {
                    self.ports += 2;
                    let local = match stream.how {
                        crate::sip::session::media::How::Plain { .. } => Local::Plain {
                            ip: "203.0.113.1".parse().expect("address"),
                            port: self.ports,
                            rtcp_port: Some(self.ports + 1),
                        },
                        crate::sip::session::media::How::Dtls => Local::Dtls {
                            ip: "203.0.113.1".parse().expect("address"),
                            port: self.ports,
                            fingerprints: vec![crate::core::session::Fingerprint {
                                algorithm: "sha-256".into(),
                                value: "AA:BB".into(),
                            }],
                        },
                        crate::sip::session::media::How::Ice => Local::Ice {
                            ice: ("ufrag".into(), "password".into()),
                            candidates: vec!["203.0.113.1:8189".parse().expect("address")],
                            fingerprints: vec![crate::core::session::Fingerprint {
                                algorithm: "sha-256".into(),
                                value: "AA:BB".into(),
                            }],
                        },
                    };
                    (stream.index, local)
                };
                let locals = streams.iter().map(local).collect();
                self.opened.extend(streams);
                MediaEvent::Opened { serial, locals }
            }
            MediaAsk::Connect { serial, streams } => {
                self.connected = streams;
                MediaEvent::Connected { serial }
            }
            MediaAsk::Keyframe => {
                self.keyframes += 1;
                return;
            }
            MediaAsk::PlayToRoom { sounds } => {
                self.heard.push(sounds);
                return;
            }
            MediaAsk::Leave { reason, farewell } => {
                self.left.push(reason);
                self.heard.extend(farewell.map(|sound| vec![sound]));
                return;
            }
            MediaAsk::Play { prompts } => {
                self.played.extend(prompts);
                return;
            }
            MediaAsk::Close { index } => {
                self.closed.push(index);
                return;
            }
            MediaAsk::Dtmf { .. } => return,
        };
        if self.media_works {
            self.board.handle_media(self.now, call, event);
        }
    }

    /// The calls' events of the rooms: state and SIP code.
    pub fn states(&self, id: SessionId) -> Vec<(CallState, Option<u16>)> {
        self.events(id).into_iter().map(|event| (event.state, event.code)).collect()
    }

    pub fn events(&self, id: SessionId) -> Vec<&CallEvent> {
        let events = self.told.iter().filter_map(|(_, event)| match event {
            RoomEvent::Call(event) => Some(event),
            _ => None,
        });
        events.filter(|event| event.call == id).collect()
    }

    /// The keys that rooms heard.
    pub fn keys(&self) -> String {
        let keys = self.told.iter().filter_map(|(_, event)| match event {
            RoomEvent::Dtmf { digit, .. } => Some(digit),
            _ => None,
        });
        keys.collect()
    }

    /// Lets time pass, stopping at every deadline on the way.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.board.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.board.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    pub fn pass_s(&mut self, seconds: u64) {
        self.pass(Duration::from_secs(seconds));
    }

    /// Something comes in from below.
    pub fn incoming(&mut self, incoming: Incoming) {
        self.board.handle_incoming(self.now, incoming);
        self.drain();
    }

    /// A request comes in; answers its transaction.
    pub fn request(&mut self, from: &str, request: Request) -> ServerTx {
        self.request_by(source(from), request)
    }

    pub fn request_by(&mut self, source: Source, request: Request) -> ServerTx {
        self.last_tx += 1;
        let tx = ServerTx(self.last_tx);
        self.incoming(Incoming::Request { tx, source, request: round_trip(request) });
        tx
    }

    /// The last answer to a transaction.
    pub fn answer(&self, tx: ServerTx) -> &Response {
        let found = self.answers.iter().rev().find(|(of, _)| *of == tx);
        &found.expect("an answer").1
    }

    pub fn status(&self, tx: ServerTx) -> u16 {
        self.answer(tx).status
    }

    /// Somebody answers a request of ours.
    pub fn respond(&mut self, tx: ClientTx, response: Response) {
        let Message::Response(response) = reread(Message::Response(response)) else { panic!("a response") };
        self.incoming(Incoming::Response { tx, source: source(OFFICE), response });
    }

    pub fn fail(&mut self, tx: ClientTx, failure: TxFailure) {
        self.incoming(Incoming::Failed { tx, failure });
    }

    /// The last request of ours with this method.
    pub fn last(&self, method: Method) -> (ClientTx, Request) {
        let found = self.sent.iter().rev().find(|(_, request, _)| request.method == method);
        let (tx, request, _) = found.unwrap_or_else(|| panic!("no {method} was sent"));
        (*tx, request.clone())
    }

    pub fn count(&self, method: &Method) -> usize {
        self.sent.iter().filter(|(_, request, _)| request.method == *method).count()
    }

    /// A first INVITE from `from` to `number`, answered and acknowledged.
    pub fn call(&mut self, from: &str, number: &str) -> Party {
        let party = Party::new(from, number);
        let mut invite = party.invite();
        invite.set_body("application/sdp", OFFER);
        let tx = self.request(from, invite);
        assert_eq!(self.status(tx), 200, "{:?}", self.answer(tx));
        self.acknowledge(party, tx, None)
    }

    pub fn acknowledge(&mut self, mut party: Party, tx: ServerTx, sdp: Option<&str>) -> Party {
        let answer = self.answer(tx).clone();
        party.remote_tag = answer.headers.tag("To").expect("a tag");
        let mut ack = party.within(Method::Ack);
        ack.headers.set("CSeq", format!("{} ACK", answer.headers.cseq().expect("CSeq").0));
        if let Some(sdp) = sdp {
            ack.set_body("application/sdp", sdp);
        }
        let from = party.from.clone();
        self.incoming(Incoming::Ack { source: source(&from), request: round_trip(ack) });
        party
    }

    /// A later request of a party.
    pub fn later(&mut self, party: &Party, method: Method, sdp: Option<&str>) -> ServerTx {
        let seq = self.seqs.entry(party.call_id.clone()).or_insert(1);
        *seq += 1;
        let seq = *seq;
        let mut request = party.within(method.clone());
        request.headers.set("CSeq", format!("{seq} {method}"));
        if let Some(sdp) = sdp {
            request.set_body("application/sdp", sdp);
        }
        self.request(&party.from.clone(), request)
    }
}

pub fn source(from: &str) -> Source {
    Source { addr: from.parse().expect("address"), transport: Transport::Udp, flow: None }
}

/// Through the writer and the reader, as over a wire.
pub fn reread(message: Message) -> Message {
    Message::parse(&message.to_bytes(), &LIMITS).expect("what was written can be read")
}

fn round_trip(mut request: Request) -> Request {
    if request.headers.get("Via").is_none() {
        request.headers.push_front("Via", "SIP/2.0/UDP 203.0.113.1:5060;branch=z9hG4bKx;rport");
    }
    match reread(Message::Request(request)) {
        Message::Request(request) => request,
        Message::Response(_) => panic!("a request"),
    }
}

/// The other side of a call that comes in.
#[derive(Clone, Debug)]
pub struct Party {
    pub from: String,
    number: String,
    pub call_id: String,
    remote_tag: String,
}

impl Party {
    pub fn new(from: &str, number: &str) -> Self {
        let call_id = crate::sip::session::token();
        Party { from: from.into(), number: number.into(), call_id, remote_tag: String::new() }
    }

    pub fn invite(&self) -> Request {
        let mut request = Request::new(Method::Invite, format!("sip:{}@203.0.113.1", self.number));
        let headers = &mut request.headers;
        headers.push("Via", format!("SIP/2.0/UDP {};branch=z9hG4bK{};rport", self.from, self.call_id));
        headers.push("Max-Forwards", "70");
        headers.push("From", "<sip:+49301234@192.0.2.10>;tag=theirs");
        headers.push("To", format!("<sip:{}@203.0.113.1>", self.number));
        headers.push("Call-ID", self.call_id.clone());
        headers.push("CSeq", "1 INVITE");
        headers.push("Contact", format!("<sip:caller@{}>", self.from));
        headers.push("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE");
        headers.push("Supported", "timer");
        request
    }

    pub fn within(&self, method: Method) -> Request {
        let mut request = self.invite();
        request.headers.set("To", format!("<sip:{}@203.0.113.1>;tag={}", self.number, self.remote_tag));
        request.headers.set("CSeq", format!("1 {method}"));
        request.method = method;
        request
    }
}

/// An answer of somebody we called, with a tag of their own.
pub fn accept(invite: &Request, tag: &str, sdp: &str) -> Response {
    let mut response = invite.response(200, "", tag);
    response.headers.push("Contact", "<sip:callee@192.0.2.10:5060>");
    response.headers.push("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE");
    response.set_body("application/sdp", sdp);
    response
}

pub fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

/// Profiles by their names, for tests of keys.
pub const CM80: SrtpProfile = SrtpProfile::Aes128CmSha1_80;

pub const OFFICE_ONLY: &str = "trunks: [{ name: office, peers: [192.0.2.10] }]\n\
                               dispatch: [{ name: rooms, number: 'room-*', room: '{1}' }]\n";
