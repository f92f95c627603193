//! Kinds of trunks by name, as the documentation shows them.

use super::*;
use crate::core::control::calls::Dial;
use crate::sip::config::TrunkConfig;
use crate::sip::demux::Order;

/// The examples of configurations in the documentation.
fn examples() -> Vec<SipConfig> {
    let text = include_str!("../../../docs/telephones.md");
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split_once("```"));
    blocks
        .map(|(yaml, _)| serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}")))
        .collect()
}

fn made(section: &TrunkConfig, config: &SipConfig) -> Trunk {
    let password = section.password_file.as_ref().map(|_| "secret".to_owned());
    Trunk::new(section, config, password).expect("a trunk")
}

fn example(name: &str) -> (SipConfig, Trunk) {
    let config = examples().into_iter().find(|config| config.trunks.iter().any(|trunk| trunk.name == name));
    let config = config.unwrap_or_else(|| panic!("no example is called {name}"));
    let section = config.trunks.iter().find(|trunk| trunk.name == name).expect("its section");
    let trunk = made(section, &config);
    (config, trunk)
}

#[test]
fn every_example_of_the_documentation_makes_a_trunk() {
    let mut names = Vec::new();
    for config in examples() {
        crate::sip::ingress::check(&config).expect("rules that can be followed");
        for section in &config.trunks {
            made(section, &config);
            names.push(section.name.clone());
        }
    }
    for name in ["twilio", "telnyx", "asterisk", "freeswitch", "provider", "carrier"] {
        assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
    }
}

#[test]
fn presets_say_who_registers_who_is_asked_and_from_where_calls_come() {
    let seen = |name: &str| {
        let (_, trunk) = example(name);
        (trunk.registration.is_some(), trunk.options_every.map(|every| every.as_secs()), trunk.number_format)
    };
    use crate::sip::config::NumberFormat::{AsDialled, E164};
    assert_eq!(seen("twilio"), (false, Some(60), E164));
    assert_eq!(seen("telnyx"), (true, Some(60), E164));
    assert_eq!(seen("asterisk"), (true, Some(60), AsDialled));
    assert_eq!(seen("freeswitch"), (true, Some(60), AsDialled));
    assert_eq!(seen("provider"), (true, None, AsDialled));
    assert_eq!(seen("carrier"), (false, Some(60), AsDialled));
    let from = |name: &str, address: &str| example(name).1.is_from(address.parse().expect("address"));
    assert!(from("twilio", "54.172.60.3") && !from("twilio", "54.172.60.4"));
    assert!(from("telnyx", "192.76.120.10") && !from("telnyx", "192.0.2.1"));
    assert!(from("carrier", "198.51.100.20") && !from("carrier", "192.76.120.10"));
}

#[test]
fn every_key_of_a_preset_can_be_set_beside_it() {
    let yaml = "trunks: [{ name: t, preset: telnyx, host: 'eu.example', register: false, options_s: 0, \
                codecs: [opus], number_format: as-dialled, peers: [192.0.2.10] }]";
    let config: SipConfig = serde_saphyr::from_str(yaml).expect("a configuration");
    let trunk = Trunk::new(&config.trunks[0], &config, None).expect("a trunk");
    assert_eq!(trunk.host, Some(("eu.example".into(), None)));
    assert!(trunk.registration.is_none() && trunk.options_every.is_none());
    assert_eq!(trunk.settings.policy.codecs, ["opus"]);
    assert!(!trunk.is_from("64.16.250.10".parse().expect("address")));
    assert_eq!(trunk.number_format.write("4930123456"), "4930123456");
}

#[test]
fn twilio_is_called_as_it_wants_to_be() {
    let (config, _) = example("twilio");
    let yaml = format!(
        "trunks: [{{ name: twilio, preset: twilio, host: {}, username: gw, password: secret, caller_id: '14155550100' }}]\n\
         outbound: [{{ number: '*', trunk: twilio, principals: ['key:desk'] }}]",
        config.trunks[0].host.clone().expect("a host"),
    );
    let mut bench = Bench::new(&yaml);
    let order = Order { dial: Dial::new("x", "0049 30 1234567"), principal: "key:desk".into() };
    bench.board.dial(bench.now, &order).expect("a call");
    bench.drain();
    let (_, invite) = bench.last(Method::Invite);
    assert_eq!(invite.uri, "sip:+49301234567@example.pstn.twilio.com");
    assert!(invite.headers.get("From").is_some_and(|from| from.contains("<sip:+14155550100@")));
    assert!(text(&invite.body).contains("RTP/AVP 0 8 101 13"), "{}", text(&invite.body));
    assert_eq!(bench.count(&Method::Register), 0);
}

#[test]
fn a_rule_that_names_a_star_it_has_not_is_refused_at_the_start() {
    for (rule, good) in [
        ("{ number: '6*', room: 'call{1}' }", true),
        ("{ number: '6??', room: 'call{1}' }", false),
        ("{ number: '*-*', room: '{1}-{2}-{number}-{caller}-{user}' }", true),
        ("{ room: '{1}' }", false),
        ("{ number: '*', pins: { '1': 'a{2}' } }", false),
        ("{ number: '*', room: '{what}' }", false),
    ] {
        let config: SipConfig =
            serde_saphyr::from_str(&format!("dispatch: [{rule}]")).expect("a configuration");
        assert_eq!(crate::sip::ingress::check(&config).is_ok(), good, "{rule}");
    }
}
