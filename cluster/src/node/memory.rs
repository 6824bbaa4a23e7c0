//! What a node does when its memory runs out: first it has memtables flushed, then it refuses writes, and at last what is
//! committed waits.
//!
//! Every replica bounds its own memory. A memtable leaves memory when its flush is done here, so what a replica holds
//! is what its own disk is behind; a follower may hold more than its leader, whose flushes the log dictates, and asks it
//! for one. What is committed must be applied in the end: where the budget is used up, [`wait_for_memory`] holds it back
//! while a flush under way here will free some. A leader refuses writes when its own memory is short, or that of most
//! replicas that would keep them: one slow replica does not slow a shard, a majority of them does.
//!
//! What is registered of series stays in memory for an hour or more, and no flush frees it. So ever new series, were they
//! let in until memory is short, would keep everybody's queries and writes out long after they have ended. They may take
//! [`MAX_SERIES_PERCENT`] of the budget; then whatever names another one is refused, and the rest goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft_rt::AsyncRuntime;
use protocol::memory::{MemoryLedger, MemoryUse, Pressure};
use storage::engine::ShardStore;

use crate::env::{Env, detach};
use crate::node::Node;
use crate::shard::Group;

/// Pause between two looks at the ledger of whoever waits for memory.
const WAIT: Duration = Duration::from_millis(10);
/// How long a flush that frees memory may take to be committed.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// Below this share of the budget memtables are not what takes the memory: flushing them would help nobody.
const MIN_MEMTABLE_SHARE: u64 = 16;

/// Share of the budget that registries of series may take. The process is measured to hold as much again beside what they
/// count, and queries end at three quarters.
const MAX_SERIES_PERCENT: u64 = 20;

/// Waits until there is memory for what is to be applied, as long as a flush of this store is under way. Without one
/// there is nothing to wait for: the entry that begins the next flush is among those that wait.
pub(crate) async fn wait_for_memory<E: Env>(store: &ShardStore<E::Fs>, memory: &MemoryLedger) {
    while memory.pressure() >= Pressure::Full && store.is_flushing() {
        E::Runtime::sleep(WAIT).await;
    }
}

impl<E: Env> Group<E> {
    /// Whether memory is too short for a sub-batch: for any, or for the new series that it names.
    pub fn lacks_memory_for(&self, store: &ShardStore<E::Fs>, sub_batch: &[u8]) -> bool {
        let memory = &self.context.config.memory;
        let of_series = u128::from(memory.used_for(MemoryUse::Series)) * 100;
        let is_crowded = of_series >= u128::from(memory.budget()) * u128::from(MAX_SERIES_PERCENT);
        self.lacks_memory() || (is_crowded && store.brings_series(sub_batch))
    }

    /// Whether memory is too short for more writes: this node's, or that of most replicas.
    fn lacks_memory(&self) -> bool {
        if self.context.config.memory.pressure() >= Pressure::Writes {
            return true;
        }
        let short = self.context.pulses.short_of_memory();
        if short.is_empty() {
            return false;
        }
        let voters = self.place().voters;
        voters.iter().filter(|replica| short.contains(&replica.node())).count() * 2 > voters.len()
    }
}

impl<E: Env> Node<E> {
    /// Under pressure: has the shard flushed whose memtable is the largest here.
    pub(super) fn relieve_memory(self: &Arc<Self>) {
        let memory = &self.context.config.memory;
        let in_memtables = memory.used_for(MemoryUse::Memtables);
        if memory.pressure() < Pressure::Flush || in_memtables < memory.budget() / MIN_MEMTABLE_SHARE {
            return;
        }
        let largest = self.all_groups().into_iter().filter_map(|group| {
            let store = &group.shard.as_ref()?.store;
            let bytes = store.stats().memtable_bytes;
            (bytes > 0 && !store.is_flushing()).then_some((bytes, group.id))
        });
        let Some((bytes, shard)) = largest.max() else { return };
        if self.context.relieving.swap(true, Ordering::AcqRel) {
            return;
        }
        let node = self.clone();
        detach::<E>(async move {
            tracing::info!(%shard, bytes, "memory is short: asking for a flush");
            if let Err(reason) = node.ask_flush(shard, false, FLUSH_TIMEOUT).await {
                tracing::warn!(%shard, reason, "a flush could not be begun");
            }
            node.context.relieving.store(false, Ordering::Release);
        });
    }
}
