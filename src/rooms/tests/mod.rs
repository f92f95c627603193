//! Sessions against scripted rooms: no socket, no worker, a clock moved by hand.

mod base;
mod lab;
mod v2;
mod v3;
