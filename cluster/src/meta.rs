//! The meta group: the small replicated state that says what the cluster is.
//!
//! Group 0 on the shared log, like any shard, but its state machine is [`MetaState`] in memory: members and their
//! addresses, the slot map, which replicas each shard should have, settings, dashboards. Commands are JSON ([`MetaCommand`]), few and
//! small; `apply` has outcomes ([`MetaOutcome`]), equal on all replicas, and never errors.
//!
//! Durable are the log and the export file ([`export`]), checksummed and written atomically: it is the group's
//! snapshot, and the log is purged only up to it. A crash between the two replays entries that the file already holds,
//! which is why the file carries the log id it was made at.
//!
//! What the state says is *wanted*; what Raft memberships say *is*. Shard leaders and the meta leader bring the second to
//! the first (see [`crate::placement`]).

pub mod dashboards;
pub mod export;
pub mod machine;
pub mod state;

pub use state::{Member, MemberState, MetaCommand, MetaOutcome, MetaState, ReplicaId, Settings, ShardMeta};
