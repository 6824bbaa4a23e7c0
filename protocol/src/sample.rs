//! Samples: a timestamp in milliseconds since 1970 and a 64-bit float, and the marker that ends a series.

/// Milliseconds since 1970-01-01 UTC.
pub type TimestampMs = i64;

/// Bits of the NaN that Prometheus writes when a series ends (`value.StaleNaN` there).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Bits of the NaN that Prometheus uses for ordinary not-a-number values (`value.NormalNaN` there).
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// The marker that ends a series.
pub const fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether a value is the marker that ends a series. Compares bits: other NaNs are values.
#[inline]
pub const fn is_stale_nan(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}
