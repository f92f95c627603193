//! Tests of this module: no sockets, no sleeping, time moved by hand.

mod certificate;
mod channels;
mod dcep;
mod dtls12;
mod link;
mod sdp;
mod session;
mod stun;
