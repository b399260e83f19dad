#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sulcus_fuzz::targets::nnunet(data));
