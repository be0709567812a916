#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| segl_fuzz::answer(input));
