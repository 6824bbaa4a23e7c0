//! [`Search`] to the filter that shards evaluate.
//!
//! Names of fields: `body` (`message`, `msg`, `_msg`), `level` (`severity`), `severity_text`, `trace_id`, `span_id`,
//! `flags`, `event_name`, `scope.name`, `scope.version`, `time`, `*`; `resource.x`, `attributes.x` and
//! `scope.attributes.x` for an attribute of that place alone; everything else is an attribute, wherever it is.

use protocol::logs::filter::{Bound, LogField, LogFilter, LogRange, LogTest};
use protocol::logs::value::number_in;

use super::super::level;
use super::{End, Search, SearchError, Term, TermTest};

/// The field that a name means.
pub fn named_field(name: &str) -> LogField {
    let owned = |name: &str| name.to_owned();
    match name {
        "body" | "message" | "msg" | "_msg" => LogField::Body,
        "time" => LogField::Time,
        "level" | "severity" => LogField::Severity,
        "severity_text" => LogField::SeverityText,
        "trace_id" => LogField::TraceId,
        "span_id" => LogField::SpanId,
        "flags" => LogField::Flags,
        "event_name" => LogField::EventName,
        "scope.name" => LogField::ScopeName,
        "scope.version" => LogField::ScopeVersion,
        "*" => LogField::Any,
        _ => {
            let place = |prefix: &str| name.strip_prefix(prefix).filter(|rest| !rest.is_empty());
            if let Some(name) = place("resource.") {
                LogField::ResourceAttribute(owned(name))
            } else if let Some(name) = place("attributes.") {
                LogField::RecordAttribute(owned(name))
            } else if let Some(name) = place("scope.attributes.") {
                LogField::ScopeAttribute(owned(name))
            } else {
                LogField::Attribute(owned(name))
            }
        }
    }
}

impl Search {
    /// The filter that the query means. `text` is what was parsed, for positions in errors.
    pub fn filter(&self, text: &str) -> Result<LogFilter, SearchError> {
        let all =
            |parts: &[Search]| parts.iter().map(|part| part.filter(text)).collect::<Result<Vec<_>, _>>();
        Ok(match self {
            Self::All => LogFilter::All,
            Self::And(parts) => LogFilter::And(all(parts)?),
            Self::Or(parts) => LogFilter::Or(all(parts)?),
            Self::Not(part) => LogFilter::Not(Box::new(part.filter(text)?)),
            Self::Term(term) => term.filter().map_err(|message| SearchError::at(text, term.at, message))?,
        })
    }
}

/// Where a word begins.
const WORD_START: &str = r"(?:^|[^\p{Alphabetic}\p{N}_])";

impl Term {
    fn filter(&self) -> Result<LogFilter, String> {
        let field = self.field.as_deref().map_or(LogField::Body, named_field);
        if field == LogField::Severity {
            return self.level();
        }
        let is_text = matches!(field, LogField::Body | LogField::Any);
        let is_id = matches!(field, LogField::TraceId | LogField::SpanId);
        let value = |text: &str| if is_id { text.to_ascii_lowercase() } else { text.to_owned() };
        let phrase = |text: &str, ignore_case| LogTest::Phrase { text: text.to_owned(), ignore_case };
        let test = match &self.test {
            TermTest::Exists => LogTest::Exists,
            TermTest::Text(text) if is_text && !text.is_empty() => phrase(text, false),
            TermTest::Text(text) | TermTest::Equals(text) => LogTest::Equals(value(text)),
            TermTest::Words(text) => phrase(text, false),
            TermTest::IgnoreCase(text) => phrase(text, true),
            TermTest::Prefix(text) if is_text => {
                LogTest::Regex(format!("{WORD_START}{}", regex::escape(text)))
            }
            TermTest::Prefix(text) => LogTest::Prefix(value(text)),
            TermTest::Part(text) => LogTest::Contains { text: value(text), ignore_case: false },
            TermTest::Regex(expression) => LogTest::Regex(expression.clone()),
            TermTest::Range(from, to) => {
                let bound = |end: &Option<End>| end.as_ref().map(number_bound).transpose();
                LogTest::Range(LogRange { from: bound(from)?, to: bound(to)? })
            }
        };
        Ok(LogFilter::Field(field, test))
    }

    /// Levels by name: their numbers, or where a record has no number, its text.
    fn level(&self) -> Result<LogFilter, String> {
        let (first, last) = match &self.test {
            TermTest::Exists => (1, 24),
            TermTest::Text(text)
            | TermTest::Equals(text)
            | TermTest::IgnoreCase(text)
            | TermTest::Words(text) => level_numbers(text)?,
            TermTest::Range(from, to) => {
                let from =
                    from.as_ref().map(|end| Ok::<_, String>((level_numbers(&end.text)?, end.inclusive)));
                let to = to.as_ref().map(|end| Ok::<_, String>((level_numbers(&end.text)?, end.inclusive)));
                let first = match from.transpose()? {
                    None => 1,
                    Some(((first, _), true)) => first,
                    Some(((_, last), false)) => last + 1,
                };
                let last = match to.transpose()? {
                    None => 24,
                    Some(((_, last), true)) => last,
                    Some(((first, _), false)) => first.saturating_sub(1),
                };
                (first, last)
            }
            TermTest::Prefix(_) | TermTest::Part(_) | TermTest::Regex(_) => {
                return Err("a level is compared by name or number; severity_text is its text".to_owned());
            }
        };
        let bound = |value: u8| Some(Bound { value: f64::from(value), inclusive: true });
        let range = |first, last| LogTest::Range(LogRange { from: bound(first), to: bound(last) });
        let numbered = LogFilter::Field(LogField::Severity, range(first.max(1), last));
        if first > last {
            return Ok(LogFilter::Or(Vec::new()));
        }
        Ok(LogFilter::Or(vec![
            numbered,
            LogFilter::And(vec![
                LogFilter::Field(LogField::Severity, range(0, 0)),
                match &self.test {
                    TermTest::Exists => LogFilter::Field(LogField::SeverityText, LogTest::Exists),
                    _ => LogFilter::Field(
                        LogField::SeverityText,
                        LogTest::OneOf(level::spellings(first, last)),
                    ),
                },
            ]),
        ]))
    }
}

fn level_numbers(text: &str) -> Result<level::Numbers, String> {
    let number = text.parse::<u8>().ok().filter(|number| (1..=24).contains(number));
    number.map(|number| (number, number)).or_else(|| level::numbers(text)).ok_or_else(|| {
        format!("{text:?} is no level: trace, debug, info, warn, error, fatal or a number from 1 to 24")
    })
}

fn number_bound(end: &End) -> Result<Bound, String> {
    let value = number_in(&end.text).ok_or_else(|| format!("{:?} is no number", end.text))?;
    Ok(Bound { value, inclusive: end.inclusive })
}
