//! Replicates shards and finds them: Raft groups on the shared log, the meta group, the write router and fragments.

#![forbid(unsafe_code)]

pub mod env;
pub mod types;
