//! See `viaduct::fuzzing::rtmp_chunk`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| viaduct::fuzzing::rtmp_chunk(data));
