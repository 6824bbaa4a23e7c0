//! What a query says of spans that can be asked of the store: a filter that lets every span through which may be among the
//! result's, and others. What it lets through is looked at exactly, in its trace.

use protocol::logs::filter::{Bound, LogRange};
use protocol::logs::{LogColumns, LogField, LogFilter, LogTest};

use super::{CompareOp, Expr, Field, Intrinsic, Literal, Query, Scope, SpansetOp, Spansets, Stage};

/// The spans that may be part of a query's result: of the sides of operators those whose spans are given.
pub(in crate::traces) fn pushdown(query: &Query) -> LogFilter {
    let mut filter = spansets(&query.spansets);
    for stage in &query.stages {
        if let Stage::Filter(further) = stage {
            filter = and(vec![filter, spansets(further)]);
        }
    }
    filter
}

/// Whether a query can only be answered by whole traces; else each span speaks for itself.
pub(in crate::traces) fn needs_trace(query: &Query) -> bool {
    let fields_need = |fields: &[Field]| fields.iter().any(is_of_trace);
    let of_stage = |stage: &Stage| match stage {
        Stage::Filter(Spansets::Filter(filter)) => filter.as_ref().is_some_and(expr_needs),
        Stage::Filter(Spansets::Op(..)) | Stage::Aggregate(..) => true,
        Stage::By(_) | Stage::Select(_) | Stage::Coalesce => false,
    };
    let of_spansets = match &query.spansets {
        Spansets::Filter(filter) => filter.as_ref().is_some_and(expr_needs),
        Spansets::Op(..) => true,
    };
    let of_metric = query
        .metric
        .as_ref()
        .is_some_and(|metric| fields_need(&metric.by) || metric.kind.field().is_some_and(is_of_trace));
    of_spansets || of_metric || query.stages.iter().any(of_stage)
}

/// The fields that a query's filters and selections name.
pub(in crate::traces) fn fields_of(query: &Query) -> Vec<Field> {
    fn of_expr(expr: &Expr, out: &mut Vec<Field>) {
        match expr {
            Expr::And(parts) | Expr::Or(parts) => parts.iter().for_each(|part| of_expr(part, out)),
            Expr::Not(part) => of_expr(part, out),
            Expr::Constant(_) => {}
            Expr::Truth(field) | Expr::Compare(field, ..) => out.push(field.clone()),
        }
    }
    fn of_spansets(spansets: &Spansets, out: &mut Vec<Field>) {
        match spansets {
            Spansets::Filter(filter) => filter.iter().for_each(|expr| of_expr(expr, out)),
            Spansets::Op(left, _, right) => {
                of_spansets(left, out);
                of_spansets(right, out);
            }
        }
    }
    let mut fields = Vec::new();
    of_spansets(&query.spansets, &mut fields);
    for stage in &query.stages {
        match stage {
            Stage::Filter(spansets) => of_spansets(spansets, &mut fields),
            Stage::Select(selected) => fields.extend(selected.iter().cloned()),
            Stage::By(_) | Stage::Aggregate(..) | Stage::Coalesce => {}
        }
    }
    fields
}

/// What has to be known of spans, besides their places in traces, to judge, to show and to count them.
pub(in crate::traces) fn columns_of(query: &Query) -> LogColumns {
    let mut fields = fields_of(query);
    for stage in &query.stages {
        match stage {
            Stage::By(by) => fields.extend(by.iter().cloned()),
            Stage::Aggregate(aggregate, ..) => fields.extend(aggregate.field().cloned()),
            Stage::Filter(_) | Stage::Select(_) | Stage::Coalesce => {}
        }
    }
    if let Some(metric) = &query.metric {
        fields.extend(metric.by.iter().chain(metric.kind.field()).cloned());
    }
    fields.retain(|field| !is_of_trace(field));
    match fields.iter().map(column_of).collect() {
        Some(stored) => LogColumns::Fields(stored),
        None => LogColumns::All,
    }
}

/// Where the store has a field's values; some are in what it can not be asked for alone.
fn column_of(field: &Field) -> Option<LogField> {
    match field {
        Field::Attribute(Scope::Event, _) | Field::Intrinsic(Intrinsic::EventName) => Some(LogField::Events),
        field => stored_field(field),
    }
}

fn is_of_trace(field: &Field) -> bool {
    matches!(field, Field::Intrinsic(intrinsic) if intrinsic.is_of_trace())
}

fn expr_needs(expr: &Expr) -> bool {
    match expr {
        Expr::And(parts) | Expr::Or(parts) => parts.iter().any(expr_needs),
        Expr::Not(part) => expr_needs(part),
        Expr::Constant(_) => false,
        Expr::Truth(field) | Expr::Compare(field, ..) => is_of_trace(field),
    }
}

fn spansets(sets: &Spansets) -> LogFilter {
    match sets {
        Spansets::Filter(None) => LogFilter::All,
        Spansets::Filter(Some(expr)) => filter_of(expr),
        Spansets::Op(left, SpansetOp::And | SpansetOp::Or, right) => {
            or(vec![spansets(left), spansets(right)])
        }
        Spansets::Op(_, SpansetOp::Place { .. }, right) => spansets(right),
    }
}

fn and(parts: Vec<LogFilter>) -> LogFilter {
    let mut parts: Vec<LogFilter> = parts.into_iter().filter(|part| *part != LogFilter::All).collect();
    match parts.len() {
        0 => LogFilter::All,
        1 => parts.remove(0),
        _ => LogFilter::And(parts),
    }
}

fn or(mut parts: Vec<LogFilter>) -> LogFilter {
    if parts.contains(&LogFilter::All) {
        return LogFilter::All;
    }
    parts.dedup();
    match parts.len() {
        1 => parts.remove(0),
        _ => LogFilter::Or(parts),
    }
}

fn filter_of(expr: &Expr) -> LogFilter {
    match expr {
        Expr::And(parts) => and(parts.iter().map(filter_of).collect()),
        Expr::Or(parts) => or(parts.iter().map(filter_of).collect()),
        // What is known of the part is too much, not too little: nothing follows for its contrary.
        Expr::Not(_) | Expr::Constant(true) => LogFilter::All,
        Expr::Constant(false) => LogFilter::Or(Vec::new()),
        Expr::Truth(field) => compare(field, CompareOp::Equal, &Literal::Bool(true)),
        Expr::Compare(field, op, literal) => compare(field, *op, literal),
    }
}

/// The store's field of a query's, if it has one.
pub(in crate::traces) fn stored_field(field: &Field) -> Option<LogField> {
    Some(match field {
        Field::Attribute(Scope::Any, name) => LogField::Attribute(name.clone()),
        Field::Attribute(Scope::Span, name) => LogField::RecordAttribute(name.clone()),
        Field::Attribute(Scope::Resource, name) => LogField::ResourceAttribute(name.clone()),
        Field::Attribute(Scope::Instrumentation, name) => LogField::ScopeAttribute(name.clone()),
        Field::Attribute(Scope::Event | Scope::Link, _) => return None,
        Field::Intrinsic(intrinsic) => match intrinsic {
            Intrinsic::Duration => LogField::Duration,
            Intrinsic::Name => LogField::Body,
            Intrinsic::Status => LogField::SpanStatus,
            Intrinsic::StatusMessage => LogField::StatusMessage,
            Intrinsic::Kind => LogField::SpanKind,
            Intrinsic::SpanId => LogField::SpanId,
            Intrinsic::ParentId => LogField::ParentId,
            Intrinsic::TraceId => LogField::TraceId,
            Intrinsic::ScopeName => LogField::ScopeName,
            Intrinsic::ScopeVersion => LogField::ScopeVersion,
            Intrinsic::TraceDuration
            | Intrinsic::RootName
            | Intrinsic::RootService
            | Intrinsic::EventName
            | Intrinsic::LinkTraceId
            | Intrinsic::LinkSpanId => return None,
        },
    })
}

/// An id as the store has it, of so many digits.
pub(super) fn whole_id(text: &str, digits: usize) -> String {
    format!("{:0>digits$}", text.to_ascii_lowercase())
}

fn compare(field: &Field, op: CompareOp, literal: &Literal) -> LogFilter {
    let Some(stored) = stored_field(field) else { return LogFilter::All };
    let is = |test: LogTest| LogFilter::Field(stored.clone(), test);
    // Not the same as having a value that is not empty.
    let is_there = || LogFilter::Or(vec![is(LogTest::Exists), is(LogTest::Equals(String::new()))]);
    match (op, literal) {
        (CompareOp::Equal, Literal::Nil) => LogFilter::All,
        (CompareOp::NotEqual, _) | (CompareOp::NotMatch, _) => is_there(),
        (CompareOp::Equal, Literal::Text(text)) => is(LogTest::Equals(match field {
            Field::Intrinsic(Intrinsic::TraceId) => whole_id(text, 32),
            Field::Intrinsic(Intrinsic::SpanId | Intrinsic::ParentId) => whole_id(text, 16),
            _ => text.clone(),
        })),
        (CompareOp::Equal, Literal::Bool(value)) => is(LogTest::Equals(value.to_string())),
        (CompareOp::Equal, Literal::Status(status)) => {
            number(&stored, CompareOp::Equal, f64::from(*status as u8))
        }
        (CompareOp::Equal, Literal::Kind(kind)) => number(&stored, CompareOp::Equal, f64::from(*kind as u8)),
        (CompareOp::Match, Literal::Text(text)) => is(LogTest::Regex(anchored(text))),
        (op, Literal::Int(value) | Literal::Duration(value)) => number(&stored, op, *value as f64),
        (op, Literal::Float(value)) => number(&stored, op, *value),
        _ => is_there(),
    }
}

/// An expression that has to match all of the text.
pub(super) fn anchored(expression: &str) -> String {
    format!("^(?s:{expression})$")
}

/// Numbers are compared exactly later: as floats, whole ones may only be told apart up to 2^53, so that ends belong to
/// the range.
fn number(field: &LogField, op: CompareOp, value: f64) -> LogFilter {
    let bound = Some(Bound { value, inclusive: true });
    let range = match op {
        CompareOp::Less | CompareOp::LessEqual => LogRange { from: None, to: bound },
        CompareOp::Greater | CompareOp::GreaterEqual => LogRange { from: bound, to: None },
        _ => LogRange { from: bound, to: bound },
    };
    LogFilter::Field(field.clone(), LogTest::Range(range))
}
