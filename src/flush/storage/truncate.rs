//! Where the log begins and ends: moving its head, and cutting it.

use std::path::PathBuf;

use super::{Covered, Storage, Writer};
use crate::crypt::{ActiveKey, Cipher};
use crate::error::{Result, WalError, discard};
use crate::flush::Backing;
use crate::format::name;
use crate::format::segment::{FIRST_FRAME, SegmentHeader};
use crate::segments::{Epoch, LiveSegment, begin_epoch, construct, create_failed, publish, random};
use crate::snapshot;
use crate::store::WalStore;
use crate::sync::Arc;

impl<S: WalStore> Storage<S> {
    /// Takes the segments that end at or below `head` out of the live chain and removes them.
    /// What cannot be removed is left for the next time, or the next open.
    pub(super) fn remove_below(&self, head: u64) -> Result<()> {
        let mut dead = self.dead.lock();
        {
            let mut live = self.live.lock();
            let ended = |pair: &&[Arc<LiveSegment<S::File>>]| pair[1].header.base <= head;
            let count = live.windows(2).take_while(ended).count();
            dead.extend(live.drain(..count));
        }
        while let Some(oldest) = dead.first() {
            oldest.remove(&*self.store)?;
            discard(dead.remove(0));
        }
        let counts = self.control.claim().snapshot;
        let mut images = self.dead_images.lock();
        images.retain(|lsn| *lsn != counts);
        while let Some(lsn) = images.first() {
            snapshot::remove(&*self.store, *lsn)?;
            images.remove(0);
        }
        Ok(())
    }

    /// A file without a name for an image, and how errors name it.
    pub(crate) fn create_image(&self, lsn: u64) -> Result<(S::File, PathBuf)> {
        let path = self.store.locate(&name::snapshot(lsn));
        let created = snapshot::guarded(|| self.store.create(0));
        let file = created.map_err(|error| create_failed(&path, error))?;
        Ok((file, path))
    }

    /// See [`Backing::move_head`].
    pub(super) fn begin_at(
        &self,
        head: u64,
        durable: u64,
        image: Option<&S::File>,
    ) -> Result<Result<()>> {
        let before = self.snapshot_lsn();
        if let Some(image) = image {
            let name = name::snapshot(head);
            let failed = |e| WalError::io_or_full("publish", &self.store.locate(&name), e);
            // DURABILITY: the image is durable. Until CONTROL names it, it is a leftover that the
            // next opening removes, and the snapshot before counts.
            self.store.publish(image, &name).map_err(failed)?;
            self.dead_images.lock().push(head);
        }
        self.dead_images.lock().extend(before.filter(|lsn| *lsn < head));
        // The newest segment may be one that no sync has covered yet. It has its name, durably,
        // so CONTROL may name it; and must, before those that it named are removed.
        let newest_seq = self.newest_seq();
        self.control.witness_both(|claim| {
            claim.head = head;
            claim.durable = durable;
            claim.newest_seq = newest_seq;
            if image.is_some() {
                claim.snapshot = head;
            } else if claim.snapshot < head {
                claim.snapshot = u64::MAX;
            }
        })?;
        // DURABILITY: both slots say so, and no loss of one brings the old head back, so from here
        // on a crash may find any of the dead segments there or not, and the snapshot before.
        Ok(self.remove_below(head))
    }

    /// See [`Backing::show_cut`].
    pub(super) fn show_end(&self, header: SegmentHeader) {
        let (mut dead, mut live) = (self.dead.lock(), self.live.lock());
        dead.extend(live.extract_if(.., |segment| segment.header.base >= header.base));
        live.push(LiveSegment::new(header));
    }

    /// See [`Backing::cut`].
    pub(super) fn end_at(
        &self,
        writer: &mut Writer<S::File>,
        at: u64,
        key: Option<ActiveKey>,
    ) -> Result<(Epoch, Covered<S::File>)> {
        // What a slot may say that could not be written may be refuted by a cut.
        self.control.complete()?;
        let previous = writer.active.header;
        let below = |segment: &&Arc<LiveSegment<S::File>>| segment.header.base < at;
        let prev_seq = self.live.lock().iter().rfind(below).map_or(0, |s| s.header.seq);
        let epoch = previous.epoch.checked_add(1).ok_or(WalError::LsnExhausted)?;
        let salt = random(&*self.store)?;
        let mut header =
            SegmentHeader { epoch, salt, prev_seq, ..self.next_header(&previous, at, at) };
        let same = writer.cipher.as_deref().map(Cipher::key);
        let sealing = begin_epoch(key.as_ref().or(same), &mut header);
        // DURABILITY: until it is published the new segment has no name, and a crash leaves the
        // log as it was, and a leftover.
        let file = construct(&*self.store, &header, self.segment_bytes)?;
        // DURABILITY: a crash inside leaves the old log, or the one that is cut: the segment is
        // the newest, and those with a base at or above its own are dead. CONTROL knows the old
        // newest one, and its watermark is clipped to the new base.
        publish(&*self.store, &file, &header)?;
        // DURABILITY: a crash between the slots leaves one that knows the new segment. There is
        // no way back from here, for want of space neither.
        self.control
            .witness_both(|claim| {
                claim.newest_seq = header.seq;
                claim.durable = at;
            })
            .map_err(WalError::for_good)?;
        let active = self.open_segment(header, file);
        let left = std::mem::replace(&mut writer.active, active);
        // All that is kept is durable.
        let synced = writer.unsynced.drain(..).map(|(segment, _)| segment).chain([left]).collect();
        (writer.filled, writer.cipher) = (FIRST_FRAME, sealing.cipher.clone());
        Ok((sealing, Covered { files: Vec::new(), newest_seq: header.seq, synced }))
    }
}
