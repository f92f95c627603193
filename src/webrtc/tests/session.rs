//! A session against a remote party: handshakes in good and bad weather, consent, restart, probation.

use std::time::Duration;

use super::link::{FAIR, Speaks, Weather, World, path};
use crate::core::data::{DataCommand, DataEvent, DataMessage, Delivery, SctpStreamParameters};
use crate::core::id::StreamId;
use crate::core::rtp::keys::SrtpProfile;
use crate::core::rtp::path::Path;
use crate::core::session::{
    Command, DtlsRole, Event, Fingerprint, Input, LocalCandidate, Session, SessionFactory,
};
use crate::webrtc::{Certificate, DtlsPolicy, Factory, SessionConfig};

const SECOND: Duration = Duration::from_secs(1);

fn world(speaks: Speaks) -> World {
    World::new(SessionConfig::default(), speaks, 1200)
}

/// Both ends have keys, and the same ones.
fn assert_keys_agree(world: &World, remote_is_client: bool) -> SrtpProfile {
    let ours = world.server_keys().expect("our keys");
    let (material, _) = world.keys.as_ref().expect("their keys");
    let (key, salt) = (ours.local.key.len(), ours.local.salt.len());
    let (client, server) =
        if remote_is_client { (&ours.remote, &ours.local) } else { (&ours.local, &ours.remote) };
    let joined = [&client.key[..], &server.key, &client.salt, &server.salt].concat();
    assert_eq!(joined, *material);
    assert_eq!(joined.len(), 2 * (key + salt));
    ours.profile
}

#[test]
fn a_browser_like_party_connects_in_a_few_round_trips() {
    let mut world = world(Speaks::Either);
    let answer = world.connect(DtlsRole::Auto);
    assert_eq!(answer["role"], "server");
    let begun = world.now;
    assert!(world.run(5 * SECOND, |world| world.server_keys().is_some()));
    // One way for the check, one for a repeated ClientHello at worst, then two round trips of 20 ms; the
    // client's own first ClientHello is lost because it comes before its check.
    assert!(world.now - begun < Duration::from_millis(1_300), "{:?}", world.now - begun);
    world.pass(Duration::from_millis(100));
    assert_eq!(assert_keys_agree(&world, true), SrtpProfile::AeadAes128Gcm);
    assert_eq!(world.ice_states(), ["completed"]);
    let dump = world.server.dump();
    assert_eq!(dump["iceState"], "completed");
    assert_eq!(dump["dtlsState"], "connected");
    assert_eq!(dump["dtlsLocalParameters"]["role"], "server");
    assert_eq!(dump["iceSelectedTuple"]["remoteIP"], "198.51.100.7");
    assert_eq!(dump["iceSelectedTuple"]["localPort"], 8189);
}

#[test]
fn every_version_connects_in_both_roles() {
    for policy in [DtlsPolicy::PreferGcm, DtlsPolicy::Auto] {
        for speaks in [Speaks::Only12, Speaks::Only13, Speaks::Either] {
            for role in [DtlsRole::Client, DtlsRole::Server] {
                if (policy, role) == (DtlsPolicy::PreferGcm, DtlsRole::Server)
                    && matches!(speaks, Speaks::Only13)
                {
                    // As a client it speaks 1.2, which every server has.
                    continue;
                }
                let config = SessionConfig { dtls: policy, ..SessionConfig::default() };
                let mut world = World::new(config, speaks, 1200);
                let answer = world.connect(role);
                let expected = if role == DtlsRole::Client { "server" } else { "client" };
                assert_eq!(answer["role"], expected);
                let through = world.run(6 * SECOND, |w| w.server_keys().is_some() && w.keys.is_some());
                assert!(through, "{policy:?} {speaks:?} {role:?}: {:?}", world.closed());
                assert_keys_agree(&world, role == DtlsRole::Client);
            }
        }
    }
}

#[test]
fn a_client_hello_in_many_swapped_pieces_is_put_together() {
    for seed in 1..6 {
        let mut world = World::new(SessionConfig::default(), Speaks::Either, 200);
        world.reseed(seed);
        world.weather = Weather { jitter: Duration::from_millis(30), ..FAIR };
        world.check(world.path, true);
        world.connect(DtlsRole::Client);
        assert!(world.run(10 * SECOND, |w| w.server_keys().is_some() && w.keys.is_some()), "seed {seed}");
        assert_keys_agree(&world, true);
    }
}

#[test]
fn bad_weather_costs_time_only() {
    for (seed, role) in (1..9).flat_map(|seed| [(seed, DtlsRole::Client), (seed, DtlsRole::Server)]) {
        let mut world = world(Speaks::Either);
        world.reseed(seed * 77);
        world.weather =
            Weather { delay: Duration::from_millis(40), jitter: Duration::from_millis(30), loss: 15 };
        world.connect(role);
        let through = world.run(15 * SECOND, |w| w.server_keys().is_some() && w.keys.is_some());
        assert!(through, "seed {seed} {role:?}: {:?}", world.closed());
        assert_keys_agree(&world, role == DtlsRole::Client);
    }
}

#[test]
fn the_hello_is_answered_before_any_nomination() {
    let mut world = world(Speaks::Either);
    world.nominate = false;
    world.check(world.path, false);
    world.connect(DtlsRole::Client);
    assert!(world.run(SECOND, |world| world.server_keys().is_some()));
    assert_eq!(world.ice_states(), ["connected"]);
}

#[test]
fn dtls_from_an_unchecked_path_gets_no_answer() {
    let mut world = world(Speaks::Either);
    world.checking = false;
    world.connect(DtlsRole::Client);
    world.pass(3 * SECOND);
    assert_eq!(world.server.dump()["dtlsState"], "new");
    assert!(!world.dtls_connected);
}

#[test]
fn a_hello_before_the_fingerprint_waits_for_it() {
    let mut world = world(Speaks::Either);
    world.check(world.path, true);
    world.say_hello();
    world.pass(SECOND * 2);
    assert_eq!(world.server.dump()["dtlsState"], "new");
    let fingerprints = world.fingerprints.clone();
    let before = world.now;
    world.command(Command::SetRemoteDtls { role: DtlsRole::Client, fingerprints }).expect("set");
    assert!(world.run(5 * SECOND, |world| world.server_keys().is_some()));
    assert!(world.now - before < Duration::from_millis(100), "it answered at once");
}

#[test]
fn another_certificate_than_the_promised_one_ends_the_session() {
    let mut world = world(Speaks::Either);
    world.fingerprints = Certificate::generate().expect("other").fingerprints();
    world.connect(DtlsRole::Client);
    assert!(world.run(5 * SECOND, |world| world.closed().is_some()));
    let (reason, clean) = world.closed().expect("closed");
    assert!(reason.contains("the remote certificate is not the one its SDP names"), "{reason}");
    assert!(!clean);
    assert!(world.server_keys().is_none());
    assert_eq!(world.server.dump()["dtlsState"], "failed");
}

#[test]
fn fingerprints_of_unknown_kind_are_refused() {
    let mut world = world(Speaks::Either);
    let fingerprints = vec![Fingerprint { algorithm: "md5".to_owned(), value: "00".to_owned() }];
    let refused = world.command(Command::SetRemoteDtls { role: DtlsRole::Auto, fingerprints });
    assert!(refused.is_err());
    world.connect(DtlsRole::Auto);
    let again = Command::SetRemoteDtls { role: DtlsRole::Auto, fingerprints: world.fingerprints.clone() };
    assert_eq!(world.command(again), Err("remote DTLS parameters were already set".to_owned()));
}

#[test]
fn good_bye_goes_both_ways() {
    let mut world = world(Speaks::Either);
    world.connect(DtlsRole::Client);
    assert!(world.run(5 * SECOND, |w| w.server_keys().is_some() && w.dtls_connected));
    world.command(Command::Close { reason: "the room closes".to_owned() }).expect("close");
    world.run(SECOND, |world| world.dtls_closed);
    assert!(world.dtls_closed, "the remote party got close_notify");
    assert_eq!(world.closed(), Some(("the room closes", true)));

    let mut world = self::world(Speaks::Either);
    world.connect(DtlsRole::Client);
    assert!(world.run(5 * SECOND, |w| w.server_keys().is_some() && w.dtls_connected));
    world.say_good_bye();
    world.run(SECOND, |world| world.closed().is_some());
    assert_eq!(world.closed(), Some(("the remote party closed the connection", true)));
}

#[test]
fn nobody_comes() {
    let mut world = world(Speaks::Either);
    world.checking = false;
    world.connect(DtlsRole::Auto);
    world.pass(14 * SECOND);
    assert_eq!(world.closed(), None);
    world.pass(2 * SECOND);
    assert_eq!(world.closed(), Some(("no connectivity check arrived within 15 s", false)));
    assert_eq!(world.server.poll_timeout(), None);
}

#[test]
fn checks_without_dtls_end_too() {
    let mut world = world(Speaks::Either);
    world.weather.loss = 0;
    let fingerprints = world.fingerprints.clone();
    world.command(Command::SetRemoteDtls { role: DtlsRole::Client, fingerprints }).expect("set");
    world.pass(14 * SECOND);
    assert_eq!(world.closed(), None);
    world.pass(2 * SECOND);
    assert_eq!(world.closed(), Some(("DTLS was not through within 15 s", false)));
}

#[test]
fn wrong_credentials_are_refused_and_change_nothing() {
    let mut world = world(Speaks::Either);
    world.checking = false;
    let (right, path) = (world.pwd.clone(), world.path);
    world.pwd = "0".repeat(32);
    world.check(path, true);
    world.pwd = right;
    world.command(Command::SetRemoteIce { ufrag: "remo".to_owned(), pwd: "p".repeat(22) }).expect("set");
    world.remote_ufrag = "else".to_owned();
    world.check(path, true);
    assert_eq!(world.answers, [Some(401), Some(401)]);
    assert_eq!(world.selections(), []);
    world.remote_ufrag = "remo".to_owned();
    world.check(path, true);
    assert_eq!(world.answers.last(), Some(&None));
    assert_eq!(world.selections(), [(path, Some(50))]);
}

#[test]
fn a_new_address_is_on_probation_until_something_authenticated_comes_from_it() {
    let mut world = world(Speaks::Either);
    world.connect(DtlsRole::Client);
    assert!(world.run(5 * SECOND, |world| world.server_keys().is_some()));
    let (old, new) = (world.path, path("203.0.113.9:4000"));
    assert_eq!(world.selections(), [(old, Some(50)), (old, None)], "the handshake proves the first path");

    world.check(new, false);
    assert_eq!(world.selections().len(), 2, "a check alone moves nothing");
    world.check(new, true);
    world.check(new, true);
    assert_eq!(world.selections()[2..], [(new, Some(50))], "checks do not lift the limit");
    world.input(Input::Authenticated { path: new });
    assert_eq!(world.selections()[3..], [(new, None)], "a packet does");

    world.check(old, true);
    world.check(new, true);
    let last = world.selections();
    assert_eq!(last[last.len() - 2..], [(old, None), (new, None)], "both are proven by now");
}

#[test]
fn hopping_between_addresses_earns_no_fresh_allowance() {
    let mut world = world(Speaks::Either);
    world.connect(DtlsRole::Client);
    assert!(world.run(5 * SECOND, |world| world.server_keys().is_some()));
    let own = world.path;
    let before = world.selections().len();
    let mut allowed = 0;
    for hop in 0..100 {
        world.check(path(&format!("203.0.113.9:{}", 4000 + hop)), true);
        world.check(own, true);
        world.input(Input::Authenticated { path: own });
        world.pass(Duration::from_millis(160));
    }
    for (at, probation) in &world.selections()[before..] {
        let limit = probation.unwrap_or(0);
        assert!(*at == own || probation.is_some());
        allowed += limit;
    }
    assert!((50..=150).contains(&allowed), "{allowed} packets to strangers within 20 s");
}

#[test]
fn silence_stops_the_sending_then_ends_the_session() {
    let mut world = world(Speaks::Either);
    world.connect(DtlsRole::Client);
    assert!(world.run(5 * SECOND, |world| world.server_keys().is_some()));
    world.checking = false;
    world.pass(29 * SECOND);
    assert!(!world.events.iter().any(|event| matches!(event, Event::PathLost)));
    world.pass(3 * SECOND);
    assert!(world.events.iter().any(|event| matches!(event, Event::PathLost)));
    assert_eq!(world.ice_states(), ["completed", "disconnected"]);
    world.pass(31 * SECOND);
    assert_eq!(world.closed(), Some(("the remote party is gone", false)));
}

#[test]
fn a_party_that_comes_back_in_time_goes_on() {
    let mut world = world(Speaks::Either);
    world.connect(DtlsRole::Client);
    assert!(world.run(5 * SECOND, |world| world.server_keys().is_some()));
    world.checking = false;
    world.pass(40 * SECOND);
    let path = world.path;
    world.check(path, true);
    assert_eq!(world.ice_states(), ["completed", "disconnected", "completed"]);
    assert_eq!(world.selections().last(), Some(&(path, Some(50))), "its old proof is too old");
    world.checking = true;
    world.pass(100 * SECOND);
    assert_eq!(world.closed(), None);
}

#[test]
fn media_alone_is_consent() {
    let mut world = world(Speaks::Either);
    world.connect(DtlsRole::Client);
    assert!(world.run(5 * SECOND, |world| world.server_keys().is_some()));
    world.checking = false;
    for _ in 0..10 {
        world.pass(20 * SECOND);
        let path = world.path;
        world.input(Input::Authenticated { path });
    }
    assert!(!world.events.iter().any(|event| matches!(event, Event::PathLost)));
}

#[test]
fn a_restart_keeps_the_old_credentials_until_the_new_are_used() {
    let mut world = world(Speaks::Either);
    world.connect(DtlsRole::Client);
    assert!(world.run(5 * SECOND, |world| world.server_keys().is_some()));
    let (old_ufrag, old_pwd, path) = (world.ufrag.clone(), world.pwd.clone(), world.path);
    let answer = world.command(Command::RestartIce).expect("restart");
    let text = |name: &str| answer[name].as_str().expect("text").to_owned();
    let (ufrag, pwd) = (text("usernameFragment"), text("password"));
    assert_eq!((ufrag.len(), pwd.len()), (16, 32));
    assert!(world.events.iter().any(|event| matches!(event, Event::Route { key } if *key == ufrag)));

    world.answers.clear();
    world.checking = false;
    world.check(path, true);
    assert_eq!(world.answers, [None], "the old ones still do");
    (world.ufrag, world.pwd) = (ufrag, pwd);
    world.check(super::link::path("203.0.113.9:4000"), true);
    assert_eq!(world.answers, [None, None]);
    assert!(world.events.iter().any(|event| matches!(event, Event::Unroute { key } if *key == old_ufrag)));
    (world.ufrag, world.pwd) = (old_ufrag, old_pwd);
    world.check(path, true);
    assert_eq!(world.answers, [None, None, Some(401)]);
    assert_eq!(world.closed(), None);
}

#[test]
fn role_conflicts_and_unsigned_requests_are_told() {
    use crate::webrtc::wire::stun::{Class, IntegrityKey, Writer, attr};
    let mut world = world(Speaks::Either);
    world.checking = false;
    let user = format!("{}:remo", world.ufrag);
    let key = IntegrityKey::new(&world.pwd);
    let request = || Writer::new(Class::Request, [9; 12]).attribute(attr::USERNAME, user.as_bytes());
    let requests = [
        request().attribute(attr::ICE_CONTROLLED, &[0; 8]).finish(Some(&key)),
        request().attribute(0x0031, &[1, 2, 3, 4]).finish(Some(&key)),
        request().finish(None),
    ];
    for request in requests {
        let path = world.path;
        world.send(path, request);
        world.pass(SECOND);
    }
    assert_eq!(world.answers, [Some(487), Some(420), Some(400)]);
    assert_eq!(world.selections(), []);
}

#[test]
fn a_lost_tcp_connection_gives_way_to_another_path() {
    let mut world = world(Speaks::Either);
    world.checking = false;
    let remote = "198.51.100.7:50001".parse().expect("address");
    let tcp = Path::Tcp { stream: StreamId(4), remote };
    let udp = world.path;
    world.check(udp, false);
    world.check(tcp, true);
    assert_eq!(world.server.dump()["iceSelectedTuple"]["protocol"], "tcp");
    world.input(Input::PathClosed { path: tcp });
    world.check(udp, false);
    assert_eq!(world.selections().last(), Some(&(udp, Some(50))));
    world.input(Input::PathClosed { path: udp });
    world.pass(SECOND);
    assert_eq!(world.server.dump()["iceState"], "disconnected");
}

#[test]
fn remembered_paths_are_bounded() {
    let mut world = world(Speaks::Either);
    world.checking = false;
    let first = world.path;
    world.check(first, true);
    for port in 0..100 {
        world.check(path(&format!("198.51.100.7:{}", 2000 + port)), false);
    }
    assert_eq!(world.server.dump()["iceSelectedTuple"]["remotePort"], 50_000);
    world.connect(DtlsRole::Client);
    assert!(world.run(2 * SECOND, |world| world.server_keys().is_some()), "the selected path is still known");
}

#[test]
fn noise_changes_nothing() {
    let mut world = world(Speaks::Either);
    world.connect(DtlsRole::Client);
    let mut byte = 0u8;
    for length in 0..400usize {
        let noise: Vec<u8> = (0..length)
            .map(|_| {
                byte = byte.wrapping_mul(29).wrapping_add(101);
                byte
            })
            .collect();
        let mut dtls = noise.clone();
        if let Some(first) = dtls.first_mut() {
            *first = 20 + (length % 6) as u8;
        }
        let path = world.path;
        world.send(path, noise);
        world.send(path, dtls);
    }
    assert!(world.run(5 * SECOND, |world| world.server_keys().is_some()), "{:?}", world.closed());
}

#[test]
fn the_factory_routes_and_filters() {
    let factory = Factory::new(SessionConfig::default(), Certificate::generate().expect("certificate"))
        .expect("factory");
    let candidates = [
        LocalCandidate { tcp: true, address: "192.0.2.1:8189".parse().expect("address") },
        LocalCandidate { tcp: false, address: "192.0.2.1:8189".parse().expect("address") },
        LocalCandidate { tcp: false, address: "[2001:db8::1]:8189".parse().expect("address") },
    ];
    let dump = |options: serde_json::Value| factory.session(&options, &candidates).expect("session").dump();
    let listed = |dump: &serde_json::Value| -> Vec<String> {
        let list = dump["iceLocalCandidates"].as_array().expect("list");
        list.iter().map(|c| format!("{} {}", c["protocol"], c["family"]).replace('"', "")).collect()
    };
    assert_eq!(listed(&dump(serde_json::json!({}))), ["udp ipv4", "udp ipv6", "tcp ipv4"]);
    assert_eq!(
        listed(&dump(serde_json::json!({"tcp": false, "preferIPv6": true}))),
        ["udp ipv6", "udp ipv4"]
    );
    let both = serde_json::json!({"preferTcp": true, "preferIPv6": true});
    assert_eq!(listed(&dump(both.clone())), ["udp ipv6", "tcp ipv4", "udp ipv4"], "family before protocol");
    let local = |dump: &serde_json::Value| -> Vec<u64> {
        let list = dump["iceLocalCandidates"].as_array().expect("list");
        list.iter().map(|c| c["priority"].as_u64().expect("number") >> 8 & 0xffff).collect()
    };
    assert_eq!(local(&dump(both)), [30_000, 24_999, 19_998], "and no two are equal");
    assert_eq!(listed(&dump(serde_json::json!({"udp": false}))), ["tcp ipv4"]);
    assert!(factory.session(&serde_json::json!({"udp": false, "tcp": false}), &candidates).is_err());

    let mut world = world(Speaks::Either);
    let request = world.request(false);
    assert_eq!(factory.route_key(&request), Some(world.ufrag.as_str()));
    assert_eq!(factory.route_key(&request[..request.len() - 1]), None);
    assert_eq!(factory.route_key(&[0x80; 60]), None);
}

/// The messages that came to our session.
fn messages(world: &World) -> Vec<&DataMessage> {
    let mut messages = Vec::new();
    for event in &world.events {
        if let Event::Data(DataEvent::Message { message, .. }) = event {
            messages.push(message);
        }
    }
    messages
}

#[test]
fn data_channels_go_over_dtls_both_ways_in_every_version_and_role() {
    let take =
        |stream_id| DataCommand::Take(SctpStreamParameters { stream_id, delivery: Delivery::RELIABLE });
    let open = |stream| DataCommand::Open { stream, delivery: Delivery::RELIABLE, announce: None };
    for (speaks, dtls) in [(Speaks::Only12, DtlsPolicy::PreferGcm), (Speaks::Only13, DtlsPolicy::Auto)] {
        for role in [DtlsRole::Client, DtlsRole::Server] {
            let mut world = World::with_data(SessionConfig { dtls, ..SessionConfig::default() }, speaks);
            world.weather = Weather { loss: 5, ..FAIR };
            // Asked for before there is anything to carry it, as controllers do.
            world.command(Command::Data(take(0))).expect("taken");
            let ours = world.command(Command::Data(open(None))).expect("opened")["streamId"].as_u64();
            let ours = ours.expect("a stream") as u16;
            world.client_command(open(Some(0))).expect("opened");
            world.client_command(take(ours)).expect("taken");
            world.connect(role);
            let sent = DataMessage::binary((0..100_000).map(|n| n as u8).collect::<Vec<_>>());
            let said = DataCommand::Send { stream: 0, message: sent.clone() };
            world.client_command(said).expect("sent");
            assert!(world.run(60 * SECOND, |world| messages(world) == [&sent]), "{speaks:?} {role:?}");
            let said = DataCommand::Send { stream: ours, message: sent.clone() };
            world.command(Command::Data(said)).expect("sent");
            let mut back = Vec::new();
            for _ in 0..600 {
                world.pass(SECOND / 10);
                let events = world.data.as_mut().expect("data channels");
                back.extend(std::iter::from_fn(|| events.poll_event()));
            }
            let came =
                |event: &DataEvent| matches!(event, DataEvent::Message { message, .. } if *message == sent);
            assert!(back.iter().any(came), "{speaks:?} {role:?}");
            let dump = world.server.dump();
            assert_eq!(
                (&dump["sctpState"], &dump["sctpParameters"]["port"]),
                (&"connected".into(), &5000.into())
            );
        }
    }
}

#[test]
fn a_transport_without_data_channels_has_none() {
    let mut world = world(Speaks::Either);
    let refused = world.command(Command::Data(DataCommand::Close { stream: 0 }));
    assert_eq!(refused, Err("the transport was made without SCTP".to_owned()));
    assert!(world.server.dump().get("sctpParameters").is_none());
    world.connect(DtlsRole::Client);
    assert!(world.run(5 * SECOND, |world| world.dtls_connected));
    // What comes all the same is dropped.
    world.say(&[0; 100]);
    world.pass(SECOND);
    assert!(world.closed().is_none());
}
