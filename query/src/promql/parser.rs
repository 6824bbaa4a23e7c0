//! Tokens to a syntax tree: recursive descent with precedence climbing.
//!
//! Every syntax of Prometheus 3.x is taken, experimental ones included. The first error wins and is worded as
//! Prometheus words it where its wording is known. Depth is bounded, both of nesting and of the tree, so that no
//! text can exhaust the stack here or in the evaluator.

mod check;
mod durations;

pub use durations::{format_duration, parse_duration, seconds_to_millis};

use protocol::labels::METRIC_NAME;
use protocol::matcher::{MatchOp, Matcher};

use super::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Cardinality, DurationValue, Edges, Expr, ExprKind,
    Matching, MatrixSelector, Subquery, Text, VectorSelector,
};
use super::functions;
use super::lexer::{Token, TokenKind, lex, unquote};
use super::span::Span;

/// Longest query text, in bytes.
pub const MAX_QUERY_BYTES: usize = 1 << 20;

/// Deepest tree.
pub const MAX_DEPTH: usize = 256;

/// Why a text is no PromQL. Displays as `line:column: parse error: what`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{position}: parse error: {message}")]
pub struct ParseError {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub span: Span,
    /// Where, as `line:column`.
    pub position: String,
}

type Result<T> = std::result::Result<T, ParseError>;

/// Parses and type-checks an expression.
pub fn parse(input: &str) -> Result<Expr> {
    parse_span(input, Span::new(0, input.len()))
}

/// Parses the part of a query that stands in a span. Spans in the result count from the start of the whole text.
pub fn parse_span(input: &str, span: Span) -> Result<Expr> {
    let mut parser = Parser::new(input, span)?;
    if parser.peek() == &TokenKind::Eof {
        return Err(parser.error_at(Span::default(), "no expression found in input".into()));
    }
    let expr = parser.expression(0)?;
    parser.expect_end()?;
    parser.check(&expr)?;
    Ok(expr)
}

/// Parses an instant selector without modifiers, as `match[]` parameters hold, and returns its matchers.
pub fn parse_selector(input: &str) -> Result<Vec<Matcher>> {
    let mut parser = Parser::new(input, Span::new(0, input.len()))?;
    let expr = parser.primary()?;
    parser.expect_end()?;
    match expr.kind {
        ExprKind::Vector(ref selector) => {
            parser.check(&expr)?;
            Ok(selector.matchers.clone())
        }
        _ => Err(parser.error_at(expr.span, "expected an instant vector selector".into())),
    }
}

struct Parser<'a> {
    input: &'a str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn new(input: &'a str, span: Span) -> Result<Self> {
        let mut parser = Self { input, tokens: Vec::new(), at: 0, depth: 0 };
        if input.len() > MAX_QUERY_BYTES {
            let message = format!("query has {} bytes, allowed are {MAX_QUERY_BYTES}", input.len());
            return Err(parser.error_at(Span::default(), message));
        }
        let boundary = |at: u32| input.is_char_boundary(at as usize);
        if !boundary(span.start) || !boundary(span.end) || span.start > span.end {
            return Err(parser.error_at(Span::default(), "span is outside of the query".into()));
        }
        parser.tokens = lex(input, span);
        Ok(parser)
    }

    fn token(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn peek(&self) -> &TokenKind {
        &self.token().kind
    }

    fn peek_second(&self) -> &TokenKind {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].kind
    }

    fn advance(&mut self) -> Token {
        let token = self.token().clone();
        self.at += 1;
        token
    }

    fn take(&mut self, kind: &TokenKind) -> Option<Token> {
        (self.peek() == kind).then(|| self.advance())
    }

    fn error_at(&self, span: Span, message: String) -> ParseError {
        ParseError { message, span, position: span.line_column(self.input) }
    }

    /// Complains about the token that comes next.
    fn unexpected(&self, context: &str, expected: &str) -> ParseError {
        let token = self.token();
        if let TokenKind::Error(message) = &token.kind {
            return self.error_at(token.span, message.clone());
        }
        let mut message = format!("unexpected {}", token.describe(self.input));
        if !context.is_empty() {
            message += &format!(" in {context}");
        }
        if !expected.is_empty() {
            message += &format!(", expected {expected}");
        }
        self.error_at(token.span, message)
    }

    fn expect(&mut self, kind: &TokenKind, context: &str, expected: &str) -> Result<Token> {
        self.take(kind).ok_or_else(|| self.unexpected(context, expected))
    }

    fn expect_end(&self) -> Result<()> {
        if self.peek() == &TokenKind::Eof { Ok(()) } else { Err(self.unexpected("", "")) }
    }

    /// Runs `inside` one level deeper.
    fn nested<T>(&mut self, inside: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            let message = format!("expression is nested deeper than {MAX_DEPTH} levels");
            return Err(self.error_at(self.token().span, message));
        }
        self.depth += 1;
        let result = inside(self);
        self.depth -= 1;
        result
    }

    /// An expression of operators that bind at least as tight as `min`.
    fn expression(&mut self, min: u8) -> Result<Expr> {
        self.nested(|parser| parser.binary(min))
    }

    fn binary(&mut self, min: u8) -> Result<Expr> {
        let mut left = self.unary()?;
        let mut links = 0;
        while let &TokenKind::Op(op) = self.peek() {
            let precedence = op.precedence();
            if precedence < min {
                break;
            }
            links += 1;
            if self.depth + links > MAX_DEPTH {
                let message = format!("more than {MAX_DEPTH} operators in a row");
                return Err(self.error_at(self.token().span, message));
            }
            self.advance();
            let (return_bool, matching) = self.modifiers()?;
            // `^` binds to the right, all others to the left.
            let right = self.expression(if op == BinaryOp::Pow { precedence } else { precedence + 1 })?;
            let span = left.span.to(right.span);
            let kind = ExprKind::Binary(Box::new(Binary { op, left, right, return_bool, matching }));
            left = Expr { kind, span };
            check::settle_cardinality(&mut left);
        }
        Ok(left)
    }

    fn modifiers(&mut self) -> Result<(bool, Matching)> {
        let return_bool = self.take(&TokenKind::Bool).is_some();
        let mut matching = Matching::default();
        if matches!(self.peek(), TokenKind::On | TokenKind::Ignoring) {
            matching.on = self.advance().kind == TokenKind::On;
            matching.labels = self.grouping()?;
            if matches!(self.peek(), TokenKind::GroupLeft | TokenKind::GroupRight) {
                let left = self.advance().kind == TokenKind::GroupLeft;
                matching.cardinality = if left { Cardinality::ManyToOne } else { Cardinality::OneToMany };
                if self.peek() == &TokenKind::LeftParen {
                    matching.include = self.grouping()?;
                }
            }
        }
        loop {
            let slot = match self.peek() {
                TokenKind::Fill if matching.fill_left.is_none() && matching.fill_right.is_none() => None,
                TokenKind::FillLeft if matching.fill_left.is_none() => Some(true),
                TokenKind::FillRight if matching.fill_right.is_none() => Some(false),
                _ => break,
            };
            self.advance();
            self.expect(&TokenKind::LeftParen, "fill modifier", "\"(\"")?;
            let value = self.signed_number("fill modifier", "number")?;
            self.expect(&TokenKind::RightParen, "fill modifier", "\")\"")?;
            if slot != Some(false) {
                matching.fill_left = Some(value);
            }
            if slot != Some(true) {
                matching.fill_right = Some(value);
            }
        }
        Ok((return_bool, matching))
    }

    fn unary(&mut self) -> Result<Expr> {
        if let TokenKind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) = *self.peek() {
            let sign = self.advance();
            // A sign binds as tight as `*`: `-a ^ b` is `-(a ^ b)`.
            let inner = self.expression(BinaryOp::Mul.precedence() + 1)?;
            let span = sign.span.to(inner.span);
            if let ExprKind::Number { value, duration } = inner.kind {
                let value = if op == BinaryOp::Sub { -value } else { value };
                return Ok(Expr { kind: ExprKind::Number { value, duration }, span });
            }
            let negative = op == BinaryOp::Sub;
            return Ok(Expr { kind: ExprKind::Unary { negative, expr: Box::new(inner) }, span });
        }
        self.postfix()
    }

    /// A primary expression with its range, offset, `@` and edges.
    fn postfix(&mut self) -> Result<Expr> {
        let mut expr = self.primary()?;
        let mut links = 0;
        loop {
            links += 1;
            if self.depth + links > MAX_DEPTH {
                let message = format!("more than {MAX_DEPTH} modifiers in a row");
                return Err(self.error_at(self.token().span, message));
            }
            match self.peek() {
                TokenKind::LeftBracket => expr = self.range(expr)?,
                TokenKind::Offset => self.offset(&mut expr)?,
                TokenKind::At => self.at_modifier(&mut expr)?,
                TokenKind::Anchored => self.edges(&mut expr, Edges::Anchored)?,
                TokenKind::Smoothed => self.edges(&mut expr, Edges::Smoothed)?,
                _ => return Ok(expr),
            }
        }
    }

    fn primary(&mut self) -> Result<Expr> {
        let token = self.token().clone();
        match &token.kind {
            TokenKind::Number => {
                self.advance();
                let value = self.number(&token)?;
                Ok(Expr { kind: ExprKind::Number { value, duration: false }, span: token.span })
            }
            TokenKind::Duration => {
                self.advance();
                let value = self.duration_seconds(&token)?;
                Ok(Expr { kind: ExprKind::Number { value, duration: true }, span: token.span })
            }
            TokenKind::String => {
                self.advance();
                let text = Text(unquote(token.text(self.input)));
                Ok(Expr { kind: ExprKind::String(text), span: token.span })
            }
            TokenKind::LeftParen => {
                self.advance();
                let inner = self.expression(0)?;
                let close = self.expect(&TokenKind::RightParen, "", "")?;
                Ok(Expr { kind: ExprKind::Paren(Box::new(inner)), span: token.span.to(close.span) })
            }
            TokenKind::LeftBrace => self.selector(None, token.span),
            TokenKind::Aggregate(op) => match self.peek_second() {
                TokenKind::LeftParen | TokenKind::By | TokenKind::Without => self.aggregate(*op),
                TokenKind::Number | TokenKind::String | TokenKind::Duration | TokenKind::Identifier => {
                    self.advance();
                    Err(self.unexpected("aggregation", ""))
                }
                _ => self.named_selector(),
            },
            TokenKind::Identifier
            | TokenKind::Start
            | TokenKind::End
            | TokenKind::Step
            | TokenKind::Range
                if self.peek_second() == &TokenKind::LeftParen =>
            {
                self.call()
            }
            kind if kind.is_word() || *kind == TokenKind::MetricIdentifier => self.named_selector(),
            _ => Err(self.unexpected("", "")),
        }
    }

    fn named_selector(&mut self) -> Result<Expr> {
        let token = self.advance();
        let name = token.text(self.input).to_owned();
        self.selector(Some(name), token.span)
    }

    fn selector(&mut self, name: Option<String>, start: Span) -> Result<Expr> {
        let mut matchers = Vec::new();
        let mut span = start;
        let mut quoted: Option<String> = None;
        if self.take(&TokenKind::LeftBrace).is_some() {
            loop {
                if let Some(close) = self.take(&TokenKind::RightBrace) {
                    span = start.to(close.span);
                    break;
                }
                self.matcher(&mut matchers, &mut quoted)?;
                if self.take(&TokenKind::Comma).is_none() && self.peek() != &TokenKind::RightBrace {
                    return Err(self.unexpected("label matching", "\",\" or \"}\""));
                }
            }
        }
        if let Some(name) = &name {
            if let Some(other) = matchers.iter().find(|m: &&Matcher| m.name() == METRIC_NAME) {
                let message = format!("metric name must not be set twice: {name:?} or {:?}", other.value());
                return Err(self.error_at(span, message));
            }
            matchers.push(Matcher::equal(METRIC_NAME, name.as_str()));
        }
        let selector = VectorSelector {
            name,
            matchers,
            offset: None,
            at: None,
            edges: Edges::Plain,
            labels_only: false,
            finds_resets: false,
        };
        Ok(Expr { kind: ExprKind::Vector(selector), span })
    }

    fn matcher(&mut self, matchers: &mut Vec<Matcher>, quoted: &mut Option<String>) -> Result<()> {
        let token = self.token().clone();
        let name = match token.kind {
            TokenKind::Identifier => token.text(self.input).to_owned(),
            TokenKind::String => String::from_utf8_lossy(&unquote(token.text(self.input))).into_owned(),
            _ => return Err(self.unexpected("label matching", "identifier or \"}\"")),
        };
        self.advance();
        let op = match self.peek() {
            TokenKind::Assign => MatchOp::Equal,
            TokenKind::Op(BinaryOp::NotEqual) => MatchOp::NotEqual,
            TokenKind::EqualRegex => MatchOp::Regex,
            TokenKind::NotEqualRegex => MatchOp::NotRegex,
            // A string alone is the metric's name.
            TokenKind::Comma | TokenKind::RightBrace if token.kind == TokenKind::String => {
                if let Some(first) = quoted.replace(name.clone()) {
                    let message = format!("metric name must not be set twice: {first:?} or {name:?}");
                    return Err(self.error_at(token.span, message));
                }
                matchers.push(Matcher::equal(METRIC_NAME, name));
                return Ok(());
            }
            _ => return Err(self.unexpected("label matching", "label matching operator")),
        };
        self.advance();
        let value = self.expect(&TokenKind::String, "label matching", "string")?;
        let text = String::from_utf8_lossy(&unquote(value.text(self.input))).into_owned();
        if name.is_empty() {
            return Err(self.error_at(token.span, "a label name must not be empty".into()));
        }
        let matcher = Matcher::new(name, op, text)
            .map_err(|e| self.error_at(token.span.to(value.span), format!("error parsing regexp: {e}")))?;
        matchers.push(matcher);
        Ok(())
    }

    fn call(&mut self) -> Result<Expr> {
        let name = self.advance();
        let text = name.text(self.input);
        let Some(function) = functions::find(text) else {
            return Err(self.error_at(name.span, format!("unknown function with name {text:?}")));
        };
        let (mut args, close) = self.arguments()?;
        if function.id == functions::FunctionId::Info
            && let Some(Expr { kind: ExprKind::Vector(selector), .. }) = args.get_mut(1)
        {
            selector.labels_only = true;
        }
        Ok(Expr { kind: ExprKind::Call { function, args }, span: name.span.to(close) })
    }

    fn arguments(&mut self) -> Result<(Vec<Expr>, Span)> {
        self.expect(&TokenKind::LeftParen, "", "")?;
        let mut args = Vec::new();
        loop {
            if let Some(close) = self.take(&TokenKind::RightParen) {
                return Ok((args, close.span));
            }
            args.push(self.expression(0)?);
            if let Some(comma) = self.take(&TokenKind::Comma) {
                if self.peek() == &TokenKind::RightParen {
                    let message = "trailing commas not allowed in function call args".into();
                    return Err(self.error_at(comma.span, message));
                }
            } else if self.peek() != &TokenKind::RightParen {
                return Err(self.unexpected("", ""));
            }
        }
    }

    fn aggregate(&mut self, op: AggregateOp) -> Result<Expr> {
        let start = self.advance();
        let mut clause = self.by_or_without()?;
        if self.peek() != &TokenKind::LeftParen {
            return Err(self.unexpected("aggregation", ""));
        }
        let (mut args, mut close) = self.arguments()?;
        if clause.is_none() {
            clause = self.by_or_without()?;
            if clause.is_some() {
                close = self.tokens[self.at - 1].span;
            }
        }
        let span = start.span.to(close);
        let (without, grouping) = clause.unwrap_or_default();
        if args.is_empty() {
            let message = "no arguments for aggregate expression provided".into();
            return Err(self.error_at(span, message));
        }
        let wanted = if op.has_parameter() { 2 } else { 1 };
        if args.len() != wanted {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {wanted}, got {}",
                args.len()
            );
            return Err(self.error_at(span, message));
        }
        let expr = args.remove(wanted - 1);
        let aggregate = Aggregate { op, expr, param: args.pop(), grouping, without };
        Ok(Expr { kind: ExprKind::Aggregate(Box::new(aggregate)), span })
    }

    fn by_or_without(&mut self) -> Result<Option<(bool, Vec<String>)>> {
        if !matches!(self.peek(), TokenKind::By | TokenKind::Without) {
            return Ok(None);
        }
        let without = self.advance().kind == TokenKind::Without;
        Ok(Some((without, self.grouping()?)))
    }

    fn grouping(&mut self) -> Result<Vec<String>> {
        self.expect(&TokenKind::LeftParen, "grouping opts", "\"(\"")?;
        let mut labels = Vec::new();
        loop {
            if self.take(&TokenKind::RightParen).is_some() {
                return Ok(labels);
            }
            let token = self.token().clone();
            let label = match &token.kind {
                TokenKind::String => String::from_utf8_lossy(&unquote(token.text(self.input))).into_owned(),
                kind if kind.is_word() => token.text(self.input).to_owned(),
                _ => return Err(self.unexpected("grouping opts", "label")),
            };
            if label.is_empty() {
                return Err(self.unexpected("grouping opts", "label"));
            }
            self.advance();
            labels.push(label);
            if self.take(&TokenKind::Comma).is_none() && self.peek() != &TokenKind::RightParen {
                return Err(self.unexpected("grouping opts", "\",\" or \")\""));
            }
        }
    }

    fn range(&mut self, expr: Expr) -> Result<Expr> {
        let open = self.advance();
        let range =
            self.bracket_duration("subquery or range selector", "number, duration, step(), or range()")?;
        if self.take(&TokenKind::Colon).is_some() {
            let step =
                if self.peek() == &TokenKind::RightBracket {
                    None
                } else {
                    Some(self.bracket_duration(
                        "subquery selector",
                        "number, duration, step(), range(), or \"]\"",
                    )?)
                };
            let close = self.expect(&TokenKind::RightBracket, "subquery selector", "\"]\"")?;
            let span = expr.span.to(close.span);
            let subquery = Subquery { expr, range, step, offset: None, at: None };
            return Ok(Expr { kind: ExprKind::Subquery(Box::new(subquery)), span });
        }
        let close = self.expect(&TokenKind::RightBracket, "subquery or range", "\":\" or \"]\"")?;
        let span = expr.span.to(close.span);
        let brackets = open.span.to(close.span);
        let ExprKind::Vector(selector) = expr.kind else {
            return Err(self.error_at(brackets, "ranges only allowed for vector selectors".into()));
        };
        if selector.offset.is_some() {
            return Err(self.error_at(brackets, "no offset modifiers allowed before range".into()));
        }
        if selector.at.is_some() {
            return Err(self.error_at(brackets, "no @ modifiers allowed before range".into()));
        }
        Ok(Expr { kind: ExprKind::Matrix(MatrixSelector { selector, range }), span })
    }

    fn offset(&mut self, expr: &mut Expr) -> Result<()> {
        self.advance();
        let offset = self.offset_duration()?;
        let end = self.tokens[self.at - 1].span;
        let slot = match &mut expr.kind {
            ExprKind::Vector(selector) => &mut selector.offset,
            ExprKind::Matrix(matrix) => &mut matrix.selector.offset,
            ExprKind::Subquery(subquery) => &mut subquery.offset,
            _ => {
                let message = "offset modifier must be preceded by an instant vector selector or range vector \
                               selector or a subquery";
                return Err(self.error_at(expr.span, message.into()));
            }
        };
        let set = |offset: &DurationValue| offset.millis != 0 || offset.expr.is_some();
        if slot.as_ref().is_some_and(set) {
            return Err(self.error_at(expr.span, "offset may not be set multiple times".into()));
        }
        *slot = Some(offset);
        expr.span = expr.span.to(end);
        Ok(())
    }

    fn at_modifier(&mut self, expr: &mut Expr) -> Result<()> {
        self.advance();
        let at = match self.peek() {
            TokenKind::Start | TokenKind::End => {
                let start = self.advance().kind == TokenKind::Start;
                self.expect(&TokenKind::LeftParen, "@", "timestamp")?;
                self.expect(&TokenKind::RightParen, "@", "timestamp")?;
                if start { At::Start } else { At::End }
            }
            _ => {
                let seconds = self.signed_number("@", "timestamp")?;
                let millis = (seconds * 1000.0).round();
                if !seconds.is_finite() || millis.abs() >= i64::MAX as f64 {
                    let message = format!("timestamp out of bounds for @ modifier: {seconds:.6}");
                    return Err(self.error_at(expr.span, message));
                }
                At::Time(millis as i64)
            }
        };
        let end = self.tokens[self.at - 1].span;
        let slot = match &mut expr.kind {
            ExprKind::Vector(selector) => &mut selector.at,
            ExprKind::Matrix(matrix) => &mut matrix.selector.at,
            ExprKind::Subquery(subquery) => &mut subquery.at,
            _ => {
                let message = "@ modifier must be preceded by an instant vector selector or range vector selector \
                               or a subquery";
                return Err(self.error_at(expr.span, message.into()));
            }
        };
        if slot.replace(at).is_some() {
            return Err(self.error_at(expr.span, "@ <timestamp> may not be set multiple times".into()));
        }
        expr.span = expr.span.to(end);
        Ok(())
    }

    fn edges(&mut self, expr: &mut Expr, edges: Edges) -> Result<()> {
        let token = self.advance();
        let word = if edges == Edges::Anchored { "anchored" } else { "smoothed" };
        let slot = match &mut expr.kind {
            ExprKind::Vector(selector) => &mut selector.edges,
            ExprKind::Matrix(matrix) => &mut matrix.selector.edges,
            ExprKind::Subquery(_) => {
                let message = format!("{word} modifier is not supported for subqueries");
                return Err(self.error_at(expr.span, message));
            }
            // The words of Prometheus: the modifiers go with selectors, and there is nothing else for them to do.
            _ => return Err(self.error_at(expr.span, format!("{word} modifier not implemented"))),
        };
        if *slot != Edges::Plain && *slot != edges {
            let message = "anchored and smoothed modifiers cannot be used together".into();
            return Err(self.error_at(expr.span, message));
        }
        *slot = edges;
        expr.span = expr.span.to(token.span);
        Ok(())
    }

    /// A number or duration with an optional sign.
    fn signed_number(&mut self, context: &str, expected: &str) -> Result<f64> {
        let mut sign = 1.0;
        if let TokenKind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) = *self.peek() {
            self.advance();
            if op == BinaryOp::Sub {
                sign = -1.0;
            }
        }
        let token = self.token().clone();
        match token.kind {
            TokenKind::Number => {
                self.advance();
                Ok(sign * self.number(&token)?)
            }
            TokenKind::Duration => {
                self.advance();
                Ok(sign * self.duration_seconds(&token)?)
            }
            _ => Err(self.unexpected(context, expected)),
        }
    }

    fn number(&self, token: &Token) -> Result<f64> {
        let text = token.text(self.input);
        parse_number(text)
            .ok_or_else(|| self.error_at(token.span, format!("error parsing number: {text:?} is no number")))
    }
}

/// The value of a number token: Go's integer syntax first (`0x`, leading 0 for octal), then floats.
pub fn parse_number(text: &str) -> Option<f64> {
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    let lower = plain.to_ascii_lowercase();
    match lower.as_str() {
        "inf" | "+inf" => return Some(f64::INFINITY),
        "-inf" => return Some(f64::NEG_INFINITY),
        "nan" => return Some(f64::NAN),
        _ => {}
    }
    if let Some(hex) = lower.strip_prefix("0x") {
        return match i64::from_str_radix(hex, 16) {
            Ok(n) => Some(n as f64),
            Err(_) if hex.is_empty() || !hex.bytes().all(|b| b.is_ascii_hexdigit()) => None,
            Err(_) => Some(hex.chars().fold(0.0, |n, c| n * 16.0 + f64::from(c.to_digit(16).unwrap_or(0)))),
        };
    }
    if lower.len() > 1
        && lower.starts_with('0')
        && lower.bytes().all(|b| b.is_ascii_digit())
        && let Ok(n) = i64::from_str_radix(&lower, 8)
    {
        return Some(n as f64);
    }
    lower.parse().ok()
}

#[cfg(test)]
mod tests;
