//! What filters mean: a plain evaluation over one record, against which every faster one is held.
//!
//! ```text
//! LogFilter ─CompiledFilter::new─► expressions compiled ─matches(stream, record)─► bool
//! ```
//!
//! The parts that every record has (body, severity, texts, ids, flags, time, scope's name and version) are always there,
//! if only as an empty text or a zero; attributes are there or not. A missing attribute fails every test, so that only
//! [`LogFilter::Not`] around a test finds records without it.

use std::borrow::Cow;

use regex::Regex;

use super::filter::{LogField, LogFilter, LogRange, LogTest};
use super::value::id_text;
use super::{Attribute, LogRecord, LogStream, LogValue};
use crate::spans::row;

/// An expression inside a filter that does not compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("regular expression {expression:?}: {reason}")]
pub struct FilterError {
    /// The expression.
    pub expression: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A filter, ready to be asked about records.
#[derive(Clone, Debug)]
pub struct CompiledFilter(Node);

#[derive(Clone, Debug)]
enum Node {
    All,
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Field(LogField, Test),
}

#[derive(Clone, Debug)]
enum Test {
    Exists,
    Equals(String),
    OneOf(Vec<String>),
    Contains(String),
    Phrase(String),
    PhraseIgnoringCase(Regex),
    Prefix(String),
    Regex(Regex),
    Range(LogRange),
}

impl CompiledFilter {
    /// Compiles a filter.
    pub fn new(filter: &LogFilter) -> Result<Self, FilterError> {
        compile(filter).map(Self)
    }

    /// Whether a record of a stream meets the filter.
    pub fn matches(&self, stream: &LogStream<'_>, record: &LogRecord<'_>) -> bool {
        self.0.matches(stream, record)
    }
}

fn regex(expression: &str) -> Result<Regex, FilterError> {
    Regex::new(expression)
        .map_err(|error| FilterError { expression: expression.to_owned(), reason: error.to_string() })
}

/// Texts of which every match of an expression begins with one, if they are few and none is empty: where none of them can
/// be, the expression does not match.
pub fn beginnings(expression: &str) -> Option<Vec<Vec<u8>>> {
    let hir = regex_syntax::parse(expression).ok()?;
    let literals = regex_syntax::hir::literal::Extractor::new().extract(&hir);
    let literals = literals.literals()?;
    let all: Vec<Vec<u8>> = literals.iter().map(|literal| literal.as_bytes().to_vec()).collect();
    (!all.is_empty() && all.len() <= MAX_BEGINNINGS && all.iter().all(|text| !text.is_empty())).then_some(all)
}

const MAX_BEGINNINGS: usize = 16;

fn ignoring_case(text: &str) -> Result<Regex, FilterError> {
    regex(&format!("(?i){}", regex::escape(text)))
}

fn compile(filter: &LogFilter) -> Result<Node, FilterError> {
    let all = |parts: &[LogFilter]| parts.iter().map(compile).collect::<Result<Vec<_>, _>>();
    Ok(match filter {
        LogFilter::All => Node::All,
        LogFilter::And(parts) => Node::And(all(parts)?),
        LogFilter::Or(parts) => Node::Or(all(parts)?),
        LogFilter::Not(part) => Node::Not(Box::new(compile(part)?)),
        LogFilter::Field(field, test) => Node::Field(field.clone(), compile_test(test)?),
    })
}

fn compile_test(test: &LogTest) -> Result<Test, FilterError> {
    Ok(match test {
        LogTest::Exists => Test::Exists,
        LogTest::Equals(text) => Test::Equals(text.clone()),
        LogTest::OneOf(texts) => Test::OneOf(texts.clone()),
        LogTest::Contains { text, ignore_case: false } => Test::Contains(text.clone()),
        LogTest::Contains { text, ignore_case: true } => Test::Regex(ignoring_case(text)?),
        LogTest::Phrase { text, ignore_case: false } => Test::Phrase(text.clone()),
        LogTest::Phrase { text, ignore_case: true } => Test::PhraseIgnoringCase(ignoring_case(text)?),
        LogTest::Prefix(text) => Test::Prefix(text.clone()),
        LogTest::Regex(expression) => Test::Regex(regex(expression)?),
        LogTest::Range(range) => Test::Range(*range),
    })
}

/// A test, ready to be asked about values.
#[derive(Clone, Debug)]
pub struct CompiledTest(Test);

impl CompiledTest {
    /// Compiles a test.
    pub fn new(test: &LogTest) -> Result<Self, FilterError> {
        compile_test(test).map(Self)
    }

    /// Whether a value passes.
    pub fn passes(&self, value: &LogValue<'_>) -> bool {
        self.0.passes(value)
    }
}

impl Node {
    fn matches(&self, stream: &LogStream<'_>, record: &LogRecord<'_>) -> bool {
        match self {
            Self::All => true,
            Self::And(parts) => parts.iter().all(|part| part.matches(stream, record)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(stream, record)),
            Self::Not(part) => !part.matches(stream, record),
            Self::Field(field, test) => field.any(stream, record, &mut |value| test.passes(value)),
        }
    }
}

impl Test {
    fn passes(&self, value: &LogValue<'_>) -> bool {
        match self {
            Self::Exists => !value.is_empty(),
            Self::Equals(text) => value.text() == *text,
            Self::OneOf(texts) => texts.iter().any(|text| value.text() == *text),
            Self::Contains(text) => value.text().contains(text.as_str()),
            Self::Phrase(text) => has_phrase(&value.text(), text),
            Self::PhraseIgnoringCase(expression) => has_phrase_like(&value.text(), expression),
            Self::Prefix(text) => value.text().starts_with(text.as_str()),
            Self::Regex(expression) => expression.is_match(&value.text()),
            Self::Range(range) => value.number().is_some_and(|number| range.contains(number)),
        }
    }
}

impl LogRange {
    /// Whether a number lies in the range; NaN lies in none.
    pub fn contains(&self, number: f64) -> bool {
        let above = |from: &super::filter::Bound| match from.inclusive {
            true => number >= from.value,
            false => number > from.value,
        };
        let below = |to: &super::filter::Bound| match to.inclusive {
            true => number <= to.value,
            false => number < to.value,
        };
        !number.is_nan() && self.from.as_ref().is_none_or(above) && self.to.as_ref().is_none_or(below)
    }
}

/// Whether a character belongs to words.
pub fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether no word of a text goes on across either end of a part of it.
fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let splits = |at: usize| {
        let before = text[..at].chars().next_back().is_some_and(is_word_char);
        before && text[at..].chars().next().is_some_and(is_word_char)
    };
    !splits(start) && !splits(end)
}

/// Whether a text has a phrase, see [`LogTest::Phrase`].
pub fn has_phrase(text: &str, phrase: &str) -> bool {
    let Some(first) = phrase.chars().next() else { return true };
    let mut from = 0;
    while let Some(at) = text[from..].find(phrase) {
        let start = from + at;
        if stands_alone(text, start, start + phrase.len()) {
            return true;
        }
        from = start + first.len_utf8();
    }
    false
}

fn has_phrase_like(text: &str, phrase: &Regex) -> bool {
    let mut from = 0;
    while let Some(found) = phrase.find_at(text, from) {
        if found.is_empty() || stands_alone(text, found.start(), found.end()) {
            return true;
        }
        from = found.start() + text[found.start()..].chars().next().map_or(1, char::len_utf8);
    }
    false
}

impl LogField {
    /// Whether one of the field's values passes; false without values.
    pub fn any(
        &self,
        stream: &LogStream<'_>,
        record: &LogRecord<'_>,
        passes: &mut dyn FnMut(&LogValue<'_>) -> bool,
    ) -> bool {
        fn of(
            attributes: &[Attribute<'_>],
            name: &str,
            passes: &mut dyn FnMut(&LogValue<'_>) -> bool,
        ) -> Option<bool> {
            let mut has_some = false;
            for (_, value) in attributes.iter().filter(|(key, _)| key == name) {
                if passes(value) {
                    return Some(true);
                }
                has_some = true;
            }
            has_some.then_some(false)
        }
        fn text<'a>(text: &'a str) -> LogValue<'a> {
            LogValue::String(Cow::Borrowed(text))
        }
        match self {
            Self::Body => passes(&record.body),
            Self::Time => passes(&LogValue::Int(record.effective_ns())),
            Self::Severity => passes(&LogValue::Int(i64::from(record.severity))),
            Self::SeverityText => passes(&text(&record.severity_text)),
            Self::TraceId => passes(&text(&id_text(&record.trace_id))),
            Self::SpanId => passes(&text(&id_text(&record.span_id))),
            Self::Flags => passes(&LogValue::Int(i64::from(record.flags))),
            Self::EventName => passes(&text(&record.event_name)),
            Self::ScopeName => passes(&text(&stream.scope_name)),
            Self::ScopeVersion => passes(&text(&stream.scope_version)),
            Self::Attribute(name) => of(&record.attributes, name, passes)
                .or_else(|| of(&stream.resource, name, passes))
                .or_else(|| of(&stream.scope_attributes, name, passes))
                .unwrap_or(false),
            Self::RecordAttribute(name) => of(&record.attributes, name, passes).unwrap_or(false),
            Self::ResourceAttribute(name) => of(&stream.resource, name, passes).unwrap_or(false),
            Self::ScopeAttribute(name) => of(&stream.scope_attributes, name, passes).unwrap_or(false),
            Self::Any => passes(&record.body) || record.attributes.iter().any(|(_, value)| passes(value)),
            Self::Duration => passes(&LogValue::Int(record.lasted_ns())),
            Self::SpanKind => passes(&LogValue::Int(i64::from(row::kind_number(record.severity)))),
            Self::SpanStatus => passes(&LogValue::Int(i64::from(row::status_number(record.severity)))),
            Self::StatusMessage => match row::own(record, row::STATUS_MESSAGE) {
                Some(message) => passes(message),
                None => passes(&text("")),
            },
            Self::ParentId => passes(&text(&id_text(&row::parent_of(record)))),
            Self::Events => row::own(record, row::EVENTS).is_some_and(passes),
        }
    }

    /// Text of the field's first value; none if the record does not have it.
    pub fn first_text(&self, stream: &LogStream<'_>, record: &LogRecord<'_>) -> Option<String> {
        let mut found = None;
        self.any(stream, record, &mut |value| {
            found = Some(value.text().into_owned());
            true
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter::Bound;
    use super::*;

    #[test]
    fn beginnings_of_expressions() {
        let found = |expression: &str| {
            let all = beginnings(expression)?;
            Some(all.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect::<Vec<_>>())
        };
        let took = found("took [0-9]+ rows").expect("few");
        assert!(took.len() <= 10 && took.iter().all(|text| text.starts_with("took ")), "{took:?}");
        assert_eq!(found("(warn|error): x"), Some(vec!["warn: x".to_owned(), "error: x".to_owned()]));
        for unbounded in [".*x", "[a-z]+", "x*", "", "("] {
            assert_eq!(found(unbounded), None, "{unbounded}");
        }
    }

    fn pair<'a>(key: &'a str, value: LogValue<'a>) -> Attribute<'a> {
        (Cow::Borrowed(key), value)
    }

    fn string(text: &str) -> LogValue<'_> {
        LogValue::String(Cow::Borrowed(text))
    }

    fn example() -> (LogStream<'static>, LogRecord<'static>) {
        let stream = LogStream {
            resource: vec![pair("service.name", string("checkout")), pair("both", string("resource"))],
            scope_name: Cow::Borrowed("lib"),
            scope_attributes: vec![pair("scoped", LogValue::Bool(true))],
            ..LogStream::default()
        };
        let record = LogRecord {
            time_ns: 5,
            severity: 13,
            body: string("Connection refused: host_1 said été"),
            attributes: vec![
                pair("status", LogValue::Int(503)),
                pair("both", string("record")),
                pair("twice", string("a")),
                pair("twice", string("b")),
                pair("hollow", LogValue::Empty),
                pair("took", string("1.5")),
            ],
            ..LogRecord::default()
        };
        (stream, record)
    }

    fn check(field: LogField, test: LogTest, expected: bool) {
        let (stream, record) = example();
        let filter = LogFilter::Field(field, test);
        let compiled = CompiledFilter::new(&filter).expect("the filter compiles");
        assert_eq!(compiled.matches(&stream, &record), expected, "{filter:?}");
        let opposite = CompiledFilter::new(&LogFilter::Not(Box::new(filter))).expect("the filter compiles");
        assert_ne!(opposite.matches(&stream, &record), expected);
    }

    fn attribute(name: &str) -> LogField {
        LogField::Attribute(name.to_owned())
    }

    fn equals(text: &str) -> LogTest {
        LogTest::Equals(text.to_owned())
    }

    fn phrase(text: &str, ignore_case: bool) -> LogTest {
        LogTest::Phrase { text: text.to_owned(), ignore_case }
    }

    #[test]
    fn fields() {
        check(attribute("service.name"), equals("checkout"), true);
        check(attribute("both"), equals("record"), true);
        check(attribute("both"), equals("resource"), false);
        check(LogField::ResourceAttribute("both".to_owned()), equals("resource"), true);
        check(LogField::RecordAttribute("service.name".to_owned()), LogTest::Exists, false);
        check(attribute("scoped"), equals("true"), true);
        check(attribute("twice"), equals("b"), true);
        check(attribute("hollow"), LogTest::Exists, false);
        check(attribute("hollow"), equals(""), true);
        check(attribute("absent"), equals(""), false);
        check(LogField::TraceId, equals(""), true);
        check(LogField::Severity, equals("13"), true);
        check(LogField::Time, equals("5"), true);
        check(LogField::ScopeName, LogTest::Prefix("li".to_owned()), true);
        check(LogField::Any, LogTest::OneOf(vec!["x".to_owned(), "503".to_owned()]), true);
        check(LogField::Any, equals("checkout"), false);
    }

    #[test]
    fn phrases_end_where_words_end() {
        check(LogField::Body, phrase("refused", false), true);
        check(LogField::Body, phrase("refuse", false), false);
        check(LogField::Body, phrase("Connection refused", false), true);
        check(LogField::Body, phrase("connection refused", false), false);
        check(LogField::Body, phrase("connection REFUSED", true), true);
        check(LogField::Body, phrase("host", false), false);
        check(LogField::Body, phrase(": host_1", false), true);
        check(LogField::Body, phrase("ÉTÉ", true), true);
        check(LogField::Body, phrase("t", false), false);
        assert!(has_phrase("aba ab", "ab"));
        assert!(has_phrase("aaa a", "a"));
        assert!(!has_phrase("aaa", "aa"));
        assert!(has_phrase("éa -a", "a"));
    }

    #[test]
    fn texts_and_numbers() {
        check(LogField::Body, LogTest::Contains { text: "nection".to_owned(), ignore_case: false }, true);
        check(LogField::Body, LogTest::Contains { text: "NECTION".to_owned(), ignore_case: true }, true);
        check(LogField::Body, LogTest::Regex("host_[0-9]".to_owned()), true);
        let range = |from, to| {
            LogTest::Range(LogRange {
                from: Some(Bound { value: from, inclusive: true }),
                to: Some(Bound { value: to, inclusive: false }),
            })
        };
        check(attribute("status"), range(500.0, 600.0), true);
        check(attribute("status"), range(400.0, 503.0), false);
        check(attribute("took"), range(1.5, 2.0), true);
        check(attribute("both"), range(f64::NEG_INFINITY, f64::INFINITY), false);
        assert!(
            CompiledFilter::new(&LogFilter::Field(LogField::Body, LogTest::Regex("(".to_owned()))).is_err()
        );
    }
}
