//! Type checks, in Prometheus' order and words.

use crate::promql::ast::{
    Aggregate, AggregateOp, Binary, Cardinality, Expr, ExprKind, ValueType, VectorSelector,
};
use crate::promql::functions::{Function, FunctionId};
use crate::promql::span::Span;

use super::{Parser, Result};

/// Set operators match many to many unless they say something that is an error anyway.
pub(super) fn settle_cardinality(expr: &mut Expr) {
    if let ExprKind::Binary(binary) = &mut expr.kind
        && binary.op.is_set()
        && binary.matching.cardinality == Cardinality::OneToOne
    {
        binary.matching.cardinality = Cardinality::ManyToMany;
    }
}

impl Parser<'_> {
    pub(super) fn check(&self, expr: &Expr) -> Result<ValueType> {
        let fail = |span: Span, message: String| Err(self.error_at(span, message));
        match &expr.kind {
            ExprKind::Number { .. } | ExprKind::String(_) => {}
            ExprKind::Vector(selector) => self.check_selector(selector, expr.span)?,
            ExprKind::Matrix(matrix) => self.check_selector(&matrix.selector, expr.span)?,
            ExprKind::Subquery(subquery) => {
                let inner = self.check(&subquery.expr)?;
                if inner != ValueType::Vector {
                    let message =
                        format!("subquery is only allowed on instant vector, got {} instead", inner.name());
                    return fail(expr.span, message);
                }
            }
            ExprKind::Paren(inner) | ExprKind::StepInvariant(inner) => {
                self.check(inner)?;
            }
            ExprKind::Unary { expr: inner, .. } => {
                let inner = self.check(inner)?;
                if !matches!(inner, ValueType::Scalar | ValueType::Vector) {
                    let message = format!(
                        "unary expression only allowed on expressions of type scalar or instant vector, got {:?}",
                        inner.documented()
                    );
                    return fail(expr.span, message);
                }
            }
            ExprKind::Binary(binary) => self.check_binary(binary, expr.span)?,
            ExprKind::Call { function, args } => self.check_call(function, args, expr.span)?,
            ExprKind::Aggregate(aggregate) => self.check_aggregate(aggregate)?,
        }
        Ok(expr.value_type())
    }

    fn expect_type(&self, expr: &Expr, wanted: ValueType, context: &str) -> Result<()> {
        let found = self.check(expr)?;
        if found == wanted {
            return Ok(());
        }
        let message =
            format!("expected type {} in {context}, got {}", wanted.documented(), found.documented());
        Err(self.error_at(expr.span, message))
    }

    fn check_selector(&self, selector: &VectorSelector, span: Span) -> Result<()> {
        if selector.name.is_none()
            && !selector.labels_only
            && selector.matchers.iter().all(|matcher| matcher.matches_absent())
        {
            let message = "vector selector must contain at least one non-empty matcher".to_owned();
            return Err(self.error_at(span, message));
        }
        Ok(())
    }

    fn check_aggregate(&self, aggregate: &Aggregate) -> Result<()> {
        self.expect_type(&aggregate.expr, ValueType::Vector, "aggregation expression")?;
        if let Some(param) = &aggregate.param {
            let wanted = match aggregate.op {
                AggregateOp::CountValues => ValueType::String,
                _ => ValueType::Scalar,
            };
            self.expect_type(param, wanted, "aggregation parameter")?;
        }
        Ok(())
    }

    fn check_binary(&self, binary: &Binary, span: Span) -> Result<()> {
        let left = self.check(&binary.left)?;
        let right = self.check(&binary.right)?;
        let (op, matching) = (binary.op, &binary.matching);
        let fail = |span: Span, message: String| Err(self.error_at(span, message));
        let both_scalar = left == ValueType::Scalar && right == ValueType::Scalar;
        let both_vector = left == ValueType::Vector && right == ValueType::Vector;
        if binary.return_bool && !op.is_comparison() {
            let message = "bool modifier can only be used on comparison operators".to_owned();
            return fail(self.operator_span(binary), message);
        }
        if op.is_comparison() && !binary.return_bool && both_scalar {
            let message = "comparisons between scalars must use BOOL modifier".to_owned();
            return fail(self.operator_span(binary), message);
        }
        if matching.on
            && let Some(twice) = matching.labels.iter().find(|label| matching.include.contains(label))
        {
            let message = format!("label {twice:?} must not occur in ON and GROUP clause at once");
            return fail(self.operator_span(binary), message);
        }
        for (side, value_type) in [(&binary.left, left), (&binary.right, right)] {
            if !matches!(value_type, ValueType::Scalar | ValueType::Vector) {
                let message =
                    "binary expression must contain only scalar and instant vector types".to_owned();
                return fail(side.span, message);
            }
        }
        let filled = matching.fill_left.is_some() || matching.fill_right.is_some();
        if !both_vector {
            if !matching.labels.is_empty() {
                return fail(span, "vector matching only allowed between instant vectors".to_owned());
            }
            if filled {
                return fail(
                    span,
                    "filling in missing series only allowed between instant vectors".to_owned(),
                );
            }
        } else if op.is_set() {
            if matches!(matching.cardinality, Cardinality::OneToMany | Cardinality::ManyToOne) {
                return fail(span, format!("no grouping allowed for {:?} operation", op.as_str()));
            }
            if filled {
                return fail(span, "filling in missing series not allowed for set operators".to_owned());
            }
        }
        if !both_vector && op.is_set() {
            let message = format!("set operator {:?} not allowed in binary scalar expression", op.as_str());
            return fail(span, message);
        }
        if both_scalar && matches!(op.as_str(), "</" | ">/") {
            let message = format!("operator {:?} not allowed for Scalar operations", op.as_str());
            return fail(span, message);
        }
        Ok(())
    }

    /// Where the operator and its modifiers stand.
    fn operator_span(&self, binary: &Binary) -> Span {
        let (start, end) = (binary.left.span.end as usize, binary.right.span.start as usize);
        let between = self.input.get(start..end).unwrap_or("");
        let leading = between.len() - between.trim_start().len();
        Span::new(start + leading, start + between.trim_end().len().max(leading))
    }

    fn check_call(&self, function: &Function, args: &[Expr], span: Span) -> Result<()> {
        let wanted = function.args.len();
        let name = function.name;
        let fail = |span: Span, message: String| Err(self.error_at(span, message));
        if function.variadic == 0 && args.len() != wanted {
            let message = format!("expected {wanted} argument(s) in call to {name:?}, got {}", args.len());
            return fail(span, message);
        }
        if function.variadic != 0 {
            let least = wanted - 1;
            if args.len() < least {
                let message =
                    format!("expected at least {least} argument(s) in call to {name:?}, got {}", args.len());
                return fail(span, message);
            }
            let most = least + function.variadic.max(0) as usize;
            if function.variadic > 0 && args.len() > most {
                let message =
                    format!("expected at most {most} argument(s) in call to {name:?}, got {}", args.len());
                return fail(span, message);
            }
        }
        if function.id == FunctionId::Info
            && let Some(selector) = args.get(1)
        {
            match &selector.kind {
                ExprKind::Vector(vector) if vector.name.is_some() => {
                    let message = "expected label selectors only, got vector selector instead".to_owned();
                    return fail(selector.span, message);
                }
                ExprKind::Vector(_) => {}
                _ => return fail(selector.span, "expected label selectors only".to_owned()),
            }
        }
        for (i, arg) in args.iter().enumerate() {
            let wanted = function.args[i.min(wanted - 1)];
            let found = self.check(arg)?;
            if found != wanted {
                let message = format!(
                    "expected type {} in call to function {name:?}, got {}",
                    wanted.documented(),
                    found.documented()
                );
                return fail(arg.span, message);
            }
        }
        Ok(())
    }
}
