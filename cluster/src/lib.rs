//! Replicates shards and finds them.
//!
//! What lives here: the node ([`node`]) with its Raft groups ([`shard`]) on the shared log ([`log_store`]), the meta group
//! that says what the cluster is ([`meta`]), who should hold and lead what ([`placement`]), the way of a write to its shards
//! ([`router`]) and of a query's fragments ([`node::fragment`]), cluster time ([`clock`]), and the frames between nodes
//! ([`network`]). What does not: how a shard stores its data (`storage`), what a query means (`query`), sockets, threads and
//! clocks (behind [`env`]; `server` and the simulator implement it).
//!
//! ```text
//! router ─► Node::propose ─(peer)─► leader: Proposer gathers ─► openraft ─► log of a quorum ─► apply ─► outcome
//! query  ─► Node::run_fragment ─(peer)─► leader: ReadIndex ─► snapshot of the store ─► FragmentHandler
//! meta state (wanted) ─► groups started and ended here; memberships brought along by each group's leader
//! ```
//!
//! Invariants
//! - An acknowledged write is synced on a quorum and applied at the leader that acknowledged it.
//! - A node id and a replica id are never used twice ([`meta::ReplicaId`]).
//! - A shard's group is initialised once in its life, and a data directory without its identity is never opened.
//! - Nothing here waits, sleeps, draws or reads a clock but through [`env::Env`]: the simulator decides all of it.
//!
//! Read first: [`env`], [`node`], [`shard`], then [`meta`] and [`placement`].

#![forbid(unsafe_code)]

pub mod clock;
pub mod env;
pub mod error;
pub mod log_store;
pub mod meta;
pub mod network;
pub mod node;
pub mod placement;
pub mod read;
pub mod router;
pub mod shard;
pub mod shard_map;
pub mod snapshot;
pub mod state_machine;
pub mod status;
pub mod types;
pub mod verify;
