//! See `viaduct::fuzzing::sip`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| viaduct::fuzzing::sip(data));
