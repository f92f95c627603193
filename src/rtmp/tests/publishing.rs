use super::*;
use crate::core::session::Command;
use crate::rtmp::{PublishRequest, Reject};

#[test]
fn the_commands_of_ffmpeg_and_obs() {
    let mut client = Client::new();
    client.handshake();
    client.feed(&client.commands("studio", "k3y"));
    let request = client.session.take_request().unwrap();
    let host = Some("host.example".to_owned());
    assert_eq!(request, PublishRequest { app: "studio".into(), stream: "k3y".into(), host });
    assert!(client.session.take_request().is_none());
    let kinds: Vec<u8> = client.answers.iter().map(|message| message.kind).collect();
    assert_eq!(kinds[..3], [kind::WINDOW_ACK_SIZE, kind::SET_PEER_BANDWIDTH, kind::SET_CHUNK_SIZE]);
    let commands = client.commands_answered();
    let names: Vec<(&str, f64)> =
        commands.iter().map(|values| (values[0].as_str().unwrap(), values[1].as_number().unwrap())).collect();
    let expected =
        [("_result", 1.0), ("_result", 2.0), ("_result", 3.0), ("onFCPublish", 0.0), ("_result", 4.0)];
    assert_eq!(names, expected);
    assert_eq!(commands[4][3], Value::Number(1.0));
    assert_eq!(client.codes(), ["NetConnection.Connect.Success", "NetStream.Publish.Start"]);
    client.answers.clear();

    client.session.accept(client.now);
    assert!(
        client.session.poll_timeout().is_some_and(|at| at <= client.now),
        "the answer waits for its driver"
    );
    client.drain();
    assert_eq!(client.codes(), ["NetStream.Publish.Start"]);
    assert!(
        client.answers.iter().filter(|message| message.kind == kind::COMMAND_AMF0).all(|m| m.stream == 1)
    );
    client.wait(0);
    assert!(client.session.poll_timeout().is_some_and(|at| at > client.now));

    let stop =
        client.command(0, &[Value::text("FCUnpublish"), Value::Number(6.0), Value::Null, Value::text("k3y")]);
    client.feed(&stop);
    client.feed(
        &client
            .command(0, &[Value::text("deleteStream"), Value::Number(7.0), Value::Null, Value::Number(1.0)]),
    );
    assert_eq!(client.closed(), Some(("the publisher stopped", true)));
    assert_eq!(client.codes()[1..], ["NetStream.Unpublish.Success", "NetStream.Unpublish.Success"]);
}

#[test]
fn byte_by_byte_is_the_same() {
    let mut client = Client::new();
    client.handshake();
    for byte in client.commands("live", "studio?key=k3y") {
        client.feed(&[byte]);
    }
    assert_eq!(client.session.take_request().unwrap().stream, "studio?key=k3y");
    assert_eq!(client.commands_answered().len(), 5);
}

#[test]
fn encoders_that_know_enhanced_rtmp_are_told_what_is_taken() {
    let mut client = Client::new();
    client.handshake();
    let codecs = Value::Array(vec![Value::text("hvc1"), Value::text("avc1")]);
    let connect = Value::object([("app", Value::text("studio")), ("fourCcList", codecs)]);
    client.feed(&client.command(0, &[Value::text("connect"), Value::Number(1.0), connect]));
    let taken = ["avc1", "mp4a", "Opus"].map(Value::text).to_vec();
    assert_eq!(client.commands_answered()[0][3].get("fourCcList"), Some(&Value::Array(taken)));
}

#[test]
fn each_refusal_has_its_code_and_its_words() {
    let cases = [
        (Reject::BadName, "NetStream.Publish.BadName"),
        (Reject::BadAuth, "NetStream.Publish.Denied"),
        (Reject::Denied("closed on Sundays".into()), "NetStream.Publish.Denied"),
        (Reject::NotFound, "NetStream.Publish.BadName"),
        (Reject::ServerFull, "NetConnection.Connect.Rejected"),
    ];
    for (reject, code) in cases {
        let mut client = Client::new();
        client.handshake();
        client.feed(&client.commands("studio", "wrong"));
        client.answers.clear();
        client.session.reject(client.now, reject.clone());
        client.drain();
        assert_eq!(client.codes(), [code]);
        let status = client.commands_answered().remove(0).remove(3);
        assert_eq!(status.get("level").unwrap().as_str(), Some("error"));
        assert_eq!(status.get("description").unwrap().as_str(), Some(reject.text()));
        assert_eq!(client.closed(), Some((reject.text(), true)));
    }
}

#[test]
fn what_comes_before_the_answer_waits_for_it() {
    let mut client = Client::new();
    client.handshake();
    let early = client.message(4, 1, kind::AUDIO, 0, AAC_48K.to_vec());
    client.feed(&[client.commands("studio", "k3y"), early].concat());
    assert!(client.tracks().is_empty() && client.session.held_bytes() > 0);
    client.session.accept(client.now);
    client.drain();
    assert_eq!((client.tracks().len(), client.session.held_bytes()), (1, 0));
}

#[test]
fn playing_is_refused_in_words() {
    let mut client = Client::new();
    client.handshake();
    let connect = Value::object([("app", Value::text("studio"))]);
    client.feed(&client.command(0, &[Value::text("connect"), Value::Number(1.0), connect]));
    client
        .feed(&client.command(1, &[Value::text("play"), Value::Number(0.0), Value::Null, Value::text("x")]));
    assert_eq!(client.codes()[1..], ["NetStream.Play.Failed"]);
    assert!(client.closed().is_some_and(|(_, clean)| clean));
}

#[test]
fn commands_out_of_order_and_garbage_end_the_session() {
    let publish = [Value::text("publish"), Value::Number(1.0), Value::Null, Value::text("x")];
    let mut client = Client::new();
    client.handshake();
    client.feed(&client.command(1, &publish));
    assert_eq!(client.closed(), Some(("publish came before connect", false)));

    let mut client = Client::new();
    client.feed(b"GET / HTTP/1.1\r\n");
    assert_eq!(client.closed(), Some(("not RTMP: this looks like HTTP", false)));

    let mut client = Client::new();
    client.handshake();
    client.feed(&client.message(3, 0, kind::COMMAND_AMF0, 0, vec![0xff; 9]));
    assert!(client.closed().is_some_and(|(reason, _)| reason.starts_with("bad AMF0")));
}

#[test]
fn unknown_commands_and_messages_are_survived() {
    let mut client = Client::publishing();
    client.feed(&client.command(1, &[Value::text("fooBar"), Value::Number(9.0), Value::Null]));
    assert_eq!(client.codes(), ["NetConnection.Call.Failed"]);
    for kind in [0, 7, 10, 16, 19, 21, 99, 255] {
        client.feed(&client.message(3, 0, kind, 0, vec![1, 2, 3]));
    }
    assert_eq!(client.closed(), None);
}

#[test]
fn metadata_is_told_and_bad_metadata_is_left_out() {
    let mut client = Client::publishing();
    let data = Value::object([("encoder", Value::text("Lavf59")), ("width", Value::Number(640.0))]);
    let body = amf0::write_all(&[Value::text("@setDataFrame"), Value::text("onMetaData"), data]);
    client.feed(&client.message(4, 1, kind::DATA_AMF0, 0, body));
    let Some(Event::Message(json)) = client.events.first() else { panic!("no message") };
    assert_eq!(json["name"], "onMetaData");
    assert_eq!(json["data"][0]["width"], 640.0);
    assert_eq!(client.session.dump()["encoder"], "Lavf59");
    client.feed(&client.message(4, 1, kind::DATA_AMF0, 0, vec![2, 0, 9]));
    assert_eq!((client.notices().len(), client.closed()), (1, None));
}

#[test]
fn half_open_connections_time_out() {
    let mut client = Client::new();
    client.feed(&[3, 0, 0]);
    client.wait(9_999);
    assert_eq!(client.closed(), None);
    client.wait(1);
    assert_eq!(client.closed(), Some(("no RTMP handshake in time", false)));

    let mut client = Client::new();
    client.wait(5_000);
    client.handshake();
    client.wait(9_999);
    assert_eq!(client.closed(), None);
    client.wait(1);
    assert_eq!(client.closed(), Some(("connected, but did not publish in time", false)));
}

#[test]
fn a_publisher_that_falls_silent_is_gone() {
    let mut client = Client::publishing();
    client.audio(0, AAC_48K);
    client.wait(29_999);
    client.audio(10, &[0xaf, 1, 1, 2]);
    client.wait(29_999);
    assert_eq!(client.closed(), None);
    client.wait(1);
    assert_eq!(client.closed(), Some(("nothing came from the publisher any more", false)));
    assert_eq!(client.session.poll_timeout(), None);
}

#[test]
fn too_much_before_publishing_is_refused() {
    let mut client = Client::new();
    client.handshake();
    let filler = client.message(3, 0, 99, 0, vec![0; 1000]);
    for _ in 0..70 {
        client.feed(&filler);
    }
    assert_eq!(client.closed(), Some(("more than 65536 bytes before publishing", false)));
}

#[test]
fn pings_are_answered_and_bytes_acknowledged_modulo_32_bits() {
    let mut client = Client::publishing();
    client.feed(&client.message(2, 0, kind::USER_CONTROL, 0, vec![0, 6, 0, 0, 1, 2]));
    assert_eq!(client.answers.remove(0).payload, [0, 7, 0, 0, 1, 2]);
    client.feed(&client.message(2, 0, kind::WINDOW_ACK_SIZE, 0, 1000u32.to_be_bytes().to_vec()));
    client.answers.clear();
    client.session.pretend_received((1 << 32) - 20);
    client.feed(&client.message(6, 1, 99, 0, vec![0; 500]));
    assert!(client.answers.is_empty());
    client.feed(&client.message(6, 1, 99, 0, vec![0; 500]));
    assert_eq!(client.answers.len(), 1);
    assert_eq!(client.answers[0].kind, kind::ACK);
    let reported = u32::from_be_bytes(client.answers[0].payload[..].try_into().unwrap());
    assert!((1000..1100).contains(&reported), "{reported}");
}

#[test]
fn closing_is_told_to_the_encoder() {
    let mut client = Client::publishing();
    client.session.command(client.now, Command::Close { reason: "kicked".into() }).unwrap();
    client.drain();
    assert_eq!(client.codes(), ["NetConnection.Connect.Closed"]);
    assert_eq!(client.closed(), Some(("kicked", true)));
    client.audio(0, AAC_48K);
    assert!(client.tracks().is_empty());
}

#[test]
fn hanging_up_is_not_a_good_bye() {
    let mut client = Client::publishing();
    client.session.handle_input(client.now, Input::Eof);
    client.drain();
    assert_eq!(client.closed(), Some(("the publisher hung up", false)));
}
