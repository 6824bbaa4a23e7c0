//! Codecs of columns inside segments: from arrays to bytes and back, nothing of files.
//!
//! - [`bits`], [`ints`] and [`frame`] are those of `protocol::encoding`: integers packed and in blocks, bytes in zstd.
//! - [`times`] codes ascending timestamp vectors as residuals of a grid.
//! - [`floats`] codes values, choosing by content: constant, scaled integer, bit pattern, pco or raw.
//! - [`blobs`] codes opaque byte strings.
//!
//! Invariants: a round trip keeps every bit of every float. The same input and effort give the same bytes. A
//! decoder takes its bytes as hostile: it answers [`DecodeError`], never panics, and never allocates more than the
//! count that its caller vouches for. Decoders do not detect every flipped bit: checksums live one layer up.

pub mod blobs;
pub mod floats;
pub mod times;

pub use protocol::encoding::{DecodeError, bits, frame, ints};

/// How much CPU an encoder may spend on choosing. Part of what decides the bytes, so replicas must agree on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// For flushes: slow codecs are tried only where the fast ones do badly.
    #[default]
    Fast,
    /// For merges: slow codecs are tried on every long column.
    Thorough,
}
