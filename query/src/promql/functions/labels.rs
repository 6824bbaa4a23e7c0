//! Functions over labels: label_replace, label_join, natural order for sort_by_label, the labels of absent.

use std::cmp::Ordering;

use protocol::labels::{Labels, METRIC_NAME};
use protocol::matcher::{MatchOp, Matcher};
use regex::Regex;

use crate::error::QueryError;
use crate::format::quote_bytes;
use crate::promql::ast::Text;

/// A ready `label_replace`.
pub struct Replace {
    target: String,
    replacement: String,
    source: String,
    pattern: Regex,
}

impl Replace {
    /// Compiles the expression and checks the target's name.
    pub fn new(target: &Text, replacement: &Text, source: &Text, pattern: &Text) -> Result<Self, QueryError> {
        let text = pattern.lossy();
        let pattern = regex::RegexBuilder::new(&format!("^(?s:{text})$"))
            .size_limit(1 << 20)
            .dfa_size_limit(2 << 20)
            .build()
            .map_err(|_| {
                QueryError::Execution(format!("invalid regular expression in label_replace(): {text}"))
            })?;
        let target = label_name(target, "destination", "label_replace")?;
        Ok(Self { target, replacement: replacement.lossy(), source: source.lossy(), pattern })
    }

    /// The labels after the replacement, `None` when the expression does not match.
    pub fn apply(&self, labels: &Labels) -> Option<Labels> {
        let value = labels.get(&self.source).unwrap_or("");
        let captures = self.pattern.captures(value)?;
        let mut out = String::new();
        captures.expand(&self.replacement, &mut out);
        Some(labels.with(&self.target, &out))
    }

    /// Whether the metric's name is what is replaced.
    pub fn sets_name(&self) -> bool {
        self.target == METRIC_NAME
    }
}

/// A name that a label may be given, or the error that Prometheus gives. Any UTF-8 will do, except that a name which
/// starts with ASCII punctuation or a space is taken for a slip.
pub fn label_name(text: &Text, role: &str, function: &str) -> Result<String, QueryError> {
    match text.as_str() {
        Some(name)
            if name.starts_with(|c: char| {
                !c.is_ascii() || c.is_ascii_alphanumeric() || matches!(c, '_' | ':')
            }) =>
        {
            Ok(name.to_owned())
        }
        _ => Err(QueryError::Execution(format!(
            "invalid {role} label name in {function}(): {}",
            String::from_utf8_lossy(&text.0)
        ))),
    }
}

/// The label of `count_values`.
pub fn value_label(text: &Text) -> Result<String, QueryError> {
    match text.as_str() {
        Some(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err(QueryError::Execution(format!("invalid label name {}", quote_bytes(&text.0)))),
    }
}

/// The labels with `target` set to the values of `sources`, joined.
pub fn join(labels: &Labels, target: &str, separator: &str, sources: &[String]) -> Labels {
    let values: Vec<&str> = sources.iter().map(|source| labels.get(source).unwrap_or("")).collect();
    labels.with(target, &values.join(separator))
}

/// Labels of the element that `absent` makes: what equality matchers say, where only one speaks of a label.
pub fn absent_labels(matchers: &[Matcher]) -> Labels {
    let mut labels: Vec<(&str, &str)> = Vec::new();
    let mut said: Vec<&str> = Vec::new();
    for matcher in matchers.iter().filter(|m| m.name() != METRIC_NAME) {
        if matcher.op() == MatchOp::Equal && !said.contains(&matcher.name()) {
            labels.push((matcher.name(), matcher.value()));
            said.push(matcher.name());
        } else {
            labels.retain(|(name, _)| *name != matcher.name());
        }
    }
    Labels::from_pairs(labels).unwrap_or_else(|_| Labels::empty())
}

/// Order of texts in which runs of digits compare as numbers.
pub fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (chunks(a), chunks(b));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) => {
                let order = match (x.parse::<u64>(), y.parse::<u64>()) {
                    (Ok(m), Ok(n)) => m.cmp(&n),
                    _ => x.cmp(y),
                };
                if order != Ordering::Equal {
                    return order;
                }
            }
        }
    }
}

/// Runs of digits and runs of everything else, in turn.
fn chunks(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.bytes().next()?.is_ascii_digit();
        let len = rest.bytes().take_while(|b| b.is_ascii_digit() == first).count();
        let (chunk, tail) = rest.split_at(len);
        rest = tail;
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_texts_compare_as_numbers() {
        assert_eq!(natural_order("4m5", "4m600"), Ordering::Less);
        assert_eq!(natural_order("1.11.3", "1.2.3"), Ordering::Greater);
        assert_eq!(natural_order("a", "b"), Ordering::Less);
        assert_eq!(natural_order("10", "9"), Ordering::Greater);
        assert_eq!(natural_order("ä1", "ä1"), Ordering::Equal);
    }

    #[test]
    fn absent_takes_what_only_one_matcher_says() {
        let m = |name: &str, op, value: &str| Matcher::new(name, op, value).unwrap();
        let labels = absent_labels(&[
            m("__name__", MatchOp::Equal, "x"),
            m("job", MatchOp::Equal, "a"),
            m("job", MatchOp::Equal, "b"),
            m("foo", MatchOp::Equal, "bar"),
            m("r", MatchOp::Regex, "x.*"),
        ]);
        assert_eq!(labels.to_string(), r#"{foo="bar"}"#);
    }
}
