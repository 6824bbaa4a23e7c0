//! Syntax trees to text: on one line (the canonical form, which parses to the same tree) and broken over lines as
//! `format_query` answers.

use std::fmt::{self, Write};

use protocol::labels::METRIC_NAME;
use protocol::matcher::{MatchOp, Matcher};

use super::ast::{
    Aggregate, At, Binary, Cardinality, DurationExpr, DurationKind, DurationOp, DurationValue, Edges, Expr,
    ExprKind, MatrixSelector, Subquery, Text, VectorSelector,
};
use super::parser::format_duration;
use crate::format::{format_f64, quote_bytes};

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number { value, duration } => number(f, *value, *duration),
            ExprKind::String(text) => fmt::Display::fmt(text, f),
            ExprKind::Vector(selector) => vector(f, selector),
            ExprKind::Matrix(matrix) => matrix_selector(f, matrix),
            ExprKind::Subquery(subquery) => {
                write!(f, "{}", subquery.expr)?;
                subquery_suffix(f, subquery)
            }
            ExprKind::Paren(inner) => write!(f, "({inner})"),
            ExprKind::Unary { negative, expr } => write!(f, "{}{expr}", if *negative { '-' } else { '+' }),
            ExprKind::Binary(binary) => {
                write!(f, "{} {}{} {}", binary.left, binary.op.as_str(), Modifiers(binary), binary.right)
            }
            ExprKind::Call { function, args } => {
                write!(f, "{}(", function.name)?;
                for (i, arg) in args.iter().enumerate() {
                    write!(f, "{}{arg}", if i > 0 { ", " } else { "" })?;
                }
                f.write_char(')')
            }
            ExprKind::Aggregate(aggregate) => {
                aggregate_head(f, aggregate)?;
                f.write_char('(')?;
                if let Some(param) = &aggregate.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", aggregate.expr)
            }
            ExprKind::StepInvariant(inner) => write!(f, "{inner}"),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quote_bytes(&self.0))
    }
}

fn number(f: &mut fmt::Formatter<'_>, value: f64, duration: bool) -> fmt::Result {
    if duration {
        return f.write_str(&format_duration((value * 1000.0).round() as i64));
    }
    f.write_str(&format_f64(value))
}

fn write_labels(f: &mut fmt::Formatter<'_>, labels: &[String]) -> fmt::Result {
    for (i, label) in labels.iter().enumerate() {
        f.write_str(if i > 0 { ", " } else { "" })?;
        label_name(f, label)?;
    }
    Ok(())
}

fn is_plain_label(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b == b'_' || b.is_ascii_alphabetic())
        && bytes.all(|b| b == b'_' || b.is_ascii_alphanumeric())
}

fn label_name(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    if is_plain_label(name) { f.write_str(name) } else { f.write_str(&quote_bytes(name.as_bytes())) }
}

fn aggregate_head(f: &mut fmt::Formatter<'_>, aggregate: &Aggregate) -> fmt::Result {
    f.write_str(aggregate.op.as_str())?;
    if aggregate.without || !aggregate.grouping.is_empty() {
        f.write_str(if aggregate.without { " without (" } else { " by (" })?;
        write_labels(f, &aggregate.grouping)?;
        f.write_str(") ")?;
    }
    Ok(())
}

/// `bool` and how the sides match.
struct Modifiers<'a>(&'a Binary);

impl fmt::Display for Modifiers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (binary, matching) = (self.0, &self.0.matching);
        if binary.return_bool {
            f.write_str(" bool")?;
        }
        let group = match matching.cardinality {
            Cardinality::ManyToOne => Some("left"),
            Cardinality::OneToMany => Some("right"),
            Cardinality::OneToOne | Cardinality::ManyToMany => None,
        };
        if !matching.labels.is_empty() || matching.on || group.is_some() {
            f.write_str(if matching.on { " on (" } else { " ignoring (" })?;
            write_labels(f, &matching.labels)?;
            f.write_char(')')?;
        }
        if let Some(side) = group {
            write!(f, " group_{side} (")?;
            write_labels(f, &matching.include)?;
            f.write_char(')')?;
        }
        match (matching.fill_left, matching.fill_right) {
            (Some(left), Some(right)) if left.to_bits() == right.to_bits() => {
                write!(f, " fill ({})", format_f64(left))
            }
            (left, right) => {
                if let Some(left) = left {
                    write!(f, " fill_left ({})", format_f64(left))?;
                }
                if let Some(right) = right {
                    write!(f, " fill_right ({})", format_f64(right))?;
                }
                Ok(())
            }
        }
    }
}

fn matchers(f: &mut fmt::Formatter<'_>, selector: &VectorSelector) -> fmt::Result {
    // Inside braces a metric's name that is no identifier stands quoted and first.
    let mut texts = Vec::new();
    for matcher in &selector.matchers {
        let is_name = matcher.name() == METRIC_NAME && matcher.op() == MatchOp::Equal;
        if is_name && selector.name.as_deref() == Some(matcher.value()) && !matcher.value().is_empty() {
            continue;
        }
        texts.push(MatcherText(matcher).to_string());
    }
    if texts.is_empty() && selector.name.is_some() {
        return Ok(());
    }
    texts.sort();
    write!(f, "{{{}}}", texts.join(","))
}

struct MatcherText<'a>(&'a Matcher);

impl fmt::Display for MatcherText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        label_name(f, self.0.name())?;
        write!(f, "{}{}", self.0.op().as_str(), quote_bytes(self.0.value().as_bytes()))
    }
}

fn vector(f: &mut fmt::Formatter<'_>, selector: &VectorSelector) -> fmt::Result {
    f.write_str(selector.name.as_deref().unwrap_or(""))?;
    matchers(f, selector)?;
    edges(f, selector.edges)?;
    at_modifier(f, selector.at)?;
    offset(f, selector.offset.as_ref())
}

fn matrix_selector(f: &mut fmt::Formatter<'_>, matrix: &MatrixSelector) -> fmt::Result {
    let selector = &matrix.selector;
    f.write_str(selector.name.as_deref().unwrap_or(""))?;
    matchers(f, selector)?;
    write!(f, "[{}]", matrix.range)?;
    edges(f, selector.edges)?;
    at_modifier(f, selector.at)?;
    offset(f, selector.offset.as_ref())
}

fn subquery_suffix(f: &mut fmt::Formatter<'_>, subquery: &Subquery) -> fmt::Result {
    write!(f, "[{}:", subquery.range)?;
    if let Some(step) = &subquery.step {
        write!(f, "{step}")?;
    }
    f.write_char(']')?;
    at_modifier(f, subquery.at)?;
    offset(f, subquery.offset.as_ref())
}

fn edges(f: &mut fmt::Formatter<'_>, edges: Edges) -> fmt::Result {
    f.write_str(match edges {
        Edges::Plain => "",
        Edges::Anchored => " anchored",
        Edges::Smoothed => " smoothed",
    })
}

fn at_modifier(f: &mut fmt::Formatter<'_>, at: Option<At>) -> fmt::Result {
    match at {
        None => Ok(()),
        Some(At::Start) => f.write_str(" @ start()"),
        Some(At::End) => f.write_str(" @ end()"),
        Some(At::Time(millis)) => write!(f, " @ {:.3}", millis as f64 / 1000.0),
    }
}

fn offset(f: &mut fmt::Formatter<'_>, offset: Option<&DurationValue>) -> fmt::Result {
    match offset {
        Some(value) if value.millis != 0 || value.expr.is_some() => write!(f, " offset {value}"),
        _ => Ok(()),
    }
}

impl fmt::Display for DurationValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.expr {
            Some(expr) => fmt::Display::fmt(expr, f),
            None => f.write_str(&format_duration(self.millis)),
        }
    }
}

impl fmt::Display for DurationExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wrapped {
            f.write_char('(')?;
        }
        match &self.kind {
            DurationKind::Number { value, duration } => number(f, *value, *duration)?,
            DurationKind::Step => f.write_str("step()")?,
            DurationKind::Range => f.write_str("range()")?,
            DurationKind::Negate(inner) => write!(f, "-{inner}")?,
            DurationKind::Plus(inner) => write!(f, "{inner}")?,
            DurationKind::Min(a, b) => write!(f, "min_of({a}, {b})")?,
            DurationKind::Max(a, b) => write!(f, "max_of({a}, {b})")?,
            DurationKind::Binary(op, a, b) => {
                let op = match op {
                    DurationOp::Add => '+',
                    DurationOp::Sub => '-',
                    DurationOp::Mul => '*',
                    DurationOp::Div => '/',
                    DurationOp::Mod => '%',
                    DurationOp::Pow => '^',
                };
                write!(f, "{a} {op} {b}")?;
            }
        }
        if self.wrapped {
            f.write_char(')')?;
        }
        Ok(())
    }
}

/// Longest line that is not broken.
const MAX_LINE: usize = 100;

/// The query broken over indented lines, as Prometheus' `format_query` breaks it.
pub fn pretty(expr: &Expr) -> String {
    pretty_at(expr, 0)
}

fn indent(level: usize) -> String {
    "  ".repeat(level)
}

fn pretty_at(expr: &Expr, level: usize) -> String {
    let line = format!("{}{expr}", indent(level));
    if line.len() <= MAX_LINE {
        return line;
    }
    let pad = indent(level);
    match &expr.kind {
        ExprKind::Paren(inner) => format!("{pad}(\n{}\n{pad})", pretty_at(inner, level + 1)),
        ExprKind::Unary { negative, expr } => {
            let inner = pretty_at(expr, level);
            format!("{pad}{}{}", if *negative { '-' } else { '+' }, inner.trim_start())
        }
        ExprKind::Binary(binary) => format!(
            "{}\n{pad}{}{}\n{}",
            pretty_at(&binary.left, level + 1),
            binary.op.as_str(),
            Modifiers(binary),
            pretty_at(&binary.right, level + 1)
        ),
        ExprKind::Call { function, args } => {
            let parts: Vec<_> = args.iter().map(|arg| pretty_at(arg, level + 1)).collect();
            format!("{pad}{}(\n{}\n{pad})", function.name, parts.join(",\n"))
        }
        ExprKind::Aggregate(aggregate) => {
            let head = AggregateHead(aggregate);
            let parts: Vec<_> =
                aggregate.param.iter().chain([&aggregate.expr]).map(|e| pretty_at(e, level + 1)).collect();
            format!("{pad}{head}(\n{}\n{pad})", parts.join(",\n"))
        }
        ExprKind::Subquery(subquery) => {
            format!("{}{}", pretty_at(&subquery.expr, level), SubquerySuffix(subquery))
        }
        ExprKind::StepInvariant(inner) => pretty_at(inner, level),
        _ => line,
    }
}

struct AggregateHead<'a>(&'a Aggregate);

impl fmt::Display for AggregateHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        aggregate_head(f, self.0)
    }
}

struct SubquerySuffix<'a>(&'a Subquery);

impl fmt::Display for SubquerySuffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        subquery_suffix(f, self.0)
    }
}
