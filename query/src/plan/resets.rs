//! Where native histograms have to tell whether their counter was reset before them.
//!
//! Sums and averages warn when some of the histograms that they add up were reset and others were not. Prometheus
//! only knows that of histograms which it reads for `histogram_count`, `histogram_sum` or `histogram_avg`, because it
//! skips their buckets then and has to look for resets while it still sees them. Its warnings follow from that.

use crate::promql::ast::{Expr, ExprKind};
use crate::promql::functions::FunctionId;

/// Marks the selectors below that have to find resets. `within` says whether the tree itself is part of such an
/// argument.
pub fn mark_resets(expr: &mut Expr, within: bool) {
    match &mut expr.kind {
        ExprKind::Number { .. } | ExprKind::String(_) => {}
        ExprKind::Vector(selector) => selector.finds_resets = within,
        ExprKind::Matrix(matrix) => matrix.selector.finds_resets = within,
        // Between the steps of a subquery samples are missing.
        ExprKind::Subquery(subquery) => mark_resets(&mut subquery.expr, false),
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } | ExprKind::StepInvariant(inner) => {
            mark_resets(inner, within);
        }
        ExprKind::Binary(binary) => {
            mark_resets(&mut binary.left, false);
            mark_resets(&mut binary.right, false);
        }
        ExprKind::Call { function, args } => {
            use FunctionId as Id;
            let within = match function.id {
                Id::HistogramCount | Id::HistogramSum | Id::HistogramAvg => true,
                Id::HistogramQuantile | Id::HistogramQuantiles | Id::HistogramFraction => false,
                _ => within,
            };
            args.iter_mut().for_each(|arg| mark_resets(arg, within));
        }
        ExprKind::Aggregate(aggregate) => {
            if let Some(param) = &mut aggregate.param {
                mark_resets(param, within);
            }
            mark_resets(&mut aggregate.expr, within);
        }
    }
}

/// Whether any selector of a tree is marked.
pub fn any_marked(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Vector(selector) => selector.finds_resets,
        ExprKind::Matrix(matrix) => matrix.selector.finds_resets,
        _ => expr.children().into_iter().any(any_marked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::parser::parse;

    #[test]
    fn marks_below_counts_and_sums() {
        let marked = |input: &str| {
            let mut expr = parse(input).unwrap();
            mark_resets(&mut expr, false);
            any_marked(&expr)
        };
        assert!(marked("histogram_count(sum(a))"));
        assert!(marked("histogram_avg(sum_over_time(a[5m]))"));
        assert!(marked("b + histogram_sum(rate(a[5m]))"));
        assert!(!marked("sum(a)"));
        assert!(!marked("histogram_count(a + b)"));
        assert!(!marked("histogram_count(sum_over_time(a[5m:1m]))"));
        assert!(!marked("histogram_count(histogram_quantile(0.5, a))"));
    }
}
