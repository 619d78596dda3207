//! Hands libFuzzer's inputs to [`cohort_wal_fuzz::directory`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cohort_wal_fuzz::directory(data));
