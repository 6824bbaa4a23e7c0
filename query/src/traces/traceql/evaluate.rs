//! What a query finds in one trace, exactly.
//!
//! ```text
//! Trace ─spansets─► one set of spans ─stages─► sets, none empty
//! ```
//!
//! Operators on places take one walk over the trace, from the top for descendants, from the bottom for ancestors, so that
//! their cost does not depend on what they find.

use protocol::logs::value::id_text;
use protocol::logs::{Attribute, LogStream, LogValue};
use protocol::spans::Span;
use regex::Regex;

use super::compile::{anchored, whole_id};
use super::{
    Aggregate, CompareOp, Expr, Field, Intrinsic, Literal, Placement, Query, Scope, SpansetOp, Spansets,
    Stage, kind_name, status_name,
};
use crate::error::QueryError;
use crate::traces::assemble::{Summary, Trace, attribute};

/// A query made ready to be evaluated many times.
pub(in crate::traces) struct Evaluator {
    spansets: Sets,
    stages: Vec<Step>,
}

/// A set of spans of a trace.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::traces) struct Spanset {
    /// Values that its spans have in common, by the fields of `by`.
    pub values: Vec<(Field, LogValue<'static>)>,
    /// Positions of its spans, by start.
    pub spans: Vec<usize>,
}

enum Sets {
    Filter(Option<Condition>),
    Op(Box<Sets>, SpansetOp, Box<Sets>),
}

enum Condition {
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    Constant(bool),
    Test(Field, CompareOp, Wanted),
}

/// What a field is compared with.
enum Wanted {
    Literal(Literal),
    Pattern(Regex),
}

enum Step {
    Filter(Sets),
    Aggregate(Aggregate, CompareOp, f64),
    By(Vec<Field>),
    Coalesce,
    /// Changes what is shown, not what is found.
    Nothing,
}

/// A span, and what is known of its trace.
#[derive(Clone, Copy)]
pub(in crate::traces) struct Subject<'s, 'a> {
    pub stream: &'s LogStream<'a>,
    pub span: &'s Span<'a>,
    pub trace: Option<&'s Summary>,
}

/// A value of a field.
enum Found<'s, 'a> {
    Value(&'s LogValue<'a>),
    Text(&'s str),
    Id(String),
    Duration(u64),
    Status(protocol::spans::SpanStatus),
    Kind(protocol::spans::SpanKind),
}

/// A number, exactly if it is whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::traces) enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    pub fn as_float(self) -> f64 {
        match self {
            Self::Int(number) => number as f64,
            Self::Float(number) => number,
        }
    }

    fn order(self, other: Self) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(&b)),
            (a, b) => a.as_float().partial_cmp(&b.as_float()),
        }
    }
}

impl Found<'_, '_> {
    fn number(&self) -> Option<Number> {
        match self {
            Self::Value(LogValue::Int(number)) => Some(Number::Int(*number)),
            Self::Value(LogValue::Float(number)) => Some(Number::Float(*number)),
            Self::Duration(ns) => Some(i64::try_from(*ns).map_or(Number::Float(*ns as f64), Number::Int)),
            _ => None,
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Value(LogValue::String(text)) => Some(text),
            Self::Text(text) => Some(text),
            Self::Id(id) => Some(id),
            _ => None,
        }
    }

    fn into_value(self) -> LogValue<'static> {
        match self {
            Self::Value(value) => value.clone().into_owned(),
            Self::Text(text) => LogValue::String(text.to_owned().into()),
            Self::Id(id) => LogValue::String(id.into()),
            Self::Duration(ns) => LogValue::Int(i64::try_from(ns).unwrap_or(i64::MAX)),
            Self::Status(status) => LogValue::String(status_name(status).into()),
            Self::Kind(kind) => LogValue::String(kind_name(kind).into()),
        }
    }
}

fn number_of(literal: &Literal) -> Option<Number> {
    match literal {
        Literal::Int(number) | Literal::Duration(number) => Some(Number::Int(*number)),
        Literal::Float(number) => Some(Number::Float(*number)),
        _ => None,
    }
}

fn ordered(order: Option<std::cmp::Ordering>, op: CompareOp) -> bool {
    let Some(order) = order else { return false };
    match op {
        CompareOp::Equal => order.is_eq(),
        CompareOp::NotEqual => order.is_ne(),
        CompareOp::Less => order.is_lt(),
        CompareOp::LessEqual => order.is_le(),
        CompareOp::Greater => order.is_gt(),
        CompareOp::GreaterEqual => order.is_ge(),
        CompareOp::Match | CompareOp::NotMatch => false,
    }
}

fn passes(found: &Found<'_, '_>, op: CompareOp, wanted: &Wanted) -> bool {
    let literal = match wanted {
        Wanted::Pattern(pattern) => {
            let Some(text) = found.text() else { return false };
            return pattern.is_match(text) == (op == CompareOp::Match);
        }
        Wanted::Literal(literal) => literal,
    };
    let equal = |equal: bool| equal == (op == CompareOp::Equal);
    match (literal, found) {
        (Literal::Status(status), Found::Status(found)) => equal(status == found),
        (Literal::Kind(kind), Found::Kind(found)) => equal(kind == found),
        (Literal::Bool(value), Found::Value(LogValue::Bool(found))) => equal(value == found),
        (Literal::Text(text), found) => found.text().is_some_and(|found| ordered(Some(found.cmp(text)), op)),
        (literal, found) => match (found.number(), number_of(literal)) {
            (Some(found), Some(number)) => ordered(found.order(number), op),
            _ => false,
        },
    }
}

impl<'s, 'a> Subject<'s, 'a> {
    /// Looks at the values of a field, until one is enough; whether one was.
    fn any(&self, field: &Field, enough: &mut dyn FnMut(Found<'s, 'a>) -> bool) -> bool {
        let mut id = |id: &[u8]| id.iter().any(|byte| *byte != 0) && enough(Found::Id(id_text(id)));
        match field {
            Field::Attribute(scope, name) => {
                let mut of = |attributes: &'s [Attribute<'a>]| {
                    let mut values = attributes.iter().filter(|(key, _)| key == name);
                    values.any(|(_, value)| enough(Found::Value(value)))
                };
                let (span, stream) = (self.span, self.stream);
                match scope {
                    Scope::Span => of(&span.attributes),
                    Scope::Resource => of(&stream.resource),
                    Scope::Instrumentation => of(&stream.scope_attributes),
                    Scope::Event => span.events.iter().any(|event| of(&event.attributes)),
                    Scope::Link => span.links.iter().any(|link| of(&link.attributes)),
                    Scope::Any => {
                        let places = [&span.attributes, &stream.resource, &stream.scope_attributes];
                        let found = places.into_iter().find(|place| attribute(place, name).is_some());
                        found.is_some_and(|place| of(place))
                    }
                }
            }
            Field::Intrinsic(intrinsic) => match intrinsic {
                Intrinsic::Duration => enough(Found::Duration(self.span.duration_ns())),
                Intrinsic::Name => enough(Found::Text(&self.span.name)),
                Intrinsic::Status => enough(Found::Status(self.span.status)),
                Intrinsic::StatusMessage => enough(Found::Text(&self.span.status_message)),
                Intrinsic::Kind => enough(Found::Kind(self.span.kind)),
                Intrinsic::SpanId => id(&self.span.span_id),
                Intrinsic::ParentId => id(&self.span.parent_id),
                Intrinsic::TraceId => id(&self.span.trace_id),
                Intrinsic::TraceDuration => {
                    self.trace.is_some_and(|trace| enough(Found::Duration(trace.duration_ns())))
                }
                Intrinsic::RootName => self.trace.is_some_and(|trace| enough(Found::Text(&trace.root_name))),
                Intrinsic::RootService => {
                    self.trace.is_some_and(|trace| enough(Found::Text(&trace.root_service)))
                }
                Intrinsic::EventName => self.span.events.iter().any(|event| enough(Found::Text(&event.name))),
                Intrinsic::LinkTraceId => self.span.links.iter().any(|link| id(&link.trace_id)),
                Intrinsic::LinkSpanId => self.span.links.iter().any(|link| id(&link.span_id)),
                Intrinsic::ScopeName => enough(Found::Text(&self.stream.scope_name)),
                Intrinsic::ScopeVersion => enough(Found::Text(&self.stream.scope_version)),
            },
        }
    }

    /// The first value of a field; nothing where there is none.
    pub fn first(&self, field: &Field) -> LogValue<'static> {
        let mut first = LogValue::Empty;
        self.any(field, &mut |found| {
            first = found.into_value();
            true
        });
        first
    }

    /// The first number among the values of a field.
    pub fn number(&self, field: &Field) -> Option<Number> {
        let mut number = None;
        self.any(field, &mut |found| {
            number = found.number();
            number.is_some()
        });
        number
    }

    fn meets(&self, condition: &Condition) -> bool {
        match condition {
            Condition::And(parts) => parts.iter().all(|part| self.meets(part)),
            Condition::Or(parts) => parts.iter().any(|part| self.meets(part)),
            Condition::Not(part) => !self.meets(part),
            Condition::Constant(value) => *value,
            Condition::Test(field, op, Wanted::Literal(Literal::Nil)) => {
                let is_there = self.any(field, &mut |found| !matches!(found, Found::Value(LogValue::Empty)));
                is_there == (*op == CompareOp::NotEqual)
            }
            Condition::Test(field, op, wanted) => self.any(field, &mut |found| passes(&found, *op, wanted)),
        }
    }
}

fn condition(expr: &Expr) -> Result<Condition, QueryError> {
    let all = |parts: &[Expr]| parts.iter().map(condition).collect::<Result<Vec<_>, _>>();
    Ok(match expr {
        Expr::And(parts) => Condition::And(all(parts)?),
        Expr::Or(parts) => Condition::Or(all(parts)?),
        Expr::Not(part) => Condition::Not(Box::new(condition(part)?)),
        Expr::Constant(value) => Condition::Constant(*value),
        Expr::Truth(field) => {
            Condition::Test(field.clone(), CompareOp::Equal, Wanted::Literal(Literal::Bool(true)))
        }
        Expr::Compare(field, op, literal) => {
            let wanted = match (op, literal, field) {
                (CompareOp::Match | CompareOp::NotMatch, Literal::Text(text), _) => {
                    Wanted::Pattern(Regex::new(&anchored(text)).map_err(|error| {
                        QueryError::BadParameter(format!("the expression does not compile: {error}"))
                    })?)
                }
                // Ids may be written without leading zeros.
                (_, Literal::Text(text), Field::Intrinsic(Intrinsic::TraceId | Intrinsic::LinkTraceId)) => {
                    Wanted::Literal(Literal::Text(whole_id(text, 32)))
                }
                (
                    _,
                    Literal::Text(text),
                    Field::Intrinsic(Intrinsic::SpanId | Intrinsic::ParentId | Intrinsic::LinkSpanId),
                ) => Wanted::Literal(Literal::Text(whole_id(text, 16))),
                _ => Wanted::Literal(literal.clone()),
            };
            Condition::Test(field.clone(), *op, wanted)
        }
    })
}

fn sets(spansets: &Spansets) -> Result<Sets, QueryError> {
    Ok(match spansets {
        Spansets::Filter(filter) => Sets::Filter(filter.as_ref().map(condition).transpose()?),
        Spansets::Op(left, op, right) => Sets::Op(Box::new(sets(left)?), *op, Box::new(sets(right)?)),
    })
}

impl Evaluator {
    pub fn new(query: &Query) -> Result<Self, QueryError> {
        let step = |stage: &Stage| {
            Ok(match stage {
                Stage::Filter(spansets) => Step::Filter(sets(spansets)?),
                Stage::Aggregate(aggregate, op, literal) => {
                    let number = number_of(literal).map_or(f64::NAN, Number::as_float);
                    Step::Aggregate(aggregate.clone(), *op, number)
                }
                Stage::By(fields) => Step::By(fields.clone()),
                Stage::Coalesce => Step::Coalesce,
                Stage::Select(_) => Step::Nothing,
            })
        };
        let stages = query.stages.iter().map(step).collect::<Result<Vec<_>, QueryError>>()?;
        Ok(Self { spansets: sets(&query.spansets)?, stages })
    }

    /// Whether a span alone is part of the result: only of queries that need no traces.
    pub fn passes(&self, subject: Subject<'_, '_>) -> bool {
        let meets = |sets: &Sets| match sets {
            Sets::Filter(Some(condition)) => subject.meets(condition),
            Sets::Filter(None) | Sets::Op(..) => true,
        };
        let of_step = |step: &Step| match step {
            Step::Filter(sets) => meets(sets),
            _ => true,
        };
        meets(&self.spansets) && self.stages.iter().all(of_step)
    }

    /// The sets of spans that a query finds in a trace; `summary` is the trace's.
    pub fn spansets(&self, trace: &Trace, summary: &Summary) -> Vec<Spanset> {
        let subject = |at: usize| subject_of(trace, at, summary);
        let positions = |set: &[bool]| (0..set.len()).filter(|at| set[*at]).collect::<Vec<_>>();
        let mut found =
            vec![Spanset { values: Vec::new(), spans: positions(&select(&self.spansets, trace, summary)) }];
        for step in &self.stages {
            match step {
                Step::Nothing => {}
                Step::Filter(filter) => {
                    let wanted = select(filter, trace, summary);
                    for set in &mut found {
                        set.spans.retain(|at| wanted[*at]);
                    }
                }
                Step::Aggregate(aggregate, op, number) => found.retain(|set| {
                    let value = aggregate_of(aggregate, set, &subject);
                    value.is_some_and(|value| ordered(value.partial_cmp(number), *op))
                }),
                Step::By(fields) => {
                    found = found.into_iter().flat_map(|set| split(set, fields, &subject)).collect();
                }
                Step::Coalesce => {
                    let mut spans: Vec<usize> =
                        found.iter().flat_map(|set| set.spans.iter().copied()).collect();
                    spans.sort_unstable();
                    spans.dedup();
                    found = vec![Spanset { values: Vec::new(), spans }];
                }
            }
            found.retain(|set| !set.spans.is_empty());
        }
        found.retain(|set| !set.spans.is_empty());
        found
    }
}

/// A span of a trace as something to be tested.
pub(in crate::traces) fn subject_of<'s>(
    trace: &'s Trace,
    at: usize,
    summary: &'s Summary,
) -> Subject<'s, 'static> {
    let span = &trace.spans[at];
    Subject { stream: &span.stream, span: &span.span, trace: Some(summary) }
}

fn select(sets: &Sets, trace: &Trace, summary: &Summary) -> Vec<bool> {
    match sets {
        Sets::Filter(None) => vec![true; trace.len()],
        Sets::Filter(Some(condition)) => {
            (0..trace.len()).map(|at| subject_of(trace, at, summary).meets(condition)).collect()
        }
        Sets::Op(left, op, right) => {
            let (left, right) = (select(left, trace, summary), select(right, trace, summary));
            let either = || left.iter().zip(&right).map(|(left, right)| *left || *right).collect();
            match op {
                SpansetOp::Or => either(),
                SpansetOp::And if left.contains(&true) && right.contains(&true) => either(),
                SpansetOp::And => vec![false; trace.len()],
                SpansetOp::Place { place, negated } => {
                    let placed = in_place(*place, &left, trace);
                    right.iter().zip(&placed).map(|(right, placed)| *right && placed != negated).collect()
                }
            }
        }
    }
}

/// Spans in a place relative to one of a set.
fn in_place(place: Placement, set: &[bool], trace: &Trace) -> Vec<bool> {
    let mut placed = vec![false; set.len()];
    let parent = |at: usize| trace.spans[at].parent;
    match place {
        Placement::Child => {
            for (at, placed) in placed.iter_mut().enumerate() {
                *placed = parent(at).is_some_and(|parent| set[parent]);
            }
        }
        Placement::Descendant => {
            for &at in &trace.order {
                placed[at] = parent(at).is_some_and(|parent| set[parent] || placed[parent]);
            }
        }
        Placement::Parent => {
            for at in (0..set.len()).filter(|at| set[*at]) {
                if let Some(parent) = parent(at) {
                    placed[parent] = true;
                }
            }
        }
        Placement::Ancestor => {
            for &at in trace.order.iter().rev() {
                if let Some(parent) = parent(at)
                    && (set[at] || placed[at])
                {
                    placed[parent] = true;
                }
            }
        }
        Placement::Sibling => {
            // Of each parent, how many of its children are in the set.
            let mut counts = vec![0usize; set.len()];
            for at in (0..set.len()).filter(|at| set[*at]) {
                if let Some(parent) = parent(at) {
                    counts[parent] += 1;
                }
            }
            for (at, placed) in placed.iter_mut().enumerate() {
                *placed = parent(at).is_some_and(|parent| counts[parent] > usize::from(set[at]));
            }
        }
    }
    placed
}

fn aggregate_of<'s>(
    aggregate: &Aggregate,
    set: &Spanset,
    subject: &impl Fn(usize) -> Subject<'s, 'static>,
) -> Option<f64> {
    let numbers = |field: &Field| -> Vec<f64> {
        set.spans.iter().filter_map(|at| Some(subject(*at).number(field)?.as_float())).collect()
    };
    match aggregate {
        Aggregate::Count => Some(set.spans.len() as f64),
        Aggregate::Min(field) => numbers(field).into_iter().reduce(f64::min),
        Aggregate::Max(field) => numbers(field).into_iter().reduce(f64::max),
        Aggregate::Sum(field) => Some(numbers(field).into_iter().sum()),
        Aggregate::Avg(field) => {
            let numbers = numbers(field);
            let count = numbers.len() as f64;
            (count > 0.0).then(|| numbers.into_iter().sum::<f64>() / count)
        }
    }
}

/// A set for each combination of values, in the order in which they come first.
fn split<'s>(
    set: Spanset,
    fields: &[Field],
    subject: &impl Fn(usize) -> Subject<'s, 'static>,
) -> Vec<Spanset> {
    let mut keys: crate::value::Map<Vec<String>, usize> = crate::value::Map::default();
    let mut parts: Vec<Spanset> = Vec::new();
    for at in set.spans {
        let values: Vec<LogValue<'static>> = fields.iter().map(|field| subject(at).first(field)).collect();
        // Texts alone would not tell 1 from "1".
        let key = values.iter().map(|value| format!("{value:?}")).collect();
        let part = *keys.entry(key).or_insert(parts.len());
        if part == parts.len() {
            let mut all = set.values.clone();
            all.extend(fields.iter().cloned().zip(values));
            parts.push(Spanset { values: all, spans: Vec::new() });
        }
        parts[part].spans.push(at);
    }
    parts
}
