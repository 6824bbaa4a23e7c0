//! Labels of lines: those of the stream, structured metadata, and what a pipeline parsed.
//!
//! ```text
//! resource attributes ─► stream labels           attributes, ids, severity, scope ─► structured metadata
//! LineLabels { stream, metadata, parsed, removed } ─► one set of labels; parsed wins over metadata, that over the stream
//! ```
//!
//! A name of structured metadata or of a parsed field that the stream has gets the suffix `_extracted`. Labels without a
//! value are no labels.

use std::borrow::Cow;
use std::sync::Arc;

use protocol::logs::value::id_text;
use protocol::logs::{LogRecord, LogStream};

use super::super::level;

/// Label that says why a line could not be handled.
pub const ERROR: &str = "__error__";
/// Label that says more about it.
pub const ERROR_DETAILS: &str = "__error_details__";
/// Label that holds a record's level.
pub const DETECTED_LEVEL: &str = "detected_level";

/// Added to a name that the stream has already.
const DUPLICATE_SUFFIX: &str = "_extracted";

/// Labels by name, each once, none without a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelSet(pub Vec<(String, String)>);

impl LabelSet {
    /// A set of pairs in any order; the first of a name counts.
    pub fn new(mut pairs: Vec<(String, String)>) -> Self {
        pairs.retain(|(_, value)| !value.is_empty());
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.dedup_by(|next, kept| next.0 == kept.0);
        Self(pairs)
    }

    /// Value of a label; empty if there is none.
    pub fn get(&self, name: &str) -> &str {
        match self.0.binary_search_by(|(known, _)| known.as_str().cmp(name)) {
            Ok(at) => &self.0[at].1,
            Err(_) => "",
        }
    }

    /// The labels whose names pass.
    pub fn filtered(&self, mut keeps: impl FnMut(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|(name, _)| keeps(name)).cloned().collect())
    }

    /// Names and values, one after the other.
    pub fn flat(&self) -> Vec<String> {
        self.0.iter().flat_map(|(name, value)| [name.clone(), value.clone()]).collect()
    }

    /// The other way of [`LabelSet::flat`].
    pub fn from_flat(flat: Vec<String>) -> Self {
        let mut pairs = Vec::with_capacity(flat.len() / 2);
        let mut flat = flat.into_iter();
        while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
            pairs.push((name, value));
        }
        Self::new(pairs)
    }

    /// Bytes that the set takes in memory, roughly.
    pub fn memory_bytes(&self) -> u64 {
        self.0.iter().map(|(name, value)| (name.len() + value.len()) as u64 + 48).sum()
    }
}

impl std::fmt::Display for LabelSet {
    /// As a selector.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("{")?;
        for (at, (name, value)) in self.0.iter().enumerate() {
            write!(f, "{}{name}={value:?}", if at > 0 { ", " } else { "" })?;
        }
        f.write_str("}")
    }
}

/// A name as labels may have it.
pub fn label_name(name: &str) -> Cow<'_, str> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(is_fine) {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len() + 1);
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        out.push('_');
    }
    out.extend(name.chars().map(|c| if is_fine(c) { c } else { '_' }));
    Cow::Owned(out)
}

/// The labels of a stream.
pub fn stream_labels(stream: &LogStream<'_>) -> LabelSet {
    LabelSet::new(
        stream
            .resource
            .iter()
            .map(|(key, value)| (label_name(key).into_owned(), value.text().into_owned()))
            .collect(),
    )
}

/// The structured metadata of a record.
pub fn metadata(stream: &LogStream<'_>, record: &LogRecord<'_>) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: Cow<'_, str>| {
        if !value.is_empty() && !out.iter().any(|(known, _)| known == name) {
            out.push((name.to_owned(), value.into_owned()));
        }
    };
    add("trace_id", id_text(&record.trace_id).into());
    add("span_id", id_text(&record.span_id).into());
    if record.severity > 0 {
        add("severity_number", record.severity.to_string().into());
    }
    add("severity_text", Cow::Borrowed(&record.severity_text));
    add("event_name", Cow::Borrowed(&record.event_name));
    add("scope_name", Cow::Borrowed(&stream.scope_name));
    add("scope_version", Cow::Borrowed(&stream.scope_version));
    for (key, value) in record.attributes.iter().chain(&stream.scope_attributes) {
        add(&label_name(key), value.text());
    }
    if !out.iter().any(|(name, _)| name == DETECTED_LEVEL) {
        let level = detected_level(stream, record, &out).to_owned();
        out.push((DETECTED_LEVEL.to_owned(), level));
    }
    out
}

/// Names under which sources give a level, in the order in which they are looked at.
const LEVEL_NAMES: [&str; 6] = ["level", "severity", "lvl", "log_level", "severity_text", "loglevel"];

fn detected_level(
    stream: &LogStream<'_>,
    record: &LogRecord<'_>,
    metadata: &[(String, String)],
) -> &'static str {
    if let Some(name) = level::name(record.severity) {
        return name;
    }
    let named = |wanted: &str| {
        let own = metadata.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        let own = own.and_then(|(_, value)| level::canonical(value));
        own.or_else(|| {
            let of_stream =
                stream.resource.iter().find(|(key, _)| label_name(key).eq_ignore_ascii_case(wanted));
            of_stream.and_then(|(_, value)| level::canonical(&value.text()))
        })
    };
    LEVEL_NAMES.into_iter().find_map(named).unwrap_or("unknown")
}

/// Where a label comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The stream.
    Stream,
    /// Structured metadata.
    Metadata,
    /// The pipeline.
    Parsed,
}

/// Labels of a line while it passes a pipeline.
#[derive(Clone, Debug)]
pub struct LineLabels {
    base: Arc<LabelSet>,
    /// Labels of the stream that were given other names.
    renamed: Vec<(String, String)>,
    metadata: Vec<(String, String)>,
    parsed: Vec<(String, String)>,
    removed: Vec<String>,
    error: String,
    error_details: String,
}

fn find<'a>(list: &'a [(String, String)], name: &str) -> Option<&'a str> {
    list.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

impl LineLabels {
    /// The labels of a record of a stream.
    pub fn new(base: Arc<LabelSet>, metadata: Vec<(String, String)>) -> Self {
        let mut labels = Self {
            base,
            renamed: Vec::new(),
            metadata: Vec::new(),
            parsed: Vec::new(),
            removed: Vec::new(),
            error: String::new(),
            error_details: String::new(),
        };
        for (name, value) in metadata {
            let name = labels.free_name(&name).into_owned();
            if find(&labels.metadata, &name).is_none() {
                labels.metadata.push((name, value));
            }
        }
        labels
    }

    fn free_name<'n>(&self, name: &'n str) -> Cow<'n, str> {
        match self.base.get(name).is_empty() {
            true => Cow::Borrowed(name),
            false => Cow::Owned(format!("{name}{DUPLICATE_SUFFIX}")),
        }
    }

    /// Value and origin of a label; none if it is not there.
    pub fn find(&self, name: &str) -> Option<(&str, Origin)> {
        let own = [
            (&self.renamed, Origin::Stream),
            (&self.metadata, Origin::Metadata),
            (&self.parsed, Origin::Parsed),
        ];
        let found = own.into_iter().find_map(|(list, origin)| Some((find(list, name)?, origin)));
        if found.is_some() {
            return found;
        }
        if name == ERROR && !self.error.is_empty() {
            return Some((&self.error, Origin::Parsed));
        }
        if name == ERROR_DETAILS && !self.error_details.is_empty() {
            return Some((&self.error_details, Origin::Parsed));
        }
        if self.removed.iter().any(|removed| removed == name) {
            return None;
        }
        Some(self.base.get(name)).filter(|value| !value.is_empty()).map(|value| (value, Origin::Stream))
    }

    /// Value of a label; empty if it is not there.
    pub fn get(&self, name: &str) -> &str {
        self.find(name).map_or("", |(value, _)| value)
    }

    /// Sets a label, whatever had its name.
    pub fn set(&mut self, origin: Origin, name: &str, value: String) {
        self.metadata.retain(|(known, _)| known != name || origin == Origin::Metadata);
        self.renamed.retain(|(known, _)| known != name || origin == Origin::Stream);
        let list = match origin {
            Origin::Stream => &mut self.renamed,
            Origin::Metadata => &mut self.metadata,
            Origin::Parsed => &mut self.parsed,
        };
        match list.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => list.push((name.to_owned(), value)),
        }
    }

    /// Sets a label that a parser found.
    pub fn extract(&mut self, name: &str, value: String) {
        let name = self.free_name(name);
        self.set(Origin::Parsed, &name, value);
    }

    /// Takes a label away.
    pub fn remove(&mut self, name: &str) {
        for list in [&mut self.renamed, &mut self.metadata, &mut self.parsed] {
            list.retain(|(known, _)| known != name);
        }
        match name {
            ERROR => self.error.clear(),
            ERROR_DETAILS => self.error_details.clear(),
            _ => self.removed.push(name.to_owned()),
        }
    }

    /// Notes an error; the first one stays.
    pub fn fail(&mut self, error: &str, details: impl Into<String>) {
        if self.error.is_empty() {
            self.error = error.to_owned();
            self.error_details = details.into();
        }
    }

    /// Notes an error in place of any other.
    pub fn fail_again(&mut self, error: &str, details: impl Into<String>) {
        self.error.clear();
        self.fail(error, details);
    }

    /// Whether there was an error.
    pub fn has_error(&self) -> bool {
        !self.error.is_empty()
    }

    /// The labels by where they come from: those of the stream, structured metadata, parsed ones.
    pub fn split(&self) -> (LabelSet, LabelSet, LabelSet) {
        let is_free = |name: &str| find(&self.metadata, name).or(find(&self.parsed, name)).is_none();
        let mut stream = self.renamed.clone();
        stream.extend(
            self.base.0.iter().filter(|(name, _)| !self.removed.contains(name) && is_free(name)).cloned(),
        );
        let metadata =
            self.metadata.iter().filter(|(name, _)| find(&self.parsed, name).is_none()).cloned().collect();
        let mut parsed = self.parsed.clone();
        for (name, value) in [(ERROR, &self.error), (ERROR_DETAILS, &self.error_details)] {
            parsed.push((name.to_owned(), value.clone()));
        }
        (LabelSet::new(stream), LabelSet::new(metadata), LabelSet::new(parsed))
    }

    /// All labels.
    pub fn all(&self) -> LabelSet {
        let (mut all, metadata, parsed) = self.split();
        all.0.extend(metadata.0);
        all.0.extend(parsed.0);
        LabelSet::new(all.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    fn labels() -> LineLabels {
        let base = LabelSet::new(vec![pair("app", "a"), pair("env", "dev")]);
        LineLabels::new(Arc::new(base), vec![pair("app", "b"), pair("user", "u")])
    }

    #[test]
    fn names() {
        assert_eq!(label_name("service.name"), "service_name");
        assert_eq!(label_name("1a"), "_1a");
        assert_eq!(label_name("ok_1"), "ok_1");
    }

    #[test]
    fn what_a_stream_has_is_not_hidden() {
        let mut labels = labels();
        assert_eq!(labels.all().to_string(), r#"{app="a", app_extracted="b", env="dev", user="u"}"#);
        labels.extract("env", "x".to_owned());
        labels.extract("user", "y".to_owned());
        assert_eq!(labels.get("env"), "dev");
        assert_eq!(labels.get("env_extracted"), "x");
        let (stream, metadata, parsed) = labels.split();
        assert_eq!(stream.to_string(), r#"{app="a", env="dev"}"#);
        assert_eq!(metadata.to_string(), r#"{app_extracted="b"}"#);
        assert_eq!(parsed.to_string(), r#"{env_extracted="x", user="y"}"#);
    }

    #[test]
    fn removing_and_renaming() {
        let mut labels = labels();
        labels.remove("env");
        assert_eq!(labels.find("env"), None);
        labels.set(Origin::Stream, "environment", "dev".to_owned());
        labels.set(Origin::Parsed, "app", "c".to_owned());
        labels.fail("JSONParserErr", "why");
        labels.fail("other", "");
        assert_eq!(
            labels.all().to_string(),
            r#"{__error__="JSONParserErr", __error_details__="why", app="c", app_extracted="b", environment="dev", user="u"}"#
        );
        labels.remove(ERROR);
        assert!(!labels.has_error());
    }

    #[test]
    fn levels() {
        let level = |stream: &LogStream<'_>, record: &LogRecord<'_>| {
            find(&metadata(stream, record), DETECTED_LEVEL).unwrap_or_default().to_owned()
        };
        let (stream, record) = (LogStream::default(), LogRecord::default());
        assert_eq!(level(&stream, &record), "unknown");
        assert_eq!(level(&stream, &LogRecord { severity: 17, ..record.clone() }), "error");
        assert_eq!(level(&stream, &LogRecord { severity_text: "WARNING".into(), ..record.clone() }), "warn");
        let value = protocol::logs::LogValue::String("Debug".into());
        let labelled = LogStream { resource: vec![("level".into(), value)], ..LogStream::default() };
        assert_eq!(level(&labelled, &record), "debug");
    }
}
