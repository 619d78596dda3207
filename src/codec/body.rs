//! The payload of a record while somebody writes it, piece by piece, into the unit that it is
//! framed in.
//!
//! Nobody knows its length before. It takes what the limit and memory allow, and counts the rest,
//! so that the error for a record that is too large can say how large it is.

use crate::error::{Result, WalError};

/// A payload that is being written.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    bytes: &'a mut Vec<u8>,
    /// Where in them it starts.
    start: usize,
    max: u64,
    /// Bytes put so far, stored or not.
    len: u64,
    /// A length up to which everything is stored, without asking for memory.
    room: u64,
}

impl<'a> Body<'a> {
    /// A payload of up to `max_record` bytes at the end of `bytes`.
    pub(super) fn new(bytes: &'a mut Vec<u8>, max_record: u32) -> Self {
        Self { start: bytes.len(), bytes, max: max_record.into(), len: 0, room: 0 }
    }

    /// Adds a piece. If it does not fit, it and all behind it are counted and not stored; that is
    /// for [`finish`](Self::finish) to tell.
    #[inline]
    pub(crate) fn put(&mut self, piece: &[u8]) {
        self.len = self.len.saturating_add(piece.len() as u64);
        if self.len <= self.room || self.grow(piece.len()) {
            self.bytes.extend_from_slice(piece);
        }
    }

    /// Makes room for the newest piece, of so many bytes; false if it is not to be stored.
    #[cold]
    fn grow(&mut self, bytes: usize) -> bool {
        let stored = self.bytes.len() - self.start;
        let complete = stored.saturating_add(bytes) as u64 == self.len;
        if !complete || self.len > self.max || self.bytes.try_reserve(bytes).is_err() {
            return false;
        }
        self.room = self.max.min((self.bytes.capacity() - self.start) as u64);
        true
    }

    /// Says whether everything that was put is there.
    pub(super) fn finish(self) -> Result<()> {
        let Self { len, max, room, .. } = self;
        if len > max {
            return Err(WalError::RecordTooLarge { len, max });
        }
        if len > room { Err(WalError::OutOfMemory) } else { Ok(()) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::codec::{Form, Unit, with_unit};

    #[test]
    fn a_record_is_the_same_whichever_way_it_is_written() {
        let encoded = |push: &dyn Fn(&mut Unit) -> Result<()>| {
            with_unit(|unit, _| {
                unit.push(&[b"before"], true, Form::plain(100)).unwrap();
                push(unit).unwrap();
                (unit.bytes().to_vec(), unit.records(), unit.last())
            })
        };
        for len in 0..40 {
            let payload: Vec<u8> = (0..len).collect();
            let pieces = encoded(&|unit| {
                unit.push_with(false, Form::plain(100), |body| {
                    payload.chunks(3).for_each(|piece| body.put(piece));
                    Ok(())
                })
            });
            assert_eq!(pieces, encoded(&|unit| unit.push(&[&payload], false, Form::plain(100))));
        }
    }

    #[test]
    fn pieces_are_stored_in_order_up_to_the_limit() {
        let mut bytes = b"before".to_vec();
        let mut body = Body::new(&mut bytes, 1_000);
        (0..=199).for_each(|byte| body.put(&[byte; 5]));
        body.put(&[]);
        body.finish().unwrap();
        assert_eq!(bytes[..6], *b"before");
        assert!(bytes[6..].iter().copied().eq((0..=199).flat_map(|byte| [byte; 5])));
    }

    #[test]
    fn what_is_above_the_limit_is_counted_to_its_end_and_not_stored() {
        let mut bytes = Vec::with_capacity(1 << 20);
        let mut body = Body::new(&mut bytes, 16);
        (0..1_000).for_each(|_| body.put(&[7; 10]));
        // It would fit, but not where it belongs.
        body.put(&[]);
        body.put(&[8; 1]);
        let refused = body.finish();
        assert!(matches!(refused, Err(WalError::RecordTooLarge { len: 10_001, max: 16 })));
        assert_eq!(bytes, [7; 10]);
    }
}
