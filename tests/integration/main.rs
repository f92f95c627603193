//! Integration tests, one binary: the shape of the code, and whole pieces of the program together.

mod control_protocol;
mod fuzz_seeds;
mod layering;
