//! Replicates shards and finds them: Raft groups on the shared log, the meta group, the write router and fragments.

#![forbid(unsafe_code)]

pub mod clock;
pub mod env;
pub mod log_store;
pub mod meta;
pub mod network;
pub mod placement;
pub mod read;
pub mod router;
pub mod shard_map;
pub mod status;
pub mod types;
