//! See `viaduct::fuzzing::srtp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| viaduct::fuzzing::srtp(data));
