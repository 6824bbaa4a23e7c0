//! Which shard owns which slot.
//!
//! Every series hashes into one of [`SLOT_COUNT`] slots, and the map says which shard each slot belongs to. The meta
//! group holds the map; routers and coordinators read a copy. Today it changes only when the cluster is made: every
//! shard gets an equal share. The version is there for the day when a shard is split, so that a copy can be told to be
//! old.
//!
//! Invariant: all slots have a shard, no slot belongs to the meta group, and every shard in `1..=shard_count` owns at
//! least one.

use protocol::ids::{META_GROUP, SLOT_COUNT, ShardId, SlotId};
use serde::{Deserialize, Serialize};

/// Shards of a cluster whose creator did not choose.
pub const DEFAULT_SHARDS: u16 = 16;

/// Most shards that a cluster may have.
pub const MAX_SHARDS: u16 = 512;

/// The assignment of slots to shards.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct ShardMap {
    version: u64,
    shard_count: u16,
    slots: Box<[ShardId]>,
}

/// Why an assignment is no shard map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShardMapError {
    /// Fewer than 1 or more than [`MAX_SHARDS`] shards.
    #[error("a cluster has 1 to {MAX_SHARDS} shards, not {0}")]
    ShardCount(usize),
    /// Not one shard a slot.
    #[error("a shard map has {SLOT_COUNT} slots, not {0}")]
    SlotCount(usize),
    /// A slot that belongs to the meta group, or a shard without slots below the highest one.
    #[error("shard {0} can not be in the map, or owns no slot")]
    Shard(ShardId),
}

impl ShardMap {
    /// The map of a new cluster: slots dealt out in turn.
    pub fn even(shards: u16) -> Result<Self, ShardMapError> {
        if shards == 0 || shards > MAX_SHARDS {
            return Err(ShardMapError::ShardCount(shards.into()));
        }
        let slots = (0..SLOT_COUNT).map(|slot| ShardId(1 + slot % shards)).collect();
        Ok(Self { version: 1, shard_count: shards, slots })
    }

    /// Counts the changes.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The shard of a slot.
    pub fn shard_of(&self, slot: SlotId) -> ShardId {
        self.slots[usize::from(slot.0 % SLOT_COUNT)]
    }

    /// Number of data shards.
    pub fn shard_count(&self) -> u16 {
        self.shard_count
    }

    /// The data shards, in order.
    pub fn shards(&self) -> impl DoubleEndedIterator<Item = ShardId> + ExactSizeIterator + use<> {
        let last = self.shard_count;
        (0..last).map(|index| ShardId(index + 1))
    }
}

impl std::fmt::Debug for ShardMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ShardMap {{ version: {}, shards: {} }}", self.version, self.shard_count)
    }
}

/// The map as it is written down.
#[derive(Serialize, Deserialize)]
struct Parts {
    version: u64,
    slots: Vec<ShardId>,
}

impl From<ShardMap> for Parts {
    fn from(map: ShardMap) -> Self {
        Self { version: map.version, slots: map.slots.into_vec() }
    }
}

impl TryFrom<Parts> for ShardMap {
    type Error = ShardMapError;

    fn try_from(parts: Parts) -> Result<Self, ShardMapError> {
        if parts.slots.len() != usize::from(SLOT_COUNT) {
            return Err(ShardMapError::SlotCount(parts.slots.len()));
        }
        let shard_count = parts.slots.iter().map(|shard| shard.0).max().unwrap_or(0);
        if shard_count == 0 || shard_count > MAX_SHARDS {
            return Err(ShardMapError::ShardCount(shard_count.into()));
        }
        let mut owns = vec![false; usize::from(shard_count) + 1];
        for shard in &parts.slots {
            owns[usize::from(shard.0)] = true;
        }
        if owns[usize::from(META_GROUP.0)] {
            return Err(ShardMapError::Shard(META_GROUP));
        }
        if let Some(index) = owns.iter().skip(1).position(|owns| !owns) {
            return Err(ShardMapError::Shard(ShardId(index as u16 + 1)));
        }
        Ok(Self { version: parts.version, shard_count, slots: parts.slots.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_map_gives_every_shard_its_share() {
        let map = ShardMap::even(16).expect("16 is allowed");
        for shard in map.shards() {
            let slots = (0..SLOT_COUNT).filter(|&slot| map.shard_of(SlotId(slot)) == shard).count();
            assert_eq!(slots, 256, "shard {shard}");
        }
        assert_eq!(map.shards().len(), 16);
        assert_eq!(map.shards().next(), Some(ShardId(1)));
        assert_eq!(map.shards().next_back(), Some(ShardId(16)));
    }

    #[test]
    fn a_map_survives_being_written_down() {
        let map = ShardMap::even(3).expect("3 is allowed");
        let text = serde_json::to_string(&map).expect("a map is plain data");
        assert_eq!(serde_json::from_str::<ShardMap>(&text).expect("own text"), map);
    }

    #[test]
    fn wrong_maps_are_refused() {
        assert_eq!(ShardMap::even(0), Err(ShardMapError::ShardCount(0)));
        assert_eq!(ShardMap::even(513), Err(ShardMapError::ShardCount(513)));
        let parse = |slots: Vec<ShardId>| ShardMap::try_from(Parts { version: 1, slots });
        assert_eq!(parse(vec![ShardId(1)]), Err(ShardMapError::SlotCount(1)));
        let mut slots = vec![ShardId(1); usize::from(SLOT_COUNT)];
        slots[7] = META_GROUP;
        assert_eq!(parse(slots.clone()), Err(ShardMapError::Shard(META_GROUP)));
        slots[7] = ShardId(3);
        assert_eq!(parse(slots), Err(ShardMapError::Shard(ShardId(2))));
    }
}
