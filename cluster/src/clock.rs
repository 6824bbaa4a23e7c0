//! Cluster time: a clock that no single node can turn.
//!
//! Entries carry a time that windows, retention and "too far in the future" are judged by. It comes from the leader's
//! wall clock, but held within [`BAND_MS`] of the median of what the members' clocks say, as pings report them, and it
//! never goes back inside a shard. A node whose own clock disagrees with that median by more than
//! [`DISAGREEMENT_MS`] says so: it must not judge clients' timestamps (503, not 400).
//!
//! A peer's offset is its clock minus the middle of our send and receive times. The middle is wrong by at most half a
//! round trip, which is far below the band. Readings older than [`STALE_MS`] of our own clock are forgotten, so that a
//! node alone falls back to its own clock.
//!
//! A local clock that jumps must not carry cluster time along, which never comes back: the readings of the peers would all
//! look old, and where only one peer is heard its word stands against ours. The clock is looked at many times a second:
//! what differs from the look before by more than [`JUMP_MS`] is a jump. Then the readings are moved along with it, and
//! where our clock would be without the jump is what counts as ours, until a peer is heard that agrees with the clock as
//! it is: it was set right, or the process had only stood still.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use protocol::ids::{NodeId, ShardId};

/// How far from the median the local clock may be before it is held.
pub const BAND_MS: i64 = 500;
/// From which offset a node's clock counts as wrong.
pub const DISAGREEMENT_MS: i64 = 10_000;
/// How long a reading of a peer's clock is believed.
pub const STALE_MS: i64 = 30_000;

/// Between two looks at the local clock a larger step is a jump; so is a step back of more than [`BAND_MS`]. A round trip
/// that takes longer says nothing.
pub const JUMP_MS: i64 = 5_000;

/// Cluster time as one node knows it.
#[derive(Debug, Default)]
pub struct ClusterClock {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Peer's clock minus ours, and when we learned it by our clock.
    offsets: BTreeMap<NodeId, (i64, i64)>,
    /// The last time given to or seen in an entry, per shard.
    stamped: BTreeMap<ShardId, i64>,
    /// Our clock when it was last looked at.
    looked_ms: Option<i64>,
    /// Where our clock would be if it had not jumped, minus ours.
    own: i64,
    /// Whether the clocks of a majority were once seen to agree.
    has_agreed: bool,
}

impl ClusterClock {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, with a look at the local clock.
    fn lock_at(&self, local_ms: i64) -> std::sync::MutexGuard<'_, Inner> {
        let mut inner = self.lock();
        inner.look(local_ms);
        inner
    }

    /// Takes in a peer's clock, read between `sent_ms` and `received_ms` of ours.
    pub fn heard(&self, peer: NodeId, peer_ms: i64, sent_ms: i64, received_ms: i64) {
        let mut inner = self.lock_at(received_ms);
        let round_trip = received_ms.saturating_sub(sent_ms);
        if !(0..=JUMP_MS).contains(&round_trip) {
            return;
        }
        let offset = peer_ms.saturating_sub(sent_ms.saturating_add(round_trip / 2));
        inner.offsets.insert(peer, (offset, received_ms));
        if offset.abs() <= DISAGREEMENT_MS {
            inner.own = 0;
        }
    }

    /// Forgets a peer that left.
    pub fn forget(&self, peer: NodeId) {
        self.lock().offsets.remove(&peer);
    }

    /// The median of the members' clocks relative to ours, ours included. With an even count the one nearer to ours, so
    /// that one peer alone never moves us.
    pub fn median_offset_ms(&self, local_ms: i64) -> i64 {
        self.lock_at(local_ms).median(local_ms)
    }

    /// Offset of one peer's clock to ours, if known.
    pub fn offset_ms(&self, peer: NodeId) -> Option<i64> {
        self.lock().offsets.get(&peer).map(|&(offset, _)| offset)
    }

    /// Whether this node's clock is too far from the others' to judge by.
    pub fn disagrees(&self, local_ms: i64) -> bool {
        self.median_offset_ms(local_ms).abs() > DISAGREEMENT_MS
    }

    /// Whether a majority's clocks were heard lately, and have once agreed. Before that, nothing may be judged by cluster
    /// time that can not be undone: a node that starts with a wrong clock would refuse or drop what is not due. That a
    /// majority was heard is not enough for it: of two clocks that differ, either may be the wrong one. Later on, a jump of
    /// the own clock is noticed, and the word of a peer whose clock was set wrong is not taken for more than it is.
    pub fn is_confirmed(&self, local_ms: i64, members: usize) -> bool {
        let mut inner = self.lock_at(local_ms);
        let heard = inner.fresh(local_ms).count() + 1;
        if !inner.has_agreed {
            let (median, own) = (inner.median(local_ms), inner.own);
            let all = inner.fresh(local_ms).chain([own]);
            inner.has_agreed =
                all.filter(|offset| offset.abs_diff(median) <= DISAGREEMENT_MS as u64).count() * 2 > members;
        }
        heard * 2 > members && inner.has_agreed
    }

    /// Cluster time now, given the local clock.
    pub fn now_ms(&self, local_ms: i64) -> i64 {
        self.lock_at(local_ms).now(local_ms)
    }

    /// The time for the next entry of a shard: cluster time, but never before the shard's last.
    pub fn stamp(&self, shard: ShardId, local_ms: i64) -> i64 {
        let mut inner = self.lock_at(local_ms);
        let now = inner.now(local_ms);
        let last = inner.stamped.entry(shard).or_insert(now);
        *last = now.max(*last);
        *last
    }

    /// Takes in the time of an entry that was applied, so that a new leader continues from there.
    pub fn seen(&self, shard: ShardId, entry_ms: i64) {
        let mut inner = self.lock();
        let last = inner.stamped.entry(shard).or_insert(entry_ms);
        *last = entry_ms.max(*last);
    }
}

impl Inner {
    fn look(&mut self, local_ms: i64) {
        let step = local_ms.saturating_sub(self.looked_ms.unwrap_or(local_ms));
        // Alone there is nobody to ask: a clock that is set is followed.
        if !(-BAND_MS..=JUMP_MS).contains(&step) && !self.offsets.is_empty() {
            self.own = self.own.saturating_sub(step);
            for (offset, at) in self.offsets.values_mut() {
                *offset = offset.saturating_sub(step);
                *at = at.saturating_add(step);
            }
        }
        self.looked_ms = Some(local_ms);
    }

    fn fresh(&self, local_ms: i64) -> impl Iterator<Item = i64> + '_ {
        let fresh =
            self.offsets.values().filter(move |&&(_, at)| local_ms.saturating_sub(at).abs() <= STALE_MS);
        fresh.map(|&(offset, _)| offset)
    }

    fn median(&self, local_ms: i64) -> i64 {
        let mut offsets: Vec<i64> = self.fresh(local_ms).collect();
        offsets.push(self.own);
        offsets.sort_unstable();
        let upper = offsets[offsets.len() / 2];
        let lower = offsets[(offsets.len() - 1) / 2];
        if upper.abs_diff(self.own) < lower.abs_diff(self.own) { upper } else { lower }
    }

    fn now(&self, local_ms: i64) -> i64 {
        let median = local_ms.saturating_add(self.median(local_ms));
        local_ms.clamp(median.saturating_sub(BAND_MS), median.saturating_add(BAND_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_the_local_clock_moves_cluster_time_by_no_more_than_the_band() {
        for (jump, peers) in
            [3_295_440, -3_295_440, 40_000, -40_000].into_iter().flat_map(|j| [(j, 1), (j, 2)])
        {
            let clock = ClusterClock::default();
            let start = 10_000_000;
            let peers: Vec<_> = (0..peers).map(|n| NodeId(n + 2)).collect();
            peers.iter().for_each(|peer| clock.heard(*peer, start, start - 10, start + 10));
            assert_eq!(clock.stamp(ShardId(1), start + 100), start + 100);
            let stamp_at = |now: i64| {
                let stamped = clock.stamp(ShardId(1), now + jump);
                let near = start + 100..=now + BAND_MS;
                assert!(near.contains(&stamped), "{jump} beside {peers:?}: {}", stamped - now);
                assert!(clock.disagrees(now + jump));
            };
            stamp_at(start + 200);
            // An answer to what was sent before the jump says nothing; one to what was sent behind it tells the same.
            clock.heard(peers[0], start + 300, start + 150, start + 300 + jump);
            stamp_at(start + 300);
            peers.iter().for_each(|peer| {
                clock.heard(*peer, start + 400, start + 390 + jump, start + 410 + jump);
            });
            stamp_at(start + 500);
            // Turned right again, all is as it was.
            assert_eq!(clock.now_ms(start + 600), start + 600);
            assert!(!clock.disagrees(start + 600));
        }
    }

    #[test]
    fn a_pause_is_made_up_for_by_the_next_ping() {
        for peers in [1, 2] {
            let clock = ClusterClock::default();
            (0..peers).for_each(|n| clock.heard(NodeId(n + 2), 1_000_000, 999_990, 1_000_010));
            assert!(clock.now_ms(1_060_000) < 1_060_000);
            clock.heard(NodeId(2), 1_060_100, 1_060_090, 1_060_110);
            assert_eq!(clock.now_ms(1_060_200), 1_060_200);
        }
    }

    #[test]
    fn a_node_alone_follows_its_clock_wherever_it_goes() {
        let clock = ClusterClock::default();
        assert_eq!(clock.now_ms(1_000), 1_000);
        assert_eq!(clock.now_ms(10_000_000), 10_000_000);
        assert_eq!(clock.now_ms(5_000_000), 5_000_000);
        assert!(!clock.disagrees(5_000_000));
    }

    const LOCAL: i64 = 1_000_000_000;

    fn clock(offsets: &[i64]) -> ClusterClock {
        let clock = ClusterClock::default();
        for (i, &offset) in offsets.iter().enumerate() {
            clock.heard(NodeId(i as u64 + 2), LOCAL + offset, LOCAL, LOCAL);
        }
        clock
    }

    /// Looks at the local clock now and then, up to a time.
    fn pass(clock: &ClusterClock, until: i64) {
        (LOCAL..until).step_by(JUMP_MS as usize).for_each(|at| {
            clock.now_ms(at);
        });
    }

    #[test]
    fn a_wrong_clock_is_held_near_the_others() {
        let hour = 3_600_000;
        let wrong = clock(&[-hour, -hour]);
        assert_eq!(wrong.now_ms(LOCAL), LOCAL - hour + BAND_MS);
        assert!(wrong.disagrees(LOCAL));
        let right = clock(&[hour, 10]);
        assert_eq!(right.now_ms(LOCAL), LOCAL);
        assert!(!right.disagrees(LOCAL));
    }

    #[test]
    fn one_peer_alone_moves_nothing() {
        assert_eq!(clock(&[86_400_000]).now_ms(LOCAL), LOCAL);
        assert_eq!(clock(&[-86_400_000]).now_ms(LOCAL), LOCAL);
    }

    #[test]
    fn stale_readings_are_forgotten() {
        let clock = clock(&[-60_000, -60_000]);
        let later = LOCAL + STALE_MS + 1;
        pass(&clock, later);
        assert_eq!(clock.now_ms(later), later);
    }

    #[test]
    fn a_majority_must_have_been_heard() {
        let alone = ClusterClock::default();
        assert!(alone.is_confirmed(LOCAL, 1));
        assert!(!alone.is_confirmed(LOCAL, 2) && !alone.is_confirmed(LOCAL, 3));
        let two = clock(&[5]);
        assert!(two.is_confirmed(LOCAL, 2) && two.is_confirmed(LOCAL, 3) && !two.is_confirmed(LOCAL, 4));
        pass(&two, LOCAL + STALE_MS + 1);
        assert!(!two.is_confirmed(LOCAL + STALE_MS + 1, 3));
    }

    #[test]
    fn a_majority_must_have_agreed_once() {
        let hour = 3_600_000;
        for wrong in [hour, -hour] {
            // Started with a wrong clock, as it looks when one peer is heard: either may be the right one.
            let starting = clock(&[wrong]);
            assert!(!starting.is_confirmed(LOCAL, 3) && !starting.is_confirmed(LOCAL, 2));
            starting.heard(NodeId(3), LOCAL + wrong + 20, LOCAL, LOCAL);
            assert!(starting.is_confirmed(LOCAL, 3) && starting.disagrees(LOCAL), "both others agree");
            let right = clock(&[wrong, 20]);
            assert!(right.is_confirmed(LOCAL, 3) && !right.disagrees(LOCAL));
            // Two that agreed stay sure of themselves when one of them is set wrong and the third is gone.
            let two = clock(&[5]);
            assert!(two.is_confirmed(LOCAL, 3));
            two.heard(NodeId(2), LOCAL + wrong, LOCAL, LOCAL);
            assert!(two.is_confirmed(LOCAL, 3) && !two.disagrees(LOCAL));
        }
    }

    #[test]
    fn the_middle_of_the_round_trip_is_compared() {
        let clock = ClusterClock::default();
        clock.heard(NodeId(2), LOCAL + 40, LOCAL, LOCAL + 80);
        assert_eq!(clock.offset_ms(NodeId(2)), Some(0));
    }

    #[test]
    fn time_never_goes_back_in_a_shard() {
        let clock = ClusterClock::default();
        let shard = ShardId(1);
        assert_eq!(clock.stamp(shard, 100), 100);
        assert_eq!(clock.stamp(shard, 50), 100);
        clock.seen(shard, 500);
        assert_eq!(clock.stamp(shard, 200), 500);
        assert_eq!(clock.stamp(ShardId(2), 200), 200);
        clock.seen(shard, 10);
        assert_eq!(clock.stamp(shard, 600), 600);
    }
}
