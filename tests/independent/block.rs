//! Blocks, and the slots of CONTROL.

use super::{Files, Refusal, crc, number};

/// The fields that all major versions share, believed.
pub(crate) fn block<'a>(
    file: &'a [u8],
    at: usize,
    magic: &[u8],
    name: &str,
) -> Result<&'a [u8], Refusal> {
    let damage = |why| Err(Refusal::Damage(name.to_owned(), why));
    let Some(block) = file.get(at..at + 512) else { return damage("too short") };
    if !block.starts_with(magic) {
        return damage("foreign");
    }
    if crc(&[&block[..508]]) != number(block, 508, 4) {
        return damage("its checksum is wrong");
    }
    if number(block, 8, 2) != 1 || number(block, 12, 4) != 0 {
        return Err(Refusal::Newer(name.to_owned()));
    }
    Ok(block)
}

/// One of two blocks that may each be bad; one of a newer version is none of the bad ones.
pub(crate) fn either<'a>(
    file: &'a [u8],
    magic: &[u8],
    name: &str,
) -> Result<Vec<&'a [u8]>, Refusal> {
    let blocks = [0, 4096].map(|at| block(file, at, magic, name));
    let newer = blocks.iter().find(|block| matches!(block, Err(Refusal::Newer(_))));
    if let Some(Err(newer)) = newer {
        return Err(newer.clone());
    }
    let good: Vec<_> = blocks.iter().filter_map(|block| block.as_ref().ok().copied()).collect();
    match blocks {
        [Err(why), Err(_)] => Err(why),
        _ => Ok(good),
    }
}

/// A slot of CONTROL.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot<'a>(pub(crate) &'a [u8]);

impl<'a> Slot<'a> {
    pub(crate) fn generation(&self) -> u64 {
        number(self.0, 16, 8)
    }

    pub(crate) fn log_id(&self) -> &'a [u8] {
        &self.0[24..40]
    }

    pub(crate) fn newest_seq(&self) -> u64 {
        number(self.0, 40, 8)
    }

    pub(crate) fn head(&self) -> u64 {
        number(self.0, 48, 8)
    }

    pub(crate) fn snapshot(&self) -> Option<u64> {
        Some(number(self.0, 56, 8)).filter(|lsn| *lsn != u64::MAX)
    }

    pub(crate) fn durable(&self) -> u64 {
        number(self.0, 64, 8)
    }

    pub(crate) fn is_closed(&self) -> bool {
        number(self.0, 72, 4) & 1 != 0
    }
}

/// The slot of CONTROL that counts.
pub(crate) fn control(files: &Files) -> Result<Slot<'_>, Refusal> {
    let damage = |why| Err(Refusal::Damage("CONTROL".to_owned(), why));
    let Some(file) = files.get("CONTROL") else {
        return match files.keys().any(|name| name.ends_with(".wal") || name.ends_with(".snap")) {
            true => damage("it is missing"),
            false => Err(Refusal::NoLog),
        };
    };
    let slots: Vec<_> = either(file, b"COHRTCTL", "CONTROL")?.into_iter().map(Slot).collect();
    if let [a, b] = &slots[..] {
        let same = a.generation() == b.generation();
        if a.log_id() != b.log_id() || same && a.0[24..508] != b.0[24..508] {
            return damage("its slots contradict each other");
        }
    }
    let Some(slot) = slots.into_iter().max_by_key(Slot::generation) else {
        return damage("no slot");
    };
    let (head, durable) = (slot.head(), slot.durable());
    let possible = head % 8 == 0 && durable % 8 == 0 && head <= durable && durable < 1 << 62;
    if !possible || slot.generation() >= (1 << 63) - 1 {
        return damage("it says what cannot be");
    }
    Ok(slot)
}
