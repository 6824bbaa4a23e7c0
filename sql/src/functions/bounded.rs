//! Guards around functions of which one call can make any amount of data out of a number: `repeat('x', 2000000000)`.
//!
//! The memory that expressions use is not accounted for by the engine, so what such a call would make is estimated from
//! its arguments, and refused above a bound that no sensible statement meets.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, Int64Type, IntervalMonthDayNanoType, IntervalUnit};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};

/// Bytes of text, or eighths of elements of lists, that one call on one batch may make.
pub const MAX_BYTES: u128 = 256 << 20;

/// How the size of a result follows from the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Growth {
    /// The first argument so many times.
    Times,
    /// Text padded to so many characters.
    Padded,
    /// A list of so many elements; the number is this argument.
    Elements(usize),
    /// A list from the first argument to the second.
    Range,
}

fn growth(name: &str) -> Option<Growth> {
    Some(match name {
        "repeat" => Growth::Times,
        "lpad" | "rpad" => Growth::Padded,
        "array_repeat" | "array_resize" => Growth::Elements(1),
        "range" | "generate_series" => Growth::Range,
        _ => return None,
    })
}

/// The function, guarded where it needs to be.
pub fn bounded(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    match growth(function.name()) {
        Some(growth) => Arc::new(ScalarUDF::new_from_impl(Bounded { function, growth })),
        None => function,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    function: Arc<ScalarUDF>,
    growth: Growth,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.function.inner().return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.function.inner().return_field_from_args(args)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.function.inner().coerce_types(arg_types)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.function.inner().simplify(args, info)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.function.inner().documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let bytes = self.estimate(&args)?;
        if bytes > MAX_BYTES {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "{}() would make {bytes} bytes at once, more than the limit of {MAX_BYTES}",
                self.name()
            )));
        }
        self.function.inner().invoke_with_args(args)
    }
}

impl Bounded {
    fn estimate(&self, args: &ScalarFunctionArgs) -> Result<u128> {
        let rows = args.number_rows;
        let column = |at: usize| -> Result<Option<(ArrayRef, usize)>> {
            Ok(match args.args.get(at) {
                None => None,
                // A scalar stands for one value in all rows.
                Some(ColumnarValue::Scalar(value)) => Some((value.to_array()?, rows.max(1))),
                Some(ColumnarValue::Array(array)) => Some((Arc::clone(array), 1)),
            })
        };
        let total = |at: usize| -> Result<u128> {
            let Some((array, times)) = column(at)? else { return Ok(0) };
            let Some(numbers) = integers(&array) else { return Ok(0) };
            let sum: u128 = numbers.iter().flatten().map(|n| n.max(0) as u128).sum();
            Ok(sum.saturating_mul(times as u128))
        };
        let width = |at: usize| -> Result<u128> { Ok(column(at)?.map_or(1, |(array, _)| widest(&array))) };
        Ok(match self.growth {
            Growth::Times => total(1)?.saturating_mul(width(0)?),
            Growth::Padded => total(1)?.saturating_mul(4),
            Growth::Elements(at) => total(at)?.saturating_mul(8).saturating_mul(width(0)?),
            Growth::Range => {
                let ends = match (column(0)?, column(1)?) {
                    (Some(first), Some(last)) => spans(&first.0, &last.0, rows),
                    (Some((only, times)), None) => {
                        let numbers = integers(&only);
                        let sum: Option<u128> =
                            numbers.map(|n| n.iter().flatten().map(|n| n.max(0) as u128).sum());
                        sum.unwrap_or(0).saturating_mul(times as u128)
                    }
                    _ => 0,
                };
                let step = match column(2)? {
                    Some((steps, _)) => smallest_step(&steps),
                    None => 1,
                };
                (ends / step.max(1)).saturating_mul(8)
            }
        })
    }
}

fn integers(array: &ArrayRef) -> Option<Int64Array> {
    let cast = cast(array, &DataType::Int64).ok()?;
    Some(cast.as_primitive::<Int64Type>().clone())
}

/// Bytes of the largest value of an array of text or lists; 1 for other types.
fn widest(array: &ArrayRef) -> u128 {
    let text = match array.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => cast(array, &DataType::LargeUtf8).ok(),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => {
            let bytes = array.get_array_memory_size() / array.len().max(1) / 8;
            return bytes.max(1) as u128;
        }
        _ => None,
    };
    let longest = text.and_then(|text| text.as_string::<i64>().iter().flatten().map(str::len).max());
    longest.unwrap_or(1).max(1) as u128
}

/// The sum of the distances between two columns, in their unit.
fn spans(first: &ArrayRef, last: &ArrayRef, rows: usize) -> u128 {
    let unit = |array: &ArrayRef| {
        let nanos = DataType::Timestamp(datafusion::arrow::datatypes::TimeUnit::Nanosecond, None);
        match array.data_type() {
            DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => cast(array, &nanos).ok(),
            _ => Some(Arc::clone(array)),
        }
    };
    let (Some(first), Some(last)) = (unit(first), unit(last)) else { return 0 };
    let (Some(first), Some(last)) = (integers(&first), integers(&last)) else { return 0 };
    let at = |array: &Int64Array, row: usize| match array.len() {
        0 => None,
        len => {
            let row = row.min(len - 1);
            array.is_valid(row).then(|| array.value(row))
        }
    };
    let distance = |row| Some(at(&first, row)?.abs_diff(at(&last, row)?) as u128);
    let len = first.len().max(last.len());
    let sum: u128 = (0..len).filter_map(distance).sum();
    if len == 1 { sum.saturating_mul(rows.max(1) as u128) } else { sum }
}

/// The smallest step of a range; of intervals in nanoseconds.
fn smallest_step(steps: &ArrayRef) -> u128 {
    if let DataType::Interval(_) = steps.data_type() {
        let Ok(steps) = cast(steps, &DataType::Interval(IntervalUnit::MonthDayNano)) else { return 1 };
        let steps = steps.as_primitive::<IntervalMonthDayNanoType>();
        let nanos = steps.iter().flatten().map(|step| {
            let days = i128::from(step.months) * 28 + i128::from(step.days);
            (days * 86_400_000_000_000 + i128::from(step.nanoseconds)).unsigned_abs()
        });
        return nanos.min().unwrap_or(1);
    }
    let steps = integers(steps);
    steps.and_then(|steps| steps.iter().flatten().map(i64::unsigned_abs).min()).map_or(1, u128::from)
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    async fn outcome(sql: &str) -> Result<(), String> {
        let context = SessionContext::new();
        for function in crate::functions::all_scalars() {
            context.register_udf((*function).clone());
        }
        let frame = context.sql(sql).await.map_err(|e| e.to_string())?;
        frame.collect().await.map(|_| ()).map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn sizes_are_bounded() {
        for fine in [
            "select repeat('ab', 1000)",
            "select lpad('x', 100, 'y')",
            "select array_repeat(1, 1000)",
            "select range(0, 100000, 2)",
            "select generate_series(timestamp '2026-01-01', timestamp '2026-01-02', interval '1 minute')",
            "select repeat(column1, 3) from (values ('a'), (null))",
        ] {
            assert_eq!(outcome(fine).await, Ok(()), "{fine}");
        }
        for fatal in [
            "select repeat('ab', 2000000000)",
            "select repeat(column1, 1000000000) from (values ('a'), ('b'))",
            "select lpad('x', 2000000000, 'y')",
            "select array_repeat(1, 4000000000)",
            "select range(0, 100000000000)",
            "select generate_series(timestamp '1970-01-01', timestamp '2026-01-02', interval '1 millisecond')",
        ] {
            let error = outcome(fatal).await.expect_err(fatal);
            assert!(error.contains("more than the limit") || error.contains("exceeds"), "{fatal}: {error}");
        }
    }
}
