//! The syntax tree of PromQL.
//!
//! A tree is what the user wrote, plus types. `plan::prepare` later resolves duration expressions and `start()` /
//! `end()` and wraps what does not depend on the step into [`ExprKind::StepInvariant`]; the parser never makes
//! that variant.

use protocol::matcher::Matcher;

use super::functions::Function;
use super::span::Span;

/// An expression and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
}

/// Type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One float per step.
    Scalar,
    /// Series with one sample per step.
    Vector,
    /// Series with a run of samples per step.
    Matrix,
    /// A string.
    String,
}

impl ValueType {
    /// As Prometheus' error messages name it.
    pub fn documented(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::String => "string",
        }
    }

    /// As the API names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
            Self::String => "string",
        }
    }
}

/// The bytes of a string literal. Escapes can make bytes that are not UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Text(pub Vec<u8>);

impl Text {
    /// As a string, `None` when the bytes are not UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// As a string, with replacement characters where the bytes are not UTF-8.
    pub fn lossy(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

/// The kinds of expressions.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// A number; `duration` when it was written like `5m`.
    Number {
        /// The value, seconds for durations.
        value: f64,
        /// Written as a duration.
        duration: bool,
    },
    /// A string.
    String(Text),
    /// An instant selector.
    Vector(VectorSelector),
    /// A range selector.
    Matrix(MatrixSelector),
    /// A subquery.
    Subquery(Box<Subquery>),
    /// An expression in parentheses.
    Paren(Box<Expr>),
    /// A signed expression.
    Unary {
        /// Whether the sign is a minus.
        negative: bool,
        /// What is signed.
        expr: Box<Expr>,
    },
    /// A binary operation.
    Binary(Box<Binary>),
    /// A function call.
    Call {
        /// The function.
        function: &'static Function,
        /// Its arguments.
        args: Vec<Expr>,
    },
    /// An aggregation.
    Aggregate(Box<Aggregate>),
    /// Evaluated once, at the first step, and repeated. Made by the planner.
    StepInvariant(Box<Expr>),
}

/// What `@` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// `@ 1234.5`, in milliseconds.
    Time(i64),
    /// `@ start()`
    Start,
    /// `@ end()`
    End,
}

/// A duration as written: a literal, or arithmetic that needs the query's step and range.
#[derive(Clone, Debug, PartialEq)]
pub struct DurationValue {
    /// Milliseconds; meaningful once `expr` is resolved.
    pub millis: i64,
    /// Arithmetic to be resolved.
    pub expr: Option<DurationExpr>,
}

impl DurationValue {
    /// A duration that needs no resolving.
    pub fn millis(millis: i64) -> Self {
        Self { millis, expr: None }
    }
}

/// Arithmetic over durations.
#[derive(Clone, Debug, PartialEq)]
pub struct DurationExpr {
    /// What it is.
    pub kind: DurationKind,
    /// Whether it stands in parentheses.
    pub wrapped: bool,
    /// Where it stands.
    pub span: Span,
}

/// The kinds of duration arithmetic.
#[derive(Clone, Debug, PartialEq)]
pub enum DurationKind {
    /// A number of seconds; `duration` when written like `5m`.
    Number {
        /// Seconds.
        value: f64,
        /// Written as a duration.
        duration: bool,
    },
    /// `step()`
    Step,
    /// `range()`
    Range,
    /// `-x`
    Negate(Box<DurationExpr>),
    /// `+x`
    Plus(Box<DurationExpr>),
    /// `x + y` and the like.
    Binary(DurationOp, Box<DurationExpr>, Box<DurationExpr>),
    /// `min(x, y)`
    Min(Box<DurationExpr>, Box<DurationExpr>),
    /// `max(x, y)`
    Max(Box<DurationExpr>, Box<DurationExpr>),
}

/// Operators of duration arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
}

/// How a selector treats the edges of its range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edges {
    /// Only what is inside.
    #[default]
    Plain,
    /// `anchored`: the sample before the range counts as its first.
    Anchored,
    /// `smoothed`: values at the edges are interpolated.
    Smoothed,
}

/// An instant selector, or the series part of a range selector.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The metric's name where it stands before the braces.
    pub name: Option<String>,
    /// All matchers, the name's included.
    pub matchers: Vec<Matcher>,
    /// `offset`
    pub offset: Option<DurationValue>,
    /// `@`
    pub at: Option<At>,
    /// `anchored` or `smoothed`
    pub edges: Edges,
    /// A label selector (second argument of `info`), which may match everything.
    pub labels_only: bool,
    /// Native histograms have to tell whether they were reset (see `plan::resets`).
    pub finds_resets: bool,
}

/// A range selector.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSelector {
    /// Which series, with offset, `@` and edges.
    pub selector: VectorSelector,
    /// Length of the range.
    pub range: DurationValue,
}

/// A subquery.
#[derive(Clone, Debug, PartialEq)]
pub struct Subquery {
    /// What is evaluated.
    pub expr: Expr,
    /// Length of the range.
    pub range: DurationValue,
    /// Distance of evaluations, the default where absent.
    pub step: Option<DurationValue>,
    /// `offset`
    pub offset: Option<DurationValue>,
    /// `@`
    pub at: Option<At>,
}

/// Binary operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
    /// `atan2`
    Atan2,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `<`
    Less,
    /// `>=`
    GreaterEqual,
    /// `<=`
    LessEqual,
    /// `</`: keep the part of a histogram below a value.
    TrimUpper,
    /// `>/`: keep the part of a histogram above a value.
    TrimLower,
    /// `and`
    And,
    /// `or`
    Or,
    /// `unless`
    Unless,
}

impl BinaryOp {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::GreaterEqual => ">=",
            Self::LessEqual => "<=",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
        }
    }

    /// Binds tighter when higher.
    pub fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Equal
            | Self::NotEqual
            | Self::Greater
            | Self::Less
            | Self::GreaterEqual
            | Self::LessEqual => 3,
            Self::TrimUpper | Self::TrimLower => 3,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod | Self::Atan2 => 5,
            Self::Pow => 6,
        }
    }

    /// `and`, `or`, `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// `==`, `!=`, `>`, `<`, `>=`, `<=`.
    pub fn is_comparison(self) -> bool {
        self.precedence() == 3 && !matches!(self, Self::TrimUpper | Self::TrimLower)
    }

    /// Whether the result is another quantity than the left side, so that the metric's name does not fit it.
    pub fn changes_schema(self) -> bool {
        matches!(self, Self::Add | Self::Sub | Self::Mul | Self::Div | Self::Mod | Self::Pow | Self::Atan2)
    }
}

/// How many samples of each side may meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cardinality {
    /// One to one.
    #[default]
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// Set operators.
    ManyToMany,
}

/// How the sides of a binary operation find each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matching {
    /// How many of each side.
    pub cardinality: Cardinality,
    /// `on` instead of `ignoring`.
    pub on: bool,
    /// The labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// The labels of `group_left` or `group_right`.
    pub include: Vec<String>,
    /// Value for a missing left side.
    pub fill_left: Option<f64>,
    /// Value for a missing right side.
    pub fill_right: Option<f64>,
}

/// A binary operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// Left side.
    pub left: Expr,
    /// Right side.
    pub right: Expr,
    /// `bool`
    pub return_bool: bool,
    /// How the sides match; meaningless unless both are vectors.
    pub matching: Matching,
}

/// Aggregation operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregateOp {
    /// `sum`
    Sum,
    /// `avg`
    Avg,
    /// `count`
    Count,
    /// `min`
    Min,
    /// `max`
    Max,
    /// `group`
    Group,
    /// `stddev`
    Stddev,
    /// `stdvar`
    Stdvar,
    /// `topk`
    TopK,
    /// `bottomk`
    BottomK,
    /// `count_values`
    CountValues,
    /// `quantile`
    Quantile,
    /// `limitk`
    LimitK,
    /// `limit_ratio`
    LimitRatio,
}

impl AggregateOp {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Sum,
        Self::Avg,
        Self::Count,
        Self::Min,
        Self::Max,
        Self::Group,
        Self::Stddev,
        Self::Stdvar,
        Self::TopK,
        Self::BottomK,
        Self::CountValues,
        Self::Quantile,
        Self::LimitK,
        Self::LimitRatio,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Count => "count",
            Self::Min => "min",
            Self::Max => "max",
            Self::Group => "group",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::TopK => "topk",
            Self::BottomK => "bottomk",
            Self::CountValues => "count_values",
            Self::Quantile => "quantile",
            Self::LimitK => "limitk",
            Self::LimitRatio => "limit_ratio",
        }
    }

    /// Whether a parameter stands before the vector.
    pub fn has_parameter(self) -> bool {
        matches!(
            self,
            Self::TopK | Self::BottomK | Self::CountValues | Self::Quantile | Self::LimitK | Self::LimitRatio
        )
    }

    /// Whether the output keeps whole input series.
    pub fn selects(self) -> bool {
        matches!(self, Self::TopK | Self::BottomK | Self::LimitK | Self::LimitRatio)
    }
}

/// An aggregation.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// The operator.
    pub op: AggregateOp,
    /// What is aggregated.
    pub expr: Expr,
    /// The parameter.
    pub param: Option<Expr>,
    /// The labels of `by` or `without`.
    pub grouping: Vec<String>,
    /// `without` instead of `by`.
    pub without: bool,
}

impl Expr {
    /// The type of the value.
    pub fn value_type(&self) -> ValueType {
        match &self.kind {
            ExprKind::Number { .. } => ValueType::Scalar,
            ExprKind::String(_) => ValueType::String,
            ExprKind::Vector(_) | ExprKind::Aggregate(_) => ValueType::Vector,
            ExprKind::Matrix(_) | ExprKind::Subquery(_) => ValueType::Matrix,
            ExprKind::Paren(expr) | ExprKind::Unary { expr, .. } | ExprKind::StepInvariant(expr) => {
                expr.value_type()
            }
            ExprKind::Binary(b) => {
                let scalar = |e: &Expr| e.value_type() == ValueType::Scalar;
                if scalar(&b.left) && scalar(&b.right) { ValueType::Scalar } else { ValueType::Vector }
            }
            ExprKind::Call { function, .. } => function.returns,
        }
    }

    /// The expression without parentheses and step-invariant marks around it.
    pub fn unwrapped(&self) -> &Self {
        match &self.kind {
            ExprKind::Paren(inner) | ExprKind::StepInvariant(inner) => inner.unwrapped(),
            _ => self,
        }
    }

    /// The string, where this is a string literal (in any number of parentheses).
    pub fn string_literal(&self) -> Option<&Text> {
        match &self.unwrapped().kind {
            ExprKind::String(text) => Some(text),
            _ => None,
        }
    }

    /// The direct parts.
    pub fn children(&self) -> Vec<&Self> {
        match &self.kind {
            ExprKind::Number { .. } | ExprKind::String(_) | ExprKind::Vector(_) | ExprKind::Matrix(_) => {
                vec![]
            }
            ExprKind::Subquery(s) => vec![&s.expr],
            ExprKind::Paren(e) | ExprKind::Unary { expr: e, .. } | ExprKind::StepInvariant(e) => vec![e],
            ExprKind::Binary(b) => vec![&b.left, &b.right],
            ExprKind::Call { args, .. } => args.iter().collect(),
            ExprKind::Aggregate(a) => a.param.iter().chain([&a.expr]).collect(),
        }
    }

    /// Calls `visit` for this and every part below, parents first.
    pub fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Self)) {
        visit(self);
        for child in self.children() {
            child.walk(visit);
        }
    }
}
