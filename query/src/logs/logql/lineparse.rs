//! Parsers of lines: JSON, logfmt, regular expressions, patterns, addresses.
//!
//! Each writes what it finds into [`LineLabels`]; what is wrong with a line becomes `__error__`, never a failure of the
//! query. All take any text.

use std::net::IpAddr;

use protocol::logs::value::write_json_string;
use regex::Regex;
use serde_json::Value;

use super::labels::{LineLabels, label_name};

pub(super) const JSON_ERROR: &str = "JSONParserErr";
pub(super) const LOGFMT_ERROR: &str = "LogfmtParserErr";

/// A step into a JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// A path such as `a.b[0]["c d"]`.
pub(super) fn parse_path(text: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut is_first = true;
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            if let Some(quoted) = inside.strip_prefix('"') {
                let (key, behind) = quoted.split_once("\"]")?;
                steps.push(Step::Key(key.to_owned()));
                rest = behind;
            } else {
                let (index, behind) = inside.split_once(']')?;
                steps.push(Step::Index(index.trim().parse().ok()?));
                rest = behind;
            }
        } else {
            let bare = match rest.strip_prefix('.') {
                Some(bare) if !is_first => bare,
                None if is_first => rest,
                _ => return None,
            };
            let end = bare.find(['.', '[']).unwrap_or(bare.len());
            if end == 0 {
                return None;
            }
            steps.push(Step::Key(bare[..end].to_owned()));
            rest = &bare[end..];
        }
        is_first = false;
    }
    Some(steps)
}

/// A JSON value as the text of a label: strings without quotes, nothing for null.
fn json_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn parse_json(line: &str, labels: &mut LineLabels) -> Option<Value> {
    match serde_json::from_str::<Value>(line) {
        Ok(value) => Some(value),
        Err(error) => {
            labels.fail_again(JSON_ERROR, error.to_string());
            None
        }
    }
}

/// Every leaf of an object, its path joined by `_`; arrays and nulls are left out.
pub(super) fn json(line: &str, labels: &mut LineLabels) {
    fn walk(prefix: &str, object: &serde_json::Map<String, Value>, labels: &mut LineLabels) {
        for (key, value) in object {
            let key = label_name(key);
            let path = if prefix.is_empty() { key.into_owned() } else { format!("{prefix}_{key}") };
            match value {
                Value::Null | Value::Array(_) => {}
                Value::Object(inner) => walk(&path, inner, labels),
                leaf if !path.is_empty() => labels.extract(&path, json_text(leaf)),
                _ => {}
            }
        }
    }
    match parse_json(line, labels) {
        Some(Value::Object(object)) => walk("", &object, labels),
        Some(_) => {
            labels.fail_again(JSON_ERROR, "Value looks like object, but can't find closing '}' symbol")
        }
        None => {}
    }
}

/// What stands at some paths; what is not there becomes an empty label.
pub(super) fn json_paths(line: &str, paths: &[(String, Vec<Step>)], labels: &mut LineLabels) {
    let Some(value) = parse_json(line, labels) else { return };
    for (label, path) in paths {
        let found = path.iter().try_fold(&value, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        });
        labels.extract(label, found.map(json_text).unwrap_or_default());
    }
}

/// Every text of an object as a label, and `_entry` as the line.
pub(super) fn unpack(line: &str, labels: &mut LineLabels) -> Option<String> {
    match parse_json(line, labels) {
        Some(Value::Object(object)) => {
            let mut entry = None;
            for (key, value) in object {
                match value {
                    Value::String(text) if key == "_entry" => entry = Some(text),
                    Value::String(text) => labels.extract(&label_name(&key), text),
                    _ => {}
                }
            }
            entry
        }
        Some(_) => {
            labels.fail_again(JSON_ERROR, "expecting json object(6), but it is not");
            None
        }
        None => None,
    }
}

/// Pairs of a logfmt line: key, value (none without `=`); an error where a pair is malformed.
fn logfmt_pairs(line: &str) -> (Vec<(&str, Option<String>)>, Option<String>) {
    let mut pairs = Vec::new();
    let mut error = None;
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches(|c: char| c <= ' ');
        if rest.is_empty() {
            return (pairs, error);
        }
        let position = line.len() - rest.len() + 1;
        let end = rest.find(|c: char| c <= ' ' || c == '=' || c == '"').unwrap_or(rest.len());
        let (key, behind) = rest.split_at(end);
        match behind.chars().next() {
            Some('=') if !key.is_empty() => {}
            Some(c @ ('"' | '=')) => {
                error.get_or_insert_with(|| {
                    format!("logfmt syntax error at pos {} : unexpected '{c}'", position + end)
                });
                let skip = behind.find(|c: char| c <= ' ').unwrap_or(behind.len());
                rest = &behind[skip..];
                continue;
            }
            _ => {
                pairs.push((key, None));
                rest = behind;
                continue;
            }
        }
        let value = &behind[1..];
        if let Some(quoted) = value.strip_prefix('"') {
            let mut text = String::new();
            let mut chars = quoted.char_indices();
            let mut closed = None;
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => {
                        closed = Some(at + 1);
                        break;
                    }
                    '\\' => match chars.next() {
                        Some((_, 'n')) => text.push('\n'),
                        Some((_, 't')) => text.push('\t'),
                        Some((_, 'r')) => text.push('\r'),
                        Some((_, 'u')) => {
                            let code: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                            text.extend(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32));
                        }
                        Some((_, other)) => text.push(other),
                        None => {}
                    },
                    c => text.push(c),
                }
            }
            let Some(closed) = closed else {
                error.get_or_insert_with(|| {
                    format!("logfmt syntax error at pos {} : unterminated quoted value", line.len() + 1)
                });
                return (pairs, error);
            };
            pairs.push((key, Some(text)));
            rest = &quoted[closed..];
        } else {
            let end = value.find(|c: char| c <= ' ').unwrap_or(value.len());
            let bare = &value[..end];
            match bare.find(['=', '"']) {
                Some(at) => {
                    let place = position + key.len() + 1 + at;
                    let found = &bare[at..=at];
                    error.get_or_insert_with(|| {
                        format!("logfmt syntax error at pos {place} : unexpected '{found}'")
                    });
                }
                None => pairs.push((key, Some(bare.to_owned()))),
            }
            rest = &value[end..];
        }
    }
}

/// `key=value` pairs as labels.
pub(super) fn logfmt(
    line: &str,
    strict: bool,
    keep_empty: bool,
    only: &[(String, String)],
    labels: &mut LineLabels,
) {
    let (pairs, error) = logfmt_pairs(line);
    if let (true, Some(error)) = (strict, error) {
        labels.fail_again(LOGFMT_ERROR, error);
        return;
    }
    if only.is_empty() {
        for (key, value) in pairs {
            let name = label_name(key);
            match value {
                Some(value) if !name.is_empty() => labels.extract(&name, value),
                None if keep_empty && !name.is_empty() => labels.extract(&name, String::new()),
                _ => {}
            }
        }
        return;
    }
    for (label, key) in only {
        let found = pairs.iter().rev().find(|(known, _)| known == key);
        labels.extract(label, found.and_then(|(_, value)| value.clone()).unwrap_or_default());
    }
}

/// The named groups of an expression.
pub(super) fn regexp(line: &str, expression: &Regex, labels: &mut LineLabels) {
    let Some(captures) = expression.captures(line) else { return };
    for name in expression.capture_names().flatten() {
        let value = captures.name(name).map_or("", |found| found.as_str());
        labels.extract(name, value.to_owned());
    }
}

/// A pattern such as `<ip> - <_> "<method> <path>"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// Empty for `<_>`.
    Capture(String),
}

impl Pattern {
    pub fn new(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let name = rest.strip_prefix('<').and_then(|inside| Some(&inside[..inside.find('>')?]));
            let is_name = |name: &&str| {
                !name.is_empty()
                    && !name.starts_with(|c: char| c.is_ascii_digit())
                    && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            };
            match name.filter(is_name) {
                Some(name) => {
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    if matches!(parts.last(), Some(Part::Capture(_))) {
                        return Err(format!("found consecutive capture: {text:?}"));
                    }
                    let name = if name == "_" { "" } else { name };
                    if !name.is_empty() && parts.contains(&Part::Capture(name.to_owned())) {
                        return Err(format!("duplicate capture name ({name})"));
                    }
                    parts.push(Part::Capture(name.to_owned()));
                    rest = &rest[rest.find('>').map_or(rest.len(), |end| end + 1)..];
                }
                None => {
                    literal.push(c);
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        if !parts.iter().any(|part| matches!(part, Part::Capture(name) if !name.is_empty())) {
            return Err("at least one capture is required".to_owned());
        }
        Ok(Self(parts))
    }

    /// Sets what the captures hold, as far as the line goes with the pattern.
    pub fn extract(&self, line: &str, labels: &mut LineLabels) {
        let mut rest = line;
        let mut parts = self.0.iter().peekable();
        if let Some(Part::Literal(literal)) = parts.peek() {
            let Some(at) = rest.find(literal.as_str()) else { return };
            rest = &rest[at + literal.len()..];
            parts.next();
        }
        while let Some(part) = parts.next() {
            let Part::Capture(name) = part else { continue };
            let (value, behind) = match parts.next() {
                Some(Part::Literal(literal)) => match rest.split_once(literal.as_str()) {
                    Some(split) => split,
                    // What is left belongs to the last capture that can be filled.
                    None => (rest, ""),
                },
                _ => (rest, ""),
            };
            if !name.is_empty() {
                labels.extract(name, value.to_owned());
            }
            let is_over = behind.is_empty() && value.len() == rest.len();
            rest = behind;
            if is_over {
                return;
            }
        }
    }
}

/// `ip("10.0.0.0/8")`, `ip("10.0.0.1-10.0.0.9")`, `ip("::1")`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IpTest {
    first: IpAddr,
    last: IpAddr,
}

impl IpTest {
    pub fn new(text: &str) -> Option<Self> {
        if let Some((first, last)) = text.split_once('-') {
            let (first, last): (IpAddr, IpAddr) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            return (first.is_ipv4() == last.is_ipv4()).then_some(Self { first, last });
        }
        let Some((network, bits)) = text.split_once('/') else {
            let address: IpAddr = text.trim().parse().ok()?;
            return Some(Self { first: address, last: address });
        };
        let bits: u32 = bits.parse().ok()?;
        match network.parse().ok()? {
            IpAddr::V4(address) => {
                let host = u32::MAX.checked_shr(bits).filter(|_| bits <= 32).or((bits == 32).then_some(0))?;
                let low = u32::from(address) & !host;
                Some(Self { first: IpAddr::V4(low.into()), last: IpAddr::V4((low | host).into()) })
            }
            IpAddr::V6(address) => {
                let host =
                    u128::MAX.checked_shr(bits).filter(|_| bits <= 128).or((bits == 128).then_some(0))?;
                let low = u128::from(address) & !host;
                Some(Self { first: IpAddr::V6(low.into()), last: IpAddr::V6((low | host).into()) })
            }
        }
    }

    /// Whether a text is an address that lies inside.
    pub fn contains(&self, text: &str) -> Option<bool> {
        let address: IpAddr = text.trim().parse().ok()?;
        let same = address.is_ipv4() == self.first.is_ipv4();
        Some(same && (self.first..=self.last).contains(&address))
    }

    /// Whether a line has such an address somewhere.
    pub fn is_in_line(&self, line: &str) -> bool {
        let is_part = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':');
        line.split(|c: char| !is_part(c)).any(|word| {
            let bare = word.trim_matches(['.', ':']);
            // `10.0.0.1:80`, but not `::1`.
            let host = bare.split_once(':').map_or(bare, |(host, _)| host);
            [word, bare, host].into_iter().any(|text| self.contains(text) == Some(true))
        })
    }
}

/// A line as JSON text: for details of errors.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::new();
    write_json_string(text, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::labels::LabelSet;
    use super::*;

    fn labels() -> LineLabels {
        let base = LabelSet::new(vec![("app".to_owned(), "a".to_owned())]);
        LineLabels::new(Arc::new(base), Vec::new())
    }

    fn check(expected: &str, parse: impl FnOnce(&mut LineLabels)) {
        let mut labels = labels();
        parse(&mut labels);
        labels.remove("app");
        labels.remove(super::super::labels::ERROR_DETAILS);
        assert_eq!(labels.all().to_string(), expected);
    }

    #[test]
    fn json_lines() {
        check(r#"{app_extracted="x", b_c="1", b_d="true", e="2.50"}"#, |labels| {
            json(r#"{"app":"x","b":{"c":1,"d":true,"n":null,"l":[1]},"e":"2.50"}"#, labels);
        });
        check(r#"{__error__="JSONParserErr"}"#, |labels| json("no json", labels));
        check(r#"{__error__="JSONParserErr"}"#, |labels| json("[1]", labels));
        check(r#"{first="1", obj="{\"k\":\"v\"}"}"#, |labels| {
            let paths = ["first", "obj", "none"].map(str::to_owned);
            let steps = ["l[0]", "o", "x.y"].map(|path| parse_path(path).expect("a path"));
            let paths: Vec<_> = paths.into_iter().zip(steps).collect();
            json_paths(r#"{"l":[1,2],"o":{"k":"v"}}"#, &paths, labels);
        });
    }

    #[test]
    fn paths() {
        let key = |key: &str| Step::Key(key.to_owned());
        assert_eq!(parse_path("a.b[0]"), Some(vec![key("a"), key("b"), Step::Index(0)]));
        assert_eq!(parse_path("[\"a b\"].c"), Some(vec![key("a b"), key("c")]));
        for text in ["", ".a", "a.", "a[", "a[x]", "a..b"] {
            assert_eq!(parse_path(text), None, "{text}");
        }
    }

    #[test]
    fn packed_lines() {
        let mut labels = labels();
        let entry = unpack(r#"{"_entry":"the line","pod":"p","n":1}"#, &mut labels);
        assert_eq!(entry.as_deref(), Some("the line"));
        assert_eq!(labels.get("pod"), "p");
        assert_eq!(labels.get("n"), "");
    }

    #[test]
    fn logfmt_lines() {
        let parse =
            |line: &'static str| move |labels: &mut LineLabels| logfmt(line, false, false, &[], labels);
        check(r#"{b="c d", level="info", x_y="1"}"#, parse(r#"level=info b="c d" x.y=1 flag"#));
        check(r#"{q="a\"b"}"#, parse(r#"q="a\"b""#));
        check("{a=\"1\"}", parse("a=1 =x b=c=d"));
        check("{}", parse("\"quoted\" words"));
        check(r#"{__error__="LogfmtParserErr"}"#, |labels| logfmt("a=1 =x", true, false, &[], labels));
        check(r#"{l="info"}"#, |labels| {
            let only = [("l".to_owned(), "level".to_owned()), ("m".to_owned(), "msg".to_owned())];
            logfmt("level=info x=1", false, false, &only, labels);
        });
    }

    #[test]
    fn patterns() {
        let parse = |pattern: &'static str, line: &'static str| {
            move |labels: &mut LineLabels| Pattern::new(pattern).expect("a pattern").extract(line, labels)
        };
        check(
            r#"{ip="1.2.3.4", method="GET", path="/x", status="200"}"#,
            parse("<ip> - - <_> \"<method> <path> <_>\" <status>", "1.2.3.4 - - [now] \"GET /x HTTP\" 200"),
        );
        check(r#"{a="x y"}"#, parse("<a>;<b>", "x y"));
        check("{}", parse("begin <a>", "other"));
        check(r#"{a="1"}"#, parse("begin <a> end", "at begin 1 end"));
        for (text, part) in [
            ("a", "at least one"),
            ("<a><b>", "consecutive"),
            ("<a> <a>", "duplicate"),
            ("<_>", "at least one"),
        ] {
            assert!(Pattern::new(text).expect_err(text).contains(part));
        }
    }

    #[test]
    fn addresses() {
        let test = |text: &str| IpTest::new(text).expect("a test");
        assert!(test("10.0.0.0/8").is_in_line("from 10.1.2.3:80, ok"));
        assert!(!test("10.0.0.0/8").is_in_line("from 11.1.2.3"));
        assert_eq!(test("10.0.0.1-10.0.0.9").contains("10.0.0.9"), Some(true));
        assert_eq!(test("::1").contains("10.0.0.9"), Some(false));
        assert!(test("2001:db8::/32").is_in_line("[2001:db8::7] said"));
        assert_eq!(test("0.0.0.0/0").contains("1.2.3.4"), Some(true));
        assert_eq!(test("1.2.3.4/32").contains("1.2.3.4"), Some(true));
        assert_eq!(test("::1").contains("word"), None);
        for text in ["", "10.0.0.0/33", "10.0.0.1-::1", "::/129"] {
            assert_eq!(IpTest::new(text), None, "{text}");
        }
    }
}
