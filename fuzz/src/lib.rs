//! What the fuzz targets do with an input, without the fuzzer, so that an ordinary test can replay
//! what it has found.
//!
//! Five of the targets begin with a small healthy log every record of which is known ([`sample`]),
//! change its files as the input says, forge checksums where it asks for that, and let [`judge`]
//! decide. The sixth runs operations, crashes and faults over a simulated disk. A broken promise
//! is a panic.

#![allow(clippy::cast_possible_truncation, reason = "a 64-bit machine fuzzes")]

mod directory;
mod input;
mod judge;
#[allow(dead_code, reason = "the rig it belongs to asks it more")]
#[path = "../../crates/simulation/src/damage/layout.rs"]
mod layout;
mod operations;
mod patches;
mod sample;
mod seal;
mod shown;
mod store;

/// What a target does with an input.
pub type Target = fn(&[u8]);

/// All targets by name, as in `fuzz_targets`.
pub const TARGETS: [(&str, Target); 6] = [
    ("control", control),
    ("header", header),
    ("frame", frame),
    ("segment", segment),
    ("directory", directory),
    ("operations", operations),
];

/// Arbitrary bytes in CONTROL.
pub fn control(data: &[u8]) {
    patches::control(data);
}

/// Arbitrary bytes in the header of a segment.
pub fn header(data: &[u8]) {
    patches::header(data);
}

/// Arbitrary bytes at the boundary of a frame.
pub fn frame(data: &[u8]) {
    patches::frame(data);
}

/// Arbitrary bytes in place of a segment's frames.
pub fn segment(data: &[u8]) {
    patches::segment(data);
}

/// An arbitrary set of files.
pub fn directory(data: &[u8]) {
    directory::directory(data);
}

/// Operations, crashes and faults.
pub fn operations(data: &[u8]) {
    operations::operations(data);
}
