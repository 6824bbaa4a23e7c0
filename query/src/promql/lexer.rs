//! Text to tokens.
//!
//! One pass over bytes, before parsing; what is wrong becomes a last [`TokenKind::Error`] token, so that the parser
//! reports whichever comes first in the text. Words mean different things inside braces (label names) and brackets
//! (durations), so the lexer keeps count of what is open. Any bytes are taken; none make it panic.

use super::ast::{AggregateOp, BinaryOp};
use super::span::Span;

/// A piece of the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Where it stands.
    pub span: Span,
}

/// The kinds of tokens.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "named after what they look like")]
pub enum TokenKind {
    Eof,
    Error(String),
    Identifier,
    MetricIdentifier,
    Number,
    Duration,
    String,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    Assign,
    EqualRegex,
    NotEqualRegex,
    At,
    Op(BinaryOp),
    Aggregate(AggregateOp),
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Fill,
    FillLeft,
    FillRight,
    Bool,
    Offset,
    Anchored,
    Smoothed,
    Start,
    End,
    Step,
    Range,
}

impl Token {
    /// The token's text.
    pub fn text<'a>(&self, input: &'a str) -> &'a str {
        input.get(self.span.start as usize..self.span.end as usize).unwrap_or("")
    }

    /// As error messages name it.
    pub fn describe(&self, input: &str) -> String {
        let text = self.text(input);
        match &self.kind {
            TokenKind::Eof => "end of input".to_owned(),
            TokenKind::Error(message) => format!("error {message}"),
            TokenKind::Identifier => format!("identifier {text:?}"),
            TokenKind::MetricIdentifier => format!("metric identifier {text:?}"),
            TokenKind::Number => format!("number {}", shortened(text)),
            TokenKind::Duration => format!("duration {}", shortened(text)),
            TokenKind::String => format!("string {}", shortened(text)),
            TokenKind::Op(_) | TokenKind::EqualRegex | TokenKind::NotEqualRegex | TokenKind::At => {
                format!("<op:{text}>")
            }
            TokenKind::Aggregate(_) => format!("<aggr:{text}>"),
            kind if kind.is_keyword() => format!("<{text}>"),
            _ => shortened(text),
        }
    }
}

fn shortened(text: &str) -> String {
    if text.len() > 10 {
        let cut: String = text.chars().take(10).collect();
        format!("{cut:?}...")
    } else {
        format!("{text:?}")
    }
}

impl TokenKind {
    fn is_keyword(&self) -> bool {
        matches!(
            self,
            Self::By
                | Self::Without
                | Self::On
                | Self::Ignoring
                | Self::GroupLeft
                | Self::GroupRight
                | Self::Fill
                | Self::FillLeft
                | Self::FillRight
                | Self::Bool
                | Self::Offset
                | Self::Anchored
                | Self::Smoothed
        )
    }

    /// Whether the word may also stand where a label name is due, or a metric's name.
    pub fn is_word(&self) -> bool {
        self.is_keyword()
            || matches!(
                self,
                Self::Identifier
                    | Self::Aggregate(_)
                    | Self::Start
                    | Self::End
                    | Self::Step
                    | Self::Range
                    | Self::Op(BinaryOp::And | BinaryOp::Or | BinaryOp::Unless | BinaryOp::Atan2)
            )
    }
}

fn keyword(word: &str) -> Option<TokenKind> {
    let lower = word.to_ascii_lowercase();
    if let Some(op) = AggregateOp::ALL.into_iter().find(|op| op.as_str() == lower) {
        return Some(TokenKind::Aggregate(op));
    }
    Some(match lower.as_str() {
        "and" => TokenKind::Op(BinaryOp::And),
        "or" => TokenKind::Op(BinaryOp::Or),
        "unless" => TokenKind::Op(BinaryOp::Unless),
        "atan2" => TokenKind::Op(BinaryOp::Atan2),
        "offset" => TokenKind::Offset,
        "smoothed" => TokenKind::Smoothed,
        "anchored" => TokenKind::Anchored,
        "by" => TokenKind::By,
        "without" => TokenKind::Without,
        "on" => TokenKind::On,
        "ignoring" => TokenKind::Ignoring,
        "group_left" => TokenKind::GroupLeft,
        "group_right" => TokenKind::GroupRight,
        "fill" => TokenKind::Fill,
        "fill_left" => TokenKind::FillLeft,
        "fill_right" => TokenKind::FillRight,
        "bool" => TokenKind::Bool,
        "start" => TokenKind::Start,
        "end" => TokenKind::End,
        "step" => TokenKind::Step,
        "range" => TokenKind::Range,
        "inf" | "nan" => TokenKind::Number,
        _ => return None,
    })
}

/// Splits `input[start..end]` into tokens; the last is `Eof` or `Error`. Spans count from the start of `input`.
pub fn lex(input: &str, within: Span) -> Vec<Token> {
    let end = (within.end as usize).min(input.len());
    let text = input.get(..end).unwrap_or(input);
    let mut lexer = Lexer {
        text,
        bytes: text.as_bytes(),
        pos: (within.start as usize).min(text.len()),
        tokens: Vec::new(),
        parens: 0,
        brace: false,
        bracket: false,
        colon: false,
    };
    while lexer.next() {}
    lexer.tokens
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    pos: usize,
    tokens: Vec<Token>,
    parens: usize,
    brace: bool,
    bracket: bool,
    colon: bool,
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_alpha(b: u8) -> bool {
    b == b'_' || b.is_ascii_alphabetic()
}

fn is_alphanumeric(b: u8) -> bool {
    is_alpha(b) || b.is_ascii_digit()
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.pos + ahead).copied()
    }

    fn push(&mut self, kind: TokenKind, len: usize) -> bool {
        let span = Span::new(self.pos, self.pos + len);
        self.pos += len;
        self.tokens.push(Token { kind, span });
        true
    }

    fn error(&mut self, start: usize, message: String) -> bool {
        let span = Span::new(start, self.text.len());
        self.tokens.push(Token { kind: TokenKind::Error(message), span });
        false
    }

    /// The character at a place, quoted, for messages.
    fn quoted_at(&self, at: usize) -> String {
        match self.text.get(at..).and_then(|rest| rest.chars().next()) {
            Some(c) => format!("{c:?}"),
            None => "EOF".to_owned(),
        }
    }

    /// Makes one token; false when that was the last.
    fn next(&mut self) -> bool {
        while let Some(b) = self.peek(0) {
            if is_space(b) {
                self.pos += 1;
            } else if b == b'#' {
                while self.peek(0).is_some_and(|b| b != b'\n' && b != b'\r') {
                    self.pos += 1;
                }
            } else {
                break;
            }
        }
        let start = self.pos;
        let Some(b) = self.peek(0) else {
            if self.brace {
                return self.error(start, "unexpected end of input inside braces".into());
            }
            if self.parens > 0 {
                return self.error(start, "unclosed left parenthesis".into());
            }
            if self.bracket {
                return self.error(start, "unexpected end of input in duration expression".into());
            }
            self.push(TokenKind::Eof, 0);
            return false;
        };
        if self.brace {
            return self.in_braces(b);
        }
        if self.bracket {
            return self.in_brackets(b);
        }
        match b {
            b',' => self.push(TokenKind::Comma, 1),
            b'*' => self.push(TokenKind::Op(BinaryOp::Mul), 1),
            b'/' => self.push(TokenKind::Op(BinaryOp::Div), 1),
            b'%' => self.push(TokenKind::Op(BinaryOp::Mod), 1),
            b'+' => self.push(TokenKind::Op(BinaryOp::Add), 1),
            b'-' => self.push(TokenKind::Op(BinaryOp::Sub), 1),
            b'^' => self.push(TokenKind::Op(BinaryOp::Pow), 1),
            b'@' => self.push(TokenKind::At, 1),
            b'=' => match self.peek(1) {
                Some(b'=') => self.push(TokenKind::Op(BinaryOp::Equal), 2),
                Some(b'~') => self.error(start, "unexpected character after '=': '~'".into()),
                _ => self.push(TokenKind::Assign, 1),
            },
            b'!' => match self.peek(1) {
                Some(b'=') => self.push(TokenKind::Op(BinaryOp::NotEqual), 2),
                _ => {
                    let after = self.quoted_at(start + 1);
                    self.error(start, format!("unexpected character after '!': {after}"))
                }
            },
            b'<' => match self.peek(1) {
                Some(b'=') => self.push(TokenKind::Op(BinaryOp::LessEqual), 2),
                Some(b'/') => self.push(TokenKind::Op(BinaryOp::TrimUpper), 2),
                _ => self.push(TokenKind::Op(BinaryOp::Less), 1),
            },
            b'>' => match self.peek(1) {
                Some(b'=') => self.push(TokenKind::Op(BinaryOp::GreaterEqual), 2),
                Some(b'/') => self.push(TokenKind::Op(BinaryOp::TrimLower), 2),
                _ => self.push(TokenKind::Op(BinaryOp::Greater), 1),
            },
            b'(' => {
                self.parens += 1;
                self.push(TokenKind::LeftParen, 1)
            }
            b')' => self.right_paren(start),
            b'{' => {
                self.brace = true;
                self.push(TokenKind::LeftBrace, 1)
            }
            b'[' => {
                self.bracket = true;
                self.colon = false;
                self.push(TokenKind::LeftBracket, 1)
            }
            b']' => self.error(start, "unexpected right bracket ']'".into()),
            b'"' | b'\'' | b'`' => self.string(b),
            b if b.is_ascii_digit() || (b == b'.' && self.peek(1).is_some_and(|b| b.is_ascii_digit())) => {
                self.number_or_duration()
            }
            b if is_alpha(b) || b == b':' => self.word(),
            _ => {
                let what = self.quoted_at(start);
                self.error(start, format!("unexpected character: {what}"))
            }
        }
    }

    fn right_paren(&mut self, start: usize) -> bool {
        if self.parens == 0 {
            return self.error(start, "unexpected right parenthesis ')'".into());
        }
        self.parens -= 1;
        self.push(TokenKind::RightParen, 1)
    }

    fn in_braces(&mut self, b: u8) -> bool {
        let start = self.pos;
        match b {
            b',' => self.push(TokenKind::Comma, 1),
            b'"' | b'\'' | b'`' => self.string(b),
            b'=' if self.peek(1) == Some(b'~') => self.push(TokenKind::EqualRegex, 2),
            b'=' => self.push(TokenKind::Assign, 1),
            b'!' => match self.peek(1) {
                Some(b'~') => self.push(TokenKind::NotEqualRegex, 2),
                Some(b'=') => self.push(TokenKind::Op(BinaryOp::NotEqual), 2),
                _ => {
                    let after = self.quoted_at(start + 1);
                    self.error(start, format!("unexpected character after '!' inside braces: {after}"))
                }
            },
            b'{' => self.error(start, "unexpected left brace '{'".into()),
            b'}' => {
                self.brace = false;
                self.push(TokenKind::RightBrace, 1)
            }
            b if is_alpha(b) => {
                let len = self.bytes[start..].iter().take_while(|b| is_alphanumeric(**b)).count();
                self.push(TokenKind::Identifier, len)
            }
            _ => {
                let what = self.quoted_at(start);
                self.error(start, format!("unexpected character inside braces: {what}"))
            }
        }
    }

    fn in_brackets(&mut self, b: u8) -> bool {
        let start = self.pos;
        match b {
            b']' => {
                self.bracket = false;
                self.push(TokenKind::RightBracket, 1)
            }
            b':' if self.colon => {
                self.error(start, "unexpected repeated colon in duration expression".into())
            }
            b':' => {
                self.colon = true;
                self.push(TokenKind::Colon, 1)
            }
            b'(' => {
                self.parens += 1;
                self.push(TokenKind::LeftParen, 1)
            }
            b')' => self.right_paren(start),
            b'+' => self.push(TokenKind::Op(BinaryOp::Add), 1),
            b'-' => self.push(TokenKind::Op(BinaryOp::Sub), 1),
            b'*' => self.push(TokenKind::Op(BinaryOp::Mul), 1),
            b'/' => self.push(TokenKind::Op(BinaryOp::Div), 1),
            b'%' => self.push(TokenKind::Op(BinaryOp::Mod), 1),
            b'^' => self.push(TokenKind::Op(BinaryOp::Pow), 1),
            b',' => self.push(TokenKind::Comma, 1),
            b if b.is_ascii_digit() || (b == b'.' && self.peek(1).is_some_and(|b| b.is_ascii_digit())) => {
                self.number_or_duration()
            }
            b if is_alpha(b) => {
                let len = self.bytes[start..].iter().take_while(|b| is_alpha(**b)).count();
                let word = self.text.get(start..start + len).unwrap_or("").to_ascii_lowercase();
                match word.as_str() {
                    "step" => self.push(TokenKind::Step, len),
                    "range" => self.push(TokenKind::Range, len),
                    "min" | "min_of" => self.push(TokenKind::Aggregate(AggregateOp::Min), len),
                    "max" | "max_of" => self.push(TokenKind::Aggregate(AggregateOp::Max), len),
                    _ => {
                        let what = self.quoted_at(start);
                        self.error(start, format!("unexpected character in duration expression: {what}"))
                    }
                }
            }
            _ => {
                let what = self.quoted_at(start);
                self.error(start, format!("unexpected character in duration expression: {what}"))
            }
        }
    }

    fn word(&mut self) -> bool {
        let start = self.pos;
        let len = self.bytes[start..].iter().take_while(|b| is_alphanumeric(**b) || **b == b':').count();
        let word = self.text.get(start..start + len).unwrap_or("");
        let kind = match keyword(word) {
            Some(TokenKind::Fill | TokenKind::FillLeft | TokenKind::FillRight)
                if !self.followed_by_paren(start + len) =>
            {
                TokenKind::Identifier
            }
            Some(kind) => kind,
            None if word.contains(':') => TokenKind::MetricIdentifier,
            None => TokenKind::Identifier,
        };
        self.push(kind, len)
    }

    fn followed_by_paren(&self, at: usize) -> bool {
        self.bytes[at..].iter().find(|b| !is_space(**b)) == Some(&b'(')
    }

    fn string(&mut self, quote: u8) -> bool {
        let start = self.pos;
        let mut at = start + 1;
        while let Some(&b) = self.bytes.get(at) {
            match b {
                b'\\' if quote != b'`' => match self.escape(at + 1, quote) {
                    Ok(next) => at = next,
                    Err(message) => return self.error(start, message),
                },
                b'\n' if quote != b'`' => return self.error(start, "unterminated quoted string".into()),
                b if b == quote => return self.push(TokenKind::String, at + 1 - start),
                _ => at += 1,
            }
        }
        let what = if quote == b'`' { "unterminated raw string" } else { "unterminated quoted string" };
        self.error(start, what.into())
    }

    /// Checks the escape whose character after the backslash is at `at`; returns where it ends.
    fn escape(&self, at: usize, quote: u8) -> Result<usize, String> {
        let Some(&b) = self.bytes.get(at) else {
            return Err("escape sequence not terminated".into());
        };
        let (digits, base, max, first) = match b {
            b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'\\' => return Ok(at + 1),
            b if b == quote => return Ok(at + 1),
            b'0'..=b'7' => (3, 8, 255, at),
            b'x' => (2, 16, 255, at + 1),
            b'u' => (4, 16, 0x10_FFFF, at + 1),
            b'U' => (8, 16, 0x10_FFFF, at + 1),
            _ => {
                let c = self.text.get(at..).and_then(|rest| rest.chars().next()).unwrap_or('?');
                return Err(format!("unknown escape sequence U+{:04X} {c:?}", c as u32));
            }
        };
        let mut value: u64 = 0;
        for i in 0..digits {
            let Some(&b) = self.bytes.get(first + i) else {
                return Err("escape sequence not terminated".into());
            };
            let Some(digit) = (b as char).to_digit(base) else {
                let c = self.text.get(first + i..).and_then(|rest| rest.chars().next()).unwrap_or('?');
                return Err(format!("illegal character U+{:04X} {c:?} in escape sequence", c as u32));
            };
            value = value * u64::from(base) + u64::from(digit);
        }
        if value > max || (0xD800..0xE000).contains(&value) {
            return Err("escape sequence is an invalid Unicode code point".into());
        }
        Ok(first + digits)
    }

    fn number_or_duration(&mut self) -> bool {
        let start = self.pos;
        if let Some(end) = self.scan_number(start) {
            return self.push(TokenKind::Number, end - start);
        }
        if let Some(end) = self.scan_duration(start) {
            return self.push(TokenKind::Duration, end - start);
        }
        let len = self.bytes[start..].iter().take_while(|b| is_alphanumeric(**b) || **b == b'.').count();
        let text = self.text.get(start..start + len).unwrap_or("");
        let message = format!("bad number or duration syntax: {text:?}");
        self.error(start, message)
    }

    /// End of a number that starts here: decimal, hexadecimal, octal, with `_` between digits.
    fn scan_number(&self, start: usize) -> Option<usize> {
        let at = |i: usize| self.bytes.get(i).copied();
        let mut i = start;
        let hex = at(i) == Some(b'0') && matches!(at(i + 1), Some(b'x' | b'X'));
        if hex {
            i += 2;
        }
        let is_digit = |b: u8| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() };
        let (mut dot, mut exponent, mut digits) = (false, false, 0);
        loop {
            match at(i) {
                Some(b) if is_digit(b) => {
                    digits += 1;
                    i += 1;
                }
                Some(b'.') if !dot && !hex && !exponent => {
                    dot = true;
                    i += 1;
                    if matches!(at(i), Some(b'_' | b'.')) {
                        return None;
                    }
                }
                Some(b'e' | b'E') if !hex && !exponent && digits > 0 => {
                    exponent = true;
                    i += 1;
                    if matches!(at(i), Some(b'+' | b'-')) {
                        i += 1;
                    }
                    if !at(i).is_some_and(|b| b.is_ascii_digit()) {
                        return None;
                    }
                }
                Some(b'_') if digits > 0 || hex => {
                    i += 1;
                    if !at(i).is_some_and(is_digit) {
                        return None;
                    }
                }
                _ => break,
            }
        }
        (digits > 0 && !at(i).is_some_and(|b| is_alphanumeric(b) || b == b'.')).then_some(i)
    }

    /// End of a duration that starts here: digits and units in turn.
    fn scan_duration(&self, start: usize) -> Option<usize> {
        let at = |i: usize| self.bytes.get(i).copied();
        let mut i = start;
        while at(i).is_some_and(|b| b.is_ascii_digit()) {
            while at(i).is_some_and(|b| b.is_ascii_digit()) {
                i += 1;
            }
            match at(i) {
                Some(b's' | b'm' | b'h' | b'd' | b'w' | b'y') => i += 1,
                _ => return None,
            }
            if at(i) == Some(b's') {
                i += 1;
            }
        }
        (i > start && !at(i).is_some_and(is_alphanumeric)).then_some(i)
    }
}

/// The bytes that a string token stands for. The lexer has checked its escapes.
pub fn unquote(token: &str) -> Vec<u8> {
    let bytes = token.as_bytes();
    let Some((&quote, inner)) = bytes.split_first() else { return Vec::new() };
    let inner = &inner[..inner.len().saturating_sub(1)];
    if quote == b'`' {
        return inner.to_vec();
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut i = 0;
    while let Some(&b) = inner.get(i) {
        if b != b'\\' {
            out.push(b);
            i += 1;
            continue;
        }
        let Some(&escape) = inner.get(i + 1) else { break };
        let number = |from: usize, digits: usize, base: u32| {
            let text = inner.get(from..from + digits).unwrap_or_default();
            text.iter().fold(0u32, |n, b| n.wrapping_mul(base) + (*b as char).to_digit(base).unwrap_or(0))
        };
        i += 2;
        match escape {
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'0'..=b'7' => {
                out.push(number(i - 1, 3, 8) as u8);
                i += 2;
            }
            b'x' => {
                out.push(number(i, 2, 16) as u8);
                i += 2;
            }
            b'u' | b'U' => {
                let digits = if escape == b'u' { 4 } else { 8 };
                let c = char::from_u32(number(i, digits, 16)).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                i += digits;
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(input: &str) -> Vec<TokenKind> {
        lex(input, Span::new(0, input.len())).into_iter().map(|t| t.kind).collect()
    }

    #[test]
    fn words_depend_on_what_is_open() {
        use TokenKind::*;
        assert_eq!(kinds("sum"), [Aggregate(AggregateOp::Sum), Eof]);
        assert_eq!(kinds("{sum}"), [LeftBrace, Identifier, RightBrace, Eof]);
        assert_eq!(kinds("a:b"), [MetricIdentifier, Eof]);
        assert_eq!(kinds("fill + fill"), [Identifier, Op(BinaryOp::Add), Identifier, Eof]);
        assert_eq!(kinds("[5m:step()]")[1..4], [Duration, Colon, Step]);
    }

    #[test]
    fn numbers_and_durations() {
        for number in ["1", "1.", ".5", "1e3", "1E-3", "0x1F", "0755", "1_000", "0x_ff"] {
            assert_eq!(kinds(number), [TokenKind::Number, TokenKind::Eof], "{number}");
        }
        for duration in ["5m", "1h30m", "1ms", "1y2w3d", "10s53ms"] {
            assert_eq!(kinds(duration), [TokenKind::Duration, TokenKind::Eof], "{duration}");
        }
        for bad in ["1..2", "1x", "5mm", "1e", "1__0", "1h3"] {
            assert!(matches!(kinds(bad)[..], [TokenKind::Error(_)]), "{bad}: {:?}", kinds(bad));
        }
    }

    #[test]
    fn strings_are_unquoted_as_bytes() {
        assert_eq!(unquote(r#""a\n\"\x41\u00e9\101""#), "a\n\"Aé\u{41}".as_bytes());
        assert_eq!(unquote(r#""a\xc5z""#), b"a\xc5z");
        assert_eq!(unquote(r"`a\n`"), br"a\n");
        assert!(matches!(&kinds("\"abc")[0], TokenKind::Error(m) if m == "unterminated quoted string"));
    }
}
