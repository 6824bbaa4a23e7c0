#![doc = include_str!("batch/format.md")]
//!
//! [`SubBatchBuilder`] writes the bytes (the router does), [`SubBatchView`] reads them in place (`apply` does),
//! [`SubBatchOutcome`] is the answer. Everything that can be wrong with a write is found before the bytes are made or
//! while they are parsed; what remains after a parse is a set of columns whose iterators have no error path.

mod builder;
mod outcome;
mod view;

pub use builder::SubBatchBuilder;
pub use outcome::{OutcomeError, RejectReason, SubBatchOutcome};
pub use view::{
    ExemplarColumn, ExemplarRow, FloatColumn, FloatRow, HistogramColumn, HistogramRow, NewSeries, RowIndex,
    SubBatchView,
};

use crate::ids::Ordinal;

/// Version of the sub-batch format written today.
pub const VERSION: u8 = 1;

/// Longest sub-batch. A request that has more for one shard is cut into several; a frame between peers holds one.
pub const MAX_BYTES: usize = 6 << 20;

/// How a row names its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SeriesRef {
    /// By the ordinal that the shard gave it in the batch's registry generation.
    Known(Ordinal),
    /// By its position among the batch's new series.
    New(u32),
}

/// What a metric family is, as the client declares it. The numbers are those of remote write and of the format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MetricType {
    /// Not said.
    #[default]
    Unknown = 0,
    /// Only grows, or starts again from zero.
    Counter = 1,
    /// Goes up and down.
    Gauge = 2,
    /// Counts in buckets.
    Histogram = 3,
    /// Buckets whose counts go up and down.
    GaugeHistogram = 4,
    /// Quantiles made by the client.
    Summary = 5,
    /// Labels that say something, with the value 1.
    Info = 6,
    /// One of several states.
    StateSet = 7,
}

impl MetricType {
    /// The type of a number of the format, `None` when there is none.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Unknown,
            1 => Self::Counter,
            2 => Self::Gauge,
            3 => Self::Histogram,
            4 => Self::GaugeHistogram,
            5 => Self::Summary,
            6 => Self::Info,
            7 => Self::StateSet,
            _ => return None,
        })
    }

    /// The name that Prometheus' metadata API gives the type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }
}

/// What is known of a metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata<'a> {
    /// Name of the family; not empty.
    pub family: &'a str,
    /// What it is.
    pub metric_type: MetricType,
    /// Text for people.
    pub help: &'a str,
    /// Unit of the values.
    pub unit: &'a str,
}

/// Why bytes are no sub-batch.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BatchError {
    /// A version that this build does not know.
    #[error("sub-batch version {0} is not known")]
    UnknownVersion(u8),
    /// Longer than [`MAX_BYTES`].
    #[error("sub-batch of {0} bytes is longer than allowed")]
    TooLong(usize),
    /// The bytes end too early, or a length or number is wrong.
    #[error("sub-batch is malformed in its {0}")]
    Malformed(&'static str),
    /// A row names a new series that the batch does not bring.
    #[error("a row of the {section} names new series {index} of {count}")]
    UnknownNewSeries {
        /// The column.
        section: &'static str,
        /// Position that the row names.
        index: u64,
        /// Number of new series.
        count: u64,
    },
    /// Time runs do not add up to the number of rows.
    #[error("time runs of the {section} cover {covered} rows of {rows}")]
    RunMismatch {
        /// The column.
        section: &'static str,
        /// Rows of all runs.
        covered: u64,
        /// Rows of the column.
        rows: u64,
    },
    /// Labels are not canonical.
    #[error("labels in the {section} are wrong")]
    Labels {
        /// The section.
        section: &'static str,
        /// What is wrong.
        #[source]
        source: crate::labels::LabelsError,
    },
    /// A histogram blob is malformed.
    #[error("histogram {row} is wrong")]
    Histogram {
        /// Its row.
        row: usize,
        /// What is wrong.
        #[source]
        source: crate::histogram::HistogramError,
    },
}

#[cfg(test)]
mod tests;
