//! What openraft is told about our groups, and the bytes in which its values are stored and sent.
//!
//! One type configuration serves the meta group and every shard: node ids are `u64`, a node is its peer address,
//! votes and leader ids are the ordered kind (several leaders may try one term, the greater id wins), a command and
//! its result are bytes which only the state machine understands. The runtime is a parameter, so that the same groups
//! run on tokio and in the simulator.
//!
//! openraft's own values never reach disk or wire through its serde layout, which follows its releases: [`codec`]
//! writes them in a versioned format of ours, used by the log store, snapshots and RPC alike.

pub mod codec;

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use openraft::RaftTypeConfig;
use openraft::impls::{BoxedErrorSource, InlineBatch, OneshotResponder, leader_id_adv};
use openraft_rt::AsyncRuntime;

/// The type configuration of all groups, over the runtime `R`.
pub struct Types<R>(PhantomData<fn() -> R>);

impl<R: AsyncRuntime> RaftTypeConfig for Types<R> {
    type D = Command;
    type R = CommandResult;
    type NodeId = u64;
    type Node = Node;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = R;
    type Responder<T>
        = OneshotResponder<Self, T>
    where
        T: Send + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = BoxedErrorSource;
}

/// Who leads (or tries to lead) in a term.
pub type LeaderId = leader_id_adv::LeaderId<u64, u64>;
/// A vote, granted or committed.
pub type Vote = openraft::Vote<LeaderId>;
/// Identity of a log entry: leader and index.
pub type LogId = openraft::LogId<LeaderId>;
/// Voters and learners.
pub type Membership = openraft::Membership<u64, Node>;
/// Voters and learners with the log entry that made them so.
pub type StoredMembership = openraft::StoredMembership<LeaderId, u64, Node>;
/// What an entry carries.
pub type Payload = openraft::EntryPayload<Command, u64, Node>;
/// A log entry.
pub type Entry = openraft::Entry<LeaderId, Payload>;

/// A member of a group as its membership names it.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Node {
    /// `host:port` where its peers reach it.
    pub addr: String,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.addr)
    }
}

/// A command to a group's state machine, as bytes. Shared, never copied on its way to disk and peers.
#[derive(Clone, PartialEq, Eq)]
pub struct Command(pub Bytes);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({} bytes)", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What a state machine answers to a command, as bytes. Empty for entries that are no command.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CommandResult(pub Bytes);

impl fmt::Debug for CommandResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommandResult({} bytes)", self.0.len())
    }
}

// The derives would ask the same of `R`, which is never held.
impl<R> fmt::Debug for Types<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Types")
    }
}

impl<R> Clone for Types<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Types<R> {}

impl<R> Default for Types<R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<R> PartialEq for Types<R> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<R> Eq for Types<R> {}

impl<R> PartialOrd for Types<R> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<R> Ord for Types<R> {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}
