//! What nodes do when memory runs out.

use std::path::Path;
use std::sync::Arc;
use std::task::Poll;

use protocol::batch::SubBatchBuilder;
use protocol::command::{CommandHeader, encode_write};
use protocol::ids::{LogIndex, SeriesId, TenantId};
use protocol::labels::Labels;
use protocol::memory::{Charge, MemoryLedger, MemoryUse};
use storage::engine::{LogPosition, ShardOptions, ShardStore};

use super::harness::TestEnv;
use super::*;
use crate::node::Node;
use crate::node::memory::wait_for_memory;
use crate::router::shard_writer::WriteError;

const SHARD: ShardId = ShardId(1);

/// Makes a node's memory look used up to so many percent.
fn press(node: &Node<TestEnv>, percent: u64) -> Charge {
    let memory = &node.context.config.memory;
    let mut charge = memory.charge(MemoryUse::Memtables);
    charge.set(memory.budget() / 100 * percent);
    charge
}

/// Positions of the shard's leader and of the others.
fn roles(cluster: &Cluster) -> (usize, Vec<usize>) {
    let (leaders, others): (Vec<_>, Vec<_>) =
        (0..cluster.machines.len()).partition(|i| cluster.node(*i).leads(SHARD));
    (leaders[0], others)
}

async fn is_refused(node: &Arc<Node<TestEnv>>) -> bool {
    match node.propose_write(SHARD, "bytes".into(), Duration::from_secs(5)).await {
        Ok(_) => false,
        Err(WriteError::Overloaded { .. }) => true,
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_memory_is_short_has_its_leader_flush() {
    let mut cluster = Cluster::of(3, 1).await;
    cluster.write(0).await;
    let (leader, followers) = roles(&cluster);
    let flushed = |index: usize| cluster.node(index).group(SHARD).unwrap().status().data.unwrap().flushed;
    assert_eq!(flushed(leader), None, "a memtable that is small and young stays");
    let _held = press(cluster.node(followers[0]), 70);
    wait("the shard is flushed", || flushed(leader).is_some() && flushed(followers[0]).is_some()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_are_refused_while_memory_is_short() {
    let mut cluster = Cluster::of(3, 1).await;
    let mut written = cluster.write(0).await;
    let (leader, followers) = roles(&cluster);
    let node = cluster.node(leader).clone();

    let held = press(&node, 95);
    assert!(is_refused(&node).await);
    // Through another node the answer is the same.
    assert!(is_refused(cluster.node(followers[0])).await);
    assert_eq!(cluster.read(leader, Consistency::Linearizable).await, written, "reads go on");
    drop(held);
    assert!(!is_refused(&node).await);

    // One follower does not slow the shard, two of three do.
    let first = press(cluster.node(followers[0]), 95);
    wait("the leader hears of it", || node.context.pulses.short_of_memory().len() == 1).await;
    written.extend(cluster.write(leader).await);
    let second = press(cluster.node(followers[1]), 95);
    wait("the leader hears of both", || node.context.pulses.short_of_memory().len() == 2).await;
    assert!(is_refused(&node).await);
    drop((first, second));
    wait("the leader hears that it is over", || node.context.pulses.short_of_memory().is_empty()).await;
    written.extend(cluster.write(leader).await);
    assert_eq!(cluster.read(followers[0], Consistency::Linearizable).await, sorted(written));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_series_are_refused_where_they_crowd_memory_and_known_ones_go_on() {
    let mut cluster = Cluster::of(3, 1).await;
    let mut written = cluster.write(0).await;
    let (leader, followers) = roles(&cluster);
    let node = cluster.node(leader).clone();
    let memory = &node.context.config.memory;
    let mut held = memory.charge(MemoryUse::Series);
    held.set(memory.budget() / 100 * 21);
    let propose = |node: &Arc<Node<TestEnv>>, name: &str| {
        let labels = Labels::from_pairs([("__name__", "m"), ("n", name)]).unwrap();
        let mut builder = SubBatchBuilder::new(TenantId::default(), 0);
        let series = builder.push_new_series(SeriesId(labels.len() as u128), &labels);
        builder.push_float(series, 1_000, 1.0, 0);
        let (node, bytes) = (node.clone(), builder.finish());
        async move { node.propose_write(SHARD, bytes, Duration::from_secs(5)).await }
    };
    for at in [leader, followers[0]] {
        let refused = propose(cluster.node(at), "new").await;
        assert!(
            matches!(&refused, Err(WriteError::Overloaded { reason, .. }) if reason.contains("new series"))
        );
    }
    // What is registered is taken, also from a router that does not know its number.
    written.extend(cluster.write(leader).await);
    assert_eq!(cluster.read(followers[1], Consistency::Linearizable).await, sorted(written));
    drop(held);
    propose(&node, "new").await.expect("there is room again");
}

#[tokio::test]
async fn what_is_committed_waits_for_a_flush_that_frees_memory_and_for_nothing_else() {
    let memory = MemoryLedger::new(1 << 20);
    let fs = storage::fs::mem::MemFs::new(1);
    let store = ShardStore::open_within(
        fs,
        Path::new("/shard"),
        SHARD,
        ShardOptions::default(),
        LogIndex(0),
        memory.clone(),
    )
    .unwrap();
    let mut full = memory.charge(MemoryUse::Requests);
    full.set(2 << 20);
    // Nothing is being flushed: to wait would be to wait for ever.
    wait_for_memory::<TestEnv>(&store, &memory).await;

    let labels = protocol::labels::Labels::from_pairs([("__name__", "m")]).unwrap();
    let mut batch = protocol::batch::SubBatchBuilder::new(Default::default(), 0);
    let series = batch.push_new_series(protocol::ids::SeriesId(1), &labels);
    batch.push_float(series, 1, 1.0, 0);
    let write = encode_write(CommandHeader::default(), &[batch.finish()]);
    store.apply(LogPosition { index: LogIndex(1), log_id: b"1" }, &write);
    let flush = store.begin_flush_command(1, 0).encode();
    store.apply(LogPosition { index: LogIndex(2), log_id: b"2" }, &flush);

    let mut waiting = std::pin::pin!(wait_for_memory::<TestEnv>(&store, &memory));
    assert!(matches!(futures_util::poll!(&mut waiting), Poll::Pending));
    let done = store.next_job().expect("the flush").run();
    store.finish_job(done).unwrap();
    tokio::time::timeout(GUARD, waiting).await.expect("the flush has freed its memory");
}
