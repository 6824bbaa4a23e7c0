//! Codecs of columns that a router writes and a shard reads: from arrays to bytes and back.
//!
//! - [`bits`] packs unsigned integers of one width without padding.
//! - [`ints`] is the block codec for 64-bit integers: frame of reference, raw or delta, patched exceptions.
//! - [`columns`] codes a column of integers as a constant, runs, blocks or a pco file.
//! - [`frame`] wraps bytes in zstd where that helps.
//!
//! Invariants: the same input gives the same bytes. A decoder takes its bytes as hostile: it answers [`DecodeError`],
//! never panics, and never allocates more than the count that its caller vouches for. Decoders do not detect every
//! flipped bit: checksums live one layer up.

pub mod bits;
pub mod columns;
pub mod frame;
pub mod ints;

/// Bytes that no encoder wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a value.
    #[error("encoded column is cut short")]
    Truncated,
    /// A field has a value that no encoder writes.
    #[error("encoded column is malformed: {0}")]
    Malformed(&'static str),
    /// The bytes are not those that their checksum was made of.
    #[error("encoded column has another checksum")]
    Checksum,
}
