//! `audiolevels`: what a controller hears about who speaks.

use super::*;
use crate::core::rtp::srtp::SrtpSender;

/// A party with a microphone whose packets say how loud they are.
struct Voice {
    name: u8,
    ssrc: u32,
    keys: SrtpSender,
    sequence: u16,
}

impl Voice {
    fn join(lab: &mut Lab, id: u32, name: u8) -> Voice {
        lab.connect(id, name);
        let rtp = json!({
            "codecs": [{"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2}],
            "encodings": [{"ssrc": id}],
            "headerExtensions": [{"uri": ext::AUDIO_LEVEL, "id": 3}],
        });
        lab.ok("router.createProducer", [id, id, 0], json!({"kind": "audio", "rtpParameters": rtp}));
        let keys = SrtpSender::new(SrtpProfile::AeadAes128Gcm, &keys(name)).unwrap();
        Voice { name, ssrc: id, keys, sequence: 0 }
    }

    fn say(&mut self, lab: &mut Lab, below_full: &[u8]) {
        for level in below_full {
            let (sequence, ssrc) = (self.sequence, self.ssrc);
            let timestamp = u32::from(sequence) * 960;
            let fields = HeaderFields { payload_type: 111, sequence, timestamp, ssrc, ..Default::default() };
            let mut packet = vec![0; 200];
            let header = write_header(&mut packet, &fields, &[(3, &[level | 0x80])]).unwrap();
            let len = self.keys.seal_rtp(&mut packet, header, u64::from(sequence), ssrc, &[1; 40]).unwrap();
            self.sequence += 1;
            lab.worker.handle_datagram(lab.now, path(self.name), &mut packet[..len]);
        }
        lab.flush();
    }
}

fn levels(lab: &mut Lab) -> Vec<Value> {
    let told = lab.events.extract_if(.., |event| event["event"] == "audiolevels");
    told.inspect(|event| assert_eq!(event["targetId"], 1)).map(|event| event["data"].clone()).collect()
}

#[test]
fn voices_are_told_every_half_second_the_loudest_first() {
    let mut lab = Lab::new();
    lab.ok("worker.createRouter", [0; 3], json!({}));
    let mut alice = Voice::join(&mut lab, 10, b'a');
    let mut bob = Voice::join(&mut lab, 11, b'b');
    alice.say(&mut lab, &[20]);
    lab.run(Duration::from_secs(1));
    assert_eq!(levels(&mut lab), [json!(null); 0], "nobody asked");
    lab.ok("router.setAudioLevelsEvent", [0; 3], json!({"enabled": true}));
    assert_eq!(lab.ok("router.dump", [0; 3], json!({}))["audioLevelsEventEnabled"], true);
    lab.run(Duration::from_millis(499));
    assert_eq!(levels(&mut lab), [json!(null); 0]);
    alice.say(&mut lab, &[60, 61]);
    bob.say(&mut lab, &[0, 10]);
    lab.run(Duration::from_millis(1));
    assert_eq!(levels(&mut lab), [json!({"entries": [[11, -5], [10, -61]]})]);
    lab.run(Duration::from_millis(100));
    bob.say(&mut lab, &[127]);
    lab.run(Duration::from_millis(400));
    assert_eq!(levels(&mut lab), [json!({"entries": [[11, -127]]})], "alice said nothing in this one");
    lab.run(Duration::from_millis(500));
    assert_eq!(levels(&mut lab), [json!({"entries": []})]);
}

#[test]
fn a_paused_voice_is_silent_and_asking_twice_is_answered() {
    let mut lab = Lab::new();
    lab.ok("worker.createRouter", [0; 3], json!({}));
    let mut alice = Voice::join(&mut lab, 10, b'a');
    for enabled in [false, true, true] {
        lab.ok("router.setAudioLevelsEvent", [0; 3], json!({"enabled": enabled}));
    }
    lab.ok("producer.pause", [0, 10, 0], json!({}));
    alice.say(&mut lab, &[1]);
    lab.run(Duration::from_millis(500));
    assert_eq!(levels(&mut lab), [json!({"entries": []})], "once for all who asked");
    lab.ok("router.setAudioLevelsEvent", [0; 3], json!({"enabled": false}));
    alice.say(&mut lab, &[1]);
    lab.run(Duration::from_secs(2));
    assert_eq!(levels(&mut lab), [json!(null); 0]);
    let why = lab.request("router.setAudioLevelsEvent", [0; 3], json!({"enabled": 1})).unwrap_err();
    assert!(why.starts_with("data.enabled: "), "{why}");
}

#[test]
fn a_closed_router_tells_nothing_more() {
    let mut lab = Lab::new();
    lab.ok("worker.createRouter", [0; 3], json!({}));
    lab.ok("router.setAudioLevelsEvent", [0; 3], json!({"enabled": true}));
    lab.ok("router.close", [0; 3], json!({}));
    assert!(lab.worker.poll_timeout().is_none());
}
