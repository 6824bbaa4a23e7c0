//! Text to [`Query`], by recursive descent. Nesting is bounded; errors name line and column.

use super::{
    Aggregate, CompareOp, Expr, Field, Intrinsic, KINDS, Literal, Metric, MetricKind, Placement, Query,
    STATES, Scope, SpansetOp, Spansets, Stage,
};
use crate::logs::logql::lexer::{Cursor, Result};
use crate::logs::logql::units::parse_duration;

/// Expressions nest at most so deep.
const MAX_DEPTH: usize = 32;

/// Parses a query. The empty text is `{ }`.
pub fn parse(text: &str) -> Result<Query> {
    let mut parser = Parser { cursor: Cursor::new(text), depth: 0 };
    if parser.cursor.is_done() {
        return Ok(Query { spansets: Spansets::Filter(None), stages: Vec::new(), metric: None });
    }
    let query = parser.query()?;
    match parser.cursor.is_done() {
        true => Ok(query),
        false => parser.cursor.unexpected("the end"),
    }
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    depth: usize,
}

const SPANSET_OPS: [(&str, SpansetOp); 12] = [
    ("&&", SpansetOp::And),
    ("||", SpansetOp::Or),
    ("!>>", SpansetOp::Place { place: Placement::Descendant, negated: true }),
    ("!<<", SpansetOp::Place { place: Placement::Ancestor, negated: true }),
    ("!>", SpansetOp::Place { place: Placement::Child, negated: true }),
    ("!<", SpansetOp::Place { place: Placement::Parent, negated: true }),
    ("!~", SpansetOp::Place { place: Placement::Sibling, negated: true }),
    (">>", SpansetOp::Place { place: Placement::Descendant, negated: false }),
    ("<<", SpansetOp::Place { place: Placement::Ancestor, negated: false }),
    (">", SpansetOp::Place { place: Placement::Child, negated: false }),
    ("<", SpansetOp::Place { place: Placement::Parent, negated: false }),
    ("~", SpansetOp::Place { place: Placement::Sibling, negated: false }),
];

impl SpansetOp {
    pub(super) fn symbol(self) -> &'static str {
        SPANSET_OPS.iter().find(|(_, op)| *op == self).map_or("", |(symbol, _)| symbol)
    }

    /// What binds tighter has the larger number.
    pub(super) fn strength(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            Self::Place { .. } => 3,
        }
    }
}

/// The longest symbols first.
const COMPARE_OPS: [(&str, CompareOp); 8] = [
    ("=~", CompareOp::Match),
    ("!~", CompareOp::NotMatch),
    ("!=", CompareOp::NotEqual),
    ("<=", CompareOp::LessEqual),
    (">=", CompareOp::GreaterEqual),
    ("=", CompareOp::Equal),
    ("<", CompareOp::Less),
    (">", CompareOp::Greater),
];

impl CompareOp {
    pub(super) fn symbol(self) -> &'static str {
        COMPARE_OPS.iter().find(|(_, op)| *op == self).map_or("", |(symbol, _)| symbol)
    }

    /// The same with its sides exchanged.
    fn turned(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessEqual => Self::GreaterEqual,
            Self::Greater => Self::Less,
            Self::GreaterEqual => Self::LessEqual,
            same => same,
        }
    }
}

/// Whether a character may be part of an attribute's name outside of quotes.
pub(super) fn is_name(c: char) -> bool {
    !c.is_whitespace()
        && !matches!(
            c,
            '{' | '}' | '(' | ')' | '=' | '~' | '!' | '<' | '>' | '&' | '|' | '^' | ',' | '"' | '`'
        )
}

impl Parser<'_> {
    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == MAX_DEPTH {
            return self
                .cursor
                .fail(self.cursor.position(), format!("nested deeper than {MAX_DEPTH} levels"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn query(&mut self) -> Result<Query> {
        let spansets = self.spansets(0)?;
        let (mut stages, mut metric) = (Vec::new(), None);
        while self.cursor.sees("|") && !self.cursor.sees("||") {
            self.cursor.expect("|")?;
            if metric.is_some() {
                let at = self.cursor.position();
                return self.cursor.fail(at, "nothing follows a metric: second stages are not supported");
            }
            metric = self.stage(&mut stages)?;
        }
        if self.cursor.take_word("with") {
            self.hints()?;
        }
        Ok(Query { spansets, stages, metric })
    }

    /// Hints change how a query runs, never what it finds: all that they ask for is so anyway.
    fn hints(&mut self) -> Result<()> {
        self.cursor.expect("(")?;
        loop {
            let at = self.cursor.position();
            let name = self.cursor.name()?;
            self.cursor.expect("=")?;
            if !matches!(name.as_str(), "most_recent" | "exemplars") {
                return self.cursor.fail(at, format!("the hint {name:?} is not supported"));
            }
            if !self.cursor.take_word("true")
                && !self.cursor.take_word("false")
                && self.cursor.quantity().is_none()
            {
                return self.cursor.unexpected("true, false or a number");
            }
            if !self.cursor.take(",") {
                return self.cursor.expect(")");
            }
        }
    }

    fn spansets(&mut self, weakest: u8) -> Result<Spansets> {
        let mut left = self.operand()?;
        // Spansets that follow one another nest to the left, and are walked by recursion later.
        let mut length = 0;
        loop {
            let found = SPANSET_OPS.iter().find(|(symbol, _)| self.cursor.sees(symbol));
            let Some((symbol, op)) = found.filter(|(_, op)| op.strength() > weakest) else {
                return Ok(left);
            };
            length += 1;
            if length > MAX_DEPTH {
                return self
                    .cursor
                    .fail(self.cursor.position(), format!("more than {MAX_DEPTH} operators in a row"));
            }
            self.cursor.expect(symbol)?;
            let right = self.deeper(|parser| parser.spansets(op.strength()))?;
            left = Spansets::Op(Box::new(left), *op, Box::new(right));
        }
    }

    fn operand(&mut self) -> Result<Spansets> {
        if self.cursor.take("{") {
            let filter = if self.cursor.sees("}") { None } else { Some(self.expr()?) };
            self.cursor.expect("}")?;
            return Ok(Spansets::Filter(filter));
        }
        if self.cursor.take("(") {
            let inner = self.deeper(|parser| parser.spansets(0))?;
            if self.cursor.sees("|") {
                let at = self.cursor.position();
                return self.cursor.fail(at, "pipelines inside of parentheses are not supported");
            }
            self.cursor.expect(")")?;
            return Ok(inner);
        }
        self.cursor.unexpected("\"{\" or \"(\"")
    }

    fn expr(&mut self) -> Result<Expr> {
        let mut any = vec![self.and()?];
        while self.cursor.take("||") {
            any.push(self.and()?);
        }
        Ok(if any.len() == 1 { any.remove(0) } else { Expr::Or(any) })
    }

    fn and(&mut self) -> Result<Expr> {
        let mut all = vec![self.unary()?];
        while self.cursor.take("&&") {
            all.push(self.unary()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Expr::And(all) })
    }

    fn unary(&mut self) -> Result<Expr> {
        if self.cursor.take("!") {
            let inner = self.deeper(Self::unary)?;
            return Ok(Expr::Not(Box::new(inner)));
        }
        if self.cursor.take("(") {
            let inner = self.deeper(Self::expr)?;
            self.cursor.expect(")")?;
            return Ok(inner);
        }
        self.test()
    }

    fn compare_op(&mut self) -> Option<CompareOp> {
        COMPARE_OPS.iter().find(|(symbol, _)| self.cursor.take(symbol)).map(|(_, op)| *op)
    }

    fn test(&mut self) -> Result<Expr> {
        let begin = self.cursor.position();
        if let Some(field) = self.field()? {
            let Some(op) = self.compare_op() else { return Ok(Expr::Truth(field)) };
            let at = self.cursor.position();
            let Some(literal) = self.literal()? else {
                return match self.field()? {
                    Some(_) => self.cursor.fail(at, "comparisons of two fields are not supported"),
                    None => self.cursor.unexpected("a value"),
                };
            };
            self.check(&field, op, &literal, at)?;
            return Ok(Expr::Compare(field, op, literal));
        }
        let Some(literal) = self.literal()? else { return self.cursor.unexpected("a field or a value") };
        let Some(op) = self.compare_op() else {
            return match literal {
                Literal::Bool(value) => Ok(Expr::Constant(value)),
                _ => self.cursor.unexpected("a comparison"),
            };
        };
        match self.field()? {
            Some(field) => {
                let op = op.turned();
                self.check(&field, op, &literal, begin)?;
                Ok(Expr::Compare(field, op, literal))
            }
            None => self.cursor.unexpected("a field"),
        }
    }

    /// Refuses what can never be meant.
    fn check(&self, field: &Field, op: CompareOp, literal: &Literal, at: usize) -> Result<()> {
        let is_pattern = matches!(op, CompareOp::Match | CompareOp::NotMatch);
        let is_equality = matches!(op, CompareOp::Equal | CompareOp::NotEqual);
        let words = match literal {
            Literal::Text(text) if is_pattern => {
                return match regex::Regex::new(text) {
                    Ok(_) => Ok(()),
                    Err(error) => self.cursor.fail(at, format!("the expression does not compile: {error}")),
                };
            }
            _ if is_pattern => return self.cursor.fail(at, "an expression is text in quotes"),
            Literal::Status(_) => Some("a status"),
            Literal::Kind(_) => Some("a kind"),
            Literal::Nil => Some("nil"),
            Literal::Bool(_) => Some("a truth value"),
            _ => None,
        };
        if let (Some(what), false) = (words, is_equality) {
            return self.cursor.fail(at, format!("{what} is only equal or not: use = or !="));
        }
        let expected = match (field, literal) {
            (_, Literal::Nil) => return Ok(()),
            (Field::Intrinsic(Intrinsic::Status), Literal::Status(_)) => return Ok(()),
            (Field::Intrinsic(Intrinsic::Kind), Literal::Kind(_)) => return Ok(()),
            (Field::Intrinsic(Intrinsic::Status), _) => "error, ok or unset",
            (Field::Intrinsic(Intrinsic::Kind), _) => {
                "server, client, internal, producer, consumer or unspecified"
            }
            (
                Field::Intrinsic(Intrinsic::Duration | Intrinsic::TraceDuration),
                Literal::Duration(_) | Literal::Int(_) | Literal::Float(_),
            ) => return Ok(()),
            (Field::Intrinsic(Intrinsic::Duration | Intrinsic::TraceDuration), _) => "a duration",
            (Field::Intrinsic(_), Literal::Text(_)) => return Ok(()),
            (Field::Intrinsic(_), _) => "text in quotes",
            (Field::Attribute(..), Literal::Status(_) | Literal::Kind(_)) => {
                "text in quotes, a number, a duration, true or false"
            }
            (Field::Attribute(..), _) => return Ok(()),
        };
        self.cursor.fail(at, format!("{} is compared with {expected}", super::printer::field_text(field)))
    }

    /// A field, if one stands here.
    fn field(&mut self) -> Result<Option<Field>> {
        if self.cursor.sees(".") && !self.cursor.sees_digit_after_point() {
            return Ok(Some(Field::Attribute(Scope::Any, self.attribute(".")?)));
        }
        let Some(word) = self.cursor.peek_word() else { return Ok(None) };
        let at = self.cursor.position();
        for (name, scope) in [
            ("span.", Scope::Span),
            ("resource.", Scope::Resource),
            ("event.", Scope::Event),
            ("link.", Scope::Link),
            ("instrumentation.", Scope::Instrumentation),
        ] {
            if self.cursor.sees(name) {
                return Ok(Some(Field::Attribute(scope, self.attribute(name)?)));
            }
        }
        if self.cursor.sees("parent.") {
            return self.cursor.fail(at, "attributes of the parent are not supported: use { } > { }");
        }
        let text = self.cursor.peek_run(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'));
        if let Some(intrinsic) = Intrinsic::of_name(text) {
            self.cursor.take_run(text.len());
            return Ok(Some(Field::Intrinsic(intrinsic)));
        }
        let is_literal = KINDS.iter().any(|(_, name)| *name == word)
            || STATES.iter().any(|(_, name)| *name == word)
            || matches!(word, "true" | "false" | "nil");
        match is_literal && text == word {
            true => Ok(None),
            false => self.cursor.fail(at, format!("{text:?} is no field: attributes begin with a point")),
        }
    }

    /// The name of an attribute, with what stands before it.
    fn attribute(&mut self, before: &str) -> Result<String> {
        self.cursor.skip_bytes(before.len());
        let name = self.cursor.quotable(is_name)?;
        match name.is_empty() {
            true => self.cursor.unexpected("the name of an attribute"),
            false => Ok(name),
        }
    }

    /// A value, if one stands here.
    fn literal(&mut self) -> Result<Option<Literal>> {
        if self.cursor.sees_string() {
            return Ok(Some(Literal::Text(self.cursor.string()?)));
        }
        // An attribute.
        if self.cursor.sees(".") && !self.cursor.sees_digit_after_point() {
            return Ok(None);
        }
        let at = self.cursor.position();
        if let Some(text) = self.cursor.quantity() {
            let literal = match text.parse::<i64>() {
                Ok(number) => Some(Literal::Int(number)),
                Err(_) => match parse_duration(text, true) {
                    Some(ns) => Some(Literal::Duration(ns)),
                    None => text.parse().ok().filter(|number: &f64| number.is_finite()).map(Literal::Float),
                },
            };
            return match literal {
                Some(literal) => Ok(Some(literal)),
                None => self.cursor.fail(at, format!("{text:?} is neither a number nor a duration")),
            };
        }
        for (kind, name) in KINDS {
            if self.cursor.take_word(name) {
                return Ok(Some(Literal::Kind(kind)));
            }
        }
        for (status, name) in STATES {
            if self.cursor.take_word(name) {
                return Ok(Some(Literal::Status(status)));
            }
        }
        for (name, literal) in
            [("true", Literal::Bool(true)), ("false", Literal::Bool(false)), ("nil", Literal::Nil)]
        {
            if self.cursor.take_word(name) {
                return Ok(Some(literal));
            }
        }
        Ok(None)
    }

    fn fields(&mut self) -> Result<Vec<Field>> {
        self.cursor.expect("(")?;
        let mut fields = Vec::new();
        loop {
            fields.push(self.needed_field()?);
            if !self.cursor.take(",") {
                self.cursor.expect(")")?;
                return Ok(fields);
            }
        }
    }

    fn needed_field(&mut self) -> Result<Field> {
        match self.field()? {
            Some(field) => Ok(field),
            None => self.cursor.unexpected("a field"),
        }
    }

    fn one_field(&mut self) -> Result<Field> {
        self.cursor.expect("(")?;
        let field = self.needed_field()?;
        self.cursor.expect(")")?;
        Ok(field)
    }

    fn no_field(&mut self) -> Result<()> {
        self.cursor.expect("(")?;
        self.cursor.expect(")")
    }

    /// A stage, which is added, or a metric.
    fn stage(&mut self, stages: &mut Vec<Stage>) -> Result<Option<Metric>> {
        if stages.len() == MAX_DEPTH {
            return self.cursor.fail(self.cursor.position(), format!("more than {MAX_DEPTH} stages"));
        }
        if self.cursor.sees("{") || self.cursor.sees("(") {
            stages.push(Stage::Filter(self.spansets(0)?));
            return Ok(None);
        }
        let at = self.cursor.position();
        let name = self.cursor.name()?;
        let aggregate = match name.as_str() {
            "by" => {
                stages.push(Stage::By(self.fields()?));
                return Ok(None);
            }
            "select" => {
                stages.push(Stage::Select(self.fields()?));
                return Ok(None);
            }
            "coalesce" => {
                self.no_field()?;
                stages.push(Stage::Coalesce);
                return Ok(None);
            }
            "count" => {
                self.no_field()?;
                Aggregate::Count
            }
            "avg" => Aggregate::Avg(self.one_field()?),
            "min" => Aggregate::Min(self.one_field()?),
            "max" => Aggregate::Max(self.one_field()?),
            "sum" => Aggregate::Sum(self.one_field()?),
            _ => return self.metric(&name, at).map(Some),
        };
        let Some(op) = self.compare_op() else { return self.cursor.unexpected("a comparison") };
        let at = self.cursor.position();
        match self.literal()? {
            Some(literal @ (Literal::Int(_) | Literal::Float(_) | Literal::Duration(_)))
                if !matches!(op, CompareOp::Match | CompareOp::NotMatch) =>
            {
                stages.push(Stage::Aggregate(aggregate, op, literal));
                Ok(None)
            }
            _ => self.cursor.fail(at, "an aggregate is compared with a number or a duration"),
        }
    }

    fn metric(&mut self, name: &str, at: usize) -> Result<Metric> {
        let kind = match name {
            "rate" => {
                self.no_field()?;
                MetricKind::Rate
            }
            "count_over_time" => {
                self.no_field()?;
                MetricKind::Count
            }
            "min_over_time" => MetricKind::Min(self.one_field()?),
            "max_over_time" => MetricKind::Max(self.one_field()?),
            "avg_over_time" => MetricKind::Avg(self.one_field()?),
            "sum_over_time" => MetricKind::Sum(self.one_field()?),
            "histogram_over_time" => MetricKind::Histogram(self.one_field()?),
            "quantile_over_time" => {
                self.cursor.expect("(")?;
                let field = self.needed_field()?;
                let mut quantiles = Vec::new();
                while self.cursor.take(",") {
                    let at = self.cursor.position();
                    let text = self.cursor.quantity().unwrap_or_default();
                    match text.parse::<f64>() {
                        Ok(quantile) if (0.0..=1.0).contains(&quantile) => quantiles.push(quantile),
                        _ => return self.cursor.fail(at, "a quantile is a number from 0 to 1"),
                    }
                }
                if quantiles.is_empty() {
                    return self.cursor.unexpected("a quantile");
                }
                self.cursor.expect(")")?;
                MetricKind::Quantile(field, quantiles)
            }
            _ => return self.cursor.fail(at, format!("the function {name:?} is not supported")),
        };
        let by = if self.cursor.take_word("by") { self.fields()? } else { Vec::new() };
        Ok(Metric { kind, by })
    }
}
