//! TraceQL, the part of it that is understood: what is asked of spans, of their places in traces, and of sets of them.
//!
//! ```text
//! text ─parse─► Query ─Display─► text       (round trip)
//!                 ├─pushdown─► LogFilter     spans that may matter: shards look only at traces that have one
//!                 └─evaluate─► spansets      exact, trace by trace
//! ```
//!
//! ```text
//! query    = spansets { "|" stage } [ "|" metric ] [ "with" "(" hint { "," hint } ")" ]
//! spansets = operand { ( "&&" | "||" | ">" | ">>" | "<" | "<<" | "~" | "!>" | "!>>" | "!<" | "!<<" | "!~" ) operand }
//! operand  = "{" [ expr ] "}" | "(" spansets ")"
//! expr     = and { "||" and }        and = unary { "&&" unary }        unary = "!" unary | "(" expr ")" | test
//! test     = field ( "=" | "!=" | "<" | "<=" | ">" | ">=" | "=~" | "!~" ) literal | literal op field | field | "true"
//! field    = "." name | ( "span" | "resource" | "event" | "link" | "instrumentation" ) "." name | intrinsic
//! literal  = "text" | `text` | number | duration | true | false | nil | error | ok | unset | server | client | ...
//! stage    = spansets | ("count" "(" ")" | ("avg"|"min"|"max"|"sum") "(" field ")") op number
//!          | "by" "(" field { "," field } ")" | "select" "(" field { "," field } ")" | "coalesce" "(" ")"
//! metric   = ( "rate" | "count_over_time" ) "(" ")" [ by ]
//!          | ( "min_over_time" | "max_over_time" | "avg_over_time" | "sum_over_time" | "histogram_over_time" ) "(" field ")" [ by ]
//!          | "quantile_over_time" "(" field { "," number } ")" [ by ]
//! ```
//!
//! `&&` binds tighter than `||`, the operators on places tighter than both, all from left to right. Between spansets `&&`
//! wants spans of both sides in a trace and gives all of them; an operator on places gives spans of its right side. A field
//! that a span does not have fails every test but `= nil`; values of different kinds are never equal nor unequal;
//! expressions are to match the whole text. A field with several values (attributes sent twice, those of events and links)
//! passes if one of them does.
//!
//! What else TraceQL has (arithmetic, nested pipelines, `compare`, `parent.`, second stages of metrics) is refused with its
//! place.

mod compile;
mod evaluate;
mod parser;
mod printer;
#[cfg(test)]
mod tests;

pub use crate::logs::logql::LogqlError as TraceqlError;
pub(super) use compile::{columns_of, fields_of, needs_trace, pushdown, stored_field};
pub(super) use evaluate::{Evaluator, Spanset, Subject, subject_of};
pub use parser::parse;
pub use printer::attribute_name;

use protocol::spans::{SpanKind, SpanStatus};

/// A query.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Spans to begin with.
    pub spansets: Spansets,
    /// What is done with them, one after the other.
    pub stages: Vec<Stage>,
    /// The numbers that are made of them, if the query asks for numbers.
    pub metric: Option<Metric>,
}

/// Sets of spans of a trace.
#[derive(Clone, Debug, PartialEq)]
pub enum Spansets {
    /// Those that pass; none: all.
    Filter(Option<Expr>),
    /// Of two sets.
    Op(Box<Spansets>, SpansetOp, Box<Spansets>),
}

/// What two sets make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpansetOp {
    /// Both, if neither is empty.
    And,
    /// Either.
    Or,
    /// The right side's spans in a place relative to one of the left side's; negated, all but those.
    Place {
        /// In which place.
        place: Placement,
        /// Those that are not.
        negated: bool,
    },
}

/// Places of a right side's span relative to one of the left side's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// `>`
    Child,
    /// `>>`
    Descendant,
    /// `<`
    Parent,
    /// `<<`
    Ancestor,
    /// `~`
    Sibling,
}

/// A condition on one span.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// All of them; at least two.
    And(Vec<Expr>),
    /// One of them; at least two.
    Or(Vec<Expr>),
    /// Not it.
    Not(Box<Expr>),
    /// `true` or `false`.
    Constant(bool),
    /// A field that is `true`.
    Truth(Field),
    /// A field and a literal.
    Compare(Field, CompareOp, Literal),
}

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `=~`
    Match,
    /// `!~`
    NotMatch,
}

/// What a field is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
    /// A truth value.
    Bool(bool),
    /// A status.
    Status(SpanStatus),
    /// A kind.
    Kind(SpanKind),
    /// Nothing.
    Nil,
}

/// Where an attribute is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// In the span, else the resource, else the scope.
    Any,
    /// In the span.
    Span,
    /// In the resource.
    Resource,
    /// In the events.
    Event,
    /// In the links.
    Link,
    /// In the instrumentation scope.
    Instrumentation,
}

/// Something that spans have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// An attribute.
    Attribute(Scope, String),
    /// What every span has.
    Intrinsic(Intrinsic),
}

/// What every span, or its trace, has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Intrinsic {
    /// How long it took.
    Duration,
    /// Name of the operation.
    Name,
    /// How it ended.
    Status,
    /// What is said of that.
    StatusMessage,
    /// Part in a call.
    Kind,
    /// Its id.
    SpanId,
    /// Id of its parent, nil for a root.
    ParentId,
    /// Id of its trace.
    TraceId,
    /// From the first start to the last end of the trace.
    TraceDuration,
    /// Name of the root.
    RootName,
    /// Service of the root.
    RootService,
    /// Names of its events.
    EventName,
    /// Traces of its links.
    LinkTraceId,
    /// Spans of its links.
    LinkSpanId,
    /// Name of the instrumentation scope.
    ScopeName,
    /// Version of the instrumentation scope.
    ScopeVersion,
}

impl Intrinsic {
    /// All, each with its name and other names that it has.
    pub const ALL: [(Self, &'static str, &'static [&'static str]); 16] = [
        (Self::Duration, "duration", &["span:duration"]),
        (Self::Name, "name", &["span:name"]),
        (Self::Status, "status", &["span:status"]),
        (Self::StatusMessage, "statusMessage", &["span:statusMessage"]),
        (Self::Kind, "kind", &["span:kind"]),
        (Self::SpanId, "span:id", &[]),
        (Self::ParentId, "span:parentID", &["parent"]),
        (Self::TraceId, "trace:id", &[]),
        (Self::TraceDuration, "traceDuration", &["trace:duration"]),
        (Self::RootName, "rootName", &["trace:rootName"]),
        (Self::RootService, "rootServiceName", &["trace:rootService"]),
        (Self::EventName, "event:name", &[]),
        (Self::LinkTraceId, "link:traceID", &[]),
        (Self::LinkSpanId, "link:spanID", &[]),
        (Self::ScopeName, "instrumentation:name", &[]),
        (Self::ScopeVersion, "instrumentation:version", &[]),
    ];

    /// The intrinsic of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, own, others)| *own == name || others.contains(&name));
        found.map(|(intrinsic, _, _)| *intrinsic)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(intrinsic, _, _)| *intrinsic == self).map_or("", |(_, name, _)| name)
    }

    /// Whether it is one of the trace, not of the span.
    pub(super) fn is_of_trace(self) -> bool {
        matches!(self, Self::TraceDuration | Self::RootName | Self::RootService)
    }
}

/// A step between spansets and the result.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// Only spans that pass.
    Filter(Spansets),
    /// Only sets of which a number passes.
    Aggregate(Aggregate, CompareOp, Literal),
    /// A set for each combination of values.
    By(Vec<Field>),
    /// Fields that are shown.
    Select(Vec<Field>),
    /// One set of all.
    Coalesce,
}

/// A number of a set of spans.
#[derive(Clone, Debug, PartialEq)]
pub enum Aggregate {
    /// How many they are.
    Count,
    /// Their mean.
    Avg(Field),
    /// The smallest.
    Min(Field),
    /// The largest.
    Max(Field),
    /// All together.
    Sum(Field),
}

impl Aggregate {
    /// The field whose numbers are looked at, if any are.
    pub fn field(&self) -> Option<&Field> {
        match self {
            Self::Count => None,
            Self::Avg(field) | Self::Min(field) | Self::Max(field) | Self::Sum(field) => Some(field),
        }
    }
}

/// Numbers over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Which.
    pub kind: MetricKind,
    /// A series for each combination of values.
    pub by: Vec<Field>,
}

/// Kinds of numbers over time.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricKind {
    /// Spans a second.
    Rate,
    /// Spans a step.
    Count,
    /// The smallest.
    Min(Field),
    /// The largest.
    Max(Field),
    /// The mean.
    Avg(Field),
    /// All together.
    Sum(Field),
    /// Quantiles.
    Quantile(Field, Vec<f64>),
    /// Spans by powers of two of a field.
    Histogram(Field),
}

impl MetricKind {
    /// The field whose numbers are looked at, if any are.
    pub fn field(&self) -> Option<&Field> {
        match self {
            Self::Rate | Self::Count => None,
            Self::Min(field) | Self::Max(field) | Self::Avg(field) | Self::Sum(field) => Some(field),
            Self::Quantile(field, _) | Self::Histogram(field) => Some(field),
        }
    }
}

/// Names of kinds of spans.
pub const KINDS: [(SpanKind, &str); 6] = [
    (SpanKind::Unspecified, "unspecified"),
    (SpanKind::Internal, "internal"),
    (SpanKind::Server, "server"),
    (SpanKind::Client, "client"),
    (SpanKind::Producer, "producer"),
    (SpanKind::Consumer, "consumer"),
];

/// Names of states of spans.
pub const STATES: [(SpanStatus, &str); 3] =
    [(SpanStatus::Unset, "unset"), (SpanStatus::Ok, "ok"), (SpanStatus::Error, "error")];

/// Name of a kind.
pub fn kind_name(kind: SpanKind) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == kind).map_or("", |(_, name)| name)
}

/// Name of a status.
pub fn status_name(status: SpanStatus) -> &'static str {
    STATES.iter().find(|(known, _)| *known == status).map_or("", |(_, name)| name)
}
