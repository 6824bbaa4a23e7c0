//! The registry of a shard's series, and the in-memory index over it.
//!
//! A series gets a dense [`Ordinal`] when its labels are first seen, in log order, hence the same on all replicas.
//! Samples in batches and in the memtable name ordinals only; segments hold labels and no ordinals at all. Labels are held
//! as numbers (see `series_index::label_store`).
//!
//! **Generations.** Ordinals live as long as the registry's generation. A flush may start a new one, with an empty
//! registry: from the next log entry on, batches that name ordinals of the old generation get `StaleRegistry`, and
//! routers send labels again for the series that are alive. Series that nobody writes to any more are thereby
//! forgotten, without any replica having to work out, at the same log position, which series its segments still
//! hold. The old registry goes when the memtables that use it are flushed.
//!
//! **Index.** Writes pay nothing for it: a reader or a flush that needs it extends it to the ordinals registered
//! since (see `series_index::live`). It answers matchers and gives the order in which series are visited.
//!
//! On disk the registry is a list of files that each hold a run of ordinals (see `series_index::file`).

mod file;
mod label_store;
mod live;

use std::sync::Arc;

use hashbrown::HashTable;
use protocol::ids::{Ordinal, SeriesId, TenantId};
use protocol::labels::Labels;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::append::{AppendVec, AppendView};
use label_store::{LabelStore, LabelStoreView};

pub use file::{decode_registry_file, encode_registry_file};
pub use label_store::{SeriesEntry, Symbol};
pub use live::LiveIndex;

/// The writer's side.
#[derive(Debug)]
pub struct Registry {
    generation: u64,
    tenants: AppendVec<TenantId>,
    series: LabelStore,
    by_labels: HashTable<Slot>,
    /// Seed of the hash over labels: part of the id of the first series. Routers make ids with a secret key, so no
    /// client can aim label sets at one place of the table; every replica has the same seed and files carry it.
    seed: u64,
    live: Arc<LiveIndex>,
}

/// A place of the table: growing it looks at no labels.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Half of the hash over the labels.
    tag: u32,
    ordinal: u32,
}

impl Slot {
    fn hash(self) -> u64 {
        // The table takes a slot's place from the low bits and its first comparison from the high ones.
        u64::from(self.tag).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// What a reader sees: the series registered when the view was taken.
#[derive(Clone, Debug)]
pub struct RegistryView {
    generation: u64,
    tenants: AppendView<TenantId>,
    series: LabelStoreView,
    seed: u64,
    live: Arc<LiveIndex>,
}

impl Registry {
    /// An empty registry.
    pub fn new(generation: u64) -> Self {
        Self {
            generation,
            tenants: AppendVec::default(),
            series: LabelStore::default(),
            by_labels: HashTable::new(),
            seed: 0,
            live: Arc::new(LiveIndex::default()),
        }
    }

    /// The generation that its ordinals belong to.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether no series is registered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tenant's number. Tenants enter the list with their first series and never without one: the list is part
    /// of the registry's files, and a batch that brings no series leaves nothing in them.
    fn tenant_number(&mut self, tenant: &TenantId) -> u32 {
        // A shard sees few tenants, and asks for new series only.
        let known = (0..self.tenants.len()).find(|&i| self.tenants.get(i) == Some(tenant));
        known.unwrap_or_else(|| {
            self.tenants.push(tenant.clone());
            self.tenants.len() - 1
        }) as u32
    }

    /// Tenants are few and share few label sets: they are compared, not hashed.
    fn slot(&self, label_bytes: &[u8], ordinal: u32) -> Slot {
        Slot { tag: (xxh3_64_with_seed(label_bytes, self.seed) >> 32) as u32, ordinal }
    }

    /// The ordinal of a series, if it has one.
    pub fn ordinal(&self, tenant: &TenantId, label_bytes: &[u8]) -> Option<Ordinal> {
        let wanted = self.slot(label_bytes, 0);
        let is_it = |slot: &Slot| {
            slot.tag == wanted.tag
                && self.series.get(slot.ordinal).is_some_and(|entry| {
                    self.tenants.get(entry.tenant() as usize) == Some(tenant) && entry.is(label_bytes)
                })
        };
        self.by_labels.find(wanted.hash(), is_it).map(|slot| Ordinal(slot.ordinal))
    }

    /// Gives a series an ordinal; one that has one keeps it. `id` seeds the table when it is the first one. The bytes
    /// are canonical labels, which whoever parsed the batch has checked.
    pub fn register(&mut self, tenant: &TenantId, id: SeriesId, label_bytes: &[u8]) -> Ordinal {
        if self.is_empty() {
            self.seed = id.0 as u64;
        }
        if let Some(ordinal) = self.ordinal(tenant, label_bytes) {
            return ordinal;
        }
        let tenant = self.tenant_number(tenant);
        let ordinal = u32::try_from(self.len()).expect("the series limit keeps ordinals within 32 bits");
        self.series.push(tenant, label_bytes, self.seed);
        let slot = self.slot(label_bytes, ordinal);
        self.by_labels.insert_unique(slot.hash(), slot, |slot| slot.hash());
        Ordinal(ordinal)
    }

    /// The index over the series.
    pub fn live(&self) -> &LiveIndex {
        &self.live
    }

    /// A view of the series so far.
    pub fn view(&self) -> RegistryView {
        RegistryView {
            generation: self.generation,
            tenants: self.tenants.view(),
            series: self.series.view(),
            seed: self.seed,
            live: Arc::clone(&self.live),
        }
    }

    /// Bytes that the registry takes, its index aside.
    fn own_bytes(&self) -> usize {
        self.series.bytes() + self.by_labels.allocation_size()
    }

    /// Bytes that the registry and its index take.
    pub fn bytes(&self) -> usize {
        self.own_bytes() + self.live.bytes()
    }

    /// Bytes that the registry and its index take once the index has all series: it grows when somebody asks it, as each
    /// flush does. Who lets series in for as long as an index is small has too many of them then.
    pub fn expected_bytes(&self) -> usize {
        let own = self.own_bytes();
        own + self.live.bytes().max(own * INDEX_PERCENT / 100)
    }
}

/// What an index of all series takes, in percent of their registry: measured under a flood of new series.
const INDEX_PERCENT: usize = 45;

impl RegistryView {
    /// The generation that its ordinals belong to.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether no series is registered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of an ordinal.
    pub fn entry(&self, ordinal: u32) -> Option<SeriesEntry<'_>> {
        self.series.get(ordinal)
    }

    /// What is known of an ordinal that a memtable of this generation names.
    pub fn series(&self, ordinal: u32) -> SeriesEntry<'_> {
        self.entry(ordinal).expect("memtables name registered ordinals only")
    }

    /// Labels of an ordinal that a memtable of this generation names. They are put together anew: ask once.
    pub fn labels(&self, ordinal: u32) -> Labels {
        self.series(ordinal).labels()
    }

    /// Name of a tenant's number.
    pub fn tenant(&self, number: u32) -> &TenantId {
        self.tenants.get(number as usize).expect("entries name listed tenants only")
    }

    /// The tenant's number, `None` when it never wrote here.
    pub fn tenant_number(&self, tenant: &TenantId) -> Option<u32> {
        self.tenants.iter().position(|t| t == tenant).map(|i| i as u32)
    }

    /// The index over the series.
    pub fn live(&self) -> &LiveIndex {
        &self.live
    }
}

#[cfg(test)]
mod tests;
