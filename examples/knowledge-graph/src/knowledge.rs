//! [`Knowledge`]: the graph in memory.
//!
//! Owns what a change does to the graph, and knows nothing of logs. Applying the same changes to
//! equal graphs makes equal graphs.
//!
//! Invariants:
//! I1. A relation stands at both of its ends, and both exist.
//! I2. A change that does not fit changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::Change;

/// One end of a relation, as the other end sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// What the relation is.
    pub kind: String,
    /// The entity at the other end.
    pub entity: String,
}

impl Edge {
    fn new(kind: &str, entity: &str) -> Self {
        Self { kind: kind.to_owned(), entity: entity.to_owned() }
    }
}

/// What is known of an entity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entity {
    /// What it is.
    pub kind: String,
    /// What was observed about it.
    pub observations: BTreeSet<String>,
    /// Relations from it.
    pub relations: BTreeSet<Edge>,
    /// Relations to it.
    pub inbound: BTreeSet<Edge>,
}

/// Entities by name, with their observations and relations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Knowledge {
    entities: BTreeMap<String, Entity>,
}

impl Knowledge {
    /// The entity of this name.
    #[must_use]
    pub fn entity(&self, name: &str) -> Option<&Entity> {
        self.entities.get(name)
    }

    /// All entities, by name.
    pub fn entities(&self) -> impl Iterator<Item = (&str, &Entity)> {
        self.entities.iter().map(|(name, entity)| (name.as_str(), entity))
    }

    /// How many entities there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entities.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entities.is_empty()
    }

    /// The changes that make this graph out of an empty one.
    pub fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        let created = self.entities().map(|(entity, it)| Change::Create { entity, kind: &it.kind });
        let observed = self.entities().flat_map(|(entity, it)| {
            it.observations.iter().map(move |text| Change::Observe { entity, text })
        });
        let related = self.entities().flat_map(|(from, it)| {
            let edges = it.relations.iter();
            edges.map(move |edge| Change::Relate { from, kind: &edge.kind, to: &edge.entity })
        });
        // Both ends of a relation must be there before it is.
        created.chain(observed).chain(related)
    }

    /// The changes that make one entity of two: what is known of `source` is then known of
    /// `target`, and `source` is gone. Relations between the two become none.
    #[must_use]
    pub fn merging<'a>(source: &'a str, known: &'a Entity, target: &'a str) -> Vec<Change<'a>> {
        let other = |edge: &&Edge| edge.entity != source && edge.entity != target;
        let texts = known.observations.iter();
        let observe = texts.map(|text| Change::Observe { entity: target, text });
        let from = known.relations.iter().filter(other);
        let from =
            from.map(|edge| Change::Relate { from: target, kind: &edge.kind, to: &edge.entity });
        let to = known.inbound.iter().filter(other);
        let to = to.map(|edge| Change::Relate { from: &edge.entity, kind: &edge.kind, to: target });
        let gone = [Change::Delete { entity: source }];
        observe.chain(from).chain(to).chain(gone).collect()
    }

    /// Applies a change; false where it does not fit the graph, which stays as it is.
    pub fn apply(&mut self, change: &Change<'_>) -> bool {
        match *change {
            Change::Create { entity, kind } => {
                if self.entities.contains_key(entity) {
                    return false;
                }
                let new = Entity { kind: kind.to_owned(), ..Entity::default() };
                self.entities.insert(entity.to_owned(), new);
                true
            }
            Change::Observe { entity, text } => {
                let Some(entity) = self.entities.get_mut(entity) else { return false };
                entity.observations.insert(text.to_owned());
                true
            }
            Change::Forget { entity, text } => {
                let entity = self.entities.get_mut(entity);
                entity.is_some_and(|entity| entity.observations.remove(text))
            }
            Change::Relate { from, kind, to } => {
                if !self.entities.contains_key(to) {
                    return false;
                }
                let Some(owner) = self.entities.get_mut(from) else { return false };
                owner.relations.insert(Edge::new(kind, to));
                if let Some(other) = self.entities.get_mut(to) {
                    other.inbound.insert(Edge::new(kind, from));
                }
                true
            }
            Change::Unrelate { from, kind, to } => {
                let owner = self.entities.get_mut(from);
                if !owner.is_some_and(|owner| owner.relations.remove(&Edge::new(kind, to))) {
                    return false;
                }
                let other = self.entities.get_mut(to);
                other.is_some_and(|other| other.inbound.remove(&Edge::new(kind, from)))
            }
            Change::Delete { entity } => self.delete(entity),
        }
    }

    fn delete(&mut self, name: &str) -> bool {
        let Some(gone) = self.entities.remove(name) else { return false };
        for edge in &gone.relations {
            if let Some(other) = self.entities.get_mut(&edge.entity) {
                other.inbound.remove(&Edge::new(&edge.kind, name));
            }
        }
        for edge in &gone.inbound {
            if let Some(other) = self.entities.get_mut(&edge.entity) {
                other.relations.remove(&Edge::new(&edge.kind, name));
            }
        }
        true
    }
}
