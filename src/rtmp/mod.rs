//! RTMP: OBS, ffmpeg and whatever else publishes over the Real-Time Messaging Protocol (Adobe's specification 1.0,
//! "Enhanced RTMP" v2 for the codecs it names), plain and over TLS; and the same as a client, to push a room to another
//! server or to pull a stream from one.
//!
//! A connection is one value, [`RtmpSession`], from its first byte to its end. The main thread drives
//! it up to `publish` ([`io`]), asks the door who may come in, and hands value and socket to the worker
//! that owns the room. Over TLS the value is wrapped in a [`TlsSession`].
//!
//! | | done |
//! |---|---|
//! | handshake | simple; encoders that try the digest form fall back when the server's version is 0 |
//! | chunks | all header forms, 1- to 3-byte stream ids, extended timestamps, interleaving, abort |
//! | commands | connect, releaseStream, FCPublish, createStream, publish, FCUnpublish, closeStream, deleteStream |
//! | video | H.264 (classic and `avc1`), B-frames noticed and said |
//! | audio | AAC-LC (classic and `mp4a`), Opus (`Opus`) |
//! | other codecs | said in words, the track is left out |
//! | data | `onMetaData` and other data messages as JSON |
//! | play | refused in words |
//! | as a client | publish and play, both codecs of sound; redirects told; no authentication but the stream's name |

pub mod config;
pub mod demux;
pub mod egress;
pub mod error;
pub mod ingress;
pub mod io;
pub mod session;
pub mod wire;

pub use config::RtmpConfig;
pub use demux::{PublishRequest, Target, resolve};
pub use error::{Reject, RtmpError};
pub use session::RtmpSession;
pub use session::client::{RtmpClient, Wish};
pub use session::tls::TlsSession;
pub use wire::url::RtmpUrl;

#[cfg(test)]
mod tests;
