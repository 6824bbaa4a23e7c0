//! Durations: literals like `1h30m`, numbers of seconds, and arithmetic over them with `step()`, `range()`, `min`
//! and `max`.

use crate::promql::ast::{AggregateOp, BinaryOp, DurationExpr, DurationKind, DurationOp, DurationValue};
use crate::promql::lexer::{Token, TokenKind};

use super::{Parser, Result};

/// Units, largest first, in the order that a duration has to name them.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Milliseconds of a duration literal.
pub fn parse_duration(text: &str) -> std::result::Result<i64, String> {
    let invalid = || format!("not a valid duration string: {text:?}");
    let out_of_range = || "duration out of range".to_owned();
    let mut rest = text;
    let mut total: u64 = 0;
    let mut next_unit = 0;
    if text.is_empty() {
        return Err("empty duration string".to_owned());
    }
    if text == "0" {
        return Ok(0);
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let position = UNITS[next_unit..].iter().position(|(name, _)| *name == unit);
        let index = next_unit + position.ok_or_else(invalid)?;
        if number.is_empty() {
            return Err(invalid());
        }
        let count: u64 = number.parse().map_err(|_| out_of_range())?;
        let part = count.checked_mul(UNITS[index].1).ok_or_else(out_of_range)?;
        total = total.checked_add(part).ok_or_else(out_of_range)?;
        next_unit = index + 1;
        rest = tail;
    }
    // Prometheus counts nanoseconds in 64 bits.
    if total > (i64::MAX as u64) / 1_000_000 {
        return Err(out_of_range());
    }
    Ok(total as i64)
}

/// A duration as Prometheus prints it.
pub fn format_duration(millis: i64) -> String {
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut out = if millis < 0 { "-".to_owned() } else { String::new() };
    let mut rest = millis.unsigned_abs();
    for (name, size) in UNITS {
        // Years and weeks only where they leave nothing over, so that 8d stays 8d.
        let exact_only = matches!(name, "y" | "w");
        if (exact_only && !rest.is_multiple_of(size)) || rest < size {
            continue;
        }
        out += &format!("{}{name}", rest / size);
        rest %= size;
    }
    out
}

/// Seconds to whole milliseconds, towards zero, by way of nanoseconds: 1.001 is 1001 of them although the nearest
/// float is a little less. `None` when out of range.
pub fn seconds_to_millis(seconds: f64) -> Option<i64> {
    let limit = i64::MAX as f64 / 1e9;
    (seconds.abs() <= limit).then_some((seconds * 1e9).round() as i64 / 1_000_000)
}

/// Where a duration stands, for errors and for how far a sign reaches.
#[derive(Clone, Copy)]
struct Place<'a> {
    context: &'a str,
    expected: &'a str,
    /// A sign belongs to one term only.
    tight: bool,
}

impl Place<'_> {
    /// Inside parentheses.
    fn inner(self) -> Self {
        Self { tight: false, ..self }
    }
}

impl Parser<'_> {
    pub(super) fn duration_seconds(&self, token: &Token) -> Result<f64> {
        match parse_duration(token.text(self.input)) {
            Ok(millis) => Ok(millis as f64 / 1000.0),
            Err(message) => Err(self.error_at(token.span, message)),
        }
    }

    /// A duration in brackets, which has to be above zero.
    pub(super) fn bracket_duration(&mut self, context: &str, expected: &str) -> Result<DurationValue> {
        let expr = self.duration_expr(0, Place { context, expected, tight: false })?;
        let span = expr.span;
        if let DurationKind::Number { value, .. } = expr.kind
            && value <= 0.0
        {
            return Err(self.error_at(span, "duration must be greater than 0".into()));
        }
        self.settled(expr)
    }

    /// What follows `offset`: one literal, call or parenthesised expression with an optional sign. Arithmetic
    /// without parentheses belongs to the expression around the selector.
    pub(super) fn offset_duration(&mut self) -> Result<DurationValue> {
        let expected = "number, duration, step(), or range()";
        let expr = self.duration_term(Place { context: "offset", expected, tight: true })?;
        self.settled(expr)
    }

    fn settled(&self, expr: DurationExpr) -> Result<DurationValue> {
        match expr.kind {
            DurationKind::Number { value, .. } if !expr.wrapped => match seconds_to_millis(value) {
                Some(millis) => Ok(DurationValue::millis(millis)),
                None => Err(self.error_at(expr.span, "duration out of range".into())),
            },
            _ => Ok(DurationValue { millis: 0, expr: Some(expr) }),
        }
    }

    fn duration_expr(&mut self, min: u8, place: Place<'_>) -> Result<DurationExpr> {
        self.nested(|parser| {
            let mut left = parser.duration_term(place)?;
            let mut links = 0;
            while let &TokenKind::Op(op) = parser.peek() {
                let (duration_op, precedence) = match op {
                    BinaryOp::Add => (DurationOp::Add, 1),
                    BinaryOp::Sub => (DurationOp::Sub, 1),
                    BinaryOp::Mul => (DurationOp::Mul, 2),
                    BinaryOp::Div => (DurationOp::Div, 2),
                    BinaryOp::Mod => (DurationOp::Mod, 2),
                    BinaryOp::Pow => (DurationOp::Pow, 3),
                    _ => break,
                };
                if precedence < min {
                    break;
                }
                links += 1;
                if parser.depth + links > super::MAX_DEPTH {
                    let message = format!("more than {} operators in a row", super::MAX_DEPTH);
                    return Err(parser.error_at(parser.token().span, message));
                }
                parser.advance();
                let right_min = if duration_op == DurationOp::Pow { precedence } else { precedence + 1 };
                let right = parser.duration_expr(right_min, place)?;
                if let (DurationOp::Div | DurationOp::Mod, DurationKind::Number { value: 0.0, .. }) =
                    (duration_op, &right.kind)
                {
                    let what = if duration_op == DurationOp::Div { "division" } else { "modulo" };
                    return Err(parser.error_at(right.span, format!("{what} by zero")));
                }
                let span = left.span.to(right.span);
                let kind = DurationKind::Binary(duration_op, Box::new(left), Box::new(right));
                left = DurationExpr { kind, wrapped: false, span };
            }
            Ok(left)
        })
    }

    fn duration_term(&mut self, place: Place<'_>) -> Result<DurationExpr> {
        let token = self.token().clone();
        let number = |value, duration, span| DurationExpr {
            kind: DurationKind::Number { value, duration },
            wrapped: false,
            span,
        };
        let kind = match token.kind {
            // Outside of brackets these two are words like any other. `min` and `max` are what they were called first.
            TokenKind::Identifier => match token.text(self.input).to_ascii_lowercase().as_str() {
                "min_of" => TokenKind::Aggregate(AggregateOp::Min),
                "max_of" => TokenKind::Aggregate(AggregateOp::Max),
                _ => TokenKind::Identifier,
            },
            ref kind => kind.clone(),
        };
        match kind {
            TokenKind::Number => {
                self.advance();
                Ok(number(self.number(&token)?, false, token.span))
            }
            TokenKind::Duration => {
                self.advance();
                Ok(number(self.duration_seconds(&token)?, true, token.span))
            }
            TokenKind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                self.advance();
                let inner = self.nested(|parser| {
                    // Inside brackets a sign binds like `*`, so that `-2 ^ 2` is -(2 ^ 2).
                    if place.tight { parser.duration_term(place) } else { parser.duration_expr(3, place) }
                })?;
                let span = token.span.to(inner.span);
                let negative = op == BinaryOp::Sub;
                if let (DurationKind::Number { value, duration }, false) = (&inner.kind, inner.wrapped) {
                    return Ok(number(if negative { -value } else { *value }, *duration, span));
                }
                if !negative {
                    return Ok(DurationExpr { span, ..inner });
                }
                Ok(DurationExpr { kind: DurationKind::Negate(Box::new(inner)), wrapped: false, span })
            }
            TokenKind::Step | TokenKind::Range => {
                self.advance();
                self.expect(&TokenKind::LeftParen, place.context, "\"(\"")?;
                let close = self.expect(&TokenKind::RightParen, place.context, "\")\"")?;
                let kind = if kind == TokenKind::Step { DurationKind::Step } else { DurationKind::Range };
                Ok(DurationExpr { kind, wrapped: false, span: token.span.to(close.span) })
            }
            TokenKind::Aggregate(op @ (AggregateOp::Min | AggregateOp::Max)) => {
                self.advance();
                self.expect(&TokenKind::LeftParen, place.context, "\"(\"")?;
                let left = Box::new(self.duration_expr(0, place.inner())?);
                self.expect(&TokenKind::Comma, place.context, "\",\"")?;
                let right = Box::new(self.duration_expr(0, place.inner())?);
                let close = self.expect(&TokenKind::RightParen, place.context, "\")\"")?;
                let kind = match op {
                    AggregateOp::Min => DurationKind::Min(left, right),
                    _ => DurationKind::Max(left, right),
                };
                Ok(DurationExpr { kind, wrapped: false, span: token.span.to(close.span) })
            }
            TokenKind::LeftParen => {
                self.advance();
                let inner = self.duration_expr(0, place.inner())?;
                let close = self.expect(&TokenKind::RightParen, place.context, "\")\"")?;
                let span = token.span.to(close.span);
                let kind = match inner.kind {
                    kind @ DurationKind::Number { .. } => {
                        DurationKind::Plus(Box::new(DurationExpr { kind, wrapped: false, span: inner.span }))
                    }
                    kind => kind,
                };
                Ok(DurationExpr { kind, wrapped: true, span })
            }
            _ => Err(self.unexpected(place.context, place.expected)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_read_and_print() {
        for (text, millis) in [
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1y2w3d4h5m6s7ms", 33_019_506_007),
            ("0", 0),
            ("10s53ms", 10_053),
        ] {
            assert_eq!(parse_duration(text), Ok(millis), "{text}");
        }
        for bad in ["", "5", "1m1h", "5ss", "1hs", "99999999999999999999s", "300y"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        for (millis, text) in
            [(0, "0s"), (691_200_000, "8d"), (1_209_600_000, "2w"), (90_000, "1m30s"), (-5, "-5ms")]
        {
            assert_eq!(format_duration(millis), text);
        }
    }
}
