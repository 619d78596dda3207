//! The records: a byte of kind, fields of fixed width in little-endian order, and what is left.
//!
//! A vector is the bytes of its floats one after another, as they are in the memory of most
//! machines: encoding and decoding one is a copy, and looking at one is not even that. The log
//! frames, checks and authenticates records, so there is no length, checksum or version here.

use cohort_wal::Lsn;

const CREATE: u8 = 1;
const DROP: u8 = 2;
const UPSERT: u8 = 3;
const DELETE: u8 = 4;
const CHECKPOINT: u8 = 5;

/// What a record says. It borrows from the record, which the log lends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change<'a> {
    /// There is a collection of vectors with so many dimensions. Again where there is one already:
    /// checkpoints say so, because the first time may be gone from the log.
    Create {
        /// Its number.
        collection: u32,
        /// Floats of a vector.
        dims: u32,
        /// What people call it.
        name: &'a str,
    },
    /// There is no such collection any more, and none of its points.
    Drop {
        /// Its number.
        collection: u32,
    },
    /// The point is this from now on, whatever it was.
    Upsert {
        /// Number of its collection.
        collection: u32,
        /// Number of the point.
        id: u64,
        /// Where it is.
        vector: Vector<'a>,
        /// What the database keeps beside it.
        payload: &'a [u8],
    },
    /// There is no such point any more.
    Delete {
        /// Number of its collection.
        collection: u32,
        /// Number of the point.
        id: u64,
    },
    /// Everything up to a record is in the files of the database.
    Checkpoint {
        /// That record.
        captured: Lsn,
        /// Version of the manifest that names those files.
        manifest: u64,
    },
}

impl<'a> Change<'a> {
    /// Appends the encoding to `record`.
    pub(crate) fn encode(&self, record: &mut Vec<u8>) {
        match *self {
            Self::Create { collection, dims, name } => {
                record.push(CREATE);
                record.extend_from_slice(&collection.to_le_bytes());
                record.extend_from_slice(&dims.to_le_bytes());
                record.extend_from_slice(name.as_bytes());
            }
            Self::Drop { collection } => {
                record.push(DROP);
                record.extend_from_slice(&collection.to_le_bytes());
            }
            Self::Upsert { collection, id, vector, payload } => {
                // A vector has as many floats as its collection has dimensions, a `u32`.
                let dims = u32::try_from(vector.dims()).unwrap_or(u32::MAX);
                record.push(UPSERT);
                record.extend_from_slice(&collection.to_le_bytes());
                record.extend_from_slice(&id.to_le_bytes());
                record.extend_from_slice(&dims.to_le_bytes());
                vector.encode(record);
                record.extend_from_slice(payload);
            }
            Self::Delete { collection, id } => {
                record.push(DELETE);
                record.extend_from_slice(&collection.to_le_bytes());
                record.extend_from_slice(&id.to_le_bytes());
            }
            Self::Checkpoint { captured, manifest } => {
                record.push(CHECKPOINT);
                record.extend_from_slice(&captured.get().to_le_bytes());
                record.extend_from_slice(&manifest.to_le_bytes());
            }
        }
    }

    /// What a record says; none that this program wrote if `None`.
    pub(crate) fn decode(record: &'a [u8]) -> Option<Self> {
        let (&kind, mut fields) = record.split_first()?;
        let fields = &mut fields;
        let change = match kind {
            CREATE => {
                let (collection, dims) = (u32(fields)?, u32(fields)?);
                let name = std::str::from_utf8(std::mem::take(fields)).ok()?;
                Self::Create { collection, dims, name }
            }
            DROP => Self::Drop { collection: u32(fields)? },
            UPSERT => {
                let (collection, id, dims) = (u32(fields)?, u64(fields)?, u32(fields)?);
                let bytes = usize::try_from(dims).ok()?.checked_mul(size_of::<f32>())?;
                let (floats, payload) = fields.split_at_checked(bytes)?;
                *fields = &[];
                Self::Upsert { collection, id, vector: Vector(Floats::Encoded(floats)), payload }
            }
            DELETE => Self::Delete { collection: u32(fields)?, id: u64(fields)? },
            CHECKPOINT => {
                Self::Checkpoint { captured: Lsn::new(u64(fields)?), manifest: u64(fields)? }
            }
            _ => return None,
        };
        fields.is_empty().then_some(change)
    }
}

fn u32(fields: &mut &[u8]) -> Option<u32> {
    let (bytes, rest) = fields.split_first_chunk()?;
    *fields = rest;
    Some(u32::from_le_bytes(*bytes))
}

fn u64(fields: &mut &[u8]) -> Option<u64> {
    let (bytes, rest) = fields.split_first_chunk()?;
    *fields = rest;
    Some(u64::from_le_bytes(*bytes))
}

/// The floats of a point: those of a caller, or those of a record, where they are.
#[derive(Debug, Clone, Copy)]
pub struct Vector<'a>(Floats<'a>);

#[derive(Debug, Clone, Copy)]
enum Floats<'a> {
    Given(&'a [f32]),
    Encoded(&'a [u8]),
}

impl<'a> Vector<'a> {
    /// These floats.
    #[must_use]
    pub fn new(floats: &'a [f32]) -> Self {
        Self(Floats::Given(floats))
    }

    /// How many there are.
    #[must_use]
    pub fn dims(&self) -> usize {
        match self.0 {
            Floats::Given(floats) => floats.len(),
            Floats::Encoded(bytes) => bytes.len() / size_of::<f32>(),
        }
    }

    /// Calls `f` with each float, in order. Makes no copy.
    pub fn for_each(&self, mut f: impl FnMut(f32)) {
        match self.0 {
            Floats::Given(floats) => floats.iter().for_each(|float| f(*float)),
            Floats::Encoded(bytes) => {
                let (floats, _) = bytes.as_chunks();
                floats.iter().for_each(|float| f(f32::from_le_bytes(*float)));
            }
        }
    }

    /// A copy of them.
    #[must_use]
    pub fn to_vec(&self) -> Vec<f32> {
        match self.0 {
            Floats::Given(floats) => floats.to_vec(),
            Floats::Encoded(bytes) => {
                let (floats, _) = bytes.as_chunks();
                floats.iter().map(|float| f32::from_le_bytes(*float)).collect()
            }
        }
    }

    /// Copies them in one pass, which the compiler makes a plain copy of where it is one.
    fn encode(&self, record: &mut Vec<u8>) {
        match self.0 {
            Floats::Given(floats) => {
                let start = record.len();
                record.resize(start + size_of_val(floats), 0);
                let (places, _) = record[start..].as_chunks_mut();
                for (place, float) in places.iter_mut().zip(floats) {
                    *place = float.to_le_bytes();
                }
            }
            Floats::Encoded(bytes) => record.extend_from_slice(bytes),
        }
    }
}

/// Bit by bit, so that no float is unequal to itself.
impl PartialEq for Vector<'_> {
    fn eq(&self, other: &Self) -> bool {
        let bits =
            |vector: &Self| vector.to_vec().into_iter().map(f32::to_bits).collect::<Vec<_>>();
        bits(self) == bits(other)
    }
}

/// Upserts that come back together or not at all, encoded one behind the other. Cleared and used
/// again, it allocates nothing.
#[derive(Debug, Clone)]
pub struct Batch {
    pub(crate) collection: u32,
    /// Floats of every vector in it, once there is one.
    pub(crate) dims: Option<usize>,
    /// Vectors of another length.
    pub(crate) misfits: usize,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Batch {
    /// An empty batch for a collection.
    #[must_use]
    pub fn new(collection: u32) -> Self {
        Self { collection, dims: None, misfits: 0, bytes: Vec::new(), ends: Vec::new() }
    }

    /// Adds a point.
    pub fn push(&mut self, id: u64, vector: &[f32], payload: &[u8]) {
        self.misfits += usize::from(*self.dims.get_or_insert(vector.len()) != vector.len());
        let (collection, vector) = (self.collection, Vector::new(vector));
        Change::Upsert { collection, id, vector, payload }.encode(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// Forgets the points, not the memory.
    pub fn clear(&mut self) {
        (self.dims, self.misfits) = (None, 0);
        self.bytes.clear();
        self.ends.clear();
    }

    /// Points in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True without points.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The records, in order.
    pub(crate) fn records(&self) -> Vec<&[u8]> {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_comes_back_and_no_part_of_one_passes_for_one() {
        let floats = [0.5, -0.0, f32::NAN, f32::MAX];
        let vector = Vector::new(&floats);
        let changes = [
            Change::Create { collection: 7, dims: 4, name: "" },
            Change::Drop { collection: 7 },
            Change::Upsert { collection: 7, id: 1 << 40, vector, payload: b"" },
            Change::Delete { collection: 7, id: u64::MAX },
            Change::Checkpoint { captured: Lsn::new(4096), manifest: 3 },
        ];
        for change in changes {
            let mut record = Vec::new();
            change.encode(&mut record);
            assert_eq!(Change::decode(&record), Some(change));
            for end in 0..record.len() {
                assert_eq!(Change::decode(&record[..end]), None, "{end} bytes of {change:?}");
            }
        }
        assert_eq!(Change::decode(&[9, 0, 0, 0, 0]), None, "an unknown kind");
        assert_eq!(Change::decode(&[DROP, 0, 0, 0, 0, 0]), None, "more than it says");
    }
}
