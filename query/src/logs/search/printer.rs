//! [`Search`] to text that parses to the same.

use std::fmt::{Display, Formatter, Result, Write};

use super::{Search, Term, TermTest};

impl Display for Search {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::All => f.write_char('*'),
            Self::And(parts) => join(f, parts, " "),
            Self::Or(parts) => join(f, parts, " OR "),
            Self::Not(part) => {
                f.write_char('-')?;
                in_parens(f, part)
            }
            Self::Term(term) => term.fmt(f),
        }
    }
}

fn join(f: &mut Formatter<'_>, parts: &[Search], between: &str) -> Result {
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            f.write_str(between)?;
        }
        in_parens(f, part)?;
    }
    Ok(())
}

fn in_parens(f: &mut Formatter<'_>, part: &Search) -> Result {
    match part {
        Search::And(_) | Search::Or(_) => write!(f, "({part})"),
        _ => part.fmt(f),
    }
}

impl Display for Term {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.field.as_deref() {
            None => {}
            Some("*") => f.write_str("*:")?,
            Some(name) => {
                word(f, name)?;
                f.write_char(':')?;
            }
        }
        match &self.test {
            TermTest::Exists => f.write_char('*'),
            TermTest::Text(text) => word(f, text),
            TermTest::Equals(text) => {
                f.write_char('=')?;
                word(f, text)
            }
            TermTest::Words(text) => {
                f.write_char('~')?;
                word(f, text)
            }
            TermTest::IgnoreCase(text) => {
                f.write_str("i(")?;
                quoted(f, text)?;
                f.write_char(')')
            }
            TermTest::Prefix(text) => {
                bare(f, text)?;
                f.write_char('*')
            }
            TermTest::Part(text) => {
                f.write_char('*')?;
                bare(f, text)?;
                f.write_char('*')
            }
            TermTest::Regex(expression) => regex(f, expression),
            TermTest::Range(Some(end), None) => {
                write!(f, "{}{}", if end.inclusive { ">=" } else { ">" }, end.text)
            }
            TermTest::Range(None, Some(end)) => {
                write!(f, "{}{}", if end.inclusive { "<=" } else { "<" }, end.text)
            }
            TermTest::Range(from, to) => {
                let text =
                    |end: &Option<super::End>| end.as_ref().map_or("*".to_owned(), |end| end.text.clone());
                let inclusive = |end: &Option<super::End>| end.as_ref().is_none_or(|end| end.inclusive);
                f.write_char(if inclusive(from) { '[' } else { '{' })?;
                write!(f, "{} TO {}", text(from), text(to))?;
                f.write_char(if inclusive(to) { ']' } else { '}' })
            }
        }
    }
}

/// As it is where that says the same, else quoted.
fn word(f: &mut Formatter<'_>, text: &str) -> Result {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | '@' | '%' | '#' | ',');
    let is_keyword = matches!(text, "AND" | "OR" | "NOT" | "TO");
    if !is_keyword && !text.is_empty() && !text.starts_with('/') && text.chars().all(is_plain) {
        return f.write_str(text);
    }
    quoted(f, text)
}

fn quoted(f: &mut Formatter<'_>, text: &str) -> Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

/// Without quotes, each odd character escaped: stars stand beside it.
fn bare(f: &mut Formatter<'_>, text: &str) -> Result {
    for c in text.chars() {
        if !c.is_alphanumeric() && c != '_' {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    Ok(())
}

fn regex(f: &mut Formatter<'_>, expression: &str) -> Result {
    f.write_char('/')?;
    for c in expression.chars() {
        if c == '/' {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('/')
}
