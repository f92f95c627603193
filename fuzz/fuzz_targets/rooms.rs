//! See `viaduct::fuzzing::rooms`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| viaduct::fuzzing::rooms(data));
