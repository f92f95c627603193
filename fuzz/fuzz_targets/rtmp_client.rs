//! See `viaduct::fuzzing::rtmp_client`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| viaduct::fuzzing::rtmp_client(data));
