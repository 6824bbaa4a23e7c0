//! Label matchers, with Prometheus' semantics: a label that is absent has the empty value, and regular
//! expressions match the whole value with `.` matching newlines.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use regex::Regex;

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// As it is written in PromQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// A regular expression that can not be compiled within its size limits.
#[derive(Debug, Clone, thiserror::Error)]
#[error("invalid regular expression {pattern:?} for label {name:?}: {reason}")]
pub struct MatcherError {
    /// The label's name.
    pub name: String,
    /// The expression as written.
    pub pattern: String,
    /// What the compiler says.
    pub reason: String,
}

/// A condition on one label.
#[derive(Clone)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    compiled: Option<Compiled>,
}

#[derive(Clone)]
enum Compiled {
    /// The expression is an alternation of plain strings, sorted.
    AnyOf(Vec<String>),
    Regex(Regex),
}

impl Matcher {
    /// Builds a matcher; expressions are compiled here, once, with a bounded program size, and kept for the next
    /// matcher that has the same.
    pub fn new(name: impl Into<String>, op: MatchOp, value: impl Into<String>) -> Result<Self, MatcherError> {
        let (name, value) = (name.into(), value.into());
        let compiled = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(compile(&name, &value)?),
        };
        Ok(Self { name, op, value, compiled })
    }

    /// Builds `name="value"`.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), op: MatchOp::Equal, value: value.into(), compiled: None }
    }

    /// The label's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it compares.
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// The value or expression as written.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a label of this value passes; pass `""` for an absent label.
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.compiled) {
            (MatchOp::Equal, _) => self.value == value,
            (MatchOp::NotEqual, _) => self.value != value,
            (op, Some(compiled)) => compiled.matches(value) == (op == MatchOp::Regex),
            (_, None) => false,
        }
    }

    /// Whether series without the label pass.
    pub fn matches_absent(&self) -> bool {
        self.matches("")
    }

    /// The only values that can pass, sorted, where the matcher admits a finite set (`=` or a plain alternation).
    pub fn finite_values(&self) -> Option<Vec<&str>> {
        match (self.op, &self.compiled) {
            (MatchOp::Equal, _) => Some(vec![&self.value]),
            (MatchOp::Regex, Some(Compiled::AnyOf(values))) => {
                Some(values.iter().map(String::as_str).collect())
            }
            _ => None,
        }
    }
}

impl Compiled {
    fn matches(&self, value: &str) -> bool {
        match self {
            Self::AnyOf(values) => values.binary_search_by(|v| v.as_str().cmp(value)).is_ok(),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

fn compile(name: &str, pattern: &str) -> Result<Compiled, MatcherError> {
    let plain = |c: char| c.is_alphanumeric() || "_-:/ |\"'<>=@%&,;~`".contains(c);
    if pattern.chars().all(plain) {
        let mut values: Vec<String> = pattern.split('|').map(str::to_owned).collect();
        values.sort();
        values.dedup();
        return Ok(Compiled::AnyOf(values));
    }
    if let Some(regex) = known(|known| known.get(pattern).cloned()) {
        return Ok(Compiled::Regex(regex));
    }
    let regex = regex::RegexBuilder::new(&format!("^(?s:{pattern})$"))
        .size_limit(1 << 20)
        .dfa_size_limit(2 << 20)
        .build()
        .map_err(|e| MatcherError { name: name.into(), pattern: pattern.into(), reason: e.to_string() })?;
    if pattern.len() <= MAX_KNOWN_BYTES {
        known(|known| {
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            known.insert(pattern.to_owned(), regex.clone());
        });
    }
    Ok(Compiled::Regex(regex))
}

/// Expressions that stay compiled: a dashboard asks for the same ones again and again, and each shard of a query for its
/// own.
const MAX_KNOWN: usize = 64;

/// Bytes of an expression that stays.
const MAX_KNOWN_BYTES: usize = 1 << 10;

fn known<T>(look: impl FnOnce(&mut HashMap<String, Regex>) -> T) -> T {
    static KNOWN: Mutex<Option<HashMap<String, Regex>>> = Mutex::new(None);
    // A panic under the lock can only have lost an entry.
    look(KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (self.op, &self.name, &self.value) == (other.op, &other.name, &other.value)
    }
}

impl Eq for Matcher {}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(op: MatchOp, pattern: &str, value: &str, expected: bool) {
        let matcher = Matcher::new("l", op, pattern).expect("valid pattern");
        assert_eq!(matcher.matches(value), expected, "{matcher} on {value:?}");
    }

    #[test]
    fn compares_whole_values() {
        check(MatchOp::Equal, "a", "a", true);
        check(MatchOp::Equal, "a", "", false);
        check(MatchOp::NotEqual, "a", "", true);
        check(MatchOp::Regex, "a|b", "b", true);
        check(MatchOp::Regex, "a|b", "ab", false);
        check(MatchOp::Regex, "a|", "", true);
        check(MatchOp::Regex, "a.*", "xa", false);
        check(MatchOp::Regex, "a.*", "a\nb", true);
        check(MatchOp::NotRegex, "a.+", "a", true);
        check(MatchOp::NotRegex, ".+", "", true);
    }

    #[test]
    fn refuses_what_can_not_be_compiled() {
        assert!(Matcher::new("l", MatchOp::Regex, "a(").is_err());
        assert!(Matcher::new("l", MatchOp::Regex, "(a{1000}){1000}").is_err());
    }
}
