//! [`Query`] to text that parses to the same.

use std::fmt::{Display, Formatter, Result, Write};

use protocol::logs::value::write_json_string;

use super::parser::is_name;
use super::{
    Aggregate, Expr, Field, Literal, Metric, MetricKind, Query, Scope, Spansets, Stage, kind_name,
    status_name,
};
use crate::logs::logql::units::format_duration;

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write_spansets(&self.spansets, f)?;
        for stage in &self.stages {
            write!(f, " | {stage}")?;
        }
        match &self.metric {
            Some(metric) => write!(f, " | {metric}"),
            None => Ok(()),
        }
    }
}

fn write_spansets(spansets: &Spansets, f: &mut Formatter<'_>) -> Result {
    match spansets {
        Spansets::Filter(None) => f.write_str("{ }"),
        Spansets::Filter(Some(expr)) => {
            f.write_str("{ ")?;
            write_expr(expr, f)?;
            f.write_str(" }")
        }
        Spansets::Op(left, op, right) => {
            // The left side may be as strong as the operator, the right side must be stronger.
            write_operand(left, f, |inner| inner >= op.strength())?;
            write!(f, " {} ", op.symbol())?;
            write_operand(right, f, |inner| inner > op.strength())
        }
    }
}

fn write_operand(operand: &Spansets, f: &mut Formatter<'_>, is_strong: impl Fn(u8) -> bool) -> Result {
    match operand {
        Spansets::Op(_, op, _) if !is_strong(op.strength()) => {
            f.write_char('(')?;
            write_spansets(operand, f)?;
            f.write_char(')')
        }
        _ => write_spansets(operand, f),
    }
}

fn write_list(parts: &[Expr], between: &str, f: &mut Formatter<'_>) -> Result {
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            f.write_str(between)?;
        }
        match part {
            Expr::And(_) | Expr::Or(_) => {
                f.write_char('(')?;
                write_expr(part, f)?;
                f.write_char(')')?;
            }
            _ => write_expr(part, f)?,
        }
    }
    Ok(())
}

fn write_expr(expr: &Expr, f: &mut Formatter<'_>) -> Result {
    match expr {
        Expr::And(parts) => write_list(parts, " && ", f),
        Expr::Or(parts) => write_list(parts, " || ", f),
        Expr::Not(part) => {
            f.write_str("!(")?;
            write_expr(part, f)?;
            f.write_char(')')
        }
        Expr::Constant(value) => write!(f, "{value}"),
        Expr::Truth(field) => f.write_str(&field_text(field)),
        Expr::Compare(field, op, literal) => write!(f, "{} {} {literal}", field_text(field), op.symbol()),
    }
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Int(number) => write!(f, "{number}"),
            // Always with a point, so that it stays one.
            Self::Float(number) => write!(f, "{number:?}"),
            Self::Duration(ns) => f.write_str(&format_duration(*ns)),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Status(status) => f.write_str(status_name(*status)),
            Self::Kind(kind) => f.write_str(kind_name(*kind)),
            Self::Nil => f.write_str("nil"),
        }
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::new();
    write_json_string(text, &mut out);
    out
}

/// The name of an attribute as queries write it, behind its point.
pub fn attribute_name(name: &str) -> String {
    match name.starts_with(|c: char| is_name(c) && !c.is_ascii_digit()) && name.chars().all(is_name) {
        true => name.to_owned(),
        false => quoted(name),
    }
}

/// A field as queries write it.
pub(super) fn field_text(field: &Field) -> String {
    match field {
        Field::Intrinsic(intrinsic) => intrinsic.name().to_owned(),
        Field::Attribute(scope, name) => {
            let scope = match scope {
                Scope::Any => "",
                Scope::Span => "span",
                Scope::Resource => "resource",
                Scope::Event => "event",
                Scope::Link => "link",
                Scope::Instrumentation => "instrumentation",
            };
            format!("{scope}.{}", attribute_name(name))
        }
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(&field_text(self))
    }
}

fn list(fields: &[Field]) -> String {
    fields.iter().map(field_text).collect::<Vec<_>>().join(", ")
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Filter(spansets) => write_spansets(spansets, f),
            Self::By(fields) => write!(f, "by({})", list(fields)),
            Self::Select(fields) => write!(f, "select({})", list(fields)),
            Self::Coalesce => f.write_str("coalesce()"),
            Self::Aggregate(aggregate, op, literal) => {
                match aggregate {
                    Aggregate::Count => f.write_str("count()")?,
                    Aggregate::Avg(field) => write!(f, "avg({field})")?,
                    Aggregate::Min(field) => write!(f, "min({field})")?,
                    Aggregate::Max(field) => write!(f, "max({field})")?,
                    Aggregate::Sum(field) => write!(f, "sum({field})")?,
                }
                write!(f, " {} {literal}", op.symbol())
            }
        }
    }
}

impl Display for Metric {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.kind {
            MetricKind::Rate => f.write_str("rate()")?,
            MetricKind::Count => f.write_str("count_over_time()")?,
            MetricKind::Min(field) => write!(f, "min_over_time({field})")?,
            MetricKind::Max(field) => write!(f, "max_over_time({field})")?,
            MetricKind::Avg(field) => write!(f, "avg_over_time({field})")?,
            MetricKind::Sum(field) => write!(f, "sum_over_time({field})")?,
            MetricKind::Histogram(field) => write!(f, "histogram_over_time({field})")?,
            MetricKind::Quantile(field, quantiles) => {
                write!(f, "quantile_over_time({field}")?;
                for quantile in quantiles {
                    write!(f, ", {quantile}")?;
                }
                f.write_char(')')?;
            }
        }
        match self.by.is_empty() {
            true => Ok(()),
            false => write!(f, " by ({})", list(&self.by)),
        }
    }
}
