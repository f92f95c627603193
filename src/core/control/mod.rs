//! The main-thread half of the control protocol: rooms, their peers, and the Dispatcher that asks the
//! workers for everything. Doors (WHIP, WHEP, RTMP, ...) know [`Rooms`] and [`Peer`] and nothing below.
//!
//! Values only: `core/io/dispatcher.rs` moves the bytes and reads the clock.

mod asks;
pub mod calls;
mod config;
mod consume;
pub mod controller;
mod data;
pub mod dispatcher;
mod error;
mod events;
mod feeds;
mod handle;
mod jobs;
mod legs;
mod levels;
mod membership;
mod mix;
mod moderate;
pub mod netstring;
mod peer_events;
mod player;
mod program;
mod publish;
mod queue;
mod relocate;
mod rooms;
mod slack;
mod slate;
mod speaker;
mod spread;
mod state;
pub mod streams;
#[cfg(test)]
mod tests;
pub mod text;
mod timers;

pub use crate::core::message::{
    DtlsParameters, IceCandidate, IceParameters, SctpParameters, WebRtcOptions, WebRtcTransport,
};
pub use crate::core::plain::{PlainOptions, PlainRemote, PlainTransport, SdesKeys};
pub use calls::{CallError, CallEvent, CallInfo, CallState, Calls, Dial};
pub use config::RoomsConfig;
pub use consume::Consumed;
pub use data::{DataConsumed, DataInfo};
pub use error::{ControlError, JoinError, MoveError};
pub use events::{AllEvents, PeerInfo, RoomEvent, RoomEvents, TrackInfo};
pub use handle::{Peer, Produce};
pub use moderate::{ConsumerInfo, DataConsumerInfo, PeerDetail};
pub use peer_events::{PeerEvent, PeerEvents};
pub use queue::End;
pub use rooms::{Join, Rooms};
pub use streams::{StreamError, StreamInfo, Streams};
