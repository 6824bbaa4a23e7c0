//! Bugs that tests put in, one at a time, to see that the simulator finds them.
//!
//! A simulator that reports nothing proves nothing unless it would have reported something: each of these is a mistake that
//! a change could make, at the place where it would be made. They exist where debug assertions do; in a release build
//! [`is`] is a constant and nothing of them is left.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutant {
    /// The log calls back without having synced.
    BatchNotSynced,
    /// The log calls back before it writes.
    CallbackBeforeWrite,
    /// A vote is forgotten by a restart.
    VoteForgotten,
    /// The directory of a new log file is not synced.
    DirectoryNotSynced,
    /// That entries were cut off is not written to the log.
    TruncateNotLogged,
    /// The log is cut before a flush is durable.
    PurgedTooFar,
    /// Applying leaves out the first entry of a read.
    EntrySkipped,
    /// A follower answers for entries that it has not looked at yet.
    AppendAnsweredEarly,
    /// A linearizable read does not wait until the leader has applied what it must see.
    ReadBeforeApplied,
    /// A leader reads without asking whether it still leads.
    ReadWithoutQuorum,
    /// A query leaves out shards that do not answer.
    PartialAnswer,
    /// Cluster time is each replica's own.
    LocalClockAtApply,
    /// The keys of applied batches are not in a shard's snapshot.
    WindowNotInSnapshot,
    /// The keys of applied batches are forgotten at once.
    WindowTooShort,
    /// What a manifest names is not synced before it.
    FilesNotSynced,
    /// A flush leaves out its last series.
    FlushLosesSeries,
    /// A merge leaves out its last series.
    MergeLosesSeries,
    /// A log file is deleted while entries in it are needed.
    LogDeletedTooSoon,
    /// A new log file does not say what the groups had before it.
    CheckpointIncomplete,
    /// A small file that replaces another is not synced before it does.
    FilesReplacedUnsynced,
    /// A replay does again what the manifest reflects already.
    OperationsRepeated,
    /// A flush leaves out its last log record or span.
    FlushLosesRecord,
    /// A merge takes over log records that a delete hides, and says that the delete was heeded.
    MergeKeepsDeleted,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::BatchNotSynced,
        Self::CallbackBeforeWrite,
        Self::VoteForgotten,
        Self::DirectoryNotSynced,
        Self::TruncateNotLogged,
        Self::PurgedTooFar,
        Self::EntrySkipped,
        Self::AppendAnsweredEarly,
        Self::ReadBeforeApplied,
        Self::ReadWithoutQuorum,
        Self::PartialAnswer,
        Self::LocalClockAtApply,
        Self::WindowNotInSnapshot,
        Self::WindowTooShort,
        Self::FilesNotSynced,
        Self::FlushLosesSeries,
        Self::MergeLosesSeries,
        Self::LogDeletedTooSoon,
        Self::CheckpointIncomplete,
        Self::FilesReplacedUnsynced,
        Self::OperationsRepeated,
        Self::FlushLosesRecord,
        Self::MergeKeepsDeleted,
    ];
}

#[cfg(debug_assertions)]
thread_local! {
    static PUT_IN: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Whether this bug is in.
#[cfg(debug_assertions)]
#[inline]
pub fn is(mutant: Mutant) -> bool {
    PUT_IN.get() == Some(mutant)
}

/// Whether this bug is in: never.
#[cfg(not(debug_assertions))]
#[inline]
pub const fn is(_: Mutant) -> bool {
    false
}

/// Does work with a bug in it, as far as this thread does it.
#[cfg(debug_assertions)]
pub fn with<T>(mutant: Mutant, work: impl FnOnce() -> T) -> T {
    struct TakeOut;
    impl Drop for TakeOut {
        fn drop(&mut self) {
            PUT_IN.set(None);
        }
    }
    PUT_IN.set(Some(mutant));
    let _out = TakeOut;
    work()
}
