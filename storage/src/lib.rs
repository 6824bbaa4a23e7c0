//! One node's storage engine: synchronous, without network and without Raft.
//!
//! What lives here: the shared write-ahead log ([`wal`]), the file system seam ([`fs`]), and per shard replica the
//! memtable, segments, manifest and background jobs that turn a Raft log into queryable data. What does not:
//! replication, leadership, time (`cluster` and the caller's clock) and query semantics (`query`).
//!
//! Nothing in here starts a thread, reads a clock or opens a file but through [`fs::Fs`]: work that takes long is
//! offered as steps which the caller runs where it likes, on a thread in production and in line in the simulator.

#![deny(unsafe_code)]

pub mod append;
pub mod archive;
pub mod columns;
pub mod damage;
pub mod encoding;
pub mod engine;
pub mod error;
mod flush;
pub mod fs;
pub mod logs;
pub mod manifest;
pub mod memtable;
mod merge;
pub mod metadata;
mod mmap;
pub mod mutant;
mod rollup;
pub mod scan;
pub mod segment;
mod segment_file;
pub mod series_index;
pub mod span_metrics;
mod sys;
pub mod tally;
pub mod tombstone;
pub mod verify;
pub mod wal;

pub use sys::{release_free_memory, thread_cpu_time};
