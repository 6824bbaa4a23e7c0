//! The table of PromQL's functions: names, types and documentation, for the parser, the UI and the docs.
//!
//! What a function does stands in the modules below, by family, as pure code over samples; [`FunctionId`] connects
//! the two.

pub mod labels;
pub mod math;
pub mod over_time;
pub mod rate;
pub mod regression;
pub mod window;

use super::ast::ValueType::{self, Matrix, Scalar, String, Vector};

/// Which function it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the table below documents each")]
pub enum FunctionId {
    Abs,
    Absent,
    AbsentOverTime,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    AvgOverTime,
    Ceil,
    Changes,
    Clamp,
    ClampMax,
    ClampMin,
    Cos,
    Cosh,
    CountOverTime,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    DaysInMonth,
    Deg,
    Delta,
    Deriv,
    DoubleExponentialSmoothing,
    End,
    Exp,
    FirstOverTime,
    Floor,
    HistogramAvg,
    HistogramCount,
    HistogramFraction,
    HistogramQuantile,
    HistogramQuantiles,
    HistogramStddev,
    HistogramStdvar,
    HistogramSum,
    Hour,
    Idelta,
    Increase,
    Info,
    Irate,
    LabelJoin,
    LabelReplace,
    LastOverTime,
    Ln,
    Log10,
    Log2,
    MadOverTime,
    MaxOf,
    MaxOverTime,
    MinOf,
    MinOverTime,
    Minute,
    Month,
    Pi,
    PredictLinear,
    PresentOverTime,
    QuantileOverTime,
    Rad,
    Range,
    Rate,
    Resets,
    Round,
    ScalarOf,
    Sgn,
    Sin,
    Sinh,
    Sort,
    SortByLabel,
    SortByLabelDesc,
    SortDesc,
    Sqrt,
    Start,
    StartTimestamp,
    StddevOverTime,
    StdvarOverTime,
    Step,
    SumOverTime,
    Tan,
    Tanh,
    Time,
    Timestamp,
    TsOfFirstOverTime,
    TsOfLastOverTime,
    TsOfMaxOverTime,
    TsOfMinOverTime,
    VectorOf,
    Year,
}

/// A function of the language.
#[derive(Debug)]
pub struct Function {
    /// Which it is.
    pub id: FunctionId,
    /// Its name.
    pub name: &'static str,
    /// Types of its arguments.
    pub args: &'static [ValueType],
    /// 0: all arguments are due. Above: the last may be absent or come so many times. Below: any number of times.
    pub variadic: i32,
    /// Type of its value.
    pub returns: ValueType,
    /// Prometheus calls it experimental.
    pub experimental: bool,
    /// One sentence for people.
    pub doc: &'static str,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

const fn f(
    id: FunctionId,
    name: &'static str,
    args: &'static [ValueType],
    variadic: i32,
    returns: ValueType,
    doc: &'static str,
) -> Function {
    Function { id, name, args, variadic, returns, experimental: false, doc }
}

const fn experimental(function: Function) -> Function {
    Function { experimental: true, ..function }
}

use FunctionId as Id;

/// All functions, by name.
#[rustfmt::skip]
pub static FUNCTIONS: &[Function] = &[
    f(Id::Abs, "abs", &[Vector], 0, Vector, "Absolute value."),
    f(Id::Absent, "absent", &[Vector], 0, Vector, "1 where the vector has no element, with the labels its matchers tell."),
    f(Id::AbsentOverTime, "absent_over_time", &[Matrix], 0, Vector, "1 where the range has no sample, with the labels its matchers tell."),
    f(Id::Acos, "acos", &[Vector], 0, Vector, "Arccosine in radians."),
    f(Id::Acosh, "acosh", &[Vector], 0, Vector, "Inverse hyperbolic cosine."),
    f(Id::Asin, "asin", &[Vector], 0, Vector, "Arcsine in radians."),
    f(Id::Asinh, "asinh", &[Vector], 0, Vector, "Inverse hyperbolic sine."),
    f(Id::Atan, "atan", &[Vector], 0, Vector, "Arctangent in radians."),
    f(Id::Atanh, "atanh", &[Vector], 0, Vector, "Inverse hyperbolic tangent."),
    f(Id::AvgOverTime, "avg_over_time", &[Matrix], 0, Vector, "Average of the samples in the range."),
    f(Id::Ceil, "ceil", &[Vector], 0, Vector, "Rounded up to an integer."),
    f(Id::Changes, "changes", &[Matrix], 0, Vector, "How often the value changed in the range."),
    f(Id::Clamp, "clamp", &[Vector, Scalar, Scalar], 0, Vector, "Held between a minimum and a maximum."),
    f(Id::ClampMax, "clamp_max", &[Vector, Scalar], 0, Vector, "Held below a maximum."),
    f(Id::ClampMin, "clamp_min", &[Vector, Scalar], 0, Vector, "Held above a minimum."),
    f(Id::Cos, "cos", &[Vector], 0, Vector, "Cosine of radians."),
    f(Id::Cosh, "cosh", &[Vector], 0, Vector, "Hyperbolic cosine."),
    f(Id::CountOverTime, "count_over_time", &[Matrix], 0, Vector, "Number of samples in the range."),
    f(Id::DayOfMonth, "day_of_month", &[Vector], 1, Vector, "Day of the month (UTC) of times in seconds."),
    f(Id::DayOfWeek, "day_of_week", &[Vector], 1, Vector, "Day of the week (UTC), 0 is Sunday."),
    f(Id::DayOfYear, "day_of_year", &[Vector], 1, Vector, "Day of the year (UTC), from 1."),
    f(Id::DaysInMonth, "days_in_month", &[Vector], 1, Vector, "Number of days of the month (UTC)."),
    f(Id::Deg, "deg", &[Vector], 0, Vector, "Radians to degrees."),
    f(Id::Delta, "delta", &[Matrix], 0, Vector, "Difference of a gauge over the range, extrapolated to its edges."),
    f(Id::Deriv, "deriv", &[Matrix], 0, Vector, "Slope per second by linear regression."),
    experimental(f(Id::DoubleExponentialSmoothing, "double_exponential_smoothing", &[Matrix, Scalar, Scalar], 0, Vector, "Smoothed value with a smoothing and a trend factor.")),
    experimental(f(Id::End, "end", &[], 0, Scalar, "End of the query in seconds.")),
    f(Id::Exp, "exp", &[Vector], 0, Vector, "e to the power of the value."),
    f(Id::FirstOverTime, "first_over_time", &[Matrix], 0, Vector, "The oldest sample of the range."),
    f(Id::Floor, "floor", &[Vector], 0, Vector, "Rounded down to an integer."),
    f(Id::HistogramAvg, "histogram_avg", &[Vector], 0, Vector, "Average of a native histogram's observations."),
    f(Id::HistogramCount, "histogram_count", &[Vector], 0, Vector, "Number of a native histogram's observations."),
    f(Id::HistogramFraction, "histogram_fraction", &[Scalar, Scalar, Vector], 0, Vector, "Share of observations between two values."),
    f(Id::HistogramQuantile, "histogram_quantile", &[Scalar, Vector], 0, Vector, "Quantile of classic or native histograms."),
    experimental(f(Id::HistogramQuantiles, "histogram_quantiles", &[Vector, String, Scalar, Scalar], 9, Vector, "Several quantiles at once, told apart by a label.")),
    f(Id::HistogramStddev, "histogram_stddev", &[Vector], 0, Vector, "Standard deviation of a native histogram's observations."),
    f(Id::HistogramStdvar, "histogram_stdvar", &[Vector], 0, Vector, "Variance of a native histogram's observations."),
    f(Id::HistogramSum, "histogram_sum", &[Vector], 0, Vector, "Sum of a native histogram's observations."),
    f(Id::Hour, "hour", &[Vector], 1, Vector, "Hour of the day (UTC)."),
    f(Id::Idelta, "idelta", &[Matrix], 0, Vector, "Difference of the last two samples."),
    f(Id::Increase, "increase", &[Matrix], 0, Vector, "Increase of a counter over the range, extrapolated to its edges."),
    experimental(f(Id::Info, "info", &[Vector, Vector], 1, Vector, "Adds the labels of matching info metrics.")),
    f(Id::Irate, "irate", &[Matrix], 0, Vector, "Increase per second of a counter between the last two samples."),
    f(Id::LabelJoin, "label_join", &[Vector, String, String, String], -1, Vector, "Sets a label to others joined by a separator."),
    f(Id::LabelReplace, "label_replace", &[Vector, String, String, String, String], 0, Vector, "Sets a label by a regular expression over another."),
    f(Id::LastOverTime, "last_over_time", &[Matrix], 0, Vector, "The newest sample of the range."),
    f(Id::Ln, "ln", &[Vector], 0, Vector, "Natural logarithm."),
    f(Id::Log10, "log10", &[Vector], 0, Vector, "Decimal logarithm."),
    f(Id::Log2, "log2", &[Vector], 0, Vector, "Binary logarithm."),
    experimental(f(Id::MadOverTime, "mad_over_time", &[Matrix], 0, Vector, "Median absolute deviation of the range.")),
    experimental(f(Id::MaxOf, "max_of", &[Scalar, Scalar], 0, Scalar, "The larger of two scalars.")),
    f(Id::MaxOverTime, "max_over_time", &[Matrix], 0, Vector, "Largest value of the range."),
    experimental(f(Id::MinOf, "min_of", &[Scalar, Scalar], 0, Scalar, "The smaller of two scalars.")),
    f(Id::MinOverTime, "min_over_time", &[Matrix], 0, Vector, "Smallest value of the range."),
    f(Id::Minute, "minute", &[Vector], 1, Vector, "Minute of the hour (UTC)."),
    f(Id::Month, "month", &[Vector], 1, Vector, "Month of the year (UTC)."),
    f(Id::Pi, "pi", &[], 0, Scalar, "Pi."),
    f(Id::PredictLinear, "predict_linear", &[Matrix, Scalar], 0, Vector, "Value so many seconds ahead by linear regression."),
    f(Id::PresentOverTime, "present_over_time", &[Matrix], 0, Vector, "1 for series with a sample in the range."),
    f(Id::QuantileOverTime, "quantile_over_time", &[Scalar, Matrix], 0, Vector, "Quantile of the samples in the range."),
    f(Id::Rad, "rad", &[Vector], 0, Vector, "Degrees to radians."),
    experimental(f(Id::Range, "range", &[], 0, Scalar, "Length of the query in seconds.")),
    f(Id::Rate, "rate", &[Matrix], 0, Vector, "Increase per second of a counter over the range, extrapolated to its edges."),
    f(Id::Resets, "resets", &[Matrix], 0, Vector, "How often a counter was reset in the range."),
    f(Id::Round, "round", &[Vector, Scalar], 1, Vector, "Rounded to an integer or a multiple."),
    f(Id::ScalarOf, "scalar", &[Vector], 0, Scalar, "The value of a vector with one element, else NaN."),
    f(Id::Sgn, "sgn", &[Vector], 0, Vector, "-1, 0 or 1 by the sign."),
    f(Id::Sin, "sin", &[Vector], 0, Vector, "Sine of radians."),
    f(Id::Sinh, "sinh", &[Vector], 0, Vector, "Hyperbolic sine."),
    f(Id::Sort, "sort", &[Vector], 0, Vector, "Sorted by value, ascending."),
    experimental(f(Id::SortByLabel, "sort_by_label", &[Vector, String], -1, Vector, "Sorted by labels, numbers in them by value.")),
    experimental(f(Id::SortByLabelDesc, "sort_by_label_desc", &[Vector, String], -1, Vector, "Sorted by labels, descending.")),
    f(Id::SortDesc, "sort_desc", &[Vector], 0, Vector, "Sorted by value, descending."),
    f(Id::Sqrt, "sqrt", &[Vector], 0, Vector, "Square root."),
    experimental(f(Id::Start, "start", &[], 0, Scalar, "Start of the query in seconds.")),
    experimental(f(Id::StartTimestamp, "start_timestamp", &[Vector], 0, Vector, "When the counter or histogram of the sample started, in seconds.")),
    f(Id::StddevOverTime, "stddev_over_time", &[Matrix], 0, Vector, "Standard deviation of the samples in the range."),
    f(Id::StdvarOverTime, "stdvar_over_time", &[Matrix], 0, Vector, "Variance of the samples in the range."),
    experimental(f(Id::Step, "step", &[], 0, Scalar, "Step of the query in seconds.")),
    f(Id::SumOverTime, "sum_over_time", &[Matrix], 0, Vector, "Sum of the samples in the range."),
    f(Id::Tan, "tan", &[Vector], 0, Vector, "Tangent of radians."),
    f(Id::Tanh, "tanh", &[Vector], 0, Vector, "Hyperbolic tangent."),
    f(Id::Time, "time", &[], 0, Scalar, "Evaluation time in seconds."),
    f(Id::Timestamp, "timestamp", &[Vector], 0, Vector, "Time of each sample in seconds."),
    experimental(f(Id::TsOfFirstOverTime, "ts_of_first_over_time", &[Matrix], 0, Vector, "Time of the oldest sample of the range.")),
    experimental(f(Id::TsOfLastOverTime, "ts_of_last_over_time", &[Matrix], 0, Vector, "Time of the newest sample of the range.")),
    experimental(f(Id::TsOfMaxOverTime, "ts_of_max_over_time", &[Matrix], 0, Vector, "Time of the last largest sample of the range.")),
    experimental(f(Id::TsOfMinOverTime, "ts_of_min_over_time", &[Matrix], 0, Vector, "Time of the last smallest sample of the range.")),
    f(Id::VectorOf, "vector", &[Scalar], 0, Vector, "A scalar as a vector without labels."),
    f(Id::Year, "year", &[Vector], 1, Vector, "Year (UTC)."),
];

/// The function of a name.
pub fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|function| function.name.cmp(name)).ok().map(|i| &FUNCTIONS[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_for_the_search() {
        assert!(FUNCTIONS.windows(2).all(|w| w[0].name < w[1].name));
        assert!(FUNCTIONS.iter().all(|function| find(function.name) == Some(function)));
        assert!(find("rat").is_none());
    }
}
