//! Hands libFuzzer's inputs to [`cohort_wal_fuzz::operations`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cohort_wal_fuzz::operations(data));
