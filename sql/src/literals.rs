//! What literals of a statement say, in whichever of several types they come.

use datafusion::common::ScalarValue;

/// A text; `None` for null and for what is none.
pub(crate) fn text(value: &ScalarValue) -> Option<&str> {
    value.try_as_str().flatten()
}

/// Nanoseconds since 1970 of a moment; `None` for null and for what is none.
pub(crate) fn nanos(value: &ScalarValue) -> Option<i128> {
    let (value, factor) = match value {
        ScalarValue::TimestampSecond(value, _) => (value, 1_000_000_000),
        ScalarValue::TimestampMillisecond(value, _) => (value, 1_000_000),
        ScalarValue::TimestampMicrosecond(value, _) => (value, 1_000),
        ScalarValue::TimestampNanosecond(value, _) => (value, 1),
        _ => return None,
    };
    value.map(|value| i128::from(value) * factor)
}
