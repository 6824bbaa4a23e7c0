//! What a node does when its memory runs out: first it has memtables flushed, then it refuses writes, and at last what is
//! committed waits.
//!
//! Every replica bounds its own memory. A memtable leaves memory when its flush is done here, so what a replica holds
//! is what its own disk is behind; a follower may hold more than its leader, whose flushes the log dictates, and asks it
//! for one. What is committed must be applied in the end: where the budget is used up, [`wait_for_memory`] holds it back
//! while a flush under way here will free some. A leader refuses writes when its own memory is short, or that of most
//! replicas that would keep them: one slow replica does not slow a shard, a majority of them does.

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

/// Waits until there is memory for what is to be applied, as long as a flush of this store is under way. Without one
/// there is nothing to wait for: the entry that begins the next flush is among those that wait.
pub(crate) async fn wait_for_memory<E: Env>(store: &ShardStore<E::Fs>, memory: &MemoryLedger) {
    while memory.pressure() >= Pressure::Full && store.is_flushing() {
        E::Runtime::sleep(WAIT).await;
    }
}

impl<E: Env> Group<E> {
    /// Whether memory is too short for more writes: this node's, or that of most replicas.
    pub fn lacks_memory(&self) -> bool {
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
