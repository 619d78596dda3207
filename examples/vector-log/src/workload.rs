//! Points whose every bit follows from their numbers, so that whoever reads a log can tell what a
//! writer has put there and nothing else: for the program and its tests.

use std::panic::resume_unwind;
use std::thread;

use cohort_wal::WalStore;

use crate::collections::Collections;
use crate::error::Result;
use crate::log::VectorLog;
use crate::record::Batch;

/// Points of one batch of [`write()`].
pub const BATCH: u64 = 16;

/// The vector of a point.
pub fn vector(collection: u32, id: u64, dims: u32) -> impl Iterator<Item = f32> {
    let mut state = (u64::from(collection) << 40 ^ id).wrapping_add(1);
    (0..dims).map(move |_| {
        // The mixing step of SplitMix64.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let bytes = (mixed ^ mixed >> 27).to_le_bytes();
        f32::from(i16::from_le_bytes([bytes[6], bytes[7]])) / 32768.0
    })
}

/// The payload of a point.
#[must_use]
pub fn payload(collection: u32, id: u64) -> String {
    format!("{{\"collection\":{collection},\"point\":{id}}}")
}

/// Fills a batch, the `number`th of its collection, counted from 0.
pub fn fill(batch: &mut Batch, number: u64, dims: u32) {
    batch.clear();
    let mut floats = Vec::new();
    for id in number * BATCH..(number + 1) * BATCH {
        floats.clear();
        floats.extend(vector(batch.collection, id, dims));
        batch.push(id, &floats, payload(batch.collection, id).as_bytes());
    }
}

/// Writes batches of [`BATCH`] points into collections 0 to `threads`, each from a thread of its
/// own, from `first[thread]` on and before `end`. Calls `acknowledged` with the collection and the
/// number of each batch that is durable.
///
/// # Errors
/// The first error of any thread.
pub fn write<S: WalStore>(
    log: &VectorLog<S>,
    dims: u32,
    first: &[u64],
    end: u64,
    acknowledged: impl Fn(u32, u64) + Sync,
) -> Result<()> {
    let acknowledged = &acknowledged;
    thread::scope(|scope| {
        let writers = (0..).zip(first).map(|(collection, first)| {
            scope.spawn(move || {
                log.create(collection, dims, &format!("collection {collection}"))?;
                let mut batch = Batch::new(collection);
                for number in *first..end {
                    fill(&mut batch, number, dims);
                    log.upsert_many(&batch)?;
                    acknowledged(collection, number);
                }
                Ok(())
            })
        });
        let writers: Vec<_> = writers.collect();
        writers
            .into_iter()
            .try_for_each(|writer| writer.join().unwrap_or_else(|p| resume_unwind(p)))
    })
}

/// Whole batches of each of so many collections that [`write()`] has put there.
///
/// # Errors
/// What is there and should not be, or is not and should be.
pub fn held(collections: &Collections, threads: usize) -> std::result::Result<Vec<u64>, String> {
    let mut held = vec![0; threads];
    for (number, collection) in collections.iter() {
        let place = usize::try_from(number).ok().and_then(|number| held.get_mut(number));
        let place = place.ok_or_else(|| format!("collection {number} is nobody's"))?;
        for (expected, (id, point)) in (0..).zip(&collection.points) {
            let vector = vector(number, *id, collection.dims);
            if *id != expected
                || !vector.eq(point.vector.iter().copied())
                || point.payload != payload(number, *id).into_bytes()
            {
                return Err(format!("point {id} of collection {number}, in place of {expected}"));
            }
        }
        let points = collection.points.len() as u64;
        if !points.is_multiple_of(BATCH) {
            return Err(format!("half a batch in collection {number}: {points} points"));
        }
        *place = points / BATCH;
    }
    Ok(held)
}
