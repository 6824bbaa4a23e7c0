//! What a record must meet: the tree that queries compile to and that storage pushes down to its blocks.
//!
//! **Text of a value**, which tests on text look at: a string is itself; numbers and truth values are written as JSON writes
//! them; bytes in base64; arrays and maps as JSON; an empty value is the empty text. Trace and span ids are lower-case
//! hex, an absent one is the empty text.
//!
//! **Words** are the longest runs of letters, digits and underscores (Unicode's `Alphabetic`, `Numeric` and `_`).
//!
//! The same filters are asked of spans: a span's name is its body, its own attributes are those of the record, and the last
//! fields mean something for spans alone.
//!
//! A field that a record does not have fails every test but the negation of one. A field that occurs several times passes
//! if one of its values does.

/// What a record must meet.
#[derive(Clone, Debug, PartialEq)]
pub enum LogFilter {
    /// Every one meets this.
    All,
    /// Each part is to be met; none: met.
    And(Vec<LogFilter>),
    /// One part is to be met; none: not met.
    Or(Vec<LogFilter>),
    /// The part is not to be met.
    Not(Box<LogFilter>),
    /// A field is to pass a test.
    Field(LogField, LogTest),
}

/// A part of a record or its stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogField {
    /// The body.
    Body,
    /// Effective time, as nanoseconds.
    Time,
    /// Severity's number; its text form is the number.
    Severity,
    /// Severity as the source spelled it.
    SeverityText,
    /// Trace id.
    TraceId,
    /// Span id.
    SpanId,
    /// Trace flags.
    Flags,
    /// Name of the event.
    EventName,
    /// Name of the scope.
    ScopeName,
    /// Version of the scope.
    ScopeVersion,
    /// An attribute by its name, wherever it is: of the record, or where that has none, of the resource, then the scope.
    Attribute(String),
    /// An attribute of the record alone.
    RecordAttribute(String),
    /// An attribute of the resource alone.
    ResourceAttribute(String),
    /// An attribute of the scope alone.
    ScopeAttribute(String),
    /// Any text: the body and each attribute of the record.
    Any,
    /// How long a span took, in nanoseconds; 0 where it ends before it begins.
    Duration,
    /// Number of a span's [kind](crate::spans::SpanKind).
    SpanKind,
    /// Number of a span's [status](crate::spans::SpanStatus).
    SpanStatus,
    /// What a span says of its status.
    StatusMessage,
    /// Id of the span that caused a span; the empty text of a root.
    ParentId,
    /// What happened within a span, as it is kept: only that there is something can be asked for.
    Events,
}

/// A test of one value.
#[derive(Clone, Debug, PartialEq)]
pub enum LogTest {
    /// There is a value, and it is not empty.
    Exists,
    /// The text is this.
    Equals(String),
    /// The text is one of these.
    OneOf(Vec<String>),
    /// The text has this somewhere.
    Contains {
        /// What it has.
        text: String,
        /// Whether upper and lower case are one (Unicode's simple folding).
        ignore_case: bool,
    },
    /// The text has this somewhere, and no word goes on before its beginning or behind its end.
    Phrase {
        /// What it has.
        text: String,
        /// Whether upper and lower case are one.
        ignore_case: bool,
    },
    /// The text begins with this.
    Prefix(String),
    /// The expression (syntax of the `regex` crate) matches somewhere in the text.
    Regex(String),
    /// The value is a number, or text that is one, and lies in this range.
    Range(LogRange),
}

/// A range of numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogRange {
    /// Lower end, none: no end.
    pub from: Option<Bound>,
    /// Upper end, none: no end.
    pub to: Option<Bound>,
}

/// An end of a range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// Where it lies.
    pub value: f64,
    /// Whether it belongs to the range.
    pub inclusive: bool,
}
