//! The write stage: from the ring to the operating system.

use super::{Backing, Engine, Intent};
use crate::codec;
use crate::error::Result;
use crate::format::frame::{self, HEADER_BYTES};
use crate::format::{array, u32_at};
use crate::lsn::Place;
use crate::observe;
use crate::sync::{MutexGuard, Poll};

/// What the write-stage lock protects.
pub(super) struct Stage<T> {
    pub(super) backing: T,
    /// Bytes handed out to a large unit that was sealed and not written; a pad must cover them
    /// before anything above. Starts at `written`.
    pub(super) debt: Option<Debt>,
    /// No I/O any more.
    pub(super) closed: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Debt {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// How far a pass of the write stage got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrote {
    /// All that was published is written.
    All,
    /// The bound on unsynced bytes or segments is reached; a sync must come first.
    AtBound,
}

/// A debt is paid in pads of at most this many bytes.
const PAD_BYTES: u64 = 1 << 30;

impl<B: Backing> Engine<B> {
    /// Hands everything below `target` to the operating system, and whatever else is published.
    /// Fails with [`Truncated`](crate::WalError::Truncated) once the log was cut below it.
    pub(crate) fn flush_to(&self, target: Place) -> Result<()> {
        let is_written = || self.ring.written() >= target.lsn && self.tracker.era() == target.era;
        if is_written() {
            return Ok(());
        }
        self.backing.check()?;
        let poll = Poll::default();
        while !is_written() {
            let mut stage = self.stage.lock();
            // No cut is under way while the stage is held.
            self.tracker.check_place(target, self)?;
            if self.ring.written() >= target.lsn {
                break;
            }
            let wrote = self.write_out(&mut stage, Intent::Flush)?;
            let written = self.written();
            drop(stage);
            match wrote {
                Wrote::AtBound => self.wait_for_sync(written)?,
                // An appender below the target still copies; publishing wakes nobody.
                Wrote::All if written.lsn < target.lsn => poll.wait(),
                Wrote::All => {}
            }
        }
        Ok(())
    }

    /// Writes what is published when it begins. `written` moves to reservation boundaries only.
    /// After an error nothing is lost, or the log is poisoned.
    pub(super) fn write_out(
        &self,
        stage: &mut MutexGuard<'_, Stage<B::Stage>>,
        intent: Intent,
    ) -> Result<Wrote> {
        self.refuse_stage(stage)?;
        self.pay_debt(stage)?;
        // Fixed here, or appenders could keep a flush or a sync busy for ever.
        let published = self.ring.published();
        loop {
            let written = self.ring.written();
            if published == written {
                return Ok(Wrote::All);
            }
            let allowed = self.durable().saturating_add(self.max_unsynced);
            if written >= allowed {
                return Ok(Wrote::AtBound);
            }
            let limit = self.backing.limit(&stage.backing);
            let end = if published <= limit.min(allowed) {
                published
            } else {
                let (first, last) = self.boundaries(written, published, limit.min(allowed));
                if last > written {
                    last
                } else if first > limit && !self.backing.is_fresh(&stage.backing, written) {
                    if !self.begin_segment(stage)? {
                        return Ok(Wrote::AtBound);
                    }
                    continue;
                } else {
                    // One unit may pass the bound, and one larger than a segment fills its own.
                    first
                }
            };
            self.ring.lend(written, end, |parts| {
                self.in_stage("write", || {
                    observe::flush(written, end, || {
                        self.backing.write(&mut stage.backing, written, &parts, intent)
                    })
                })
            })?;
            self.ring.set_written(end);
            self.stats.flushes.add(1);
        }
    }

    /// Fails when the stage may not be worked in.
    pub(super) fn refuse_stage(&self, stage: &Stage<B::Stage>) -> Result<()> {
        if self.ring.flags() & crate::ring::POISONED != 0 {
            self.tracker.check()?;
        }
        if stage.closed { Err(crate::error::WalError::Closed) } else { Ok(()) }
    }

    /// Begins a new segment at `written`, unless the current one is empty; false when a sync must
    /// come first.
    pub(super) fn begin_segment(
        &self,
        stage: &mut MutexGuard<'_, Stage<B::Stage>>,
    ) -> Result<bool> {
        self.refuse_stage(stage)?;
        let (at, durable) = (self.ring.written(), self.durable());
        if self.backing.is_fresh(&stage.backing, at) {
            return Ok(true);
        }
        if self.backing.is_crowded(&stage.backing, durable) {
            return Ok(false);
        }
        self.in_stage("rotate", || {
            observe::rotate(at, || self.backing.rotate(&mut stage.backing, at, durable))
        })?;
        self.stats.rotations.add(1);
        Ok(true)
    }

    /// Covers the bytes of a large unit that was sealed but could not be written. Nothing above
    /// them is written before.
    fn pay_debt(&self, stage: &mut MutexGuard<'_, Stage<B::Stage>>) -> Result<()> {
        while let Some(debt) = stage.debt {
            // The rest of a cut pad is a pad as well.
            let len = match debt.end - debt.start {
                len if len <= PAD_BYTES => len,
                _ => PAD_BYTES - codec::LEAST_PAD,
            };
            // The epoch ends only when there is no debt any more, or with it.
            let (seed, cipher) = (self.sealing.seed(), self.sealing.cipher().clone());
            self.in_stage("write", || {
                let epoch = (seed, cipher.as_deref());
                codec::write_pad(epoch, debt.start, len, None, |offset, piece| {
                    let at = debt.start + offset;
                    self.backing.write(&mut stage.backing, at, &[piece], Intent::Flush)
                })
            })?;
            let paid = debt.start + len;
            stage.debt = (paid < debt.end).then_some(Debt { start: paid, end: debt.end });
            self.ring.set_written(paid);
        }
        Ok(())
    }

    /// The ends of units in `[written, published)`: the first one, and the last one that is at
    /// most `cap` (`written` if there is none).
    fn boundaries(&self, written: u64, published: u64, cap: u64) -> (u64, u64) {
        self.ring.lend(written, published, |parts| {
            let (mut first, mut last, mut at) = (None, written, written);
            while at < published && first.is_none_or(|_| at < cap) {
                let header = header_at(&parts, at - written);
                at += frame::frame_bytes(u64::from(u32_at(&header, 4)));
                if header[12] & frame::MORE != 0 {
                    continue;
                }
                first.get_or_insert(at);
                if at <= cap {
                    last = at;
                }
            }
            (first.unwrap_or(published), last)
        })
    }
}

/// The frame header at an offset of published bytes, which the ring's end may cut in two.
#[expect(clippy::cast_possible_truncation, reason = "the offset is inside the ring")]
fn header_at(parts: &[&[u8]; 2], offset: u64) -> [u8; HEADER_BYTES] {
    let (offset, split) = (offset as usize, parts[0].len());
    if offset >= split {
        return array(parts[1], offset - split);
    }
    let mut header = array(parts[0], offset);
    if let Some(missing @ 1..HEADER_BYTES) = (offset + HEADER_BYTES).checked_sub(split) {
        let first = &parts[0][offset..];
        header[..first.len()].copy_from_slice(first);
        header[first.len()..].copy_from_slice(&parts[1][..missing]);
    }
    header
}
