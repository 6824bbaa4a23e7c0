//! What a shard can evaluate alone.
//!
//! A *chain* is an expression over one selector whose output series each come from one input series: the selector
//! itself, functions over single samples or ranges, arithmetic with scalars, subqueries of chains. Shards hold
//! different series, so a chain's value is the union of the shards' values. Scalars inside a chain that need data
//! themselves are evaluated first and sent along.

use protocol::labels::METRIC_NAME;
use protocol::matcher::MatchOp;

use crate::features::Features;
use crate::promql::ast::{Aggregate, AggregateOp, Expr, ExprKind, ValueType, VectorSelector};
use crate::promql::functions::{Function, FunctionId};

/// Functions over the samples of single series.
pub fn is_per_sample(id: FunctionId) -> bool {
    use FunctionId as Id;
    matches!(
        id,
        Id::Abs
            | Id::Acos
            | Id::Acosh
            | Id::Asin
            | Id::Asinh
            | Id::Atan
            | Id::Atanh
            | Id::Ceil
            | Id::Clamp
            | Id::ClampMax
            | Id::ClampMin
            | Id::Cos
            | Id::Cosh
            | Id::DayOfMonth
            | Id::DayOfWeek
            | Id::DayOfYear
            | Id::DaysInMonth
            | Id::Deg
            | Id::Exp
            | Id::Floor
            | Id::HistogramAvg
            | Id::HistogramCount
            | Id::HistogramStddev
            | Id::HistogramStdvar
            | Id::HistogramSum
            | Id::Hour
            | Id::Ln
            | Id::Log10
            | Id::Log2
            | Id::Minute
            | Id::Month
            | Id::Rad
            | Id::Round
            | Id::Sgn
            | Id::Sin
            | Id::Sinh
            | Id::Sqrt
            | Id::StartTimestamp
            | Id::Tan
            | Id::Tanh
            | Id::Timestamp
            | Id::Year
    )
}

/// Functions over the range of single series.
pub fn is_over_range(function: &Function) -> bool {
    function.args.contains(&ValueType::Matrix) && function.id != FunctionId::AbsentOverTime
}

/// Whether the function keeps the metric's name.
pub fn keeps_name(id: FunctionId) -> bool {
    matches!(id, FunctionId::LastOverTime | FunctionId::FirstOverTime)
}

/// Whether the value of an expression needs no stored data.
pub fn is_data_free(expr: &Expr) -> bool {
    !matches!(expr.kind, ExprKind::Vector(_) | ExprKind::Matrix(_))
        && expr.children().into_iter().all(is_data_free)
}

/// What is known of a chain.
pub struct Chain<'a> {
    /// Scalars whose values have to be sent along.
    pub scalars: Vec<&'a Expr>,
    /// The selector at its root.
    pub root: &'a VectorSelector,
    /// Parts that drop the metric's name.
    drops: usize,
    /// Whether the outermost part drops it.
    drops_last: bool,
}

impl<'a> Chain<'a> {
    /// The chain that this expression is, if it is one that shards may evaluate without seeing each other's series.
    pub fn of(expr: &'a Expr, features: &Features) -> Option<Self> {
        let chain = Self::parts(expr)?;
        // Dropping names can make labels equal that were not; Prometheus merges or refuses such series part by
        // part, which needs all of them in one place. Only the last part's can be left to the coordinator.
        let unique = features.delayed_name_removal || names_one_metric(chain.root);
        (unique || chain.drops == 0 || (chain.drops == 1 && chain.drops_last)).then_some(chain)
    }

    /// Whether the output series have different labels across shards for certain.
    pub fn is_unique(&self, features: &Features) -> bool {
        features.delayed_name_removal || self.drops == 0 || names_one_metric(self.root)
    }

    fn parts(expr: &'a Expr) -> Option<Self> {
        match &expr.kind {
            ExprKind::Vector(root) if !root.labels_only => {
                Some(Self { scalars: Vec::new(), root, drops: 0, drops_last: false })
            }
            ExprKind::Paren(inner) => Self::parts(inner),
            // Scalars below would have to be evaluated on another grid.
            ExprKind::StepInvariant(inner) => Self::parts(inner).filter(|chain| chain.scalars.is_empty()),
            ExprKind::Unary { negative, expr } => {
                Self::parts(expr).map(|chain| if *negative { chain.dropping() } else { chain })
            }
            ExprKind::Binary(binary) => {
                let (scalar, vector) = match (binary.left.value_type(), binary.right.value_type()) {
                    (ValueType::Scalar, ValueType::Vector) => (&binary.left, &binary.right),
                    (ValueType::Vector, ValueType::Scalar) => (&binary.right, &binary.left),
                    _ => return None,
                };
                let chain = Self::parts(vector)?.with_scalar(scalar);
                let drops = binary.return_bool || binary.op.changes_schema();
                Some(if drops { chain.dropping() } else { Self { drops_last: false, ..chain } })
            }
            ExprKind::Call { function, args } if is_per_sample(function.id) => {
                let mut chain = Self::parts(args.first()?)?;
                for scalar in &args[1..] {
                    chain = chain.with_scalar(scalar);
                }
                Some(chain.dropping())
            }
            ExprKind::Call { function, args } if is_over_range(function) => {
                let at = args.iter().position(|arg| arg.value_type() == ValueType::Matrix)?;
                let mut chain = match &args[at].unwrapped().kind {
                    ExprKind::Matrix(matrix) => {
                        Self { scalars: Vec::new(), root: &matrix.selector, drops: 0, drops_last: false }
                    }
                    ExprKind::Subquery(subquery) => {
                        Self::parts(&subquery.expr).filter(|chain| chain.scalars.is_empty())?
                    }
                    _ => return None,
                };
                for (i, scalar) in args.iter().enumerate() {
                    if i != at {
                        chain = chain.with_scalar(scalar);
                    }
                }
                Some(if keeps_name(function.id) {
                    Self { drops_last: false, ..chain }
                } else {
                    chain.dropping()
                })
            }
            _ => None,
        }
    }

    fn with_scalar(mut self, scalar: &'a Expr) -> Self {
        if !is_data_free(scalar) {
            self.scalars.push(scalar);
        }
        self
    }

    fn dropping(self) -> Self {
        Self { drops: self.drops + 1, drops_last: true, ..self }
    }
}

/// Whether a selector can only select series of one metric.
pub fn names_one_metric(selector: &VectorSelector) -> bool {
    let names = |m: &&protocol::matcher::Matcher| {
        m.name() == METRIC_NAME && m.op() == MatchOp::Equal && !m.value().is_empty()
    };
    selector.matchers.iter().any(|m| names(&m))
}

/// How an aggregation is shared between shards and coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Shards send running states, the coordinator merges and finishes them.
    Partial,
    /// Shards aggregate, the coordinator aggregates their results once more.
    Twice,
}

/// How an aggregation over a chain can be shared; `None` when the coordinator has to see all series.
pub fn sharing<'a>(aggregate: &'a Aggregate, features: &Features) -> Option<(Sharing, Chain<'a>)> {
    let sharing = match aggregate.op {
        AggregateOp::CountValues => return None,
        op if op.selects() => Sharing::Twice,
        _ => Sharing::Partial,
    };
    let mut chain = Chain::of(&aggregate.expr, features).filter(|chain| chain.is_unique(features))?;
    if let Some(param) = &aggregate.param {
        chain = chain.with_scalar(param);
    }
    Some((sharing, chain))
}
