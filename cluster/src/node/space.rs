//! What a node does when its disk runs out: the oldest data goes, if it may, and at last writes are refused.
//!
//! **Limits on data.** A node may be told how many bytes its segments may take, and which share of the room that its disk
//! has for them: what is free and what its files take, those included that still have readers and go afterwards. (What
//! others keep on the disk is not this node's to make room for.) Where they outgrow that, it names a moment: what ends
//! before it has to go, the oldest of all its shards and signals alike, until the rest fits ([`evict_before`]). It tells
//! its peers with its pulse; the leader of a shard takes the latest moment of all who hold the shard and proposes to drop
//! what lies before it, as it does with what is past its retention. So all replicas drop the same, the smallest disk
//! decides, and a shard's leader need not be the node that is short.
//! A partition (a day of one signal) whose time is not over by cluster time never goes: where one day is too much, the
//! floor below is reached.
//!
//! **The floor.** While less than [`DataLimits::min_free_bytes`] of the disk is free, or less than [`MIN_FREE_PERCENT`] of
//! a small one, the node takes no writes: what is left is for flushes, merges and the log of what is under way. It says so
//! with its pulse, and is to lead no shard while others have room ([`crate::placement`]): they go on without its disk.

use std::sync::atomic::Ordering;

use storage::fs::{Fs, Space};

use crate::env::{Env, StepKind};
use crate::meta::ReplicaId;
use crate::node::Node;
use crate::shard::Group;

/// Share of a disk that is enough to be free for writes to be taken, however many bytes are asked for.
const MIN_FREE_PERCENT: u64 = 5;

/// What a node's segments may take, and what has to stay free.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DataLimits {
    /// Bytes; `None` for as many as there is room for.
    pub max_bytes: Option<u64>,
    /// Share, from 0 to 1, of what is free on the disk and what is theirs; `None` for all of it.
    pub max_disk_share: Option<f64>,
    /// Bytes below which no writes are taken. Of a small disk a share is enough.
    pub min_free_bytes: u64,
}

impl Default for DataLimits {
    fn default() -> Self {
        Self { max_bytes: None, max_disk_share: None, min_free_bytes: 2 << 30 }
    }
}

impl DataLimits {
    /// Bytes that segments may take on a disk where the files of all shards take so many.
    fn bytes(&self, on_disk: u64, space: &Space) -> Option<u64> {
        let room = on_disk.saturating_add(space.free_bytes);
        let by_share = self.max_disk_share.map(|share| (room as f64 * share) as u64);
        self.max_bytes.into_iter().chain(by_share).min()
    }

    /// Whether too little of the disk is free to take writes.
    fn is_full(&self, space: &Space) -> bool {
        let enough_percent = u128::from(space.total_bytes) * u128::from(MIN_FREE_PERCENT);
        space.free_bytes < self.min_free_bytes && u128::from(space.free_bytes) * 100 < enough_percent
    }
}

/// The moment before which segments have to go, so that those that stay take at most `limit` bytes. Each segment by the
/// last moment of which it may hold anything, and its bytes. Those that reach `now_ms` stay.
fn evict_before(mut segments: Vec<(i64, u64)>, limit: u64, now_ms: i64) -> Option<i64> {
    let used: u64 = segments.iter().map(|(_, bytes)| bytes).sum();
    let mut excess = used.checked_sub(limit).filter(|excess| *excess > 0)?;
    segments.sort_unstable();
    let mut moment = None;
    for (last_ms, bytes) in segments.into_iter().take_while(|(last_ms, _)| *last_ms < now_ms) {
        // All that end with the one that makes room enough go with it.
        if excess == 0 && moment.is_some_and(|before| last_ms >= before) {
            break;
        }
        moment = Some(last_ms.saturating_add(1));
        excess = excess.saturating_sub(bytes);
    }
    moment
}

impl<E: Env> Node<E> {
    /// Looks at the disk and at what the segments take of it.
    pub(super) async fn check_disk(&self) {
        let (fs, dir) = (self.context.env.fs().clone(), self.context.config.data_dir.clone());
        let space = self.context.env.run_step(StepKind::Transfer, move || fs.space(&dir)).await;
        let Ok(space) = space else { return };
        let is_full = self.context.config.data_limits.is_full(&space);
        if self.context.disk_full.swap(is_full, Ordering::AcqRel) != is_full {
            let free = space.free_bytes;
            match is_full {
                true => tracing::error!(free, "the disk is nearly full: no writes are taken"),
                false => tracing::info!(free, "the disk has space again"),
            }
            self.context.pulse_now.wake();
        }
        let moment = self.outgrown(&space);
        let known = self.context.evict_before_ms.swap(moment.unwrap_or(i64::MIN), Ordering::AcqRel);
        if let Some(before_ms) = moment.filter(|moment| *moment > known) {
            tracing::warn!(before_ms, "segments take more than they may: the oldest go");
            self.context.pulse_now.wake();
        }
    }

    /// The moment before which data has to go for this node's sake.
    fn outgrown(&self, space: &Space) -> Option<i64> {
        let limits = &self.context.config.data_limits;
        if (limits.max_bytes.is_none() && limits.max_disk_share.is_none()) || !self.context.has_cluster_time()
        {
            return None;
        }
        let (mut segments, mut on_disk) = (Vec::new(), 0);
        for group in self.all_groups() {
            let Some(shard) = &group.shard else { continue };
            on_disk += shard.store.file_bytes();
            let of_shard = shard.store.segments();
            segments.extend(of_shard.iter().map(|segment| (segment.last_ms(), segment.file.len_bytes)));
        }
        let now_ms = self.context.clock.now_ms(self.context.env.now_ms());
        evict_before(segments, limits.bytes(on_disk, space)?, now_ms)
    }

    /// The latest moment before which data has to go for the sake of somebody who holds the group. Asked often: mostly
    /// nobody wants anything to go.
    pub(super) fn evict_before_ms(&self, group: &Group<E>) -> Option<i64> {
        let of_others = self.context.pulses.evictions();
        let is_member = |node| {
            group.with_metrics(|m| m.membership_config.nodes().any(|(id, _)| ReplicaId(*id).node() == node))
        };
        let wanted = of_others.into_iter().filter(|(node, _)| is_member(*node)).map(|(_, moment)| moment);
        self.context.evict_before_ms().into_iter().chain(wanted).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_limit_counts() {
        let space = Space { free_bytes: 600, total_bytes: 10_000 };
        let limits = |max_bytes, max_disk_share| {
            DataLimits { max_bytes, max_disk_share, ..DataLimits::default() }.bytes(400, &space)
        };
        assert_eq!(limits(None, None), None);
        assert_eq!(limits(Some(700), None), Some(700));
        assert_eq!(limits(Some(700), Some(0.5)), Some(500), "half of what is taken and free");
        assert_eq!(limits(Some(300), Some(0.5)), Some(300));
    }

    #[test]
    fn a_disk_is_full_by_bytes_where_it_is_large_and_by_share_where_it_is_small() {
        let is_full = |free_bytes, total_bytes| {
            DataLimits { min_free_bytes: 1000, ..DataLimits::default() }
                .is_full(&Space { free_bytes, total_bytes })
        };
        assert!(!is_full(1000, 1_000_000), "the last thousandth of a large one");
        assert!(is_full(999, 1_000_000));
        assert!(!is_full(500, 10_000), "a twentieth of a small one");
        assert!(is_full(499, 10_000));
        assert!(!is_full(0, 0), "one that does not tell its size");
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        let segments = vec![(30, 5), (10, 4), (20, 3), (10, 1), (99, 50)];
        let before = |limit, now| evict_before(segments.clone(), limit, now);
        assert_eq!(before(63, 90), None, "all fit");
        assert_eq!(before(62, 90), Some(11), "with one all that end with it");
        assert_eq!(before(58, 90), Some(11));
        assert_eq!(before(57, 90), Some(21));
        assert_eq!(before(55, 90), Some(21));
        assert_eq!(before(54, 90), Some(31));
        assert_eq!(before(0, 90), Some(31), "what is not over stays, even if it does not fit");
        assert_eq!(before(0, 15), Some(11));
        assert_eq!(before(0, 5), None);
        assert_eq!(evict_before(Vec::new(), 0, 5), None);
    }
}
