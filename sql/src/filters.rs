//! Conditions of a statement as the shards' index takes them: matchers on labels, and a range of time.
//!
//! SQL and PromQL differ in what absence is. A comparison with an absent label is unknown in SQL, hence not true; to a
//! matcher the label is empty. So each matcher that would let series without the label pass comes with one that does not.

use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{BinaryExpr, Expr, Like, Operator};
use protocol::labels::METRIC_NAME;
use protocol::matcher::{MatchOp, Matcher};
use protocol::sql::SqlColumnKind;
use query::source::TimeRange;

use crate::columns::{ScanColumn, Table};
use crate::literals::{nanos, text};

/// What conditions come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// Which series.
    pub matchers: Vec<Matcher>,
    /// Which time.
    pub range: TimeRange,
    /// No row can meet them.
    pub is_empty: bool,
}

impl Default for Pruned {
    fn default() -> Self {
        Self { matchers: Vec::new(), range: TimeRange::ALL, is_empty: false }
    }
}

impl Pruned {
    /// Both conditions.
    pub fn and(mut self, other: Self) -> Self {
        for matcher in other.matchers {
            if !self.matchers.contains(&matcher) {
                self.matchers.push(matcher);
            }
        }
        self.range.start = self.range.start.max(other.range.start);
        self.range.end = self.range.end.min(other.range.end);
        self.is_empty |= other.is_empty || self.range.start > self.range.end;
        self
    }

    fn matchers(matchers: Vec<Matcher>) -> Self {
        Self { matchers, ..Self::default() }
    }

    fn nothing() -> Self {
        Self { is_empty: true, ..Self::default() }
    }

    fn time(start: i64, end: i64) -> Self {
        Self { range: TimeRange::new(start, end), is_empty: start > end, ..Self::default() }
    }
}

/// How a condition was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Understood {
    /// The same rows meet both.
    Exactly(Pruned),
    /// Rows that do not meet this one do not meet the condition.
    Partly(Pruned),
}

impl Understood {
    /// What was understood.
    pub fn pruned(self) -> Pruned {
        match self {
            Self::Exactly(pruned) | Self::Partly(pruned) => pruned,
        }
    }
}

/// What a condition says of labels and time.
pub fn understand(table: &Table, expr: &Expr) -> Option<Understood> {
    use Understood::{Exactly, Partly};
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            match (understand(table, left), understand(table, right)) {
                (Some(Exactly(a)), Some(Exactly(b))) => Some(Exactly(a.and(b))),
                (Some(a), Some(b)) => Some(Partly(a.pruned().and(b.pruned()))),
                (Some(one), None) | (None, Some(one)) => Some(Partly(one.pruned())),
                (None, None) => None,
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (left.as_ref(), right.as_ref()) {
            (side, Expr::Literal(value, _)) => compare(table, side, *op, value),
            (Expr::Literal(value, _), side) => compare(table, side, op.swap()?, value),
            _ => None,
        },
        Expr::Between(between) if !between.negated => {
            let (Expr::Literal(low, _), Expr::Literal(high, _)) =
                (between.low.as_ref(), between.high.as_ref())
            else {
                return None;
            };
            let low = compare(table, &between.expr, Operator::GtEq, low)?;
            let high = compare(table, &between.expr, Operator::LtEq, high)?;
            Some(Exactly(low.pruned().and(high.pruned())))
        }
        Expr::InList(list) => {
            let label = label_of(table, &list.expr)?;
            let mut values = Vec::new();
            for item in &list.list {
                match item {
                    Expr::Literal(value, _) if value.is_null() && !list.negated => {}
                    Expr::Literal(value, _) => values.push(text(value)?),
                    _ => return None,
                }
            }
            Some(Exactly(among(label, &values, list.negated)?))
        }
        Expr::IsNull(inner) => {
            let label = label_of(table, inner)?;
            Some(Exactly(Pruned::matchers(vec![Matcher::equal(label, "")])))
        }
        Expr::IsNotNull(inner) => Some(Exactly(Pruned::matchers(vec![present(label_of(table, inner)?)]))),
        Expr::Like(Like { negated: false, expr, pattern, escape_char: None, case_insensitive: false }) => {
            let (label, Expr::Literal(pattern, _)) = (label_of(table, expr)?, pattern.as_ref()) else {
                return None;
            };
            let regex = like_as_regex(text(pattern)?)?;
            let matcher = Matcher::new(label, MatchOp::Regex, regex).ok()?;
            Some(Partly(Pruned::matchers(vec![matcher])))
        }
        _ => None,
    }
}

/// A matcher that series with the label pass.
fn present(label: &str) -> Matcher {
    // `!= ""` is no expression: it always compiles.
    Matcher::new(label, MatchOp::NotEqual, "").unwrap_or_else(|_| Matcher::equal(label, ""))
}

fn among(label: &str, values: &[&str], negated: bool) -> Option<Pruned> {
    let filled: Vec<String> =
        values.iter().filter(|value| !value.is_empty()).map(|value| regex::escape(value)).collect();
    let pattern = filled.join("|");
    match (negated, filled.len()) {
        (false, 0) => Some(Pruned::nothing()),
        (false, _) => {
            let matcher = Matcher::new(label, MatchOp::Regex, pattern).ok()?;
            Some(Pruned::matchers(vec![matcher]))
        }
        (true, 0) => Some(Pruned::matchers(vec![present(label)])),
        (true, _) => {
            let matcher = Matcher::new(label, MatchOp::NotRegex, pattern).ok()?;
            Some(Pruned::matchers(vec![matcher, present(label)]))
        }
    }
}

/// The label that an expression is the value of.
fn label_of<'a>(table: &'a Table, expr: &'a Expr) -> Option<&'a str> {
    match expr {
        Expr::Column(column) => {
            let column = scan_column(table, column)?;
            match column.kind {
                SqlColumnKind::Label => Some(&column.label),
                SqlColumnKind::Name => Some(METRIC_NAME),
                _ => None,
            }
        }
        Expr::ScalarFunction(call) if call.func.name() == "get_field" => match call.args.as_slice() {
            [Expr::Column(column), Expr::Literal(label, _)] => {
                let is_labels = scan_column(table, column)?.kind == SqlColumnKind::Labels;
                // The map leaves the name out.
                text(label).filter(|label| is_labels && !label.is_empty() && *label != METRIC_NAME)
            }
            _ => None,
        },
        _ => None,
    }
}

fn scan_column<'a>(table: &'a Table, column: &Column) -> Option<&'a ScanColumn> {
    let at = table.schema.index_of(&column.name).ok()?;
    table.columns.get(at)
}

fn compare(table: &Table, side: &Expr, op: Operator, value: &ScalarValue) -> Option<Understood> {
    use Understood::{Exactly, Partly};
    if let Some(label) = label_of(table, side) {
        let value = text(value)?;
        return match op {
            Operator::Eq if value.is_empty() => Some(Exactly(Pruned::nothing())),
            Operator::Eq => Some(Exactly(Pruned::matchers(vec![Matcher::equal(label, value)]))),
            Operator::NotEq => {
                let matcher = Matcher::new(label, MatchOp::NotEqual, value).ok()?;
                Some(Exactly(Pruned::matchers(vec![matcher, present(label)])))
            }
            Operator::RegexMatch => {
                // SQL's finds a match anywhere, a matcher takes the whole value.
                let pattern = format!("(?s:.*)(?-s:{value})(?s:.*)");
                regex::Regex::new(value).ok()?;
                let matcher = Matcher::new(label, MatchOp::Regex, pattern).ok()?;
                Some(Partly(Pruned::matchers(vec![matcher])))
            }
            _ => None,
        };
    }
    if !is_time(table, side) {
        return None;
    }
    let nanos = nanos(value)?;
    const MILLI: i128 = 1_000_000;
    let (floor, ceil) = (clamp(nanos.div_euclid(MILLI)), clamp(-(-nanos).div_euclid(MILLI)));
    let (start, end) = match op {
        Operator::Eq if floor == ceil => (floor, floor),
        Operator::Eq => return Some(Exactly(Pruned::nothing())),
        Operator::GtEq => (ceil, i64::MAX),
        Operator::Gt => (floor.checked_add(1)?, i64::MAX),
        Operator::LtEq => (i64::MIN, floor),
        Operator::Lt => (i64::MIN, ceil.checked_sub(1)?),
        _ => return None,
    };
    Some(Exactly(Pruned::time(start, end)))
}

fn clamp(millis: i128) -> i64 {
    millis.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// Whether an expression is the moment of a row, in any unit that loses nothing.
fn is_time(table: &Table, expr: &Expr) -> bool {
    use datafusion::arrow::datatypes::{DataType, TimeUnit};
    match expr {
        Expr::Column(column) => {
            scan_column(table, column).is_some_and(|column| column.kind == SqlColumnKind::Time)
        }
        Expr::Cast(cast) => {
            let finer = |unit: &TimeUnit| !matches!(unit, TimeUnit::Second);
            matches!(cast.field.data_type(), DataType::Timestamp(unit, _) if finer(unit))
                && is_time(table, &cast.expr)
        }
        _ => false,
    }
}

/// `%` is any text, `_` any character, `\` takes the next one literally.
fn like_as_regex(pattern: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            '\\' => out.push_str(&regex::escape(chars.next()?.encode_utf8(&mut [0; 4]))),
            c => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn table() -> Table {
        Table::metric("m", &["job".to_owned(), "mode".to_owned()])
    }

    #[track_caller]
    fn check(expr: Expr, expected: &str) {
        let shown = match understand(&table(), &expr) {
            None => "no".to_owned(),
            Some(understood) => {
                let how = if matches!(understood, Understood::Exactly(_)) { "exactly" } else { "partly" };
                let Pruned { matchers, range, is_empty } = understood.pruned();
                let mut out = how.to_owned();
                for matcher in matchers {
                    out += &format!(" {matcher}");
                }
                if range != TimeRange::ALL {
                    out += &format!(" {}..{}", range.start, range.end);
                }
                if is_empty { out + " nothing" } else { out }
            }
        };
        assert_eq!(shown, expected, "{expr}");
    }

    fn ms(value: i64) -> Expr {
        lit(ScalarValue::TimestampMillisecond(Some(value), Some("+00:00".into())))
    }

    fn ns(value: i64) -> Expr {
        lit(ScalarValue::TimestampNanosecond(Some(value), None))
    }

    #[test]
    fn labels() {
        check(col("job").eq(lit("a")), r#"exactly job="a""#);
        check(lit("a").eq(col("job")), r#"exactly job="a""#);
        check(col("job").eq(lit("")), "exactly nothing");
        check(col("job").not_eq(lit("a")), r#"exactly job!="a" job!="""#);
        check(col("job").is_null(), r#"exactly job="""#);
        check(col("job").is_not_null(), r#"exactly job!="""#);
        check(col("job").in_list(vec![lit("a"), lit("b.c")], false), r#"exactly job=~"a|b\\.c""#);
        check(col("job").in_list(vec![lit("a")], true), r#"exactly job!~"a" job!="""#);
        check(col("job").like(lit("a%_")), r#"partly job=~"a.*.""#);
        check(col("job").eq(lit("a")).and(col("mode").eq(lit("b"))), r#"exactly job="a" mode="b""#);
        check(col("job").eq(lit("a")).and(col("value").gt(lit(1.0))), r#"partly job="a""#);
        check(col("job").eq(lit("a")).or(col("mode").eq(lit("b"))), "no");
        check(col("value").gt(lit(1.0)), "no");
    }

    #[test]
    fn time() {
        check(col("time").gt_eq(ms(1000)), &format!("exactly 1000..{}", i64::MAX));
        check(col("time").lt(ms(1000)), &format!("exactly {}..999", i64::MIN));
        check(col("time").between(ms(5), ms(9)), "exactly 5..9");
        check(col("time").gt(ms(5)).and(col("time").lt(ms(6))), "exactly 6..5 nothing");
        // Finer than milliseconds.
        check(col("time").gt_eq(ns(1_000_001)), &format!("exactly 2..{}", i64::MAX));
        check(col("time").gt(ns(1_000_001)), &format!("exactly 2..{}", i64::MAX));
        check(col("time").lt(ns(1_000_001)), &format!("exactly {}..1", i64::MIN));
        check(col("time").lt_eq(ns(-1)), &format!("exactly {}..-1", i64::MIN));
        check(col("time").eq(ns(1)), "exactly nothing");
        check(col("time").eq(ns(3_000_000)), "exactly 3..3");
    }
}
