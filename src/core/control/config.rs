//! Limits and times of rooms and of the control protocol.

use serde::Deserialize;

use crate::core::capabilities::room::RoomCodec;

/// Settings of rooms, their peers and the requests that serve them.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct RoomsConfig {
    /// Rooms at once. Default 1,000.
    pub max_rooms: usize,
    /// Peers of one room, publishers and viewers together. Default 20,000.
    pub max_peers_per_room: usize,
    /// Publishers of one room. Default 100.
    pub max_publishers_per_room: usize,
    /// Viewers of one room. Default 10,000.
    pub max_viewers_per_room: usize,
    /// Tracks that one peer sends. Default 8.
    pub max_tracks_per_peer: usize,
    /// Tracks that one peer is sent. Default 512.
    pub max_consumers_per_peer: usize,
    /// Events that may wait for somebody who watches a room, or listens to a peer, before it is cut off. Default 1,024.
    pub max_waiting_events: usize,
    /// Bytes of JSON that an application may lay beside a peer or a track. Default 16,384.
    pub max_app_data_bytes: usize,
    /// Transports of one peer. Default 4.
    pub max_transports_per_peer: usize,
    /// Data channels one peer may send on. Default 16.
    pub max_data_producers_per_peer: usize,
    /// Data channels one peer may receive. Default 256.
    pub max_data_consumers_per_peer: usize,
    /// Bytes of a data channel's label, and of its protocol. Default 256.
    pub max_data_label_bytes: usize,
    /// Receivers served by one router; more go to a router on another worker, where there is one. Default 500.
    pub receivers_per_router: usize,
    /// Consumers of one router from which on receivers go to another, where there is one. Default 2,000.
    pub consumers_per_router: usize,
    /// How long the room waits for the tracks of a publisher that came back, in milliseconds, before
    /// another publisher is shown. Default 3,000.
    pub takeover_wait_ms: u64,
    /// How long a conversion outlives its last listener, in milliseconds. Default 5,000.
    pub convert_linger_ms: u64,
    /// How long a track stays piped to a worker where nobody watches it any more, in milliseconds. Default 5,000.
    pub pipe_linger_ms: u64,
    /// How often a refused conversion is asked for again while no other has ended, in milliseconds; when one
    /// ends, half a second later. Default 10,000.
    pub convert_retry_ms: u64,
    /// How long a conversion that failed is left alone, in milliseconds. Default 10,000.
    pub convert_failure_ms: u64,
    /// How long a peer may stay without a transport, in milliseconds. Default 15,000.
    pub join_timeout_ms: u64,
    /// How long a worker may take to answer, in milliseconds. Default 6,000: OBS gives a WHIP server eight seconds.
    pub request_timeout_ms: u64,
    /// Bytes that may wait to be written to one worker. Default 8,388,608.
    pub max_queued_bytes: usize,
    /// Requests that one worker may owe an answer. Default 16,384.
    pub max_pending_requests: usize,
    /// Frames that may wait between a worker and a conversion, each way. Default 256.
    pub convert_lane: usize,
    /// How long an output of a room's mix outlives its last listener, and the mix its last output, in milliseconds.
    /// Default 5,000.
    pub mix_linger_ms: u64,
    /// Packets that may wait between a worker and a room's mix, each way. Default 512.
    pub mix_lane: usize,
    /// How loud a voice is that always counts as one, in dBov; a softer one counts where it stands out from the noise of
    /// its line. Default -50.
    pub speaker_dbov: i8,
    /// How long somebody has to be the loudest to be the speaker after another, in milliseconds. Default 800.
    pub speaker_lead_ms: u32,
    /// How long the picture of a speaker stays at least when somebody else speaks, in milliseconds. Default 2,000.
    pub speaker_hold_ms: u64,
    /// How long somebody who follows the program is shown nothing before a slate is shown, in milliseconds; 0: no slate
    /// ever. Default 1,000.
    pub slate_after_ms: u64,
    /// Codecs that the room protocols offer, preferred ones first: `opus`, `g722`, `pcma`, `pcmu`, `vp8`, `h264`, `vp9`,
    /// `av1`. Default: all, in this order; those of `video_codecs` come before other pictures.
    pub codecs: Vec<RoomCodec>,
    /// Codecs of pictures that publishers are asked for first where they offer several: `h264` (its constrained
    /// baseline before other profiles), `vp8`, `vp9`, `av1`. For rooms that telephones with a screen may join,
    /// put `h264` there. Default none: what the publisher likes best.
    pub video_codecs: Vec<String>,
    /// Packets that may wait between two workers of a room, each way. Default 4,096.
    pub pipe_lane: usize,
}

impl Default for RoomsConfig {
    fn default() -> Self {
        RoomsConfig {
            max_rooms: 1_000,
            max_peers_per_room: 20_000,
            max_publishers_per_room: 100,
            max_viewers_per_room: 10_000,
            max_tracks_per_peer: 8,
            max_consumers_per_peer: 512,
            max_waiting_events: 1_024,
            max_app_data_bytes: 16_384,
            max_transports_per_peer: 4,
            max_data_producers_per_peer: 16,
            max_data_consumers_per_peer: 256,
            max_data_label_bytes: 256,
            receivers_per_router: 500,
            consumers_per_router: 2_000,
            takeover_wait_ms: 3_000,
            convert_linger_ms: 5_000,
            pipe_linger_ms: 5_000,
            convert_retry_ms: 10_000,
            convert_failure_ms: 10_000,
            join_timeout_ms: 15_000,
            request_timeout_ms: 6_000,
            max_queued_bytes: 8 << 20,
            max_pending_requests: 16_384,
            convert_lane: 256,
            mix_linger_ms: 5_000,
            mix_lane: 512,
            speaker_dbov: -50,
            speaker_lead_ms: 800,
            speaker_hold_ms: 2_000,
            slate_after_ms: 1_000,
            codecs: RoomCodec::ALL.to_vec(),
            video_codecs: Vec::new(),
            pipe_lane: 4_096,
        }
    }
}

impl RoomsConfig {
    /// What room protocols offer: each codec once, the pictures that publishers are asked for before the others.
    pub fn offered(&self) -> Vec<RoomCodec> {
        let asked = |codec: &RoomCodec| {
            self.video_codecs
                .iter()
                .position(|name| codec.name().eq_ignore_ascii_case(name))
                .unwrap_or(usize::MAX)
        };
        let mut offered: Vec<RoomCodec> = Vec::new();
        for codec in &self.codecs {
            if !offered.contains(codec) {
                offered.push(*codec);
            }
        }
        offered.sort_by_key(asked);
        offered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_that_are_asked_for_are_offered_first() {
        let codecs = vec![RoomCodec::Opus, RoomCodec::Vp8, RoomCodec::H264, RoomCodec::Vp8];
        let config = RoomsConfig { codecs, video_codecs: vec!["H264".into()], ..RoomsConfig::default() };
        assert_eq!(config.offered(), [RoomCodec::H264, RoomCodec::Opus, RoomCodec::Vp8]);
        assert_eq!(RoomsConfig::default().offered(), RoomCodec::ALL);
    }
}
