//! Native histograms, as Prometheus defines them: exponential schemas -4 to 8, and -53 for custom bounds.

/// Schema number of histograms with custom bucket bounds.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// What is known of a counter reset between a histogram and the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CounterResetHint {
    /// Nothing is known: compare the buckets.
    #[default]
    Unknown,
    /// A reset happened before this histogram.
    Reset,
    /// No reset happened before this histogram.
    NotReset,
    /// The histogram is a gauge: resets have no meaning.
    Gauge,
}

/// A run of consecutive buckets: `offset` is the gap to the end of the span before (or the first index).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Gap to the span before, in buckets; the first span's is the index of its first bucket.
    pub offset: i32,
    /// Number of buckets in the run.
    pub length: u32,
}

/// A native histogram with absolute float bucket counts. Integer histograms are held the same way, marked by
/// [`Histogram::is_integer`], so that they can be given back as they came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// What is known of a reset before this one.
    pub counter_reset_hint: CounterResetHint,
    /// Whether the client sent integer counts.
    pub is_integer: bool,
    /// Resolution: bucket bounds grow by 2^(2^-schema); [`CUSTOM_BUCKETS_SCHEMA`] for custom bounds.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// Observations in all.
    pub count: f64,
    /// Sum of the observations; the stale marker here marks the whole histogram as stale.
    pub sum: f64,
    /// Layout of `positive_buckets`.
    pub positive_spans: Vec<Span>,
    /// Layout of `negative_buckets`.
    pub negative_spans: Vec<Span>,
    /// Absolute counts of the positive buckets.
    pub positive_buckets: Vec<f64>,
    /// Absolute counts of the negative buckets.
    pub negative_buckets: Vec<f64>,
    /// Upper bounds of custom buckets, ascending, without +Inf; empty for exponential schemas.
    pub custom_values: Vec<f64>,
}
