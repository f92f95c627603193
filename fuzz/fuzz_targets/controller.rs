//! See `viaduct::fuzzing::controller`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| viaduct::fuzzing::controller(data));
