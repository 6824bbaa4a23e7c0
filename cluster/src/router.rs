//! Finds the shards of a request and gets it to them.

pub mod shard_writer;
