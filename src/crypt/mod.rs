//! Encryption at rest: keys, and what is sealed with them.
//!
//! Knows bytes and numbers, not frames: what is sealed at a *place*, a number and a kind, opens
//! there and nowhere else. Each epoch of a log, and each snapshot, has a cipher of its own, derived
//! from the key by HKDF-SHA256 (RFC 5869) with a salt that nobody had before; its number is the
//! nonce of AES-256-GCM (SP 800-38D). So no key meets a nonce twice as long as one epoch seals one
//! place of a kind once, whatever was cut, carried or restored from a copy.
//!
//! * I1. A salt is drawn for each epoch and each snapshot, and never used for another.
//! * I2. Key bytes are zeroized where they are kept, and appear in no `Debug` and no error.
//!
//! Without the feature `aead` nothing can be sealed: a [`Cipher`] cannot exist.

#[cfg(not(feature = "aead"))]
mod absent;
#[cfg(feature = "aead")]
mod aead;
#[cfg(feature = "aead")]
mod provider;

#[cfg(not(feature = "aead"))]
pub(crate) use absent::{ActiveKey, Cipher, Keys};
#[cfg(feature = "aead")]
pub(crate) use aead::{ActiveKey, Cipher, Keys};
#[cfg(feature = "aead")]
pub use provider::{Key, KeyProvider};

/// What sealing adds to a body, in bytes.
pub(crate) const TAG_BYTES: usize = 16;
/// Bytes of a proof that a header was made with a key.
pub(crate) const CHECK_BYTES: usize = 16;

/// What a cipher is derived for.
#[cfg_attr(not(feature = "aead"), expect(dead_code, reason = "nothing is sealed"))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context {
    pub(crate) purpose: Purpose,
    pub(crate) salt: [u8; 16],
    pub(crate) log_id: [u8; 16],
    /// The epoch, or the LSN of a snapshot.
    pub(crate) number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Frames,
    Snapshot,
}

/// Where something is sealed.
#[cfg_attr(not(feature = "aead"), expect(dead_code, reason = "nothing is sealed"))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// An LSN, or the number of a chunk.
    pub(crate) number: u64,
    /// Bytes of the body, the tag included.
    pub(crate) len: u32,
    /// The kind in the low four bits, which are part of the nonce, and flags in the high ones.
    pub(crate) kind: u8,
}
