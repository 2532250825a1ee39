//! `lifeboat_fuzz::archive` under the engine.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lifeboat_fuzz::archive(bytes));
