//! The shared language of the workspace: identifiers, labels, samples, batches and their byte formats.
//!
//! What lives here: types and codecs without I/O and without async. What does not: anything that opens a file,
//! a socket or a thread (that is `storage`, `cluster` and `server`).
//!
//! Invariant: every decoder here takes bytes from outside as hostile input. It never panics, never allocates by
//! an unchecked length, and its errors name the offence.
//!
//! Read first: [`labels`], then [`ids`].

#![forbid(unsafe_code)]

pub mod batch;
pub mod command;
pub mod commit_token;
pub mod encoding;
pub mod epoch;
pub mod error;
pub mod histogram;
pub mod histogram_chunk;
pub mod ids;
pub mod influx;
pub mod labels;
pub mod logs;
pub mod matcher;
pub mod memory;
pub mod otlp;
pub mod postgres;
pub mod remote_read;
pub mod remote_write;
pub mod retention;
pub mod rollup;
pub mod sample;
pub mod scan;
pub mod shippers;
pub mod spans;
pub mod sql;
pub mod varint;
pub mod write_batch;
pub mod xor_chunk;
