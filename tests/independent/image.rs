//! Snapshots.

use super::block::{Slot, block};
use super::seal::Sealer;
use super::{Files, Keys, Refusal, crc, index, number};

/// The image of the snapshot that counts, with its LSN, if one does.
pub(crate) fn image(
    files: &Files,
    keys: &Keys,
    control: &Slot<'_>,
    encrypted: bool,
) -> Result<Option<(u64, Vec<u8>)>, Refusal> {
    let Some(lsn) = control.snapshot() else { return Ok(None) };
    let name = format!("{lsn:020}.snap");
    let damage = |why| Refusal::Damage(name.clone(), why);
    let file = files.get(&name).ok_or_else(|| damage("it is missing"))?;
    let header = block(file, 0, b"COHRTSNP", &name)?;
    if header[24..40] != *control.log_id() || number(header, 40, 8) != lsn {
        return Err(damage("of another log or place"));
    }
    let cipher = header[64];
    if cipher > 1 {
        return Err(Refusal::Newer(name));
    }
    if cipher == 0 && encrypted {
        return Err(Refusal::Tampered(lsn));
    }
    let (whole, end_tag) = match cipher {
        0 => file.split_at(file.len()),
        _ => file.split_at(file.len().saturating_sub(16)),
    };
    let end_at = whole.len().checked_sub(24).filter(|at| *at >= 512);
    let end_at = end_at.ok_or_else(|| damage("it has no end"))?;
    let end = &whole[end_at..];
    let (total, chunks) = (number(end, 8, 8), number(end, 16, 8));
    let long = u128::from(total) + 8 * u128::from(chunks) + 512 + 24;
    if number(end, 0, 4) != 0
        || sum(header, chunks, &end[..4], &[&end[8..], end_tag].concat()) != number(end, 4, 4)
        || long != whole.len() as u128
    {
        return Err(damage("its end"));
    }
    let sealer = sealer(header, keys, &name)?;
    if let Some(sealer) = &sealer
        && sealer.open(chunks, 2, 0, 2, end_tag).is_none()
    {
        return Err(Refusal::Tampered(lsn));
    }
    let (mut at, mut image) = (512, Vec::new());
    for nth in 0..chunks {
        let bytes = chunk(header, nth, whole, at).ok_or_else(|| damage("a chunk"))?;
        at += 8 + bytes.len();
        match &sealer {
            None => image.extend_from_slice(bytes),
            Some(sealer) => {
                let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let plain = sealer.open(nth, 1, len, 1, bytes).ok_or(Refusal::Tampered(lsn))?;
                image.extend_from_slice(&plain);
            }
        }
    }
    if at == end_at { Ok(Some((lsn, image))) } else { Err(damage("its chunks")) }
}

/// The checksum of a chunk, or of the end.
fn sum(header: &[u8], number: u64, len: &[u8], bytes: &[u8]) -> u64 {
    crc(&[&header[24..40], &header[40..48], &number.to_le_bytes(), len, bytes])
}

/// The bytes of a chunk that is whole.
fn chunk<'a>(header: &[u8], nth: u64, file: &'a [u8], at: usize) -> Option<&'a [u8]> {
    let start = file.get(at..at + 8)?;
    let len = number(start, 0, 4);
    let bytes = file.get(at + 8..at + 8 + index(len))?;
    let own = sum(header, nth, &start[..4], bytes) == number(start, 4, 4);
    (own && (1..=262_144).contains(&len)).then_some(bytes)
}

fn sealer(header: &[u8], keys: &Keys, name: &str) -> Result<Option<Sealer>, Refusal> {
    if header[64] == 0 {
        return Ok(None);
    }
    let id = u32::try_from(number(header, 68, 4)).unwrap_or(u32::MAX);
    let key = keys.get(&id).ok_or_else(|| Refusal::WrongKey(name.to_owned()))?;
    let sealer = Sealer::chunks(key, header);
    match sealer.proof(&header[..72]) == header[72..88] {
        true => Ok(Some(sealer)),
        false => Err(Refusal::WrongKey(name.to_owned())),
    }
}
