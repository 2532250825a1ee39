//! `lifeboat_fuzz::script` under the engine.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lifeboat_fuzz::script(bytes));
