//! The registry of a shard's series, and the in-memory index over it.
//!
//! A series gets a dense [`Ordinal`] when its labels are first seen, in log order, hence the same on all replicas.
//! Samples in batches and in the memtable name ordinals only; segments hold labels and no ordinals at all.
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
mod live;

use std::sync::Arc;

use hashbrown::HashTable;
use protocol::ids::{Ordinal, SeriesId, TenantId};
use protocol::labels::Labels;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::append::{AppendVec, AppendView};

pub use file::{decode_registry_file, encode_registry_file};
pub use live::LiveIndex;

/// What the registry knows of a series.
#[derive(Clone, Debug)]
pub struct SeriesEntry {
    /// Position of the tenant in the registry's list.
    pub tenant: u32,
    /// Labels.
    pub labels: Labels,
}

/// The writer's side.
#[derive(Debug)]
pub struct Registry {
    generation: u64,
    tenants: AppendVec<TenantId>,
    entries: AppendVec<SeriesEntry>,
    by_labels: HashTable<u32>,
    /// Seed of the hash over labels: part of the id of the first series. Routers make ids with a secret key, so no
    /// client can aim label sets at one place of the table; every replica has the same seed and files carry it.
    seed: u64,
    label_bytes: usize,
    live: Arc<LiveIndex>,
}

/// What a reader sees: the series registered when the view was taken.
#[derive(Clone, Debug)]
pub struct RegistryView {
    generation: u64,
    tenants: AppendView<TenantId>,
    entries: AppendView<SeriesEntry>,
    seed: u64,
    live: Arc<LiveIndex>,
}

impl Registry {
    /// An empty registry.
    pub fn new(generation: u64) -> Self {
        Self {
            generation,
            tenants: AppendVec::default(),
            entries: AppendVec::default(),
            by_labels: HashTable::new(),
            seed: 0,
            label_bytes: 0,
            live: Arc::new(LiveIndex::default()),
        }
    }

    /// The generation that its ordinals belong to.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no series is registered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
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

    /// The ordinal of a series, if it has one.
    pub fn ordinal(&self, tenant: &TenantId, label_bytes: &[u8]) -> Option<Ordinal> {
        let is_it = |&ordinal: &u32| {
            self.entries.get(ordinal as usize).is_some_and(|entry| {
                entry.labels.as_bytes() == label_bytes
                    && self.tenants.get(entry.tenant as usize) == Some(tenant)
            })
        };
        self.by_labels.find(hash(self.seed, label_bytes), is_it).map(|&ordinal| Ordinal(ordinal))
    }

    /// Gives a series an ordinal; one that has one keeps it. `id` seeds the table when it is the first one. The bytes
    /// are canonical labels.
    pub fn register(&mut self, tenant: &TenantId, id: SeriesId, label_bytes: &[u8]) -> Ordinal {
        if self.entries.is_empty() {
            self.seed = id.0 as u64;
        }
        if let Some(ordinal) = self.ordinal(tenant, label_bytes) {
            return ordinal;
        }
        let tenant = self.tenant_number(tenant);
        let ordinal =
            u32::try_from(self.entries.len()).expect("the series limit keeps ordinals within 32 bits");
        let labels = Labels::from_canonical(label_bytes).expect("the batch was parsed, which checks labels");
        self.label_bytes += label_bytes.len() + 16;
        self.entries.push(SeriesEntry { tenant, labels });
        let (entries, seed) = (&self.entries, self.seed);
        let rehash = |&other: &u32| {
            let entry = entries.get(other as usize).expect("ordinals in the table are registered");
            hash(seed, entry.labels.as_bytes())
        };
        self.by_labels.insert_unique(hash(seed, label_bytes), ordinal, rehash);
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
            entries: self.entries.view(),
            seed: self.seed,
            live: Arc::clone(&self.live),
        }
    }

    /// Bytes that the registry takes, its index aside.
    pub fn bytes(&self) -> usize {
        self.entries.slot_bytes() + self.by_labels.allocation_size() + self.label_bytes
    }
}

/// Tenants are few and share few label sets: they are compared, not hashed.
fn hash(seed: u64, label_bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(label_bytes, seed)
}

impl RegistryView {
    /// The generation that its ordinals belong to.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no series is registered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What is known of an ordinal.
    pub fn entry(&self, ordinal: u32) -> Option<&SeriesEntry> {
        self.entries.get(ordinal as usize)
    }

    /// Labels of an ordinal that a memtable of this generation names.
    pub fn labels(&self, ordinal: u32) -> &Labels {
        &self.entry(ordinal).expect("memtables name registered ordinals only").labels
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
