//! See `viaduct::fuzzing::rtcp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| viaduct::fuzzing::rtcp(data));
