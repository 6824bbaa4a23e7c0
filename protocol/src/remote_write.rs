//! Prometheus remote write, versions 1.0 (`prometheus.WriteRequest`) and 2.0 (`io.prometheus.write.v2.Request`).
//!
//! ```text
//! compressed body --decompress()--> protobuf --decode()--> WriteBatch
//!                  length checked             walked in place, no message structs
//! ```
//!
//! The walkers read the wire format directly: no allocation per label, sample or series beyond the batch's flat lists.
//! Of labels they take the fingerprint and the position, nothing else. Message structs would allocate for every label and
//! sample, which costs several times what the walk does.
//!
//! Two kinds of wrong are kept apart. Bytes that are no such message fail the request as a whole, with the position
//! ([`DecodeError`]). A series, histogram or exemplar that is well-formed but senseless is left out and counted in the
//! batch's rejections, and everything else is written.
//!
//! Hostile input: a body has a [limit](Limits), a declared length is checked before anything is allocated,
//! messages nest three deep by construction, and the numbers of series, rows, symbols and buckets are bounded.

mod histogram;
pub(crate) mod v1;
mod v2;
pub(crate) mod wire;

pub(crate) use v1::for_each_raw_label;

use crate::error::ErrorKind;
use crate::write_batch::{FingerprintKey, LabelLimits, MAX_ROWS, MAX_SERIES, Rows, WriteBatch};

/// Longest decompressed body, whatever the settings say.
pub const MAX_BODY_BYTES: usize = 256 << 20;

/// What a request may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the body when decompressed; [`MAX_BODY_BYTES`] at most.
    pub max_body_bytes: usize,
    /// Its labels.
    pub labels: LabelLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_body_bytes: 32 << 20, labels: LabelLimits::default() }
    }
}

impl Limits {
    fn body_bytes(&self) -> usize {
        self.max_body_bytes.min(MAX_BODY_BYTES)
    }
}

/// Most symbols of a 2.0 request.
pub const MAX_SYMBOLS: usize = 1 << 20;

/// Most spans, buckets or custom bounds of one native histogram.
pub const MAX_BUCKETS: usize = 1 << 14;

/// Snappy's longest copy makes 64 bytes of 3, so no valid body grows by more. A declared length above that is a lie.
const MAX_SNAPPY_RATIO: usize = 22;

/// The message in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `prometheus.WriteRequest`
    V1,
    /// `io.prometheus.write.v2.Request`
    V2,
}

/// Why a body is no write request. Nothing of it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The decompressed length is above the limit.
    #[error("the body is {bytes} bytes long when decompressed, allowed are {limit}")]
    TooLong {
        /// The length, as declared.
        bytes: u64,
        /// The limit.
        limit: usize,
    },
    /// The body is not a snappy block.
    #[error("the body is not valid snappy (block format): {0}")]
    Snappy(String),
    /// Bytes that are no protobuf message, or a known field of another type.
    #[error("the body is not a valid {place} at byte {at}: {problem}")]
    Malformed {
        /// Position in the decompressed body.
        at: usize,
        /// What is wrong there.
        problem: Problem,
        /// The message and field that were read.
        place: String,
    },
    /// More series, rows or symbols than a request may have.
    #[error("the request has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A 2.0 request whose first symbol is not empty.
    #[error("the first of the symbols must be empty, it is {0:?}")]
    FirstSymbol(String),
}

/// What is wrong with protobuf bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A varint that ends too early or is longer than 64 bits.
    #[error("malformed varint")]
    Varint,
    /// A field number of 0 or above the maximum.
    #[error("impossible field number")]
    Field,
    /// A length that reaches beyond the message around it.
    #[error("a length of {announced} bytes where {left} are left")]
    Length {
        /// The length as written.
        announced: u64,
        /// Bytes left.
        left: usize,
    },
    /// The message ends inside a number.
    #[error("the message ends inside a number")]
    Cut,
    /// Values inside of values, more than anybody means.
    #[error("values are nested more than {0} deep")]
    Depth(usize),
    /// A known field with an unexpected wire type, or an unknown wire type.
    #[error("unexpected wire type {found}")]
    WireType {
        /// The wire type as written.
        found: u8,
    },
}

/// An error on its way out of a walker. Boxed, so that the results of the innermost functions stay in registers.
pub(crate) type Fault = Box<DecodeError>;

impl DecodeError {
    /// Too much, or simply wrong.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLong { .. } | Self::TooMany { .. } => ErrorKind::LimitExceeded,
            _ => ErrorKind::InvalidInput,
        }
    }

    /// Names the place, unless a deeper level has done so.
    pub(crate) fn within(mut self: Box<Self>, name: impl FnOnce() -> String) -> Box<Self> {
        if let Self::Malformed { place, .. } = &mut *self
            && place.is_empty()
        {
            *place = name();
        }
        self
    }
}

/// The length that a snappy block declares, if it can be true and is allowed.
pub fn decompressed_len(compressed: &[u8], limits: &Limits) -> Result<usize, DecodeError> {
    if compressed.is_empty() {
        return Err(DecodeError::Snappy("the body is empty".into()));
    }
    let declared =
        snap::raw::decompress_len(compressed).map_err(|error| DecodeError::Snappy(error.to_string()))?;
    let limit = limits.body_bytes();
    if declared > limit {
        return Err(DecodeError::TooLong { bytes: declared as u64, limit });
    }
    if declared > compressed.len() * MAX_SNAPPY_RATIO {
        let len = compressed.len();
        return Err(DecodeError::Snappy(format!(
            "{len} bytes can not hold the {declared} that they declare"
        )));
    }
    Ok(declared)
}

/// Undoes snappy's block format. The declared length is checked before anything is allocated.
pub fn decompress(compressed: &[u8], limits: &Limits) -> Result<Vec<u8>, DecodeError> {
    let mut body = vec![0; decompressed_len(compressed, limits)?];
    let len = snap::raw::Decoder::new()
        .decompress(compressed, &mut body)
        .map_err(|error| DecodeError::Snappy(error.to_string()))?;
    body.truncate(len);
    Ok(body)
}

/// Walks a decompressed body.
pub fn decode(
    version: Version,
    body: Vec<u8>,
    key: &FingerprintKey,
    limits: &Limits,
) -> Result<WriteBatch, DecodeError> {
    if body.len() > limits.body_bytes() {
        return Err(DecodeError::TooLong { bytes: body.len() as u64, limit: limits.body_bytes() });
    }
    let rows = match version {
        Version::V1 => v1::walk(&body, key, limits.labels),
        Version::V2 => v2::walk(&body, key, limits.labels),
    };
    match rows {
        Ok(rows) => Ok(rows.finish(body)),
        Err(fault) => Err(*fault),
    }
}

/// Most bytes of blobs and label sets that a request may make of itself: references and deltas of one byte can stand for
/// many.
const MAX_SCRATCH_BYTES: usize = 64 << 20;

/// Called before a row is taken: keeps the batch within its bounds.
#[inline]
pub(crate) fn check_rows(rows: &Rows) -> Result<(), Fault> {
    if rows.row_count() >= MAX_ROWS {
        return Err(Box::new(DecodeError::TooMany { what: "rows", limit: MAX_ROWS }));
    }
    if rows.scratch_len() >= MAX_SCRATCH_BYTES {
        let what = "bytes of histograms and exemplars once they are written out";
        return Err(Box::new(DecodeError::TooMany { what, limit: MAX_SCRATCH_BYTES }));
    }
    Ok(())
}

/// Called before a series is taken.
#[inline]
pub(crate) fn check_series(rows: &Rows) -> Result<(), Fault> {
    if rows.series_len() >= MAX_SERIES {
        return Err(Box::new(DecodeError::TooMany { what: "series", limit: MAX_SERIES }));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
