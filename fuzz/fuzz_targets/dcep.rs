//! See `viaduct::fuzzing::dcep`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| viaduct::fuzzing::dcep(data));
