//! Data channels: from sessions, pipes and controllers to whoever consumes them.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::*;
use crate::core::data::{DataCommand, DataEvent, DataMessage, SctpStreamParameters};
use crate::core::mail::PipeMessage;
use crate::core::worker::DataConfig;

/// What parties were told and will say, by their name.
#[derive(Clone, Default)]
struct Parties(Arc<Mutex<BTreeMap<u8, Party>>>);

#[derive(Default)]
struct Party {
    says: VecDeque<Output>,
    taken: Vec<SctpStreamParameters>,
    got: Vec<(u16, DataMessage)>,
    closed: Vec<u16>,
    channels: u16,
    /// It takes no more messages, and its channel is lost.
    full: bool,
}

impl Parties {
    fn with<T>(&self, name: u8, step: impl FnOnce(&mut Party) -> T) -> T {
        step(self.0.lock().unwrap().entry(name).or_default())
    }
}

struct Talker {
    name: u8,
    parties: Parties,
}

impl Session for Talker {
    fn handle_input(&mut self, _: Instant, _: Input<'_>) {}

    fn command(&mut self, _: Instant, command: Command) -> Result<Value, String> {
        let Command::Data(command) = command else { return Ok(json!({})) };
        self.parties.with(self.name, |party| match command {
            DataCommand::Take(parameters) => {
                party.taken.push(parameters);
                Ok(json!({}))
            }
            DataCommand::Open { stream, .. } => {
                party.channels += 2;
                Ok(json!({"streamId": stream.unwrap_or(party.channels - 1)}))
            }
            DataCommand::Send { stream, .. } if party.full => {
                let closed = DataEvent::Closed { stream, reason: "full" };
                party.says.push_back(Output::Event(Event::Data(closed)));
                Err("full".to_owned())
            }
            DataCommand::Send { stream, message } => {
                party.got.push((stream, message));
                Ok(json!(17))
            }
            DataCommand::Close { stream } => {
                party.closed.push(stream);
                Ok(json!({}))
            }
            DataCommand::Buffered { .. } => Ok(json!(17)),
            DataCommand::SetLow { stream, .. } => {
                party.says.push_back(Output::Event(Event::Data(DataEvent::Low { stream })));
                Ok(json!({}))
            }
        })
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn poll_output(&mut self) -> Option<Output> {
        self.parties.with(self.name, |party| party.says.pop_front())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn dump(&self) -> Value {
        json!({})
    }
}

impl SessionFactory for Parties {
    fn webrtc(
        &self,
        _: Instant,
        _: Epoch,
        options: &Value,
        _: &[LocalCandidate],
    ) -> Result<Box<dyn Session>, String> {
        let name = options["name"].as_u64().ok_or("no name")? as u8;
        let route = Output::Event(Event::Route { key: char::from(name).to_string() });
        self.with(name, |party| party.says.push_back(route));
        Ok(Box::new(Talker { name, parties: self.clone() }))
    }

    fn route_key<'a>(&self, datagram: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(datagram.get(1..2)?).ok()
    }
}

/// A room's chat: router 1 with transports by the names of their parties.
struct Chat {
    lab: Lab,
    parties: Parties,
}

impl Chat {
    fn new(data: DataConfig) -> Chat {
        let parties = Parties::default();
        let mut lab = Lab::new();
        let config = WorkerConfig { data, ..lab.worker.config.clone() };
        lab.worker = Worker::new(config, lab.epoch, Arc::new(parties.clone()), 42);
        lab.ok("worker.createRouter", [0; 3], json!({}));
        Chat { lab, parties }
    }

    fn join(&mut self, names: &[u8]) {
        for &name in names {
            self.lab.ok("router.createWebRtcTransport", [u32::from(name), 0, 0], json!({"name": name}));
        }
    }

    fn ask(&mut self, method: &str, ids: Value, data: Value) -> Result<Value, String> {
        let mut internal = json!({"routerId": 1});
        for (name, id) in ids.as_object().unwrap() {
            internal[name] = id.clone();
        }
        let request = json!({"id": 1, "method": method, "internal": internal, "data": data});
        self.lab.worker.handle_control(self.lab.now, &serde_json::to_vec(&request).unwrap());
        let mut answer = None;
        while let Some(message) = self.lab.worker.poll_control() {
            let message: Value = serde_json::from_slice(&message).unwrap();
            match (message.get("accepted"), message.get("rejected")) {
                (Some(_), _) => answer = Some(Ok(message["data"].clone())),
                (_, Some(_)) => answer = Some(Err(message["reason"].as_str().unwrap().to_owned())),
                _ => self.lab.events.push(message),
            }
        }
        answer.expect("answered at once")
    }

    fn ok(&mut self, method: &str, ids: Value, data: Value) -> Value {
        self.ask(method, ids, data).unwrap_or_else(|reason| panic!("{method}: {reason}"))
    }

    /// A producer `id` of what `name` sends on stream 0.
    fn produce(&mut self, name: u8, id: u32) {
        let ids = json!({"transportId": name, "dataProducerId": id});
        let data = json!({"sctpStreamParameters": {"streamId": 0}, "label": "chat", "protocol": "p"});
        self.ok("x.transport.produceData", ids, data);
    }

    /// A consumer `id` of `producer` to `name`; its stream.
    fn consume(&mut self, name: u8, producer: u32, id: u32) -> u16 {
        let ids = json!({"transportId": name, "dataProducerId": producer, "dataConsumerId": id});
        let answer = self.ok("x.transport.consumeData", ids, json!({}));
        answer["sctpStreamParameters"]["streamId"].as_u64().unwrap() as u16
    }

    /// The session of `name` says something.
    fn event(&mut self, name: u8, event: DataEvent) {
        self.parties.with(name, |party| party.says.push_back(Output::Event(Event::Data(event))));
        self.lab.worker.handle_datagram(self.lab.now, path(name), &mut [1, name]);
        self.lab.flush();
    }

    fn say(&mut self, name: u8, message: &DataMessage) {
        self.event(name, DataEvent::Message { stream: 0, message: message.clone() });
    }

    fn got(&self, name: u8) -> Vec<(u16, DataMessage)> {
        self.parties.with(name, |party| std::mem::take(&mut party.got))
    }

    fn told(&mut self) -> Vec<(u64, String, Value)> {
        let events = std::mem::take(&mut self.lab.events);
        let of = |event: &Value| {
            (
                event["targetId"].as_u64().unwrap(),
                event["event"].as_str().unwrap().to_owned(),
                event["data"].clone(),
            )
        };
        events.iter().map(of).collect()
    }
}

#[test]
fn a_message_reaches_everybody_who_consumes_it_and_nobody_else() {
    let mut chat = Chat::new(DataConfig::default());
    chat.join(b"abcd");
    chat.produce(b'a', 20);
    assert_eq!(chat.parties.with(b'a', |party| party.taken[0].stream_id), 0);
    let to_b = chat.consume(b'b', 20, 30);
    let to_c = chat.consume(b'c', 20, 31);
    let hello = DataMessage::text("hello");
    chat.say(b'a', &hello);
    assert_eq!(chat.got(b'b'), [(to_b, hello.clone())]);
    let at_c = chat.got(b'c');
    assert_eq!(at_c, [(to_c, hello.clone())]);
    assert_eq!(at_c[0].1.payload.as_ptr(), hello.payload.as_ptr(), "the bytes are never copied");
    assert!(chat.got(b'd').is_empty() && chat.got(b'a').is_empty());
    // On a stream that no producer has.
    chat.event(b'a', DataEvent::Message { stream: 5, message: hello.clone() });
    assert!(chat.got(b'b').is_empty());
    let dump = chat.ok("x.dataConsumer.dump", json!({"dataConsumerId": 30}), json!({}));
    assert_eq!(dump["sctpStreamParameters"], json!({"streamId": to_b, "ordered": true}));
    assert_eq!(
        (&dump["dataProducerId"], &dump["label"], &dump["type"]),
        (&json!(20), &json!("chat"), &json!("sctp"))
    );
    let stats = chat.ok("x.dataProducer.getStats", json!({"dataProducerId": 20}), json!({}));
    assert_eq!((&stats[0]["messagesReceived"], &stats[0]["bytesReceived"]), (&json!(1), &json!(5)));
    let stats = chat.ok("x.dataConsumer.getStats", json!({"dataConsumerId": 30}), json!({}));
    assert_eq!((&stats[0]["messagesSent"], &stats[0]["bufferedAmount"]), (&json!(1), &json!(17)));
    let router = chat.ok("router.dump", json!({}), json!({}));
    assert_eq!(router["x.dataProducers"].as_array().map(Vec::len), Some(1));
    assert_eq!(router["x.dataConsumers"].as_array().map(Vec::len), Some(2));
}

#[test]
fn pausing_drops_and_is_told() {
    let mut chat = Chat::new(DataConfig::default());
    chat.join(b"ab");
    chat.produce(b'a', 20);
    chat.consume(b'b', 20, 30);
    chat.ok("x.dataProducer.pause", json!({"dataProducerId": 20}), json!({}));
    chat.ok("x.dataProducer.pause", json!({"dataProducerId": 20}), json!({}));
    assert_eq!(chat.told(), [(30, "sourcepaused".to_owned(), Value::Null)]);
    chat.say(b'a', &DataMessage::text("unheard"));
    chat.ok("x.dataProducer.resume", json!({"dataProducerId": 20}), json!({}));
    assert_eq!(chat.told(), [(30, "sourceresumed".to_owned(), Value::Null)]);
    chat.ok("x.dataConsumer.pause", json!({"dataConsumerId": 30}), json!({}));
    chat.say(b'a', &DataMessage::text("unheard"));
    chat.ok("x.dataConsumer.resume", json!({"dataConsumerId": 30}), json!({}));
    chat.say(b'a', &DataMessage::text("heard"));
    assert_eq!(
        chat.got(b'b').iter().map(|(_, it)| it.clone()).collect::<Vec<_>>(),
        [DataMessage::text("heard")]
    );
}

#[test]
fn a_controller_speaks_to_the_room_and_hears_it() {
    let mut chat = Chat::new(DataConfig::default());
    chat.join(b"ab");
    chat.ok("x.router.produceData", json!({"dataProducerId": 21}), json!({"label": "server"}));
    let stream = chat.consume(b'b', 21, 31);
    chat.ok("x.dataProducer.send", json!({"dataProducerId": 21}), json!({"text": "closing in five minutes"}));
    chat.ok("x.dataProducer.send", json!({"dataProducerId": 21}), json!({"binary": "AP8="}));
    let expected = [DataMessage::text("closing in five minutes"), DataMessage::binary(vec![0, 255])];
    assert_eq!(chat.got(b'b'), expected.map(|message| (stream, message)));
    chat.produce(b'a', 20);
    chat.ok("x.router.consumeData", json!({"dataProducerId": 20, "dataConsumerId": 30}), json!({}));
    chat.say(b'a', &DataMessage::text("hi"));
    assert_eq!(chat.told(), [(30, "x.message".to_owned(), json!({"text": "hi"}))]);
    // To one receiver alone.
    let answer = chat.ok("x.dataConsumer.send", json!({"dataConsumerId": 31}), json!({"text": "psst"}));
    assert_eq!(answer, json!({"bufferedAmount": 17}));
    assert_eq!(chat.got(b'b'), [(stream, DataMessage::text("psst"))]);
    let refused = chat.ask("x.dataProducer.send", json!({"dataProducerId": 20}), json!({"text": "as a"}));
    assert_eq!(refused, Err("the data producer is fed by its transport".to_owned()));
    assert!(chat.ask("x.dataProducer.send", json!({"dataProducerId": 21}), json!({"text": 3})).is_err());
}

#[test]
fn a_controller_that_does_not_read_loses_its_channel_not_our_memory() {
    let mut chat = Chat::new(DataConfig { max_waiting_events: 10, ..DataConfig::default() });
    chat.join(b"a");
    chat.produce(b'a', 20);
    chat.ok("x.router.consumeData", json!({"dataProducerId": 20, "dataConsumerId": 30}), json!({}));
    for number in 0..50 {
        let message = DataMessage::text(&number.to_string());
        let event = Output::Event(Event::Data(DataEvent::Message { stream: 0, message }));
        chat.parties.with(b'a', |party| party.says.push_back(event));
    }
    chat.lab.worker.handle_datagram(chat.lab.now, path(b'a'), &mut [1, b'a']);
    chat.lab.flush();
    let told = chat.told();
    assert_eq!(told.iter().filter(|(_, event, _)| event == "x.message").count(), 10);
    assert_eq!(told.last().map(|(id, event, _)| (*id, event.as_str())), Some((30, "close")));
}

#[test]
fn who_does_not_read_loses_its_channel_and_the_others_do_not() {
    let mut chat = Chat::new(DataConfig::default());
    chat.join(b"abc");
    chat.produce(b'a', 20);
    chat.consume(b'b', 20, 30);
    chat.consume(b'c', 20, 31);
    chat.parties.with(b'b', |party| party.full = true);
    chat.say(b'a', &DataMessage::text("one"));
    chat.say(b'a', &DataMessage::text("two"));
    assert_eq!(chat.told(), [(30, "close".to_owned(), Value::Null)]);
    assert_eq!(chat.got(b'c').len(), 2);
    assert!(chat.ask("x.dataConsumer.dump", json!({"dataConsumerId": 30}), json!({})).is_err());
}

#[test]
fn ends_go_both_ways() {
    let mut chat = Chat::new(DataConfig::default());
    chat.join(b"abc");
    chat.produce(b'a', 20);
    let to_b = chat.consume(b'b', 20, 30);
    let to_c = chat.consume(b'c', 20, 31);
    // A receiver closes its channel.
    chat.event(b'b', DataEvent::Closed { stream: to_b, reason: "the remote party closed it" });
    assert_eq!(chat.told(), [(30, "close".to_owned(), Value::Null)]);
    // The sender does.
    chat.event(b'a', DataEvent::Closed { stream: 0, reason: "the remote party closed it" });
    let told = chat.told();
    assert_eq!(told, [(31, "close".to_owned(), Value::Null), (20, "close".to_owned(), Value::Null)]);
    assert_eq!(
        chat.parties.with(b'c', |party| party.closed.clone()),
        [to_c],
        "its receivers' channels close"
    );
    // The controller does.
    chat.produce(b'a', 21);
    let to_b = chat.consume(b'b', 21, 32);
    chat.ok("x.dataConsumer.close", json!({"dataConsumerId": 32}), json!({}));
    assert_eq!(chat.parties.with(b'b', |party| party.closed.clone()), [to_b]);
    chat.ok("x.dataProducer.close", json!({"dataProducerId": 21}), json!({}));
    assert_eq!(chat.parties.with(b'a', |party| party.closed.clone()), [0]);
    // The transports of a sender and of a receiver do.
    chat.produce(b'a', 22);
    let to_b = chat.consume(b'b', 22, 33);
    chat.consume(b'c', 22, 34);
    chat.told();
    chat.ok("transport.close", json!({"transportId": b'c'}), json!({}));
    chat.ok("transport.close", json!({"transportId": b'a'}), json!({}));
    chat.lab.flush();
    let mut ended: Vec<_> = chat.told().into_iter().map(|(id, event, _)| (id, event)).collect();
    ended.sort();
    let close = |id| (id, "close".to_owned());
    assert_eq!(ended, [close(22), close(33), close(34), close(97), close(99)]);
    assert_eq!(chat.parties.with(b'b', |party| party.closed.pop()), Some(to_b));
    let router = chat.ok("router.dump", json!({}), json!({}));
    assert!(router.get("x.dataProducers").is_none(), "{router}");
}

#[test]
fn a_router_that_closes_leaves_nothing() {
    let mut chat = Chat::new(DataConfig::default());
    chat.join(b"ab");
    chat.produce(b'a', 20);
    chat.consume(b'b', 20, 30);
    chat.ok("x.router.produceData", json!({"dataProducerId": 21}), json!({}));
    chat.ok("x.router.consumeData", json!({"dataProducerId": 21, "dataConsumerId": 31}), json!({}));
    chat.ok("router.close", json!({}), json!({}));
    chat.lab.flush();
    let ids: Vec<u64> = chat.told().into_iter().filter(|it| it.1 == "close").map(|it| it.0).collect();
    assert!([20, 21, 30, 31].iter().all(|id| ids.contains(id)), "{ids:?}");
    chat.ok("worker.createRouter", json!({}), json!({}));
    chat.join(b"ab");
    chat.produce(b'a', 20);
    chat.consume(b'b', 20, 30);
}

#[test]
fn a_party_may_be_its_own_receiver() {
    let mut chat = Chat::new(DataConfig::default());
    chat.join(b"a");
    chat.produce(b'a', 20);
    chat.consume(b'a', 20, 30);
    for number in 0..5_000u32 {
        let message = DataMessage::binary(number.to_be_bytes().to_vec());
        let event = Output::Event(Event::Data(DataEvent::Message { stream: 0, message }));
        chat.parties.with(b'a', |party| party.says.push_back(event));
    }
    chat.lab.worker.handle_datagram(chat.lab.now, path(b'a'), &mut [1, b'a']);
    let got = chat.got(b'a');
    assert!(got.iter().zip(0u32..).all(|((_, it), number)| it.payload[..] == number.to_be_bytes()));
    assert_eq!(got.len(), 5_000);
}

#[test]
fn what_the_session_tells_reaches_the_controller() {
    let mut chat = Chat::new(DataConfig::default());
    chat.join(b"ab");
    chat.event(b'a', DataEvent::State("connected"));
    let parameters: SctpStreamParameters = serde_json::from_value(json!({"streamId": 2})).unwrap();
    let (label, protocol) = ("chat".to_owned(), String::new());
    chat.event(b'a', DataEvent::Opened { parameters, label, protocol });
    let opened =
        json!({"sctpStreamParameters": {"streamId": 2, "ordered": true}, "label": "chat", "protocol": ""});
    let id = u64::from(b'a');
    let expected = [
        (id, "sctpstatechange".to_owned(), json!({"sctpState": "connected"})),
        (id, "x.datachannel".to_owned(), opened),
    ];
    assert_eq!(chat.told(), expected);
    chat.produce(b'a', 20);
    chat.consume(b'b', 20, 30);
    let threshold = json!({"threshold": 100});
    chat.ok("x.dataConsumer.setBufferedAmountLowThreshold", json!({"dataConsumerId": 30}), threshold);
    assert_eq!(chat.told(), [(30, "x.bufferedamountlow".to_owned(), Value::Null)]);
    let dump = chat.ok("x.dataConsumer.dump", json!({"dataConsumerId": 30}), json!({}));
    assert_eq!(dump["bufferedAmountLowThreshold"], 100);
}

#[test]
fn bad_requests_are_refused_by_name() {
    let mut chat = Chat::new(DataConfig::default());
    chat.join(b"ab");
    chat.produce(b'a', 20);
    chat.consume(b'b', 20, 30);
    let a = u32::from(b'a');
    let stream = json!({"sctpStreamParameters": {"streamId": 0}});
    for (method, ids, data, part) in [
        ("x.transport.produceData", json!({"transportId": a}), stream.clone(), "dataProducerId"),
        (
            "x.transport.produceData",
            json!({"transportId": a, "dataProducerId": 20}),
            stream.clone(),
            "exists",
        ),
        (
            "x.transport.produceData",
            json!({"transportId": a, "dataProducerId": 21}),
            stream.clone(),
            "stream",
        ),
        (
            "x.transport.produceData",
            json!({"transportId": a, "dataProducerId": 21}),
            json!({}),
            "sctpStreamParameters",
        ),
        ("x.transport.produceData", json!({"transportId": 7, "dataProducerId": 21}), stream, "Transport"),
        (
            "x.transport.consumeData",
            json!({"transportId": a, "dataConsumerId": 31}),
            json!({}),
            "dataProducerId",
        ),
        (
            "x.transport.consumeData",
            json!({"transportId": a, "dataProducerId": 99, "dataConsumerId": 31}),
            json!({}),
            "Data producer",
        ),
        ("x.router.consumeData", json!({"dataProducerId": 20, "dataConsumerId": 30}), json!({}), "exists"),
        (
            "x.router.consumeData",
            json!({"dataProducerId": 20, "dataConsumerId": 31}),
            json!({"x.delivery": {"maxRetransmits": 1, "maxPacketLifeTime": 1}}),
            "maxRetransmits",
        ),
        ("x.dataConsumer.close", json!({"dataConsumerId": 99}), json!({}), "Data consumer"),
        (
            "x.dataConsumer.setBufferedAmountLowThreshold",
            json!({"dataConsumerId": 30}),
            json!({}),
            "threshold",
        ),
    ] {
        let refused = chat.ask(method, ids, data).expect_err(method);
        assert!(refused.contains(part), "{method}: {refused}");
    }
}

/// A pipe transport 90 in each of two chats.
fn piped(capacity: usize, data: DataConfig) -> (Chat, Chat) {
    let (to_far, at_far) = lane::<PipeMessage>(capacity, None);
    let (to_near, at_near) = lane::<PipeMessage>(capacity, None);
    let ends = [(at_near, to_far), (at_far, to_near)];
    let [near, far] = ends.map(|(input, output)| {
        let mut chat = Chat::new(data.clone());
        chat.lab.worker.handle_mail(chat.lab.now, Mail::Pipe { attach: 5, input, output }, None);
        chat.lab.ok("x.router.createPipeTransport", [90, 0, 0], json!({"attach": 5}));
        chat
    });
    (near, far)
}

/// Producer 20 of `near` as producer 40 of `far`.
fn pipe(near: &mut Chat, far: &mut Chat, delivery: Value) {
    let ids = json!({"transportId": 90, "dataProducerId": 20, "dataConsumerId": 35});
    assert_eq!(near.ok("x.transport.consumeData", ids, json!({})), json!({}));
    let ids = json!({"transportId": 90, "dataProducerId": 40});
    far.ok("x.transport.produceData", ids, json!({"label": "chat", "x.track": 35, "x.delivery": delivery}));
}

#[test]
fn a_room_on_two_workers_keeps_its_chat() {
    let (mut near, mut far) = piped(4, DataConfig::default());
    near.join(b"ab");
    far.join(b"c");
    near.produce(b'a', 20);
    pipe(&mut near, &mut far, json!({"ordered": true}));
    let to_c = far.consume(b'c', 40, 30);
    for number in 0..10 {
        near.say(b'a', &DataMessage::text(&number.to_string()));
    }
    // The lane holds four; the rest waits and goes when there is room.
    let mut got = Vec::new();
    while got.len() < 10 {
        far.lab.worker.handle_lanes(far.lab.now);
        far.lab.flush();
        let more = far.got(b'c');
        assert!(!more.is_empty(), "{} of 10", got.len());
        got.extend(more);
        near.lab.run(Duration::from_millis(5));
    }
    let expected: Vec<_> = (0..10).map(|n: u32| (to_c, DataMessage::text(&n.to_string()))).collect();
    assert_eq!(got, expected);
    near.ok("x.dataProducer.close", json!({"dataProducerId": 20}), json!({}));
    far.ok("x.dataProducer.close", json!({"dataProducerId": 40}), json!({}));
    assert_eq!(far.parties.with(b'c', |party| party.closed.clone()), [to_c]);
}

#[test]
fn a_pipe_that_is_stuck_costs_a_bounded_number_of_bytes() {
    let bounded = DataConfig { pipe_buffer_bytes: 1_000, ..DataConfig::default() };
    for (delivery, survives) in [(json!({"ordered": true}), false), (json!({"maxRetransmits": 0}), true)] {
        let (mut near, mut far) = piped(1, bounded.clone());
        near.join(b"a");
        let ids = json!({"transportId": b'a', "dataProducerId": 20});
        let mut stream = delivery.clone();
        stream["streamId"] = json!(0);
        near.ok("x.transport.produceData", ids, json!({"sctpStreamParameters": stream}));
        pipe(&mut near, &mut far, delivery);
        for _ in 0..50 {
            near.say(b'a', &DataMessage::binary(vec![0; 100]));
        }
        let dump = near.ask("x.dataConsumer.dump", json!({"dataConsumerId": 35}), json!({}));
        assert_eq!(dump.is_ok(), survives);
        assert_eq!(near.told().contains(&(35, "close".to_owned(), Value::Null)), !survives);
        if survives {
            let stats = near.ok("x.dataConsumer.getStats", json!({"dataConsumerId": 35}), json!({}));
            assert!(stats[0]["bufferedAmount"].as_u64() <= Some(1_000), "{stats}");
            assert!(stats[0]["x.messagesRefused"].as_u64() >= Some(40), "{stats}");
        }
    }
}
