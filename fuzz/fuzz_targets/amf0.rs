//! See `viaduct::fuzzing::amf0`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| viaduct::fuzzing::amf0(data));
