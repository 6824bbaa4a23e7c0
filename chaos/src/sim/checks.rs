//! What must hold at every moment, whatever breaks: looked at several times a simulated second on all nodes.
//!
//! Positions and terms of a replica never go back while its process lives; positions keep their order; replicas of a
//! shard that show the same position of their manifest show the same digest over it (and thereby the same files,
//! which are named by their content); two nodes never lead one group under one leader id. Panics of tasks are findings
//! too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster::status::{GroupStatus, Role};
use openraft_rt::AsyncRuntime;

use crate::sim::cluster::SimCluster;
use crate::sim::executor;
use crate::sim::oracle::invariant;
use crate::sim::runtime::SimRuntime;

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(200);

/// What a replica showed last.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    term: u64,
    last_log: u64,
    applied: u64,
    flushed: u64,
}

/// Looks at all nodes again and again.
pub struct Checks {
    cluster: SimCluster,
    /// By (machine, start of its process, group, replica).
    seen: BTreeMap<(usize, u64, u16, u64), Seen>,
    /// Digest by (group, position).
    digests: BTreeMap<(u16, u64), (String, usize)>,
    /// Machine by (group, term, replica) that led.
    leaders: BTreeMap<(u16, u64, u64), usize>,
    /// Applied position that any replica of a group has shown: it was committed.
    committed: BTreeMap<u16, u64>,
}

impl Checks {
    /// Nothing seen yet.
    pub fn new(cluster: &SimCluster) -> Self {
        Self {
            cluster: cluster.clone(),
            seen: BTreeMap::new(),
            digests: BTreeMap::new(),
            leaders: BTreeMap::new(),
            committed: BTreeMap::new(),
        }
    }

    /// Looks until told to stop.
    pub async fn run(mut self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            self.look();
            SimRuntime::sleep(EVERY).await;
        }
        self.look();
    }

    /// Looks once.
    pub fn look(&mut self) {
        let cluster = self.cluster.clone();
        for (place, panic) in executor::take_panics() {
            cluster.oracle().violate(invariant::NO_PANIC, format!("machine {} panicked: {panic}", place.0));
        }
        for (at, node) in cluster.nodes() {
            for group in node.node_status().groups {
                self.check(at, cluster.life(at), &group);
            }
        }
    }

    fn check(&mut self, at: usize, life: u64, group: &GroupStatus) {
        let pulse = &group.pulse;
        let number = pulse.group.0;
        let who = || format!("group {number} on machine {}", at + 1);
        let flushed = group.data.as_ref().and_then(|data| data.flushed).unwrap_or(0);
        let now = Seen { term: pulse.term, last_log: pulse.last_log, applied: pulse.applied, flushed };
        executor::note(u64::from(number) << 48 ^ now.applied << 8 ^ at as u64);

        let before = self.seen.entry((at, life, number, pulse.replica.0)).or_default();
        for (what, was, is) in [
            ("term", before.term, now.term),
            ("applied position", before.applied, now.applied),
            ("flushed position", before.flushed, now.flushed),
        ] {
            if is < was {
                let what = format!("{}: {what} went back from {was} to {is}", who());
                self.cluster.oracle().violate(invariant::NEVER_BACK, what);
            }
        }
        let earlier = std::mem::replace(before, now);
        // What a node tells of its log and of its store it read one after the other: compare with the look before.
        if earlier.flushed > now.applied || earlier.applied > now.last_log {
            let what = format!("{}: positions out of order: {now:?} after {earlier:?}", who());
            self.cluster.oracle().violate(invariant::ORDER, what);
        }
        if pulse.role == Role::Leader {
            let first = *self.leaders.entry((number, pulse.term, pulse.replica.0)).or_insert(at);
            if first != at {
                let what = format!(
                    "{} leads term {} as {}, as machine {} did",
                    who(),
                    pulse.term,
                    pulse.replica,
                    first + 1
                );
                self.cluster.oracle().violate(invariant::ONE_LEADER, what);
            }
        }
        let committed = self.committed.entry(number).or_default();
        *committed = (*committed).max(now.applied);
        if let Some(error) = &group.error {
            // A replica that stopped serving says why; with a healthy disk there is no reason.
            executor::say(|| format!("{} says: {error}", who()));
        }
        if let Some(data) = &group.data
            && !data.digest.is_empty()
            && pulse.role != Role::Stopped
        {
            match self.digests.get(&(number, data.digest_index)) {
                None => {
                    self.digests.insert((number, data.digest_index), (data.digest.clone(), at));
                }
                Some((digest, first)) if *digest != data.digest => {
                    let what = format!(
                        "{} has digest {} at position {}, machine {} had {digest}",
                        who(),
                        data.digest,
                        data.digest_index,
                        first + 1
                    );
                    self.cluster.oracle().violate(invariant::SAME_STATE, what);
                }
                Some(_) => {}
            }
        }
    }
}
