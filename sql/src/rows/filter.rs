//! Conditions of a statement as the shards' filters take them.
//!
//! A filter looks at the text of a value and lets a record pass if one of several values does, so it may let more rows pass
//! than the condition: only ranges of time are left to it alone.

use std::fmt;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Like, Operator};
use protocol::logs::filter::{Bound, LogRange};
use protocol::logs::{LogField, LogFilter, LogTest, TimestampNs};

use super::columns::{RowColumn, RowKind};
use crate::literals::{nanos, text};

/// Which rows are read.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// What they must meet.
    pub filter: LogFilter,
    /// First nanosecond.
    pub start_ns: TimestampNs,
    /// Last nanosecond.
    pub end_ns: TimestampNs,
}

impl Default for Asked {
    fn default() -> Self {
        Self { filter: LogFilter::All, start_ns: i64::MIN, end_ns: i64::MAX }
    }
}

impl Asked {
    /// Both.
    pub fn and(self, other: Self) -> Self {
        let filter = match (self.filter, other.filter) {
            (LogFilter::All, filter) | (filter, LogFilter::All) => filter,
            (LogFilter::And(mut parts), filter) => {
                parts.push(filter);
                LogFilter::And(parts)
            }
            (a, b) => LogFilter::And(vec![a, b]),
        };
        Self { filter, start_ns: self.start_ns.max(other.start_ns), end_ns: self.end_ns.min(other.end_ns) }
    }

    fn field(field: LogField, test: LogTest) -> Self {
        Self { filter: LogFilter::Field(field, test), ..Self::default() }
    }

    fn time(start_ns: TimestampNs, end_ns: TimestampNs) -> Self {
        Self { start_ns, end_ns, ..Self::default() }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "filter={:?}", self.filter)?;
        if self.start_ns != i64::MIN {
            write!(f, ", from_ns={}", self.start_ns)?;
        }
        if self.end_ns != i64::MAX {
            write!(f, ", to_ns={}", self.end_ns)?;
        }
        Ok(())
    }
}

/// How a condition was understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Understood {
    /// The same rows meet both.
    Exactly(Asked),
    /// Rows that are not read do not meet the condition.
    Partly(Asked),
}

impl Understood {
    /// What was understood.
    pub fn asked(self) -> Asked {
        match self {
            Self::Exactly(asked) | Self::Partly(asked) => asked,
        }
    }
}

/// What a condition says of rows.
pub fn understand(kind: RowKind, expr: &Expr) -> Option<Understood> {
    Reader { kind }.understand(expr)
}

/// Reads conditions on a table.
#[derive(Clone, Copy)]
struct Reader {
    kind: RowKind,
}

impl Reader {
    fn understand(self, expr: &Expr) -> Option<Understood> {
        use Understood::{Exactly, Partly};
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                match (self.understand(left), self.understand(right)) {
                    (Some(Exactly(a)), Some(Exactly(b))) => Some(Exactly(a.and(b))),
                    (Some(a), Some(b)) => Some(Partly(a.asked().and(b.asked()))),
                    (Some(one), None) | (None, Some(one)) => Some(Partly(one.asked())),
                    (None, None) => None,
                }
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                let (a, b) = (self.understand(left)?.asked(), self.understand(right)?.asked());
                // The range spans both; inside of it either filter does.
                let (start_ns, end_ns) = (a.start_ns.min(b.start_ns), a.end_ns.max(b.end_ns));
                let filter = match (a.filter, b.filter) {
                    (LogFilter::All, _) | (_, LogFilter::All) => LogFilter::All,
                    (a, b) => LogFilter::Or(vec![a, b]),
                };
                Some(Partly(Asked { filter, start_ns, end_ns }))
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (left.as_ref(), right.as_ref()) {
                (side, Expr::Literal(value, _)) => self.compare(side, *op, value),
                (Expr::Literal(value, _), side) => self.compare(side, op.swap()?, value),
                _ => None,
            },
            Expr::Between(between) if !between.negated => {
                let (Expr::Literal(low, _), Expr::Literal(high, _)) =
                    (between.low.as_ref(), between.high.as_ref())
                else {
                    return None;
                };
                let low = self.compare(&between.expr, Operator::GtEq, low)?;
                let high = self.compare(&between.expr, Operator::LtEq, high)?;
                Some(match (low, high) {
                    (Exactly(low), Exactly(high)) => Exactly(low.and(high)),
                    (low, high) => Partly(low.asked().and(high.asked())),
                })
            }
            Expr::InList(list) if !list.negated => {
                let field = self.text_field(&list.expr)?;
                let mut texts = Vec::new();
                for item in &list.list {
                    let Expr::Literal(value, _) = item else { return None };
                    if !value.is_null() {
                        texts.push(text(value)?.to_owned());
                    }
                }
                Some(Partly(Asked::field(field, LogTest::OneOf(texts))))
            }
            Expr::Like(Like { negated: false, expr, pattern, escape_char: None, case_insensitive }) => {
                let (field, Expr::Literal(pattern, _)) = (self.text_field(expr)?, pattern.as_ref()) else {
                    return None;
                };
                let longest = longest_piece(text(pattern)?);
                let test = LogTest::Contains { text: longest, ignore_case: *case_insensitive };
                Some(Partly(Asked::field(field, test)))
            }
            _ => None,
        }
    }

    fn column(self, expr: &Expr) -> Option<RowColumn> {
        match expr {
            Expr::Column(column) => RowColumn::named(self.kind, &column.name),
            _ => None,
        }
    }

    /// The field of which a text is the value.
    fn text_field(self, expr: &Expr) -> Option<LogField> {
        match expr {
            Expr::Column(_) => self.column(expr)?.text_field(self.kind),
            Expr::ScalarFunction(call) if call.func.name() == "get_field" => match call.args.as_slice() {
                [of, Expr::Literal(name, _)] => self.column(of)?.key_field(self.kind, text(name)?.to_owned()),
                _ => None,
            },
            _ => None,
        }
    }

    fn compare(self, side: &Expr, op: Operator, value: &ScalarValue) -> Option<Understood> {
        use Understood::{Exactly, Partly};
        if let Some(field) = self.text_field(side) {
            let value = text(value)?.to_owned();
            let test = match op {
                Operator::Eq => LogTest::Equals(value),
                Operator::RegexMatch => {
                    // What the shards can not compile is left to the statement, which says what is wrong with it.
                    regex::Regex::new(&value).ok()?;
                    LogTest::Regex(value)
                }
                _ => return None,
            };
            return Some(Partly(Asked::field(field, test)));
        }
        let column = self.column(side).or_else(|| self.timestamp_cast(side))?;
        if column == self.kind.place() {
            let nanos = nanos(value)?;
            let time = |time: i128| time.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
            return Some(Exactly(match op {
                Operator::Eq => Asked::time(time(nanos), time(nanos)),
                Operator::GtEq => Asked::time(time(nanos), i64::MAX),
                Operator::Gt => Asked::time(time(nanos + 1), i64::MAX),
                Operator::LtEq => Asked::time(i64::MIN, time(nanos)),
                Operator::Lt => Asked::time(i64::MIN, time(nanos - 1)),
                _ => return None,
            }));
        }
        let (field, of_text) = column.number_field(self.kind, text(value))?;
        let value = match of_text {
            Some(number) => f64::from(number),
            // Beyond, floats leave out whole numbers.
            None => number(value).filter(|value| value.abs() < (1u64 << 53) as f64)?,
        };
        let end = |inclusive| Some(Bound { value, inclusive });
        let range = match op {
            Operator::Eq => LogRange { from: end(true), to: end(true) },
            // Names have no order that numbers keep.
            _ if of_text.is_some() => return None,
            Operator::Gt => LogRange { from: end(false), to: None },
            Operator::GtEq => LogRange { from: end(true), to: None },
            Operator::Lt => LogRange { from: None, to: end(false) },
            Operator::LtEq => LogRange { from: None, to: end(true) },
            _ => return None,
        };
        Some(Partly(Asked::field(field, LogTest::Range(range))))
    }

    /// The moment of a row as another type that loses nothing of it.
    fn timestamp_cast(self, expr: &Expr) -> Option<RowColumn> {
        use datafusion::arrow::datatypes::{DataType, TimeUnit};
        match expr {
            Expr::Cast(cast) => {
                let is_nanos = matches!(cast.field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _));
                self.column(&cast.expr).filter(|column| is_nanos && *column == self.kind.place())
            }
            _ => None,
        }
    }
}

/// The longest text that all values which are like a pattern have.
fn longest_piece(pattern: &str) -> String {
    let (mut longest, mut piece) = (String::new(), String::new());
    let mut chars = pattern.chars();
    loop {
        let next = chars.next();
        match next {
            Some('\\') => piece.extend(chars.next()),
            Some(c) if !matches!(c, '%' | '_') => piece.push(c),
            _ => {
                if piece.len() > longest.len() {
                    std::mem::swap(&mut piece, &mut longest);
                }
                piece.clear();
                if next.is_none() {
                    return longest;
                }
            }
        }
    }
}

fn number(value: &ScalarValue) -> Option<f64> {
    match value.cast_to(&datafusion::arrow::datatypes::DataType::Float64) {
        Ok(ScalarValue::Float64(Some(value))) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn ns(value: i64) -> Expr {
        lit(ScalarValue::TimestampNanosecond(Some(value), Some("+00:00".into())))
    }

    #[track_caller]
    fn check(expr: Expr, expected: &str) {
        let shown = match understand(RowKind::Logs, &expr) {
            None => "no".to_owned(),
            Some(Understood::Exactly(asked)) => format!("exactly {asked}"),
            Some(Understood::Partly(asked)) => format!("partly {asked}"),
        };
        assert_eq!(shown, expected, "{expr}");
    }

    #[test]
    fn spans_are_asked_for_by_what_they_alone_have() {
        for (expr, expected) in [
            (col("kind").eq(lit("server")), "Field(SpanKind, Range(LogRange { from: Some(Bound { value: 2.0"),
            (
                col("status").eq(lit("error")),
                "Field(SpanStatus, Range(LogRange { from: Some(Bound { value: 2.0",
            ),
            (col("duration_ns").gt(lit(5)), "Field(Duration, Range(LogRange { from: Some(Bound { value: 5.0"),
            (col("name").eq(lit("GET")), "Field(Body, Equals(\"GET\"))"),
            (col("parent_id").eq(lit("00")), "Field(ParentId, Equals(\"00\"))"),
        ] {
            let found = understand(RowKind::Spans, &expr).map(|found| format!("{found:?}"));
            assert!(found.as_ref().is_some_and(|found| found.contains(expected)), "{expr}: {found:?}");
            assert_eq!(understand(RowKind::Logs, &expr), None, "{expr}");
        }
        for expr in [
            col("kind").gt(lit("client")),
            col("kind").eq(lit("nonsense")),
            col("duration_ns").lt(lit(i64::MAX)),
        ] {
            assert_eq!(understand(RowKind::Spans, &expr), None, "{expr}");
        }
    }

    #[test]
    fn events_are_asked_for_by_their_spans() {
        let asked = |expr: Expr| understand(RowKind::SpanEvents, &expr);
        // An event may lie before its span, or behind it, and have any name.
        for own in [
            col("time").gt(ns(5)),
            col("name").eq(lit("exception")),
            col("name").like(lit("%exc%")),
            col("time").gt(ns(5)).or(col("span_time").gt(ns(5))),
        ] {
            assert_eq!(asked(own.clone()), None, "{own}");
        }
        assert_eq!(
            asked(col("span_time").between(ns(5), ns(9))),
            Some(Understood::Exactly(Asked::time(5, 9)))
        );
        let name = Asked::field(LogField::Body, LogTest::Equals("GET".to_owned()));
        assert_eq!(asked(col("span_name").eq(lit("GET"))), Some(Understood::Partly(name)));
        let both = asked(col("kind").eq(lit("server")).and(col("time").gt(ns(5))));
        assert!(
            both.is_some_and(|both| matches!(both, Understood::Partly(asked) if asked.start_ns == i64::MIN))
        );
    }

    #[test]
    fn traces_are_asked_for_by_what_their_spans_share() {
        let asked = |expr: Expr| understand(RowKind::Traces, &expr);
        assert_eq!(asked(col("time").gt_eq(ns(5))), Some(Understood::Exactly(Asked::time(5, i64::MAX))));
        let id = Asked::field(LogField::TraceId, LogTest::Equals("ab".to_owned()));
        assert_eq!(asked(col("trace_id").eq(lit("ab"))), Some(Understood::Partly(id)));
        for other in [
            col("duration_ns").gt(lit(5)),
            col("root_service").eq(lit("web")),
            col("root_name").eq(lit("GET")),
            col("span_count").gt(lit(5)),
            col("end_time").gt(ns(5)),
        ] {
            assert_eq!(asked(other.clone()), None, "{other}");
        }
    }

    #[test]
    fn times_are_exact() {
        check(col("time").gt(ns(5)), "exactly filter=All, from_ns=6");
        check(col("time").lt(ns(5)), "exactly filter=All, to_ns=4");
        check(col("time").between(ns(5), ns(9)), "exactly filter=All, from_ns=5, to_ns=9");
        let ms = lit(ScalarValue::TimestampMillisecond(Some(2), None));
        check(ms.lt_eq(col("time")), "exactly filter=All, from_ns=2000000");
        check(col("observed_time").gt(ns(5)), "no");
    }

    #[test]
    fn texts_and_severities_are_asked_of_the_shards() {
        check(
            col("service").eq(lit("a")),
            "partly filter=Field(ResourceAttribute(\"service.name\"), Equals(\"a\"))",
        );
        check(
            col("body").like(lit("a%longer_b%")),
            "partly filter=Field(Body, Contains { text: \"longer\", ignore_case: false })",
        );
        check(
            col("severity").gt_eq(lit(17)).and(col("time").gt_eq(ns(1))),
            "partly filter=Field(Severity, Range(LogRange { from: Some(Bound { value: 17.0, inclusive: true }), \
             to: None })), from_ns=1",
        );
        check(
            col("trace_id").eq(lit("x")).or(col("span_id").eq(lit("y"))),
            "partly filter=Or([Field(TraceId, Equals(\"x\")), Field(SpanId, Equals(\"y\"))])",
        );
        check(col("trace_id").eq(lit("x")).or(col("flags").eq(lit(1))), "no");
        check(col("body").not_eq(lit("a")), "no");
        check(col("service").in_list(vec![lit("a")], true), "no");
        assert_eq!(longest_piece(r"%a\%bc%d"), "a%bc");
    }
}
