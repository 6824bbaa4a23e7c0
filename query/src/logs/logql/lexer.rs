//! The characters of LogQL, and of TraceQL: a cursor that takes words, strings and symbols, and knows where it is.
//!
//! The language has no single set of tokens: what `5KB` or `-1` is depends on where it stands, so the parser asks for what
//! is due. Comments run from `#` to the end of their line. Any text is taken; none makes it panic.

use super::parser::LogqlError;

pub(crate) type Result<T> = std::result::Result<T, LogqlError>;

pub(crate) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Self {
        let mut cursor = Self { text, at: 0 };
        cursor.skip();
        cursor
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip(&mut self) {
        loop {
            self.at = self.text.len() - self.rest().trim_start().len();
            if !self.rest().starts_with('#') {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    pub fn is_done(&self) -> bool {
        self.at == self.text.len()
    }

    pub fn position(&self) -> usize {
        self.at
    }

    pub fn go_back(&mut self, position: usize) {
        self.at = position;
    }

    /// Fails here, naming what stands here.
    pub fn unexpected<T>(&self, due: &str) -> Result<T> {
        let found = match (self.peek_word(), self.rest().chars().next()) {
            (Some(word), _) => format!("{word:?}"),
            (None, Some(c)) => format!("{:?}", c.to_string()),
            (None, None) => "the end".to_owned(),
        };
        self.fail(self.at, format!("syntax error: unexpected {found}, expecting {due}"))
    }

    /// Fails at a place.
    pub fn fail<T>(&self, at: usize, message: impl Into<String>) -> Result<T> {
        Err(LogqlError::at(self.text, at, message))
    }

    pub fn sees(&self, symbol: &str) -> bool {
        self.rest().starts_with(symbol)
    }

    /// Takes a symbol.
    pub fn take(&mut self, symbol: &str) -> bool {
        let found = self.sees(symbol);
        if found {
            self.at += symbol.len();
            self.skip();
        }
        found
    }

    pub fn expect(&mut self, symbol: &str) -> Result<()> {
        if self.take(symbol) { Ok(()) } else { self.unexpected(&format!("{symbol:?}")) }
    }

    pub fn peek_word(&self) -> Option<&'a str> {
        let rest = self.rest();
        if !rest.starts_with(is_word_start) {
            return None;
        }
        Some(&rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())])
    }

    /// Takes a word if it is this one.
    pub fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek_word() == Some(word);
        if found {
            self.at += word.len();
            self.skip();
        }
        found
    }

    /// A name of a label.
    pub fn name(&mut self) -> Result<String> {
        let Some(word) = self.peek_word() else { return self.unexpected("a name") };
        self.at += word.len();
        self.skip();
        Ok(word.to_owned())
    }

    pub fn sees_string(&self) -> bool {
        self.rest().starts_with(['"', '`'])
    }

    /// `"..."` with escapes, or `` `...` `` as it is.
    pub fn string(&mut self) -> Result<String> {
        let open = self.at;
        let Some(quote) = self.rest().chars().next().filter(|c| matches!(c, '"' | '`')) else {
            return self.unexpected("a string");
        };
        let mut out = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            if c == quote {
                self.at += at + 1;
                self.skip();
                return Ok(out);
            }
            if quote == '`' || c != '\\' {
                if c == '\n' && quote == '"' {
                    break;
                }
                out.push(c);
                continue;
            }
            let escaped = match chars.next().map(|(_, c)| c) {
                Some('x') => by_number(&mut chars, 2),
                Some('u') => by_number(&mut chars, 4),
                Some('U') => by_number(&mut chars, 8),
                Some('n') => Some('\n'),
                Some('t') => Some('\t'),
                Some('r') => Some('\r'),
                Some('a') => Some('\u{7}'),
                Some('b') => Some('\u{8}'),
                Some('f') => Some('\u{c}'),
                Some('v') => Some('\u{b}'),
                Some(c @ ('\\' | '"' | '\'')) => Some(c),
                _ => None,
            };
            match escaped {
                Some(c) => out.push(c),
                None => return self.fail(open + at, "syntax error: the escape in the string means nothing"),
            }
        }
        self.fail(open, "syntax error: the string does not end")
    }

    /// A run of what numbers, durations and sizes consist of.
    pub fn quantity(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let signed = rest.strip_prefix(['-', '+']).unwrap_or(rest);
        if !signed.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return None;
        }
        let sign = rest.len() - signed.len();
        let mut end = 0;
        let mut before = ' ';
        for (at, c) in signed.char_indices() {
            let is_exponent_sign = matches!(c, '-' | '+')
                && matches!(before, 'e' | 'E')
                && signed[..at - 1].bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            if !(c.is_ascii_alphanumeric() || matches!(c, '.' | 'µ') || is_exponent_sign) {
                break;
            }
            before = c;
            end = at + c.len_utf8();
        }
        self.at += sign + end;
        self.skip();
        Some(&rest[..sign + end])
    }

    /// Whether a number begins here with its point.
    pub fn sees_digit_after_point(&self) -> bool {
        let mut chars = self.rest().chars();
        chars.next() == Some('.') && chars.next().is_some_and(|c| c.is_ascii_digit())
    }

    /// A run of characters of a kind, which stays.
    pub fn peek_run(&self, is_part: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())]
    }

    /// Takes so many bytes, and blanks behind them.
    pub fn take_run(&mut self, bytes: usize) {
        self.skip_bytes(bytes);
        self.skip();
    }

    /// Takes so many bytes, and no blanks behind them.
    pub fn skip_bytes(&mut self, bytes: usize) {
        self.at = (self.at + bytes).min(self.text.len());
    }

    /// A name of such characters, parts of which may be quoted.
    pub fn quotable(&mut self, is_part: impl Fn(char) -> bool) -> Result<String> {
        let mut name = String::new();
        loop {
            if self.sees("\"") {
                name.push_str(&self.string()?);
                // Behind the quote's end something else follows: the name has ended.
                if !self.text[..self.at].ends_with('"') {
                    return Ok(name);
                }
                continue;
            }
            let run = self.peek_run(&is_part);
            if run.is_empty() {
                self.skip();
                return Ok(name);
            }
            name.push_str(run);
            self.skip_bytes(run.len());
        }
    }

    /// What stands between here and a symbol, which is taken as well.
    pub fn until(&mut self, symbol: &str) -> Result<&'a str> {
        let open = self.at;
        let Some(end) = self.rest().find(symbol) else {
            return self.fail(open, format!("syntax error: {symbol:?} is missing"));
        };
        let inside = &self.rest()[..end];
        self.at += end + symbol.len();
        self.skip();
        Ok(inside)
    }
}

/// A character by its number in hex.
fn by_number(chars: &mut impl Iterator<Item = (usize, char)>, digits: usize) -> Option<char> {
    let mut value = 0u32;
    for _ in 0..digits {
        let (_, c) = chars.next()?;
        value = value.checked_mul(16)?.checked_add(c.to_digit(16)?)?;
    }
    char::from_u32(value)
}
