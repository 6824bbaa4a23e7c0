//! How a query is answered: which part is evaluated where, and what each shard did for it.

use std::time::Duration;

use serde::Serialize;

use super::collect::{Collector, Job, Kind};
use super::{Reply, Result};
use crate::exec::Limits;
use crate::features::Features;
use crate::promql::ast::{Expr, ExprKind};
use crate::value::Grid;

/// The plan of a query and its costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The expression, from the outside in.
    pub plan: PlanNode,
    /// What was asked of the shards, in the order of asking.
    pub fragments: Vec<FragmentTrace>,
}

/// A part of the expression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanNode {
    /// The part.
    pub expression: String,
    /// Where and how it is evaluated.
    pub place: &'static str,
    /// Whether it is evaluated once and repeated for every step.
    pub once: bool,
    /// What it needs first.
    pub parts: Vec<PlanNode>,
}

/// A part of the query that all shards were asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FragmentTrace {
    /// The part.
    pub expression: String,
    /// What becomes of the answers.
    pub place: &'static str,
    /// Fragments of lower levels were asked for before.
    pub level: usize,
    /// Steps that each series is evaluated at.
    pub steps: usize,
    /// Places in the query that use the answer.
    pub uses: usize,
    /// Time until all shards had answered.
    pub seconds: f64,
    /// What each did.
    pub shards: Vec<ShardTrace>,
}

/// What one shard did for a fragment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShardTrace {
    /// The shard.
    pub shard: u16,
    /// Series read.
    pub series: u64,
    /// Samples read.
    pub samples: u64,
    /// Rows of the answer: series or groups.
    pub rows: u64,
    /// Bytes of the answer.
    pub bytes: u64,
    /// Seconds of work.
    pub seconds: f64,
}

const HERE: &str = "here, on what the parts give";
const LITERAL: &str = "here";

fn place(kind: &Kind<'_>) -> &'static str {
    match kind {
        Kind::Rows => "at the shards; their series are united here",
        Kind::Merge(_) => "at the shards; partial aggregates are merged here",
        Kind::Select(..) => "at the shards, and once more here among what they selected",
        Kind::Absence(..) => "at the shards, which say when anything is there",
    }
}

/// The plan of a prepared expression.
pub(super) fn plan(
    expr: &Expr,
    grid: Grid,
    features: &Features,
    subquery_step: i64,
    limits: &Limits,
) -> Result<PlanNode> {
    let mut collector = Collector::new(features, subquery_step, limits);
    collector.visit(expr, grid)?;
    Ok(node(expr, &collector.jobs))
}

fn node(expr: &Expr, jobs: &[Job<'_>]) -> PlanNode {
    match &expr.kind {
        ExprKind::Paren(inner) => return node(inner, jobs),
        ExprKind::StepInvariant(inner) => return PlanNode { once: true, ..node(inner, jobs) },
        // What is to be shown whole is fetched as it is.
        ExprKind::Matrix(_) => {
            return PlanNode {
                expression: expr.to_string(),
                place: place(&Kind::Rows),
                once: false,
                parts: Vec::new(),
            };
        }
        _ => {}
    }
    let job = jobs.iter().find(|job| job.span == expr.span);
    let (place, parts) = match job {
        // Scalars that the shards need are evaluated here and sent along.
        Some(job) => (place(&job.kind), job.scalars.iter().map(|scalar| node(scalar, jobs)).collect()),
        None => {
            let parts: Vec<PlanNode> = expr.children().into_iter().map(|child| node(child, jobs)).collect();
            (if parts.is_empty() { LITERAL } else { HERE }, parts)
        }
    };
    PlanNode { expression: expr.to_string(), place, once: false, parts }
}

fn shard_traces(replies: &[Reply]) -> Vec<ShardTrace> {
    let trace = |reply: &Reply| {
        let (answer, stats) = (&reply.answer, reply.answer.stats.clone().unwrap_or_default());
        ShardTrace {
            shard: reply.shard.0,
            series: stats.series,
            samples: stats.samples,
            rows: (answer.series.len() + answer.partials.len() + answer.samples.len()) as u64,
            bytes: reply.bytes,
            seconds: stats.micros as f64 / 1e6,
        }
    };
    replies.iter().map(trace).collect()
}

pub(super) fn trace(
    job: &Job<'_>,
    query: &str,
    level: usize,
    uses: usize,
    replies: &[Reply],
    took: Duration,
) -> FragmentTrace {
    FragmentTrace {
        expression: job.text_in(query).to_owned(),
        place: place(&job.kind),
        level,
        steps: job.grid.count,
        uses,
        seconds: took.as_secs_f64(),
        shards: shard_traces(replies),
    }
}

/// The trace of a range selector that is the whole query.
pub(super) fn raw_trace(query: &str, replies: &[Reply], took: Duration) -> FragmentTrace {
    FragmentTrace {
        expression: query.to_owned(),
        place: place(&Kind::Rows),
        level: 0,
        steps: 1,
        uses: 1,
        seconds: took.as_secs_f64(),
        shards: shard_traces(replies),
    }
}
