//! Segments: immutable files that hold many series of one partition, in one order, each column coded by content.
//!
//! ```text
//! SegmentBuilder: push series in order ─► columns coded into blocks ─► sink (memory or file)
//!                                        └► labels collected ─► dictionaries, families, value-id columns at the end
//! SegmentReader: map ─► header, footer checked ─► select(matchers) on dictionaries and id columns ─► series numbers
//!                                              └► SegmentCursor: labels and columns of a series, block by block
//! ```
//!
//! Invariants:
//! - Series are strictly ascending by tenant and [`compare_series`]; readers give them back in that order, so that
//!   merging segments is a merge of sorted lists.
//! - Equal input gives equal bytes. The name of a segment is the BLAKE3 hash of its bytes: replicas that built it
//!   apart agree on the name, and a file can be checked against its own name.
//! - Nothing in a file is trusted before its checksum was verified: header and footer when it is opened, sections
//!   and blocks at first use. Damage is [`SegmentError::Corrupt`] with path and offset; never a panic, never a wrong
//!   answer.
//! - A vector of timestamps is stored once and decoded once for all series that share it.
//!
#![doc = include_str!("segment/format.md")]

mod builder;
mod check;
mod cursor;
mod dictionary;
pub(crate) mod header;
mod id_column;
mod labels_index;
mod metadata;
mod order;
pub(crate) mod reader;
pub(crate) mod rows;
mod sink;

use std::fmt;
use std::path::PathBuf;

use protocol::error::ErrorKind;
use protocol::labels::Labels;

use crate::encoding::DecodeError;

pub use builder::{SealedSegment, SegmentBuilder, SeriesInput};
pub use cursor::{SegmentCursor, TimeSlice};
pub use header::{Partition, SegmentHeader, Signal, Summary};
pub use metadata::MetricMetadata;
pub use order::{compare_series, order_key};
pub use reader::{SegmentReader, SegmentSizes, Selection};
pub use sink::{FileSink, Sink};

/// Name of a segment: the BLAKE3 hash of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName(pub [u8; 32]);

impl SegmentName {
    /// The name that these bytes must have.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Reads what `Display` writes: 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        let mut name = [0; 32];
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        for (byte, pair) in name.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(name))
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An exemplar: one observation behind a series, with labels of its own (a trace id, mostly).
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// When it was observed.
    pub time_ms: i64,
    /// What was observed.
    pub value: f64,
    /// Its labels.
    pub labels: Labels,
}

/// From the sample at `time_ms` on, the series counts from `start_ms`. 0 says that the start is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartTime {
    /// Time of the first sample for which this holds.
    pub time_ms: i64,
    /// When the counter was created.
    pub start_ms: i64,
}

/// Why a segment can not be read.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The bytes are not what was written.
    #[error("segment {path} is corrupt at offset {offset}: {reason}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where the damaged structure begins.
        offset: u64,
        /// What is wrong.
        reason: Corruption,
    },
    /// The file was written by a later version.
    #[error("segment {path} has format version {version}, this build reads up to {}", header::VERSION)]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
    /// A series number outside the segment was asked for.
    #[error("segment {path} has no series {series}")]
    NoSuchSeries {
        /// The file.
        path: PathBuf,
        /// The number.
        series: u32,
    },
}

impl SegmentError {
    /// The kind for callers that only know kinds.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Corrupt { .. } => ErrorKind::Corruption,
            Self::UnsupportedVersion { .. } | Self::NoSuchSeries { .. } => ErrorKind::Internal,
        }
    }
}

/// What is wrong with the bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corruption {
    /// The file does not begin or end as a segment does.
    #[error("not a whole segment file")]
    NotASegment,
    /// Bytes do not match their checksum.
    #[error("checksum mismatch in {0}")]
    Checksum(&'static str),
    /// A place in the file or a reference lies outside of what there is.
    #[error("{0} out of bounds")]
    Bounds(&'static str),
    /// A column can not be decoded.
    #[error("{what}: {source}")]
    Column {
        /// Which column.
        what: &'static str,
        /// Why.
        source: DecodeError,
    },
}

/// Why series can not be written.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A series is not greater than the one before it.
    #[error("series {labels} of tenant {tenant} is out of order")]
    OutOfOrder {
        /// Its tenant.
        tenant: String,
        /// Its labels.
        labels: Labels,
    },
    /// The times of a column do not ascend, or their number differs from the number of values.
    #[error("{column} column of series {labels} is not well formed")]
    Column {
        /// The column.
        column: &'static str,
        /// The series.
        labels: Labels,
    },
    /// The segment has more series, vectors or samples of a series than the format can count.
    #[error("segment is full: {0}")]
    Full(&'static str),
    /// The sink failed.
    #[error("writing a segment failed")]
    Io(#[from] std::io::Error),
}

impl BuildError {
    /// The kind for callers that only know kinds.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(_) => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        }
    }
}

#[cfg(test)]
mod tests;
