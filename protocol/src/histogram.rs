//! Native histograms, as Prometheus defines them: exponential schemas -4 to 8, and -53 for custom bounds.
//!
//! [`Histogram`] is the value; [`encode`] and [`decode`] turn it into the compact blob that batches, memtables and
//! segments carry, bit for bit ([`check`] is a decode that keeps nothing); [`Histogram::validate`] says whether a
//! client's histogram makes sense.

mod codec;

pub use codec::{HistogramError, check, decode, encode};

/// Schema number of histograms with custom bucket bounds.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// Schema number of what is no histogram but a [`crate::rollup::Rollup`]: none of Prometheus'.
pub const ROLLUP_SCHEMA: i32 = -1000;

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

impl Histogram {
    /// Whether the bounds are the client's own.
    pub fn has_custom_bounds(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// Checks what the byte format does not: that the schema is known, the layout possible and the counts add up.
    pub fn validate(&self) -> Result<(), HistogramError> {
        if self.schema == ROLLUP_SCHEMA {
            return self.validate_rollup();
        }
        if self.has_custom_bounds() {
            self.validate_custom_bounds()?;
        } else if !(-4..=8).contains(&self.schema) {
            return Err(HistogramError::UnknownSchema(self.schema));
        } else if !self.custom_values.is_empty() {
            return Err(HistogramError::UnexpectedCustomBounds(self.schema));
        }
        codec::check_spans(&self.positive_spans, self.positive_buckets.len())?;
        codec::check_spans(&self.negative_spans, self.negative_buckets.len())?;

        let buckets = self.positive_buckets.iter().chain(&self.negative_buckets);
        // The comparisons let NaN pass: a float histogram may hold it, as any float sample may.
        if let Some(&count) =
            buckets.clone().chain([&self.zero_count, &self.count]).find(|&&count| count < 0.0)
        {
            return Err(HistogramError::NegativeCount(count));
        }
        // Float counts need not add up exactly, as Prometheus has it. Above 2^53 integers held as floats do not either.
        if self.is_integer && self.count < (1u64 << 53) as f64 {
            let in_buckets = self.zero_count + buckets.sum::<f64>();
            let matches = if self.sum.is_nan() { in_buckets <= self.count } else { in_buckets == self.count };
            if !matches {
                return Err(HistogramError::CountMismatch { count: self.count, in_buckets });
            }
        }
        Ok(())
    }

    fn validate_rollup(&self) -> Result<(), HistogramError> {
        let has_buckets = !self.positive_spans.is_empty() || !self.negative_spans.is_empty();
        if has_buckets || self.custom_values.len() > 1 {
            return Err(HistogramError::RollupWithBuckets);
        }
        // One that is no number fails the comparison, too.
        match [self.count, self.zero_count].into_iter().find(|count| !(*count >= 0.0)) {
            Some(count) => Err(HistogramError::NegativeCount(count)),
            None => Ok(()),
        }
    }

    fn validate_custom_bounds(&self) -> Result<(), HistogramError> {
        if self.zero_count != 0.0 || self.zero_threshold != 0.0 {
            return Err(HistogramError::CustomWithOthers("a zero bucket"));
        }
        if !self.negative_spans.is_empty() || !self.negative_buckets.is_empty() {
            return Err(HistogramError::CustomWithOthers("negative buckets"));
        }
        let ascending = self.custom_values.windows(2).all(|pair| pair[0] < pair[1]);
        let last_is_finite = self.custom_values.last().is_none_or(|&last| last < f64::INFINITY);
        if !ascending || !last_is_finite {
            return Err(HistogramError::CustomBoundsOrder);
        }
        let reached: i64 =
            self.positive_spans.iter().map(|span| i64::from(span.offset) + i64::from(span.length)).sum();
        let first_is_negative = self.positive_spans.first().is_some_and(|span| span.offset < 0);
        if first_is_negative || reached > self.custom_values.len() as i64 + 1 {
            return Err(HistogramError::CustomBoundsCount {
                buckets: reached,
                bounds: self.custom_values.len(),
            });
        }
        Ok(())
    }
}
