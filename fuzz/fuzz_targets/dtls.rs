//! See `viaduct::fuzzing::dtls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| viaduct::fuzzing::dtls(data));
