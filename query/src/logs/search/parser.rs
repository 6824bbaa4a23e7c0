//! Text to [`Search`], by recursive descent over its characters.

use protocol::logs::messages::MAX_FILTER_DEPTH;

use super::{End, Search, Term, TermTest};

/// What is wrong with a query, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct SearchError {
    /// Line, from 1.
    pub line: usize,
    /// Character of the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl SearchError {
    pub(super) fn at(text: &str, at: usize, message: impl Into<String>) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        }
    }
}

type Result<T> = std::result::Result<T, SearchError>;

/// Parses a query.
pub fn parse(text: &str) -> Result<Search> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    parser.skip_spaces();
    if parser.is_done() {
        return Ok(Search::All);
    }
    let search = parser.or(None)?;
    match parser.peek() {
        None => Ok(search),
        Some(c) => Err(parser.error(format!("{c:?} closes nothing"))),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

/// Ends a word wherever it stands.
fn ends_word(c: char) -> bool {
    c.is_whitespace() || matches!(c, '(' | ')' | '"')
}

/// Characters of comparisons, which end a field's name.
fn ends_name(c: char) -> bool {
    matches!(c, ':' | '=' | '<' | '>' | '!')
}

/// A word as it was written.
struct Word {
    text: String,
    /// Positions of stars that mean something, as bytes of `text`.
    stars: Vec<usize>,
    is_quoted: bool,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn is_done(&self) -> bool {
        self.at == self.text.len()
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn skip_spaces(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn error(&self, message: impl Into<String>) -> SearchError {
        SearchError::at(self.text, self.at, message)
    }

    /// Takes a keyword that stands alone.
    fn keyword(&mut self, word: &str) -> bool {
        let found = self.sees_keyword(word);
        if found {
            self.at += word.len();
            self.skip_spaces();
        }
        found
    }

    fn sees_keyword(&self, word: &str) -> bool {
        let Some(behind) = self.rest().strip_prefix(word) else { return false };
        behind.chars().next().is_none_or(ends_word)
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == MAX_FILTER_DEPTH {
            return Err(self.error(format!("nested deeper than {MAX_FILTER_DEPTH}")));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn or(&mut self, field: Option<&str>) -> Result<Search> {
        let mut parts = vec![self.and(field)?];
        while self.keyword("OR") {
            parts.push(self.and(field)?);
        }
        Ok(one_or(parts, Search::Or))
    }

    fn and(&mut self, field: Option<&str>) -> Result<Search> {
        let mut parts = vec![self.unary(field)?];
        loop {
            if !self.keyword("AND") && (self.is_done() || self.peek() == Some(')') || self.sees_keyword("OR"))
            {
                return Ok(one_or(parts, Search::And));
            }
            parts.push(self.unary(field)?);
        }
    }

    fn unary(&mut self, field: Option<&str>) -> Result<Search> {
        for word in ["AND", "OR"] {
            if self.sees_keyword(word) {
                return Err(
                    self.error(format!("{word} has nothing before it; quote it to look for the word"))
                );
            }
        }
        if self.keyword("NOT") || self.take("-") {
            return self.deeper(|parser| Ok(Search::Not(Box::new(parser.unary(field)?))));
        }
        let parsed = match self.peek() {
            None => Err(self.error("the query ends where a term is due")),
            Some(')') => Err(self.error("a term is due before \")\"")),
            Some('(') => self.group(field),
            Some(_) if field.is_some() => self.value(field.map(str::to_owned), self.at),
            Some(_) => self.term(),
        };
        self.skip_spaces();
        parsed
    }

    fn group(&mut self, field: Option<&str>) -> Result<Search> {
        let open = self.at;
        self.at += 1;
        self.skip_spaces();
        let inner = self.deeper(|parser| parser.or(field))?;
        if !self.take(")") {
            return Err(SearchError::at(self.text, open, "\"(\" is not closed"));
        }
        Ok(inner)
    }

    fn term(&mut self) -> Result<Search> {
        let at = self.at;
        let is_value =
            self.rest().starts_with(['/', '[', '{', '~', '<', '>', '=']) || self.rest().starts_with("i(");
        if is_value {
            return self.value(None, at);
        }
        // A star alone and a star before a colon are names of everything.
        let name = if self.rest().starts_with("*:") {
            self.at += 1;
            Word { text: "*".to_owned(), stars: Vec::new(), is_quoted: false }
        } else {
            self.word(true)?
        };
        let op_at = self.at;
        if self.take(":") {
            self.check_name(&name, at)?;
            if self.peek() == Some('(') {
                return self.group(Some(&name.text));
            }
            return self.value(Some(name.text), at);
        }
        for (token, is_negated) in [("!=", true), ("=", false)] {
            if self.take(token) {
                self.check_name(&name, at)?;
                let value = self.word(false)?;
                self.check_stars(&value, op_at)?;
                let term =
                    Search::Term(Term { field: Some(name.text), test: TermTest::Equals(value.text), at });
                return Ok(if is_negated { Search::Not(Box::new(term)) } else { term });
            }
        }
        if self.rest().starts_with(['<', '>']) {
            self.check_name(&name, at)?;
            return self.value(Some(name.text), at);
        }
        self.plain(None, name, at)
    }

    fn check_name(&self, name: &Word, at: usize) -> Result<()> {
        if name.text.is_empty() {
            return Err(SearchError::at(self.text, at, "the name of a field is due"));
        }
        self.check_stars(name, at)
    }

    fn check_stars(&self, word: &Word, at: usize) -> Result<()> {
        match word.stars.is_empty() {
            true => Ok(()),
            false => Err(SearchError::at(self.text, at, "\"*\" means nothing here; quote it to look for it")),
        }
    }

    /// A value behind a field's colon, or without one.
    fn value(&mut self, field: Option<String>, at: usize) -> Result<Search> {
        let test = match self.peek() {
            Some('/') => self.regex()?,
            Some('[' | '{') => self.range()?,
            Some('<' | '>') => {
                let is_below = self.take("<");
                if !is_below {
                    self.at += 1;
                }
                let inclusive = self.take("=");
                let end = End { text: self.bound()?, inclusive };
                if is_below { TermTest::Range(None, Some(end)) } else { TermTest::Range(Some(end), None) }
            }
            Some('=') => {
                self.at += 1;
                let word = self.word(false)?;
                self.check_stars(&word, at)?;
                TermTest::Equals(word.text)
            }
            Some('~') => {
                self.at += 1;
                let word = self.word(false)?;
                self.check_stars(&word, at)?;
                TermTest::Words(word.text)
            }
            Some('i') if self.rest().starts_with("i(") => {
                self.at += 2;
                self.skip_spaces();
                let word = self.word(false)?;
                self.check_stars(&word, at)?;
                self.skip_spaces();
                if !self.take(")") {
                    return Err(self.error("\"i(\" takes one word or quoted text and \")\""));
                }
                TermTest::IgnoreCase(word.text)
            }
            _ => {
                let word = self.word(false)?;
                return self.plain(field, word, at);
            }
        };
        Ok(Search::Term(Term { field, test, at }))
    }

    /// A word, a prefix, a part, or everything.
    fn plain(&self, field: Option<String>, word: Word, at: usize) -> Result<Search> {
        let last = word.text.len().wrapping_sub(1);
        let test = match word.stars.as_slice() {
            [] => TermTest::Text(word.text),
            [0] if last == 0 && field.is_none() => return Ok(Search::All),
            [0] if last == 0 => TermTest::Exists,
            [star] if *star == last => TermTest::Prefix(word.text[..last].to_owned()),
            [0, star] if *star == last && last > 1 => TermTest::Part(word.text[1..last].to_owned()),
            _ => {
                let message = "\"*\" may stand behind a word or on both sides of it; \
                               use /a.*b/ for the rest, or quote it to look for it";
                return Err(SearchError::at(self.text, at, message));
            }
        };
        Ok(Search::Term(Term { field, test, at }))
    }

    /// A word or a quoted text.
    fn word(&mut self, is_name: bool) -> Result<Word> {
        let open = self.at;
        let mut word = Word { text: String::new(), stars: Vec::new(), is_quoted: self.take("\"") };
        while let Some(c) = self.peek() {
            // An exclamation mark ends a name only where it negates.
            let ends_name = is_name && ends_name(c) && (c != '!' || self.rest().starts_with("!="));
            let ends = if word.is_quoted { c == '"' } else { ends_word(c) || ends_name };
            if ends {
                break;
            }
            self.at += c.len_utf8();
            if c == '*' && !word.is_quoted {
                word.stars.push(word.text.len());
            }
            if c != '\\' {
                word.text.push(c);
                continue;
            }
            let Some(escaped) = self.peek() else { return Err(self.error("\"\\\" escapes nothing")) };
            self.at += escaped.len_utf8();
            word.text.push(match escaped {
                'n' if word.is_quoted => '\n',
                't' if word.is_quoted => '\t',
                'r' if word.is_quoted => '\r',
                other => other,
            });
        }
        if word.is_quoted && !self.take("\"") {
            return Err(SearchError::at(self.text, open, "the quoted text does not end"));
        }
        if word.text.is_empty() && !word.is_quoted {
            let found = self.peek().map_or("the end of the query".to_owned(), |c| format!("{c:?}"));
            return Err(self.error(format!("a word or a quoted text is due, not {found}")));
        }
        Ok(word)
    }

    fn regex(&mut self) -> Result<TermTest> {
        let open = self.at;
        self.at += 1;
        let mut expression = String::new();
        loop {
            let Some(c) = self.peek() else {
                return Err(SearchError::at(
                    self.text,
                    open,
                    "the regular expression does not end with \"/\"",
                ));
            };
            self.at += c.len_utf8();
            match (c, self.peek()) {
                ('/', _) => break,
                ('\\', Some('/')) => {
                    self.at += 1;
                    expression.push('/');
                }
                ('\\', Some(escaped)) => {
                    self.at += escaped.len_utf8();
                    expression.extend(['\\', escaped]);
                }
                _ => expression.push(c),
            }
        }
        if self.rest().starts_with('i') && self.rest()[1..].chars().next().is_none_or(ends_word) {
            self.at += 1;
            expression.insert_str(0, "(?i)");
        }
        if self.peek().is_some_and(|c| !ends_word(c)) {
            return Err(
                self.error("a space is due behind the regular expression; \"\\/\" is a slash inside of one")
            );
        }
        // Compiled again where it runs; here to tell where it is wrong.
        match regex::Regex::new(&expression) {
            Ok(_) => Ok(TermTest::Regex(expression)),
            Err(error) => {
                let reason = error.to_string();
                let reason =
                    reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                Err(SearchError::at(self.text, open, format!("regular expression: {reason}")))
            }
        }
    }

    fn range(&mut self) -> Result<TermTest> {
        let open = self.at;
        let from_inclusive = self.take("[");
        if !from_inclusive {
            self.at += 1;
        }
        self.skip_spaces();
        let from = self.range_end()?;
        self.skip_spaces();
        if !self.keyword("TO") {
            return Err(self.error("\"TO\" is due between the ends of a range"));
        }
        let to = self.range_end()?;
        self.skip_spaces();
        let to_inclusive = self.take("]");
        if !to_inclusive && !self.take("}") {
            return Err(SearchError::at(self.text, open, "the range is not closed by \"]\" or \"}\""));
        }
        let end = |text: Option<String>, inclusive| text.map(|text| End { text, inclusive });
        Ok(TermTest::Range(end(from, from_inclusive), end(to, to_inclusive)))
    }

    /// `*` is no end.
    fn range_end(&mut self) -> Result<Option<String>> {
        let text = self.bound()?;
        Ok((text != "*").then_some(text))
    }

    /// A number or a level: no quotes, no escapes.
    fn bound(&mut self) -> Result<String> {
        let ends = |c: char| ends_word(c) || matches!(c, ']' | '}');
        let length = self.rest().find(ends).unwrap_or(self.rest().len());
        if length == 0 {
            return Err(self.error("a number is due"));
        }
        let text = self.rest()[..length].to_owned();
        self.at += length;
        Ok(text)
    }
}

fn one_or(mut parts: Vec<Search>, many: impl FnOnce(Vec<Search>) -> Search) -> Search {
    match parts.len() {
        1 => parts.remove(0),
        _ => many(parts),
    }
}
