//! What a publisher is told that it may send.

use super::*;
use crate::core::rtp::extension::abs_send_time;

/// A publisher of a picture whose packets say when they were sent.
struct Camera {
    keys: SrtpSender,
    sequence: u16,
}

impl Camera {
    fn join(lab: &mut Lab, feedback: Value) -> Camera {
        lab.ok("worker.createRouter", [0; 3], json!({}));
        lab.connect(10, b'c');
        let mut codec = h264(96);
        codec["rtcpFeedback"] = feedback;
        let rtp = json!({"codecs": [codec], "encodings": [{"ssrc": 500}],
            "headerExtensions": [{"uri": ext::ABS_SEND_TIME, "id": 2}]});
        lab.ok("router.createProducer", [10, 20, 0], json!({"kind": "video", "rtpParameters": rtp}));
        let keys = SrtpSender::new(SrtpProfile::AeadAes128Gcm, &keys(b'c')).unwrap();
        Camera { keys, sequence: 0 }
    }

    /// Three packets sent at `at`, as they come now.
    fn frame(&mut self, lab: &mut Lab, at: MediaTime) {
        for _ in 0..3 {
            let sequence = self.sequence;
            let timestamp = (at.as_micros() * 9 / 100) as u32;
            let fields =
                HeaderFields { payload_type: 96, sequence, timestamp, ssrc: 500, ..Default::default() };
            let mut packet = vec![0; 1400];
            let header = write_header(&mut packet, &fields, &[(2, &abs_send_time(at))]).unwrap();
            let payload = [[0x41; 1].as_slice(), &[7; 1000]].concat();
            let len = self.keys.seal_rtp(&mut packet, header, u64::from(sequence), 500, &payload).unwrap();
            self.sequence += 1;
            lab.worker.handle_datagram(lab.now, path(b'c'), &mut packet[..len]);
        }
        lab.flush();
    }

    /// Ten seconds of pictures, each of which waits `more` longer than the one before.
    fn run(&mut self, lab: &mut Lab, more: Duration) {
        for frame in 0..300 {
            let sent = MediaTime::from_micros(frame * 33_333);
            self.frame(lab, sent);
            lab.run(Duration::from_micros(33_333) + more);
        }
    }
}

/// The bounds told since the last call.
fn told(lab: &mut Lab) -> Vec<u64> {
    let mut camera = Viewer::new(b'c');
    lab.received(&mut camera);
    let packets = camera.rtcp.iter().flat_map(|data| Compound::new(data)).map(|packet| packet.unwrap());
    let bounds = packets.filter_map(|packet| match packet {
        Packet::Remb(remb) => {
            assert_eq!(remb.ssrcs().collect::<Vec<_>>(), [500]);
            Some(remb.bitrate)
        }
        _ => None,
    });
    bounds.collect()
}

#[test]
fn the_lowest_of_all_bounds_is_told() {
    let mut lab = Lab::new();
    let mut camera = Camera::join(&mut lab, json!([{"type": "goog-remb"}]));
    camera.run(&mut lab, Duration::ZERO);
    let bounds = told(&mut lab);
    let near = |bound: &u64, told: u64| bound.abs_diff(told) < told / 1000;
    assert!(bounds.len() > 5 && bounds.iter().all(|bound| near(bound, 10_000_000)), "{bounds:?}");
    lab.ok("transport.setMaxBitrate", [10, 0, 0], json!({"bitrate": 700_000}));
    lab.run(Duration::from_secs(2));
    assert!(told(&mut lab).last().is_some_and(|bound| near(bound, 700_000)));
    let stats = lab.ok("transport.getStats", [10, 0, 0], json!({}));
    let bound = json!({"maxBitrate": 700_000, "bitrate": 700_000, "ssrcs": [500]});
    assert_eq!(stats[0]["localAvailableSendBw"], bound);
    lab.ok("transport.setMaxBitrate", [10, 0, 0], json!({"bitrate": 1}));
    lab.run(Duration::from_secs(2));
    assert_eq!(told(&mut lab).last(), Some(&10_000), "no less than that");
}

#[test]
fn a_queue_that_grows_on_the_way_bounds_the_publisher() {
    let mut lab = Lab::new();
    let mut camera = Camera::join(&mut lab, json!([{"type": "goog-remb"}]));
    camera.run(&mut lab, Duration::from_millis(10));
    let bounds = told(&mut lab);
    // Some 720,000 bits a second are sent, and 550,000 come through.
    assert!(bounds.last().is_some_and(|bound| *bound < 720_000), "{bounds:?}");
}
