//! Replies on their way to a client, who takes them when it likes.
//!
//! I1. Bytes are made of replies a piece at a time, as they are sent: values that a reply shares
//!     with the tables are not copied for a client that does not take them.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};

use crate::resp::Reply;

/// Bytes that are made at once, and the last reply of them as a whole.
const PIECE_BYTES: usize = 64 << 10;
/// Memory that an empty one keeps.
const KEPT_BYTES: usize = 16 << 10;
const KEPT_REPLIES: usize = 256;

/// Replies that may leave.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    replies: VecDeque<Reply>,
    /// Bytes of those before; the first `sent` have left.
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// Whether everything has left.
    pub(crate) fn is_empty(&self) -> bool {
        self.replies.is_empty() && self.bytes.is_empty()
    }

    /// Puts replies behind others.
    pub(crate) fn extend(&mut self, replies: impl Iterator<Item = Reply>) {
        self.replies.extend(replies);
    }

    /// Forgets everything: nobody is there to take it.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Sends what is taken, `at_most` so many bytes and a piece; returns how many.
    ///
    /// # Errors
    /// Those of `to`. What it has taken before is sent.
    pub(crate) fn send(&mut self, to: &mut impl Write, at_most: usize) -> (usize, io::Result<()>) {
        let mut taken = 0;
        while taken < at_most && self.fill() {
            match to.write(&self.bytes[self.sent..]) {
                Ok(sent) => {
                    self.sent += sent;
                    taken += sent;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return (taken, Err(error)),
            }
        }
        (taken, Ok(()))
    }

    /// Makes the next bytes if there are none; false at the end.
    fn fill(&mut self) -> bool {
        if self.sent < self.bytes.len() {
            return true;
        }
        self.bytes.clear();
        self.sent = 0;
        while self.bytes.len() < PIECE_BYTES {
            let Some(reply) = self.replies.pop_front() else { break };
            for held in reply.begin(&mut self.bytes).into_iter().rev() {
                self.replies.push_front(held);
            }
        }
        if self.bytes.is_empty() {
            self.bytes.shrink_to(KEPT_BYTES);
            self.replies.shrink_to(KEPT_REPLIES);
        }
        !self.bytes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Takes so many bytes of a call, and then none.
    struct Slow(Vec<u8>, usize);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(std::mem::take(&mut self.1));
            self.0.extend(&bytes[..taken]);
            if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn replies_leave_in_order_whatever_is_taken_at_once() {
        let large = || Reply::Bulk(Some(vec![b'x'; 30_000].into()));
        let array = || Reply::Array(vec![large(), Reply::Array(vec![large(), large()]), large()]);
        let replies = || [Reply::OK, array(), Reply::Array(Vec::new()), Reply::Integer(7)];
        let mut expected = Vec::new();
        fn whole(reply: Reply, to: &mut Vec<u8>) {
            reply.begin(to).into_iter().for_each(|held| whole(held, to));
        }
        replies().into_iter().for_each(|reply| whole(reply, &mut expected));
        for step in [1_000, 64 << 10, 1 << 20] {
            let (mut outbox, mut slow) = (Outbox::default(), Slow(Vec::new(), 0));
            outbox.extend(replies().into_iter());
            while !outbox.is_empty() {
                slow.1 = step;
                let (taken, sent) = outbox.send(&mut slow, usize::MAX);
                assert!(taken > 0 && sent.is_ok() == outbox.is_empty());
            }
            assert!(slow.0 == expected, "in steps of {step}");
        }
    }

    #[test]
    fn what_is_not_taken_is_not_copied() {
        let value: crate::db::Bytes = vec![b'x'; 1 << 20].into();
        let mut outbox = Outbox::default();
        let values = (0..1_000).map(|_| Reply::Bulk(Some(value.clone()))).collect();
        outbox.extend([Reply::Array(values)].into_iter());
        outbox.send(&mut Slow(Vec::new(), 10), usize::MAX).1.unwrap_err();
        assert!(outbox.bytes.capacity() < 4 << 20);
        let (taken, sent) = outbox.send(&mut io::sink(), 3 << 20);
        assert!(sent.is_ok() && (3 << 20..5 << 20).contains(&taken));
        outbox.send(&mut io::sink(), usize::MAX).1.unwrap();
        assert!(outbox.is_empty() && outbox.bytes.capacity() <= KEPT_BYTES);
        assert!(outbox.replies.capacity() <= KEPT_REPLIES);
    }
}
