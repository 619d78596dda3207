//! Keys, and what is sealed with them.

use std::fmt;

use aes_gcm::aead::{AeadInPlace, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::chain::Segment;
use super::frame::Frame;

/// The keys of an epoch, or of a snapshot.
pub(crate) struct Sealer {
    bodies: Aes256Gcm,
    headers: [u8; 32],
    /// Log and epoch, or log and LSN.
    context: Vec<u8>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

impl Sealer {
    /// That of an epoch.
    pub(crate) fn frames(key: &[u8; 32], segment: &Segment<'_>) -> Self {
        let context = [segment.log_id(), &segment.epoch().to_le_bytes()].concat();
        let labels = ["cohort-wal 1 frames", "cohort-wal 1 segment header"];
        Self::derive(key, segment.salt(), context, labels)
    }

    /// That of the snapshot with this header.
    pub(crate) fn chunks(key: &[u8; 32], header: &[u8]) -> Self {
        let labels = ["cohort-wal 1 chunks", "cohort-wal 1 snapshot header"];
        Self::derive(key, &header[48..64], header[24..48].to_vec(), labels)
    }

    fn derive(key: &[u8; 32], salt: &[u8], context: Vec<u8>, labels: [&str; 2]) -> Self {
        let prk = Hkdf::<Sha256>::new(Some(salt), key);
        let [bodies, headers] = labels.map(|label| {
            let (info, mut derived) = ([label.as_bytes(), &context].concat(), [0; 32]);
            assert!(prk.expand(&info, &mut derived).is_ok(), "32 bytes are few");
            derived
        });
        Self { bodies: Aes256Gcm::new(&bodies.into()), headers, context }
    }

    /// The first 16 bytes of a header's HMAC.
    pub(crate) fn proof(&self, header: &[u8]) -> [u8; 16] {
        let mut proof = [0; 16];
        if let Ok(mut mac) = <Hmac<Sha256> as Mac>::new_from_slice(&self.headers) {
            mac.update(header);
            proof.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        }
        proof
    }

    /// What a frame held before it was sealed.
    pub(crate) fn open_frame(&self, frame: &Frame<'_>) -> Option<Vec<u8>> {
        // A pad has the tag of nothing, and zeros.
        let sealed = if frame.kind == 2 { frame.body.get(..16)? } else { frame.body };
        let len = u32::try_from(frame.body.len()).ok()?;
        self.open(frame.lsn, frame.kind, len, frame.kind | frame.flags, sealed)
    }

    /// What was sealed: ciphertext and tag at a place.
    pub(crate) fn open(
        &self,
        number: u64,
        kind: u8,
        len: u32,
        kind_and_flags: u8,
        sealed: &[u8],
    ) -> Option<Vec<u8>> {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&number.to_le_bytes());
        nonce[8] = kind;
        let mut bound = self.context.clone();
        bound.extend_from_slice(&number.to_le_bytes());
        bound.extend_from_slice(&len.to_le_bytes());
        bound.push(kind_and_flags);
        assert_eq!(bound.len(), 37);
        let (ciphertext, tag) = sealed.split_last_chunk::<16>()?;
        let mut plain = ciphertext.to_vec();
        let nonce = Nonce::from_slice(&nonce);
        let opened =
            self.bodies.decrypt_in_place_detached(nonce, &bound, &mut plain, Tag::from_slice(tag));
        opened.is_ok().then_some(plain)
    }
}
