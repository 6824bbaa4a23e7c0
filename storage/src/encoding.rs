//! Codecs of columns inside segments: from arrays to bytes and back, nothing of files.
//!
//! - [`bits`] packs unsigned integers of one width without padding.
//! - [`ints`] is the block codec for 64-bit integers: frame of reference, raw or delta, patched exceptions.
//! - [`times`] codes ascending timestamp vectors as residuals of a grid.
//! - [`floats`] codes values, choosing by content: constant, scaled integer, bit pattern, pco or raw.
//! - [`blobs`] codes opaque byte strings.
//! - [`frame`] wraps bytes in zstd where that helps.
//!
//! Invariants: a round trip keeps every bit of every float. The same input and effort give the same bytes. A
//! decoder takes its bytes as hostile: it answers [`DecodeError`], never panics, and never allocates more than the
//! count that its caller vouches for. Decoders do not detect every flipped bit: checksums live one layer up.

pub mod bits;
pub mod blobs;
pub mod floats;
pub mod frame;
pub mod ints;
pub mod times;

/// How much CPU an encoder may spend on choosing. Part of what decides the bytes, so replicas must agree on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// For flushes: slow codecs are tried only where the fast ones do badly.
    #[default]
    Fast,
    /// For merges: slow codecs are tried on every long column.
    Thorough,
}

/// Bytes that no encoder wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a value.
    #[error("encoded column is cut short")]
    Truncated,
    /// A field has a value that no encoder writes.
    #[error("encoded column is malformed: {0}")]
    Malformed(&'static str),
}
