//! LogQL: the language in which Grafana asks for logs.
//!
//! ```text
//! text ─parse─► Expr ─Display─► text        (round trip: parts of a query travel to the shards as text)
//!   log query:    {selector} | stages        shards: scan ─► pipeline ─► lines          coordinator: merge by time
//!   metric query: op({selector} | stages [5m])  shards: states by series and bucket     coordinator: merge, windows,
//!                                                                                       aggregations, binary operations
//! ```
//!
//! What Loki calls labels of a stream are the attributes of the resource; structured metadata are the attributes of the
//! record, its ids, severity and scope. Names are written as Prometheus allows them: every other character becomes `_`.
//! Errors of parsing lines go into `__error__`, as in Loki; a metric query that meets one fails.
//!
//! Streams spread over all shards, so a series of a range aggregation has a part on each. States of the parts merge
//! exactly: counts as whole numbers, sums compensated, quantiles by their values.

pub mod engine;
pub mod eval;
pub(crate) mod fragment;
pub mod labels;
pub(crate) mod lexer;
mod lineparse;
pub mod parser;
mod pipeline;
mod printer;
pub mod range;
mod template;
#[cfg(test)]
mod tests;
pub mod units;

use protocol::matcher::MatchOp;

pub use parser::{LogqlError, parse, parse_log, parse_selector};

/// A query.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// Lines.
    Log(LogExpr),
    /// Numbers.
    Metric(Metric),
}

/// Selected streams and what is done to their lines.
#[derive(Clone, Debug, PartialEq)]
pub struct LogExpr {
    /// All are to be met by the labels of a stream.
    pub matchers: Vec<LabelMatcher>,
    /// In the order in which lines pass them.
    pub stages: Vec<Stage>,
}

/// A test of a label.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelMatcher {
    /// The label.
    pub name: String,
    /// How it is compared.
    pub op: MatchOp,
    /// Value or expression.
    pub value: String,
}

/// What a line filter does with a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineOp {
    /// `|=`
    Contains,
    /// `!=`
    NotContains,
    /// `|~`
    Matches,
    /// `!~`
    NotMatches,
    /// `|>`
    Pattern,
    /// `!>`
    NotPattern,
}

/// What a line filter looks for.
#[derive(Clone, Debug, PartialEq)]
pub enum LineTest {
    /// A text, an expression or a pattern.
    Text(String),
    /// `ip("...")`: an address, a range or a network.
    Ip(String),
}

/// `name="expression"` behind a parser: what to extract, under which name.
#[derive(Clone, Debug, PartialEq)]
pub struct Extraction {
    /// Label to be set.
    pub label: String,
    /// Where its value stands.
    pub path: String,
}

/// A step of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// `|= "text" or "other"`
    Line(LineOp, Vec<LineTest>),
    /// `| json`
    Json(Vec<Extraction>),
    /// `| logfmt`
    Logfmt {
        /// Stop at what is no pair.
        strict: bool,
        /// Keep keys without a value.
        keep_empty: bool,
        /// Only these.
        extractions: Vec<Extraction>,
    },
    /// `| regexp "..."`
    Regexp(String),
    /// `| pattern "..."`
    Pattern(String),
    /// `| unpack`
    Unpack,
    /// `| status >= 500`
    Filter(LabelFilter),
    /// `| line_format "..."`
    LineFormat(String),
    /// `| label_format a=b, c="..."`
    LabelFormat(Vec<(String, LabelValue)>),
    /// `| drop a, b="x"`
    Drop(Vec<LabelChoice>),
    /// `| keep a, b="x"`
    Keep(Vec<LabelChoice>),
    /// `| decolorize`
    Decolorize,
}

/// A value that `label_format` sets.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelValue {
    /// That of another label, which goes.
    Rename(String),
    /// A template.
    Template(String),
}

/// A label, or a label with a certain value.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelChoice {
    /// The label.
    Name(String),
    /// The label where its value passes.
    Matcher(LabelMatcher),
}

/// How numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after what they mean")]
pub enum Compare {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Compare {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
        }
    }

    /// Whether two numbers compare so.
    pub fn holds<T: PartialOrd>(self, a: T, b: T) -> bool {
        match self {
            Self::Equal => a == b,
            Self::NotEqual => a != b,
            Self::Greater => a > b,
            Self::GreaterOrEqual => a >= b,
            Self::Less => a < b,
            Self::LessOrEqual => a <= b,
        }
    }
}

/// A filter on labels.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelFilter {
    /// Both.
    And(Box<LabelFilter>, Box<LabelFilter>),
    /// One.
    Or(Box<LabelFilter>, Box<LabelFilter>),
    /// Text.
    Match(LabelMatcher),
    /// A number.
    Number(String, Compare, f64),
    /// A duration, in nanoseconds.
    Duration(String, Compare, i64),
    /// A size, in bytes.
    Bytes(String, Compare, u64),
    /// `name = ip("...")`; false: `!=`.
    Ip(String, bool, String),
}

/// How a label's text becomes a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// As a number.
    None,
    /// As a duration, in seconds.
    Duration,
    /// As a size, in bytes.
    Bytes,
}

/// `| unwrap label`.
#[derive(Clone, Debug, PartialEq)]
pub struct Unwrap {
    /// The label.
    pub label: String,
    /// How it is read.
    pub conversion: Conversion,
    /// Filters behind it.
    pub filters: Vec<LabelFilter>,
}

/// Functions over ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in the language")]
pub enum RangeOp {
    Rate,
    CountOverTime,
    BytesRate,
    BytesOverTime,
    SumOverTime,
    AvgOverTime,
    MinOverTime,
    MaxOverTime,
    StddevOverTime,
    StdvarOverTime,
    QuantileOverTime,
    FirstOverTime,
    LastOverTime,
    AbsentOverTime,
}

impl RangeOp {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Rate,
        Self::CountOverTime,
        Self::BytesRate,
        Self::BytesOverTime,
        Self::SumOverTime,
        Self::AvgOverTime,
        Self::MinOverTime,
        Self::MaxOverTime,
        Self::StddevOverTime,
        Self::StdvarOverTime,
        Self::QuantileOverTime,
        Self::FirstOverTime,
        Self::LastOverTime,
        Self::AbsentOverTime,
    ];

    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::CountOverTime => "count_over_time",
            Self::BytesRate => "bytes_rate",
            Self::BytesOverTime => "bytes_over_time",
            Self::SumOverTime => "sum_over_time",
            Self::AvgOverTime => "avg_over_time",
            Self::MinOverTime => "min_over_time",
            Self::MaxOverTime => "max_over_time",
            Self::StddevOverTime => "stddev_over_time",
            Self::StdvarOverTime => "stdvar_over_time",
            Self::QuantileOverTime => "quantile_over_time",
            Self::FirstOverTime => "first_over_time",
            Self::LastOverTime => "last_over_time",
            Self::AbsentOverTime => "absent_over_time",
        }
    }
}

/// `by (...)` or `without (...)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouping {
    /// `without`.
    pub without: bool,
    /// The labels.
    pub labels: Vec<String>,
}

/// A function over the lines of a range.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeExpr {
    /// The function.
    pub op: RangeOp,
    /// Which quantile.
    pub param: Option<f64>,
    /// The lines.
    pub log: LogExpr,
    /// The number in a line.
    pub unwrap: Option<Unwrap>,
    /// Length of the range in nanoseconds.
    pub range_ns: i64,
    /// How far it lies back.
    pub offset_ns: i64,
    /// Labels of the series.
    pub grouping: Option<Grouping>,
}

/// Functions over series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in the language")]
pub enum AggregateOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    Sort,
    SortDesc,
}

impl AggregateOp {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Sum,
        Self::Avg,
        Self::Min,
        Self::Max,
        Self::Count,
        Self::Stddev,
        Self::Stdvar,
        Self::Topk,
        Self::Bottomk,
        Self::Sort,
        Self::SortDesc,
    ];

    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::Count => "count",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Topk => "topk",
            Self::Bottomk => "bottomk",
            Self::Sort => "sort",
            Self::SortDesc => "sort_desc",
        }
    }
}

/// Operations on two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after what they mean")]
pub enum BinaryOp {
    Or,
    And,
    Unless,
    Compare(Compare),
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
}

impl BinaryOp {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Or => "or",
            Self::And => "and",
            Self::Unless => "unless",
            Self::Compare(compare) => compare.as_str(),
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
        }
    }

    /// Binds stronger than those with a lower number.
    pub fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Compare(_) => 3,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod => 5,
            Self::Pow => 6,
        }
    }

    /// `and`, `or`, `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, Self::Or | Self::And | Self::Unless)
    }
}

/// Which series of both sides belong together.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Matching {
    /// `bool`: comparisons give 0 and 1.
    pub returns_bool: bool,
    /// `on` (true) or `ignoring` these labels.
    pub on: Option<(bool, Vec<String>)>,
    /// `group_left` (true) or `group_right`, with labels to take over.
    pub group: Option<(bool, Vec<String>)>,
}

/// An expression of numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Metric {
    /// A number.
    Number(f64),
    /// `vector(1)`
    Vector(f64),
    /// `rate({a="b"}[5m])`
    Range(Box<RangeExpr>),
    /// `sum by (a) (...)`
    Aggregate {
        /// The function.
        op: AggregateOp,
        /// How many.
        param: Option<f64>,
        /// Labels of the groups.
        grouping: Option<Grouping>,
        /// Of what.
        expr: Box<Metric>,
    },
    /// `a + b`
    Binary {
        /// The operation.
        op: BinaryOp,
        /// Which series belong together.
        matching: Matching,
        /// Left side.
        left: Box<Metric>,
        /// Right side.
        right: Box<Metric>,
    },
    /// `label_replace(...)`
    LabelReplace {
        /// Of what.
        expr: Box<Metric>,
        /// Label to be set.
        destination: String,
        /// Its value, with `$1` for groups.
        replacement: String,
        /// Label that is looked at.
        source: String,
        /// Expression that is to match all of it.
        expression: String,
    },
}
