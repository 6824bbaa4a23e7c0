//! Prepares a syntax tree for evaluation: resolves duration arithmetic and `start()` / `end()`, and marks what does
//! not depend on the step, so that it is evaluated once.
//!
//! The marks are where Prometheus puts them, because they show in results: a step-invariant part is evaluated at the
//! first step and its value repeated at all.

pub mod push;
pub mod resets;

use crate::error::QueryError;
use crate::promql::ast::{At, DurationExpr, DurationKind, DurationOp, DurationValue, Expr, ExprKind};
use crate::promql::functions::FunctionId;
use crate::promql::parser::seconds_to_millis;

/// The times of a whole query, which `start()`, `end()`, `step()` and `range()` mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryTimes {
    /// First evaluation, milliseconds.
    pub start: i64,
    /// Last evaluation.
    pub end: i64,
    /// Distance of evaluations, 0 for instant queries.
    pub step: i64,
}

/// Resolves and marks a tree.
pub fn prepare(mut expr: Expr, times: &QueryTimes) -> Result<Expr, QueryError> {
    resolve(&mut expr, times)?;
    let (_, wrap) = mark(&mut expr);
    if wrap {
        wrap_in_place(&mut expr);
    }
    Ok(expr)
}

fn resolve(expr: &mut Expr, times: &QueryTimes) -> Result<(), QueryError> {
    match &mut expr.kind {
        ExprKind::Number { .. } | ExprKind::String(_) => Ok(()),
        ExprKind::Vector(selector) => {
            resolve_at(&mut selector.at, times);
            resolve_duration(selector.offset.as_mut(), times, true)
        }
        ExprKind::Matrix(matrix) => {
            resolve_at(&mut matrix.selector.at, times);
            resolve_duration(matrix.selector.offset.as_mut(), times, true)?;
            resolve_duration(Some(&mut matrix.range), times, false)
        }
        ExprKind::Subquery(subquery) => {
            resolve_at(&mut subquery.at, times);
            resolve_duration(subquery.offset.as_mut(), times, true)?;
            resolve_duration(subquery.step.as_mut(), times, false)?;
            resolve_duration(Some(&mut subquery.range), times, false)?;
            resolve(&mut subquery.expr, times)
        }
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } | ExprKind::StepInvariant(inner) => {
            resolve(inner, times)
        }
        ExprKind::Binary(binary) => {
            resolve(&mut binary.left, times)?;
            resolve(&mut binary.right, times)
        }
        ExprKind::Call { args, .. } => args.iter_mut().try_for_each(|arg| resolve(arg, times)),
        ExprKind::Aggregate(aggregate) => {
            if let Some(param) = &mut aggregate.param {
                resolve(param, times)?;
            }
            resolve(&mut aggregate.expr, times)
        }
    }
}

fn resolve_at(at: &mut Option<At>, times: &QueryTimes) {
    match at {
        Some(At::Start) => *at = Some(At::Time(times.start)),
        Some(At::End) => *at = Some(At::Time(times.end)),
        Some(At::Time(_)) | None => {}
    }
}

fn resolve_duration(
    duration: Option<&mut DurationValue>,
    times: &QueryTimes,
    may_be_negative: bool,
) -> Result<(), QueryError> {
    let Some(duration) = duration else { return Ok(()) };
    let Some(expr) = &duration.expr else { return Ok(()) };
    let seconds = evaluate_duration(expr, times)?;
    let fail = |what: &str| {
        let message = format!("{}:{}: {what}", expr.span.start, expr.span.end);
        Err(QueryError::Execution(message))
    };
    if !may_be_negative && !(seconds > 0.0) {
        return fail("duration must be greater than 0");
    }
    match seconds_to_millis(seconds) {
        Some(millis) => duration.millis = millis,
        None => return fail("duration is out of range"),
    }
    Ok(())
}

fn evaluate_duration(expr: &DurationExpr, times: &QueryTimes) -> Result<f64, QueryError> {
    let value = |inner: &DurationExpr| evaluate_duration(inner, times);
    let by_zero = |what: &str| {
        let message = format!("{}:{}: {what} by zero", expr.span.start, expr.span.end);
        Err(QueryError::Execution(message))
    };
    Ok(match &expr.kind {
        DurationKind::Number { value, .. } => *value,
        DurationKind::Step => times.step as f64 / 1000.0,
        DurationKind::Range => times.end.saturating_sub(times.start) as f64 / 1000.0,
        DurationKind::Negate(inner) => -value(inner)?,
        DurationKind::Plus(inner) => value(inner)?,
        DurationKind::Min(a, b) => go_min(value(a)?, value(b)?),
        DurationKind::Max(a, b) => go_max(value(a)?, value(b)?),
        DurationKind::Binary(op, a, b) => {
            let (a, b) = (value(a)?, value(b)?);
            match op {
                DurationOp::Add => a + b,
                DurationOp::Sub => a - b,
                DurationOp::Mul => a * b,
                DurationOp::Div if b == 0.0 => return by_zero("division"),
                DurationOp::Div => a / b,
                DurationOp::Mod if b == 0.0 => return by_zero("modulo"),
                DurationOp::Mod => a % b,
                DurationOp::Pow => a.powf(b),
            }
        }
    })
}

/// The smaller of two floats; NaN when either is NaN.
pub(crate) fn go_min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

/// The larger of two floats; NaN when either is NaN.
pub(crate) fn go_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// Functions whose value depends on the evaluation time whatever their arguments are.
fn depends_on_time(id: FunctionId) -> bool {
    use FunctionId as Id;
    matches!(
        id,
        Id::DaysInMonth
            | Id::DayOfMonth
            | Id::DayOfWeek
            | Id::DayOfYear
            | Id::Hour
            | Id::Minute
            | Id::Month
            | Id::Year
            | Id::PredictLinear
            | Id::Time
            | Id::Timestamp
    )
}

fn wrap_in_place(expr: &mut Expr) {
    let span = expr.span;
    let placeholder = Expr { kind: ExprKind::Number { value: 0.0, duration: false }, span };
    let inner = std::mem::replace(expr, placeholder);
    expr.kind = ExprKind::StepInvariant(Box::new(inner));
}

/// Marks the parts below. Says whether the whole is step-invariant, and whether marking it is of use.
fn mark(expr: &mut Expr) -> (bool, bool) {
    match &mut expr.kind {
        ExprKind::Number { .. } | ExprKind::String(_) => (true, false),
        ExprKind::Vector(selector) => (selector.at.is_some(), selector.at.is_some()),
        ExprKind::Matrix(matrix) => (matrix.selector.at.is_some(), false),
        ExprKind::Subquery(subquery) => {
            let (invariant, _) = mark(&mut subquery.expr);
            if invariant && !matches!(subquery.expr.kind, ExprKind::Number { .. }) {
                wrap_in_place(&mut subquery.expr);
            }
            (subquery.at.is_some(), false)
        }
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } | ExprKind::StepInvariant(inner) => {
            mark(inner)
        }
        ExprKind::Binary(binary) => {
            let (left, wrap_left) = mark(&mut binary.left);
            let (right, wrap_right) = mark(&mut binary.right);
            if left && right {
                return (true, true);
            }
            if wrap_left {
                wrap_in_place(&mut binary.left);
            }
            if wrap_right {
                wrap_in_place(&mut binary.right);
            }
            (false, false)
        }
        ExprKind::Call { function, args } => {
            let marks: Vec<_> = args.iter_mut().map(mark).collect();
            if !depends_on_time(function.id) && marks.iter().all(|(invariant, _)| *invariant) {
                return (true, true);
            }
            for (arg, (_, wrap)) in args.iter_mut().zip(marks) {
                if wrap {
                    wrap_in_place(arg);
                }
            }
            (false, false)
        }
        ExprKind::Aggregate(aggregate) => {
            let (invariant, wrap) = mark(&mut aggregate.expr);
            let (param_invariant, wrap_param) = aggregate.param.as_mut().map_or((true, false), mark);
            if invariant && param_invariant {
                return (true, true);
            }
            if wrap {
                wrap_in_place(&mut aggregate.expr);
            }
            if let Some(param) = aggregate.param.as_mut().filter(|_| wrap_param) {
                wrap_in_place(param);
            }
            (false, false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::parser::parse;

    fn marked(input: &str) -> String {
        fn show(e: &Expr) -> String {
            match &e.kind {
                ExprKind::StepInvariant(inner) => format!("<{}>", show(inner)),
                ExprKind::Binary(b) => format!("{} {} {}", show(&b.left), b.op.as_str(), show(&b.right)),
                ExprKind::Call { function, args } => {
                    format!("{}({})", function.name, args.iter().map(show).collect::<Vec<_>>().join(", "))
                }
                ExprKind::Subquery(s) => format!("{}[{}]", show(&s.expr), s.range),
                _ => e.to_string(),
            }
        }
        let times = QueryTimes { start: 0, end: 60_000, step: 15_000 };
        show(&prepare(parse(input).unwrap(), &times).unwrap())
    }

    #[test]
    fn marks_what_never_changes() {
        assert_eq!(marked("foo @ 10"), "<foo @ 10.000>");
        assert_eq!(marked("foo @ start() + bar"), "<foo @ 0.000> + bar");
        assert_eq!(marked("abs(foo @ 10)"), "<abs(foo @ 10.000)>");
        assert_eq!(marked("timestamp(foo @ 10)"), "timestamp(<foo @ 10.000>)");
        assert_eq!(marked("rate(foo[5m] @ 10)"), "<rate(foo[5m] @ 10.000)>");
        assert_eq!(marked("predict_linear(foo[5m] @ 10, 3)"), "predict_linear(foo[5m] @ 10.000, 3)");
        assert_eq!(marked("max_over_time(sum(foo @ 10)[5m:1m])"), "max_over_time(<sum(foo @ 10.000)>[5m])");
        assert_eq!(marked("1 + 2"), "<1 + 2>");
        assert_eq!(marked("time()"), "time()");
    }

    #[test]
    fn durations_resolve() {
        let times = QueryTimes { start: 0, end: 60_000, step: 15_000 };
        let range = |input: &str| match prepare(parse(input).unwrap(), &times).map(|e| e.kind) {
            Ok(ExprKind::Matrix(m)) => Ok(m.range.millis),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(range("foo[step() * 2]"), Ok(30_000));
        assert_eq!(range("foo[max(step(), range())]"), Ok(60_000));
        assert_eq!(range("foo[2 ^ 3]"), Ok(8_000));
        assert_eq!(range("foo[5 - 10]"), Err("4:10: duration must be greater than 0".to_owned()));
        assert_eq!(range("foo[1 / (step() - 15)]"), Err("4:21: division by zero".to_owned()));
    }
}
