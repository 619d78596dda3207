//! [`Block`]: the memory that a file is read into, and [`Body`]: a piece of it, lent.
//!
//! With the feature `bytes` a block is counted by reference: who was lent a body may keep a share
//! of the block. A block that is shared is never written again, the next one takes its place; one
//! that is not is filled anew. So reading allocates as much with the feature as without it, unless
//! somebody keeps a share.

use std::fmt;
use std::ops::Deref;

pub(crate) use imp::{Block, Body};

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block").field("len", &self.bytes().len()).finish()
    }
}

impl Deref for Body<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.data()
    }
}

impl PartialEq for Body<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.data() == other.data()
    }
}

impl Eq for Body<'_> {}

#[cfg(not(feature = "bytes"))]
mod imp {
    use std::ops::Range;

    use crate::error::{Result, WalError};

    #[derive(Default)]
    pub(crate) struct Block(Vec<u8>);

    impl Block {
        #[inline]
        pub(crate) fn bytes(&self) -> &[u8] {
            &self.0
        }

        /// Moves the bytes in `kept` to the front and makes the block at least `len` bytes long;
        /// whatever follows them is to be overwritten. After an error nothing is kept.
        pub(crate) fn renew(&mut self, kept: Range<usize>, len: usize) -> Result<&mut [u8]> {
            self.0.copy_within(kept, 0);
            let more = len.saturating_sub(self.0.len());
            self.0.try_reserve_exact(more).map_err(|_| WalError::OutOfMemory)?;
            if more > 0 {
                self.0.resize(len, 0);
            }
            Ok(&mut self.0)
        }

        /// The bytes in `range`; none where it is not inside the block.
        #[inline]
        pub(crate) fn lend(&self, range: Range<usize>) -> Body<'_> {
            Body(self.0.get(range).unwrap_or_default())
        }
    }

    #[derive(Clone, Copy, Default)]
    pub(crate) struct Body<'a>(&'a [u8]);

    impl<'a> Body<'a> {
        #[inline]
        pub(crate) fn data(self) -> &'a [u8] {
            self.0
        }
    }
}

#[cfg(feature = "bytes")]
mod imp {
    use std::ops::{Deref, DerefMut, Range};

    use bytes::{Bytes, BytesMut};

    use crate::error::{Result, WalError};
    use crate::scan::BLOCK;

    #[derive(Default)]
    pub(crate) struct Block(Bytes);

    impl Block {
        #[inline]
        pub(crate) fn bytes(&self) -> &[u8] {
            &self.0
        }

        /// Moves the bytes in `kept` to the front and makes the block at least `len` bytes long;
        /// whatever follows them is to be overwritten. After an error nothing is kept.
        pub(crate) fn renew(&mut self, kept: Range<usize>, len: usize) -> Result<Renewed<'_>> {
            let old = std::mem::take(&mut self.0);
            let memory = if old.len() >= len && old.is_unique() {
                // PERF: takes the memory over, without an allocation (`tests/allocation.rs`).
                let mut memory = BytesMut::from(old);
                memory.copy_within(kept, 0);
                memory
            } else {
                let mut fresh = Vec::new();
                let len = len.max(old.len().min(BLOCK));
                fresh.try_reserve_exact(len).map_err(|_| WalError::OutOfMemory)?;
                fresh.extend_from_slice(old.get(kept).unwrap_or_default());
                fresh.resize(len, 0);
                BytesMut::from(Bytes::from(fresh))
            };
            Ok(Renewed { block: self, memory })
        }

        /// The bytes in `range`; none where it is not inside the block.
        #[inline]
        pub(crate) fn lend(&self, range: Range<usize>) -> Body<'_> {
            self.0.get(range).map(|data| Body { data, block: Some(&self.0) }).unwrap_or_default()
        }
    }

    /// A block that is being filled. It can be lent again when this is dropped.
    pub(crate) struct Renewed<'a> {
        block: &'a mut Block,
        memory: BytesMut,
    }

    impl Deref for Renewed<'_> {
        type Target = [u8];

        fn deref(&self) -> &[u8] {
            &self.memory
        }
    }

    impl DerefMut for Renewed<'_> {
        fn deref_mut(&mut self) -> &mut [u8] {
            &mut self.memory
        }
    }

    impl Drop for Renewed<'_> {
        fn drop(&mut self) {
            self.block.0 = std::mem::take(&mut self.memory).freeze();
        }
    }

    #[derive(Clone, Copy, Default)]
    pub(crate) struct Body<'a> {
        data: &'a [u8],
        /// What `data` is a part of.
        block: Option<&'a Bytes>,
    }

    impl<'a> Body<'a> {
        #[inline]
        pub(crate) fn data(self) -> &'a [u8] {
            self.data
        }

        /// The same bytes as a share of their block.
        pub(crate) fn to_bytes(self) -> Bytes {
            self.block.map(|block| block.slice_ref(self.data)).unwrap_or_default()
        }
    }
}
