//! Syntax trees as JSON, as `parse_query` of Prometheus' API answers (prometheus/prometheus, web/api/v1/translate_ast.go).
//!
//! The tree is what was written: durations that need the query's step or range are 0 in `range`, `offset` and `step`,
//! and spelled out in `rangeExpr`, `offsetExpr` and `stepExpr`.

use protocol::matcher::{MatchOp, Matcher};
use serde_json::{Value, json};

use super::ast::{
    At, Binary, Cardinality, DurationExpr, DurationKind, DurationOp, DurationValue, Edges, Expr, ExprKind,
    ValueType, VectorSelector,
};
use crate::format::format_f64;

/// The tree of an expression.
pub fn tree(expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Number { value, .. } => json!({"type": "numberLiteral", "val": format_f64(*value)}),
        ExprKind::String(text) => json!({"type": "stringLiteral", "val": text.lossy()}),
        ExprKind::Vector(selector) => selector_tree("vectorSelector", selector),
        ExprKind::Matrix(matrix) => {
            let mut out = selector_tree("matrixSelector", &matrix.selector);
            out["range"] = json!(matrix.range.millis);
            out["rangeExpr"] = duration(Some(&matrix.range));
            out
        }
        ExprKind::Subquery(subquery) => {
            let (timestamp, start_or_end) = at(subquery.at);
            json!({
                "type": "subquery",
                "expr": tree(&subquery.expr),
                "range": subquery.range.millis,
                "rangeExpr": duration(Some(&subquery.range)),
                "offset": millis(subquery.offset.as_ref()),
                "offsetExpr": duration(subquery.offset.as_ref()),
                "step": millis(subquery.step.as_ref()),
                "stepExpr": duration(subquery.step.as_ref()),
                "timestamp": timestamp,
                "startOrEnd": start_or_end,
            })
        }
        ExprKind::Paren(inner) => json!({"type": "parenExpr", "expr": tree(inner)}),
        ExprKind::Unary { negative, expr } => {
            json!({"type": "unaryExpr", "op": if *negative { "-" } else { "+" }, "expr": tree(expr)})
        }
        ExprKind::Binary(binary) => json!({
            "type": "binaryExpr",
            "op": binary.op.as_str(),
            "lhs": tree(&binary.left),
            "rhs": tree(&binary.right),
            "matching": matching(binary),
            "bool": binary.return_bool,
        }),
        ExprKind::Call { function, args } => json!({
            "type": "call",
            "func": {
                "name": function.name,
                "argTypes": function.args.iter().map(|arg| arg.name()).collect::<Vec<_>>(),
                "variadic": function.variadic,
                "returnType": function.returns.name(),
            },
            "args": args.iter().map(tree).collect::<Vec<_>>(),
        }),
        ExprKind::Aggregate(aggregate) => json!({
            "type": "aggregation",
            "op": aggregate.op.as_str(),
            "expr": tree(&aggregate.expr),
            "param": aggregate.param.as_ref().map(tree),
            "grouping": aggregate.grouping,
            "without": aggregate.without,
        }),
        ExprKind::StepInvariant(inner) => tree(inner),
    }
}

fn selector_tree(kind: &str, selector: &VectorSelector) -> Value {
    let (timestamp, start_or_end) = at(selector.at);
    json!({
        "type": kind,
        "name": selector.name.as_deref().unwrap_or_default(),
        "offset": millis(selector.offset.as_ref()),
        "offsetExpr": duration(selector.offset.as_ref()),
        "matchers": selector.matchers.iter().map(matcher).collect::<Vec<_>>(),
        "timestamp": timestamp,
        "startOrEnd": start_or_end,
        "anchored": selector.edges == Edges::Anchored,
        "smoothed": selector.edges == Edges::Smoothed,
    })
}

fn matcher(matcher: &Matcher) -> Value {
    let op = match matcher.op() {
        MatchOp::Equal => "=",
        MatchOp::NotEqual => "!=",
        MatchOp::Regex => "=~",
        MatchOp::NotRegex => "!~",
    };
    json!({"name": matcher.name(), "value": matcher.value(), "type": op})
}

/// `null` where a side is a scalar: nothing is matched then.
fn matching(binary: &Binary) -> Value {
    let is_vector = |side: &Expr| side.value_type() == ValueType::Vector;
    if !is_vector(&binary.left) || !is_vector(&binary.right) {
        return Value::Null;
    }
    let matching = &binary.matching;
    let card = match matching.cardinality {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    // JSON has no number for infinities and NaN.
    let fill = |value: Option<f64>| match value {
        Some(value) if !value.is_finite() => json!(format_f64(value)),
        value => json!(value),
    };
    json!({
        "card": card,
        "labels": matching.labels,
        "on": matching.on,
        "include": matching.include,
        "fillValues": {"lhs": fill(matching.fill_left), "rhs": fill(matching.fill_right)},
    })
}

fn at(at: Option<At>) -> (Value, Value) {
    match at {
        None => (Value::Null, Value::Null),
        Some(At::Time(time)) => (json!(time), Value::Null),
        Some(At::Start) => (Value::Null, json!("start")),
        Some(At::End) => (Value::Null, json!("end")),
    }
}

fn millis(duration: Option<&DurationValue>) -> i64 {
    duration.map_or(0, |duration| duration.millis)
}

fn duration(value: Option<&DurationValue>) -> Value {
    value.and_then(|value| value.expr.as_ref()).map_or(Value::Null, duration_tree)
}

fn duration_tree(expr: &DurationExpr) -> Value {
    let node = |op: &str, lhs: Option<&DurationExpr>, rhs: Option<&DurationExpr>| {
        json!({
            "type": "durationExpr",
            "op": op,
            "lhs": lhs.map(duration_tree),
            "rhs": rhs.map(duration_tree),
            "wrapped": expr.wrapped,
        })
    };
    let number = |value: f64, duration: bool| json!({"type": "numberLiteral", "val": format_f64(value), "duration": duration});
    match &expr.kind {
        DurationKind::Number { value, duration } => number(*value, *duration),
        DurationKind::Step => node("step", None, None),
        DurationKind::Range => node("range", None, None),
        DurationKind::Plus(inner) => duration_tree(inner),
        DurationKind::Negate(inner) => match &inner.kind {
            DurationKind::Number { value, duration } => number(-*value, *duration),
            _ => node("-", None, Some(inner)),
        },
        DurationKind::Binary(op, left, right) => {
            let op = match op {
                DurationOp::Add => "+",
                DurationOp::Sub => "-",
                DurationOp::Mul => "*",
                DurationOp::Div => "/",
                DurationOp::Mod => "%",
                DurationOp::Pow => "^",
            };
            node(op, Some(left), Some(right))
        }
        DurationKind::Min(left, right) => node("min", Some(left), Some(right)),
        DurationKind::Max(left, right) => node("max", Some(left), Some(right)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::parser::parse;

    #[track_caller]
    fn check(query: &str, expected: Value) {
        assert_eq!(tree(&parse(query).unwrap()), expected, "{query}");
    }

    fn plain(name: &str) -> Value {
        json!({
            "type": "vectorSelector", "name": name, "offset": 0, "offsetExpr": null,
            "matchers": [{"name": "__name__", "value": name, "type": "="}],
            "timestamp": null, "startOrEnd": null, "anchored": false, "smoothed": false,
        })
    }

    #[test]
    fn literals_and_signs() {
        check("1e3", json!({"type": "numberLiteral", "val": "1000"}));
        check("'a'", json!({"type": "stringLiteral", "val": "a"}));
        check(
            "-(up)",
            json!({"type": "unaryExpr", "op": "-", "expr": {"type": "parenExpr", "expr": plain("up")}}),
        );
    }

    #[test]
    fn selectors_and_subqueries() {
        check(
            r#"x{a!="b",c=~"d.*"}[5m] offset -1m @ 2"#,
            json!({
                "type": "matrixSelector", "name": "x", "range": 300_000, "rangeExpr": null,
                "offset": -60_000, "offsetExpr": null,
                "matchers": [
                    {"name": "a", "value": "b", "type": "!="},
                    {"name": "c", "value": "d.*", "type": "=~"},
                    {"name": "__name__", "value": "x", "type": "="},
                ],
                "timestamp": 2000, "startOrEnd": null, "anchored": false, "smoothed": false,
            }),
        );
        check(
            "up[1h:5m] @ end()",
            json!({
                "type": "subquery", "expr": plain("up"), "range": 3_600_000, "rangeExpr": null,
                "offset": 0, "offsetExpr": null, "step": 300_000, "stepExpr": null,
                "timestamp": null, "startOrEnd": "end",
            }),
        );
        let anchored = tree(&parse("rate(x[5m] anchored)").unwrap());
        assert_eq!(anchored["args"][0]["anchored"], true);
    }

    #[test]
    fn durations_that_wait_for_the_query() {
        let parsed = tree(&parse("x[step() * 2]").unwrap());
        assert_eq!(parsed["range"], 0);
        assert_eq!(
            parsed["rangeExpr"],
            json!({
                "type": "durationExpr", "op": "*", "wrapped": false,
                "lhs": {"type": "durationExpr", "op": "step", "lhs": null, "rhs": null, "wrapped": false},
                "rhs": {"type": "numberLiteral", "val": "2", "duration": false},
            })
        );
    }

    #[test]
    fn operations() {
        check(
            "a / on (x) group_left (y) b",
            json!({
                "type": "binaryExpr", "op": "/", "lhs": plain("a"), "rhs": plain("b"), "bool": false,
                "matching": {
                    "card": "many-to-one", "labels": ["x"], "on": true, "include": ["y"],
                    "fillValues": {"lhs": null, "rhs": null},
                },
            }),
        );
        check(
            "a > bool 1",
            json!({
                "type": "binaryExpr", "op": ">", "lhs": plain("a"),
                "rhs": {"type": "numberLiteral", "val": "1"}, "bool": true, "matching": null,
            }),
        );
        let set = tree(&parse("a and b").unwrap());
        assert_eq!(set["matching"]["card"], "many-to-many");
        let filled = tree(&parse("a + fill_left (0) b").unwrap());
        assert_eq!(filled["matching"]["fillValues"], json!({"lhs": 0.0, "rhs": null}));
        check(
            "sum without (x) (a)",
            json!({
                "type": "aggregation", "op": "sum", "expr": plain("a"), "param": null,
                "grouping": ["x"], "without": true,
            }),
        );
        check(
            "round(a, 5)",
            json!({
                "type": "call",
                "func": {"name": "round", "argTypes": ["vector", "scalar"], "variadic": 1, "returnType": "vector"},
                "args": [plain("a"), {"type": "numberLiteral", "val": "5"}],
            }),
        );
    }
}
