//! [`Collections`]: what the changes lead to.

use std::collections::BTreeMap;

use crate::record::Change;

/// Collections and their points, in memory: the part of a database that its files lack.
///
/// Changes may be applied again from any earlier one on, as long as all that follow are: they lead
/// to the same. So a replay may begin before what the files have captured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Collections(BTreeMap<u32, Collection>);

/// Points that are vectors of the same length.
#[derive(Debug, Clone, PartialEq)]
pub struct Collection {
    /// What people call it.
    pub name: String,
    /// Floats of a vector.
    pub dims: u32,
    /// The points by number.
    pub points: BTreeMap<u64, Point>,
}

/// A vector and what the database keeps beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Where it is.
    pub vector: Vec<f32>,
    /// What is kept with it.
    pub payload: Vec<u8>,
}

impl Collections {
    /// Does what a record says. Points of a collection that is not there are those of one that is
    /// dropped further on.
    pub fn apply(&mut self, change: &Change<'_>) {
        match *change {
            Change::Create { collection, dims, name } => {
                let same = |there: &&Collection| there.dims == dims && there.name == name;
                if self.0.get(&collection).filter(same).is_none() {
                    let (name, points) = (name.to_owned(), BTreeMap::new());
                    self.0.insert(collection, Collection { name, dims, points });
                }
            }
            Change::Drop { collection } => drop(self.0.remove(&collection)),
            Change::Upsert { collection, id, vector, payload } => {
                if let Some(there) = self.0.get_mut(&collection) {
                    let (vector, payload) = (vector.to_vec(), payload.to_vec());
                    there.points.insert(id, Point { vector, payload });
                }
            }
            Change::Delete { collection, id } => {
                if let Some(there) = self.0.get_mut(&collection) {
                    there.points.remove(&id);
                }
            }
            Change::Checkpoint { .. } => {}
        }
    }

    /// A collection.
    #[must_use]
    pub fn get(&self, collection: u32) -> Option<&Collection> {
        self.0.get(&collection)
    }

    /// All of them, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Collection)> {
        self.0.iter().map(|(collection, there)| (*collection, there))
    }
}
