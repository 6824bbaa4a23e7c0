//! openraft's own suite for log storages on both file systems, and what it does not ask.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use openraft::StorageError;
use openraft::storage::{
    EntryResponder, RaftLogStorageExt, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta,
};
use openraft::testing::log::{StoreBuilder, Suite};
use storage::fs::Fs;
use storage::fs::mem::{CrashMode, MemFs};
use storage::fs::real::RealFs;
use storage::wal::{LogWriter, WalOptions};

use super::*;
use crate::env::{Net, NetError, PeerAddr, PeerHandler};
use crate::types::{Command, CommandResult, LeaderId, Membership, Payload, StoredMembership};

#[allow(deprecated)] // The runtime's own crate is no dependency of ours; only tests need tokio here.
type Rt = openraft::impls::TokioRuntime;
type C = Types<Rt>;

/// Just enough of a world for a log.
#[derive(Clone)]
struct TestEnv<F>(F);

impl<F: Fs> Env for TestEnv<F> {
    type Runtime = Rt;
    type Fs = F;
    type Net = NoNet;

    fn fs(&self) -> &F {
        &self.0
    }

    fn net(&self) -> &NoNet {
        &NoNet
    }

    fn now_ms(&self) -> i64 {
        0
    }

    fn random_u64(&self) -> u64 {
        0
    }

    async fn run_step<T: Send + 'static>(&self, _: StepKind, step: impl FnOnce() -> T + Send + 'static) -> T {
        step()
    }

    fn start_log_writer(&self, _: storage::wal::LogWriter<F>) {
        unreachable!("these tests run their writers themselves");
    }

    fn abort(&self, reason: &str) {
        panic!("{reason}");
    }
}

#[derive(Clone)]
struct NoNet;

impl Net for NoNet {
    async fn call(&self, _: &PeerAddr, _: Bytes, _: Duration) -> Result<Bytes, NetError> {
        Err(NetError::Closed)
    }

    fn serve(&self, _: Arc<dyn PeerHandler>) {}
}

/// A log with its writer's thread. The thread ends when the last handle of the log is gone.
struct Running<F: Fs> {
    store: Option<LogStore<TestEnv<F>>>,
    writer: Option<JoinHandle<()>>,
}

impl<F: Fs> Running<F> {
    fn open(fs: F, dir: &Path, cache_bytes: usize) -> Self {
        let options = WalOptions { segment_bytes: 16 << 10, cache_bytes, ..WalOptions::default() };
        let (wal, writer) = Wal::open(fs.clone(), dir, options).unwrap();
        let store = LogStore::new(TestEnv(fs), wal, ShardId(3), Arc::new(Alone::new(ReplicaId(1))));
        Self { store: Some(store), writer: Some(std::thread::spawn(|| write(writer))) }
    }

    fn store(&self) -> LogStore<TestEnv<F>> {
        self.store.clone().unwrap()
    }
}

impl<F: Fs> Drop for Running<F> {
    fn drop(&mut self) {
        drop(self.store.take());
        // Other handles may live on, so the thread is not waited for here.
        drop(self.writer.take());
    }
}

fn write<F: Fs>(mut writer: LogWriter<F>) {
    while writer.wait() {
        if writer.write_pending().is_err() {
            return;
        }
    }
}

/// The least state machine that the suite accepts.
#[derive(Clone, Default)]
struct Machine(Arc<Mutex<MachineState>>);

#[derive(Default)]
struct MachineState {
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshot: Option<SnapshotMeta<LeaderId, u64, crate::types::Node>>,
}

impl RaftSnapshotBuilder<C> for Machine {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<Snapshot<LeaderId, u64, crate::types::Node, ()>> {
        let mut state = self.0.lock().unwrap();
        let meta = SnapshotMeta { last_log_id: state.applied, last_membership: state.membership.clone() };
        state.snapshot = Some(meta.clone());
        Ok(Snapshot { meta, snapshot: () })
    }
}

impl RaftStateMachine<C> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let state = self.0.lock().unwrap();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<C>>> + Unpin + Send,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let mut state = self.0.lock().unwrap();
            state.applied = Some(entry.log_id);
            if let Payload::Membership(membership) = entry.payload {
                state.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            if let Some(responder) = responder {
                responder.send(CommandResult::default());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<LeaderId, u64, crate::types::Node>,
        _: (),
    ) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.applied = meta.last_log_id;
        state.membership = meta.last_membership.clone();
        state.snapshot = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<Snapshot<LeaderId, u64, crate::types::Node, ()>>> {
        let snapshot = self.0.lock().unwrap().snapshot.clone();
        Ok(snapshot.map(|meta| Snapshot { meta, snapshot: () }))
    }
}

struct OnMemory {
    cache_bytes: usize,
}

impl StoreBuilder<C, LogStore<TestEnv<MemFs>>, Machine, Running<MemFs>> for OnMemory {
    async fn build(&self) -> Result<(Running<MemFs>, LogStore<TestEnv<MemFs>>, Machine), StorageError<C>> {
        let running = Running::open(MemFs::new(1), Path::new("/wal"), self.cache_bytes);
        let store = running.store();
        Ok((running, store, Machine::default()))
    }
}

struct OnDisk;

impl StoreBuilder<C, LogStore<TestEnv<RealFs>>, Machine, (Running<RealFs>, tempfile::TempDir)> for OnDisk {
    async fn build(
        &self,
    ) -> Result<((Running<RealFs>, tempfile::TempDir), LogStore<TestEnv<RealFs>>, Machine), StorageError<C>>
    {
        let dir = tempfile::tempdir().unwrap();
        let running = Running::open(RealFs, &dir.path().join("wal"), 1 << 20);
        let store = running.store();
        Ok(((running, dir), store, Machine::default()))
    }
}

#[tokio::test]
async fn openraft_accepts_the_log_in_memory() {
    Suite::test_all(OnMemory { cache_bytes: 1 << 20 }).await.unwrap();
}

#[tokio::test]
async fn openraft_accepts_the_log_read_from_disk_only() {
    Suite::test_all(OnMemory { cache_bytes: 0 }).await.unwrap();
}

#[tokio::test]
async fn openraft_accepts_the_log_on_the_operating_system() {
    Suite::test_all(OnDisk).await.unwrap();
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId { leader_id: LeaderId { term, node_id: 1 }, index }
}

fn command(term: u64, index: u64, bytes: usize) -> Entry {
    Entry { log_id: log_id(term, index), payload: Payload::Normal(Command(vec![index as u8; bytes].into())) }
}

fn mem(fs: &MemFs, cache_bytes: usize) -> Running<MemFs> {
    Running::open(fs.clone(), &PathBuf::from("/wal"), cache_bytes)
}

#[tokio::test]
async fn reads_are_bounded_by_bytes_and_streams_go_on() {
    for cache_bytes in [0, 1 << 30] {
        let fs = MemFs::new(1);
        let running = mem(&fs, cache_bytes);
        let mut store = running.store();
        let entries: Vec<Entry> = (1..=12).map(|index| command(1, index, 1 << 20)).collect();
        for chunk in entries.chunks(3) {
            store.blocking_append(chunk.to_vec()).await.unwrap();
        }
        let limited = store.limited_get_log_entries(2, 13).await.unwrap();
        assert_eq!(limited, entries[1..4], "a fourth entry of 1 MiB and a head is above 4 MiB");
        assert_eq!(store.try_get_log_entries(1..=12).await.unwrap(), entries);
        let streamed: Vec<_> = store.entries_stream(3..).await.map(Result::unwrap).collect().await;
        assert_eq!(streamed, entries[2..]);
        store.append([command(1, 13, 6 << 20)], IOFlushed::noop()).await.unwrap();
        assert_eq!(store.limited_get_log_entries(13, 14).await.unwrap().len(), 1, "never empty");
        assert!(store.limited_get_log_entries(14, 15).await.is_err());
        assert_eq!(store.limited_get_log_entries(5, 5).await.unwrap(), []);
    }
}

#[tokio::test]
async fn what_was_saved_is_there_after_a_power_cut() {
    let fs = MemFs::new(1);
    let running = mem(&fs, 1 << 20);
    let mut store = running.store();
    let vote = Vote { leader_id: LeaderId { term: 2, node_id: 1 }, committed: true };
    store.save_vote(&vote).await.unwrap();
    let nodes: BTreeMap<u64, crate::types::Node> = [(1, crate::types::Node { addr: "a:1".into() })].into();
    let membership = Membership::new(vec![[1].into()], nodes).unwrap();
    let first = Entry { log_id: log_id(1, 0), payload: Payload::Membership(membership) };
    store.blocking_append([first, command(2, 1, 10), command(2, 2, 10), command(2, 3, 10)]).await.unwrap();
    store.save_committed(Some(log_id(2, 2))).await.unwrap();
    store.truncate_after(Some(log_id(2, 2))).await.unwrap();
    store.purge(log_id(1, 0)).await.unwrap();
    // Neither waited for its own sync; the vote's covers both.
    store.save_vote(&vote).await.unwrap();

    let running = mem(&fs.crash(CrashMode::DropUnsynced), 1 << 20);
    let mut store = running.store();
    assert_eq!(store.read_vote().await.unwrap(), Some(vote));
    assert_eq!(store.read_committed().await.unwrap(), Some(log_id(2, 2)));
    let state = store.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(log_id(1, 0)), Some(log_id(2, 2))));
    let entries = store.try_get_log_entries(..).await.unwrap();
    assert_eq!(entries, [command(2, 1, 10), command(2, 2, 10)]);
}

#[tokio::test]
async fn the_log_knows_when_its_replica_decides_alone() {
    let fs = MemFs::new(1);
    let running = mem(&fs, 1 << 20);
    let mut store = running.store();
    let alone = store.alone.clone();
    let members = |index, configs: &[&[u64]]| {
        let all = configs.iter().flat_map(|config| config.iter());
        let nodes: BTreeMap<u64, crate::types::Node> =
            all.map(|id| (*id, crate::types::Node { addr: format!("a:{id}") })).collect();
        let configs = configs.iter().map(|config| config.iter().copied().collect()).collect();
        let payload = Payload::Membership(Membership::new(configs, nodes).unwrap());
        Entry { log_id: log_id(1, index), payload }
    };
    assert!(alone.members().are_as_opened());
    store.blocking_append([members(0, &[&[1]])]).await.unwrap();
    let first = alone.members();
    assert!(first.are_one() && !first.are_as_opened());
    store.blocking_append([command(1, 1, 10)]).await.unwrap();
    assert_eq!(alone.members(), first, "commands change nothing");
    for (index, configs) in [&[&[1_u64][..], &[1, 2, 3]][..], &[&[1, 2, 3]], &[&[2]]].into_iter().enumerate()
    {
        store.blocking_append([members(2 + index as u64, configs)]).await.unwrap();
        assert!(!alone.members().are_one(), "{configs:?}");
    }
    store.blocking_append([members(5, &[&[1]])]).await.unwrap();
    let again = alone.members();
    assert!(again.are_one() && again != first);
    store.truncate_after(Some(log_id(1, 4))).await.unwrap();
    assert!(!alone.members().are_one(), "those before count again");
}

#[tokio::test]
async fn a_failed_sync_reaches_whoever_waits() {
    let fs = MemFs::new(1);
    let running = mem(&fs, 1 << 20);
    let mut store = running.store();
    fs.fail_next(storage::fs::mem::FaultOp::Sync, "wal");
    store.blocking_append([command(1, 1, 10)]).await.unwrap_err();
    store.save_vote(&Vote::new(1, 1)).await.unwrap_err();
    store.truncate_after(None).await.unwrap_err();
    store.purge(log_id(1, 1)).await.unwrap_err();
    store.save_committed(Some(log_id(1, 1))).await.unwrap_err();
    store.get_log_state().await.unwrap_err();
}

#[tokio::test]
async fn a_damaged_group_answers_nothing() {
    let fs = MemFs::new(1);
    let running = mem(&fs, 1 << 20);
    let mut store = running.store();
    store.blocking_append([command(1, 1, 100)]).await.unwrap();
    store.blocking_append([command(1, 2, 100)]).await.unwrap();
    let file = fs.list(Path::new("/wal")).unwrap()[0].name.clone();
    let fs = fs.crash(CrashMode::DropUnsynced);
    fs.damage(&Path::new("/wal").join(file), |bytes| {
        let at = bytes.windows(50).position(|window| window == [1; 50]).unwrap();
        bytes[at] = 9;
    })
    .unwrap();
    let running = mem(&fs, 1 << 20);
    let mut store = running.store();
    assert_eq!(store.get_log_state().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    store.read_vote().await.unwrap_err();
    store.try_get_log_entries(..).await.unwrap_err();
    store.blocking_append([command(1, 3, 100)]).await.unwrap_err();
}
