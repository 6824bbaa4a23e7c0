//! Which parts of a tree the shards are asked for.

use super::Result;
use crate::eval::info::{info_selector, info_timestamps};
use crate::eval::range::subquery_grid;
use crate::exec::Limits;
use crate::features::Features;
use crate::plan::push::{Chain, Sharing, sharing};
use crate::plan::resets::any_marked;
use crate::promql::ast::{Aggregate, Expr, ExprKind};
use crate::promql::functions::FunctionId;
use crate::promql::span::Span;
use crate::value::Grid;

/// How a job's answers become series.
#[derive(Clone, Copy)]
pub(super) enum Kind<'a> {
    /// The union of the shards' series.
    Rows,
    /// Running states, to be merged and finished.
    Merge(&'a Aggregate),
    /// Series selected at the shards, to be selected among once more.
    Select(&'a Aggregate, Span),
    /// Whether anything is there; the argument of `absent` (or `absent_over_time`).
    Absence(&'a Expr, bool),
}

/// A part that is asked of all shards.
pub(super) struct Job<'a> {
    /// The part's place in the query, by which the evaluator finds the answer.
    pub span: Span,
    /// The text to evaluate where it is not the query's.
    pub text: Option<String>,
    pub grid: Grid,
    pub kind: Kind<'a>,
    /// Ask for running states.
    pub partial: bool,
    /// Answer with names still on.
    pub keep_names: bool,
    /// Histograms have to tell whether they were reset.
    pub find_resets: bool,
    /// Scalars to evaluate first and send along.
    pub scalars: Vec<&'a Expr>,
    /// Jobs of lower levels come first.
    pub level: usize,
}

impl Job<'_> {
    /// What the shards evaluate.
    pub fn text_in<'b>(&'b self, query: &'b str) -> &'b str {
        match &self.text {
            Some(text) => text,
            None => query.get(self.span.start as usize..self.span.end as usize).unwrap_or(""),
        }
    }

    /// Whether another job asks for the same.
    pub fn is_twin_of(&self, other: &Self, query: &str) -> bool {
        self.scalars.is_empty()
            && other.scalars.is_empty()
            && (self.grid, self.partial, self.keep_names, self.find_resets)
                == (other.grid, other.partial, other.keep_names, other.find_resets)
            && self.text_in(query) == other.text_in(query)
    }
}

/// Walks a tree and collects jobs.
pub(super) struct Collector<'a> {
    pub jobs: Vec<Job<'a>>,
    features: &'a Features,
    subquery_step: i64,
    limits: &'a Limits,
}

impl<'a> Collector<'a> {
    pub fn new(features: &'a Features, subquery_step: i64, limits: &'a Limits) -> Self {
        Self { jobs: Vec::new(), features, subquery_step, limits }
    }

    /// Collects the jobs of a part; returns the level above all of them. Fails where a subquery has more steps than
    /// the limits allow.
    pub fn visit(&mut self, expr: &'a Expr, grid: Grid) -> Result<usize> {
        if grid.count == 0 {
            return Ok(0);
        }
        if let ExprKind::StepInvariant(inner) = &expr.kind {
            return self.visit(inner, Grid::single(grid.start, grid.step));
        }
        if let ExprKind::Paren(inner) = &expr.kind {
            return self.visit(inner, grid);
        }
        if let Some(chain) = Chain::of(expr, self.features) {
            return self.push(expr, grid, Kind::Rows, chain.scalars);
        }
        match &expr.kind {
            ExprKind::Aggregate(aggregate) => match sharing(aggregate, self.features) {
                Some((Sharing::Partial, chain)) => {
                    let level = self.push(expr, grid, Kind::Merge(aggregate), chain.scalars)?;
                    // The parameter is needed here too.
                    Ok(level.max(self.parameter(aggregate, grid)?))
                }
                Some((Sharing::Twice, chain)) => {
                    let kind = Kind::Select(aggregate, expr.span);
                    let level = self.push(expr, grid, kind, chain.scalars)?;
                    Ok(level.max(self.parameter(aggregate, grid)?))
                }
                None => self.children(expr, grid),
            },
            ExprKind::Call { function, args } => match function.id {
                FunctionId::Absent => match Chain::of(&args[0], self.features) {
                    Some(chain) => self.push(expr, grid, Kind::Absence(&args[0], false), chain.scalars),
                    None => self.children(expr, grid),
                },
                FunctionId::AbsentOverTime => {
                    let chain = match &args[0].unwrapped().kind {
                        ExprKind::Matrix(_) => Some(Vec::new()),
                        ExprKind::Subquery(subquery) => Chain::of(&subquery.expr, self.features)
                            .filter(|chain| chain.scalars.is_empty())
                            .map(|chain| chain.scalars),
                        _ => None,
                    };
                    match chain {
                        Some(scalars) => self.push(expr, grid, Kind::Absence(&args[0], true), scalars),
                        None => self.children(expr, grid),
                    }
                }
                FunctionId::Info => {
                    let level = self.visit(&args[0], grid)?;
                    let selector = info_selector(args, expr.span);
                    let times = info_timestamps(selector.clone(), expr.span);
                    for (part, keep_names) in [(&selector, false), (&times, true)] {
                        self.jobs.push(Job {
                            span: part.span,
                            text: Some(part.to_string()),
                            grid,
                            kind: Kind::Rows,
                            partial: false,
                            keep_names,
                            find_resets: false,
                            scalars: Vec::new(),
                            level: 0,
                        });
                    }
                    Ok(level.max(1))
                }
                _ => self.children(expr, grid),
            },
            ExprKind::Subquery(subquery) => {
                let inner = subquery_grid(subquery, grid, self.subquery_step, self.limits)?;
                self.visit(&subquery.expr, inner)
            }
            _ => self.children(expr, grid),
        }
    }

    fn children(&mut self, expr: &'a Expr, grid: Grid) -> Result<usize> {
        self.highest(expr.children(), grid)
    }

    fn parameter(&mut self, aggregate: &'a Aggregate, grid: Grid) -> Result<usize> {
        aggregate.param.as_ref().map_or(Ok(0), |param| self.visit(param, grid))
    }

    fn highest(&mut self, exprs: Vec<&'a Expr>, grid: Grid) -> Result<usize> {
        exprs.into_iter().try_fold(0, |level, expr| Ok(level.max(self.visit(expr, grid)?)))
    }

    fn push(&mut self, expr: &Expr, grid: Grid, kind: Kind<'a>, scalars: Vec<&'a Expr>) -> Result<usize> {
        let level = self.highest(scalars.clone(), grid)?;
        let partial = matches!(kind, Kind::Merge(_) | Kind::Absence(..));
        self.jobs.push(Job {
            span: expr.span,
            text: None,
            grid,
            kind,
            partial,
            keep_names: false,
            find_resets: any_marked(expr),
            scalars,
            level,
        });
        Ok(level + 1)
    }
}
