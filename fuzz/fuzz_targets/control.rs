//! See `viaduct::fuzzing::control`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| viaduct::fuzzing::control(data));
