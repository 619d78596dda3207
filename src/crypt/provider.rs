//! Where keys come from.

use std::fmt;

use zeroize::Zeroizing;

use crate::sync::Arc;

/// A key of 256 bits. Where it is kept its bytes are overwritten when the last clone is dropped;
/// copies that a compiler leaves on a stack are beyond it. [`Debug`](fmt::Debug) does not show
/// them. Draw them from a random generator; a passphrase is no key.
#[derive(Clone)]
pub struct Key(Arc<Zeroizing<[u8; 32]>>);

impl Key {
    /// A key of these bytes. Overwrite your own copy.
    ///
    /// # Examples
    /// ```
    /// let key = cohort_wal::Key::new([7; 32]);
    /// assert_eq!(format!("{key:?}"), "Key(..)");
    /// ```
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Gives out keys: a keyring of your own, or what talks to one. Feature `aead`.
///
/// It is asked when a log is opened, when its key is [rotated](crate::Wal::rotate_key), and when a
/// reader comes to a segment or a snapshot; never per record. Truncations read, and wait for each
/// other while it is asked, so what takes long is better fetched beforehand. It must not call the
/// log.
///
/// # Examples
/// ```
/// use std::collections::HashMap;
/// use std::sync::Arc;
///
/// use cohort_wal::{Key, KeyProvider, MemStore, WalError, WalOptions};
///
/// struct Ring {
///     active: u32,
///     keys: HashMap<u32, Key>,
/// }
///
/// impl KeyProvider for Ring {
///     fn active(&self) -> u32 {
///         self.active
///     }
///
///     fn get(&self, id: u32) -> Option<Key> {
///         self.keys.get(&id).cloned()
///     }
/// }
///
/// # fn main() -> cohort_wal::Result<()> {
/// let ring = |id, byte| Arc::new(Ring { active: id, keys: [(id, Key::new([byte; 32]))].into() });
/// let store = MemStore::new();
/// let encrypted = WalOptions::new().encryption(ring(1, 7));
/// encrypted.clone().open_store(store.clone())?.append_and_sync(b"secret")?;
///
/// let other = WalOptions::new().encryption(ring(1, 8));
/// assert!(matches!(other.open_store(store.clone()), Err(WalError::WrongKey)));
/// let wal = encrypted.open_store(store)?;
/// assert_eq!(wal.iter()?.next().unwrap()?.data(), b"secret");
/// # Ok(())
/// # }
/// ```
pub trait KeyProvider: Send + Sync {
    /// The id of the key that is used for what is written from now on.
    fn active(&self) -> u32;

    /// The key with this id, `None` if there is none (any more).
    fn get(&self, id: u32) -> Option<Key>;
}
