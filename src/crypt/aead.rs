//! AES-256-GCM under keys that a provider gives out.

use std::fmt;

use aes_gcm::aead::{AeadInPlace, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::provider::{Key, KeyProvider};
use super::{CHECK_BYTES, Context, Place, Purpose, TAG_BYTES};
use crate::error::{Result, WalError};
use crate::sync::Arc;

const CONTEXT_BYTES: usize = 24;

/// A key and its id.
#[derive(Debug, Clone)]
pub(crate) struct ActiveKey {
    id: u32,
    key: Key,
}

impl ActiveKey {
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn cipher(&self, context: &Context) -> Arc<Cipher> {
        Arc::new(Cipher::derive(self.clone(), context))
    }
}

/// What seals and opens bodies, and proves headers.
pub(crate) struct Cipher {
    /// For the ciphers of the epochs after this one.
    key: ActiveKey,
    bodies: Aes256Gcm,
    headers: Zeroizing<[u8; 32]>,
    /// Log and epoch, or log and LSN of a snapshot.
    context: [u8; CONTEXT_BYTES],
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(..)")
    }
}

impl Cipher {
    fn derive(key: ActiveKey, of: &Context) -> Self {
        let mut context = [0; CONTEXT_BYTES];
        let (log_id, number) = context.split_at_mut(of.log_id.len());
        log_id.copy_from_slice(&of.log_id);
        number.copy_from_slice(&of.number.to_le_bytes());
        let derived = Hkdf::<Sha256>::new(Some(&of.salt), key.key.bytes());
        let expand = |label: &[u8]| {
            let mut bytes = Zeroizing::new([0; 32]);
            // Fails beyond 255 times the length of a hash, which this is one of.
            let expanded = derived.expand_multi_info(&[label, &context], bytes.as_mut());
            debug_assert!(expanded.is_ok(), "32 bytes are not too many");
            bytes
        };
        let [bodies, headers]: [&[u8]; 2] = match of.purpose {
            Purpose::Frames => [b"cohort-wal 1 frames", b"cohort-wal 1 segment header"],
            Purpose::Snapshot => [b"cohort-wal 1 chunks", b"cohort-wal 1 snapshot header"],
        };
        let (bodies, headers) = (expand(bodies), expand(headers));
        Self { key, bodies: Aes256Gcm::new((&*bodies).into()), headers, context }
    }

    /// The key that it was made with.
    pub(crate) fn key(&self) -> &ActiveKey {
        &self.key
    }

    /// Proves that who made `header` had the key.
    pub(crate) fn prove(&self, header: &[u8]) -> [u8; CHECK_BYTES] {
        let mut proof = [0; CHECK_BYTES];
        // A key of any length will do.
        if let Ok(mut mac) = <Hmac<Sha256> as Mac>::new_from_slice(&*self.headers) {
            mac.update(header);
            proof.copy_from_slice(&mac.finalize().into_bytes()[..CHECK_BYTES]);
        }
        proof
    }

    /// Seals `body` in place; returns its tag. No allocation.
    #[inline]
    pub(crate) fn seal(&self, place: Place, body: &mut [u8]) -> [u8; TAG_BYTES] {
        let sealed = self.bodies.encrypt_in_place_detached(&nonce(place), &self.bound(place), body);
        // Fails beyond 2^36 bytes, which no body has: its length is a u32.
        debug_assert!(sealed.is_ok(), "a body is not too long");
        sealed.map_or([0; TAG_BYTES], Into::into)
    }

    /// Opens `body` in place; false where it was not sealed at this place, and then it is as it
    /// was.
    #[inline]
    pub(crate) fn open(&self, place: Place, body: &mut [u8], tag: &[u8]) -> bool {
        if tag.len() != TAG_BYTES {
            return false;
        }
        let (nonce, tag) = (nonce(place), Tag::from_slice(tag));
        self.bodies.decrypt_in_place_detached(&nonce, &self.bound(place), body, tag).is_ok()
    }

    /// What is authenticated besides the body.
    fn bound(&self, place: Place) -> [u8; CONTEXT_BYTES + 13] {
        let mut bound = [0; CONTEXT_BYTES + 13];
        let parts: [&[u8]; 4] =
            [&self.context, &place.number.to_le_bytes(), &place.len.to_le_bytes(), &[place.kind]];
        let bytes = parts.into_iter().flatten();
        bound.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        bound
    }
}

/// The number and the kind.
fn nonce(place: Place) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut nonce = [0; 12];
    let bytes = place.number.to_le_bytes().into_iter().chain([place.kind & 0x0F]);
    nonce.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    nonce.into()
}

/// The keys of a log, if it has any.
#[derive(Clone, Default)]
pub(crate) struct Keys {
    pub(crate) provider: Option<Arc<dyn KeyProvider>>,
    /// Whether what is plain was never a part of the log.
    pub(crate) required: bool,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "Keys(..)" } else { "none" })
    }
}

impl Keys {
    /// Whether what is written from now on is encrypted.
    pub(crate) fn is_on(&self) -> bool {
        self.provider.is_some()
    }

    /// Whether what is plain was never a part of the log.
    pub(crate) fn are_required(&self) -> bool {
        self.required
    }

    /// The key for what is written from now on, if that is encrypted.
    pub(crate) fn active(&self) -> Result<Option<ActiveKey>> {
        let Some(provider) = &self.provider else { return Ok(None) };
        let id = provider.active();
        let why = "its provider has no key with the id that it calls active";
        let missing = WalError::InvalidOption { name: "encryption", why };
        provider.get(id).map(|key| Some(ActiveKey { id, key })).ok_or(missing)
    }

    /// The cipher that the key `id` makes; fails without that key.
    pub(crate) fn cipher(&self, id: u32, context: &Context) -> Result<Arc<Cipher>> {
        let key = self.provider.as_ref().and_then(|provider| provider.get(id));
        key.map(|key| ActiveKey { id, key }.cipher(context)).ok_or(WalError::WrongKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: Context =
        Context { purpose: Purpose::Frames, salt: [1; 16], log_id: [2; 16], number: 3 };
    const PLACE: Place = Place { number: 4096, len: 21, kind: 0x41 };

    fn cipher(byte: u8, context: Context) -> Cipher {
        Cipher::derive(ActiveKey { id: 1, key: Key::new([byte; 32]) }, &context)
    }

    #[test]
    fn what_is_sealed_opens_at_its_place_with_its_key_alone() {
        let sealer = cipher(9, CONTEXT);
        let mut body = *b"hello";
        let tag = sealer.seal(PLACE, &mut body);
        assert_ne!(&body, b"hello");
        let opens = |cipher: &Cipher, place: Place| {
            let mut copy = body;
            let opens = cipher.open(place, &mut copy, &tag);
            assert_eq!(copy == *b"hello", opens);
            assert_eq!(copy == body, !opens, "left as it was");
            opens
        };
        assert!(opens(&sealer, PLACE));
        assert!(opens(&cipher(9, CONTEXT), PLACE));
        assert!(!opens(&cipher(8, CONTEXT), PLACE));
        for other in [
            Context { purpose: Purpose::Snapshot, ..CONTEXT },
            Context { salt: [7; 16], ..CONTEXT },
            Context { log_id: [7; 16], ..CONTEXT },
            Context { number: 4, ..CONTEXT },
        ] {
            assert!(!opens(&cipher(9, other), PLACE));
        }
        for other in [
            Place { number: 4104, ..PLACE },
            Place { len: 22, ..PLACE },
            Place { kind: 0x42, ..PLACE },
            Place { kind: 0x51, ..PLACE },
        ] {
            assert!(!opens(&sealer, other));
        }
        assert!(!sealer.open(PLACE, &mut body.clone(), &tag[1..]));
    }

    #[test]
    fn kinds_have_nonces_of_their_own_and_flags_have_not() {
        let of = |kind| nonce(Place { kind, ..PLACE });
        assert_ne!(of(0x41), of(0x42));
        assert_eq!(of(0x41), of(0x51));
    }

    #[test]
    fn keys_and_nonces_never_show() {
        let shown = format!("{:?} {:?}", cipher(0xAB, CONTEXT), Key::new([0xAB; 32]));
        assert_eq!(shown, "Cipher(..) Key(..)");
        assert_eq!(cipher(1, CONTEXT).prove(b"a"), cipher(1, CONTEXT).prove(b"a"));
        assert_ne!(cipher(1, CONTEXT).prove(b"a"), cipher(1, CONTEXT).prove(b"b"));
        assert_ne!(cipher(1, CONTEXT).prove(b"a"), cipher(2, CONTEXT).prove(b"a"));
        struct None;
        impl KeyProvider for None {
            fn active(&self) -> u32 {
                5
            }
            fn get(&self, _id: u32) -> Option<Key> {
                Option::None
            }
        }
        let keys = Keys { provider: Some(Arc::new(None)), required: false };
        assert!(matches!(keys.active(), Err(WalError::InvalidOption { .. })));
        assert!(matches!(keys.cipher(5, &CONTEXT), Err(WalError::WrongKey)));
        assert!(Keys::default().active().unwrap().is_none());
    }
}
