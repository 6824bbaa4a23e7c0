//! The series notation of Prometheus' test language: `name{l="v"} 1+2x10 _ stale {{schema:0 sum:1}}`.

use protocol::histogram::{CounterResetHint, Histogram, Span};
use protocol::labels::{Labels, LabelsBuilder, METRIC_NAME};
use protocol::sample::stale_nan;
use query::format::parse_float;
use query::histogram::HistogramExt;
use query::promql::parser::{parse_duration, parse_selector};

/// A value of a sequence.
#[derive(Clone, Debug)]
pub enum Item {
    /// `_`
    Omitted,
    /// A float, with its start timestamp (0 for none).
    Float(f64, i64),
    /// A histogram, whether its hint on resets was written out, and its start timestamp.
    Histogram(Box<Histogram>, bool, i64),
}

/// Splits `name{...} values` and reads both.
pub fn parse_series(line: &str) -> Result<(Labels, Vec<Item>), String> {
    let end = selector_end(line);
    let (selector, values) = line.split_at(end);
    Ok((parse_labels(selector.trim())?, parse_values(values.trim())?))
}

/// What a line of a load is.
pub enum Line {
    /// Values of a series.
    Values(Labels, Vec<Item>),
    /// `name{...}@st offsets`: start timestamps of a series, relative to its samples.
    Starts(Labels, Vec<Option<i64>>),
}

/// Reads a line of a load.
pub fn parse_line(line: &str) -> Result<Line, String> {
    let (selector, rest) = line.split_at(selector_end(line));
    let (selector, starts) = match (selector.strip_suffix("@st"), rest.strip_prefix("@st")) {
        (Some(selector), _) => (selector, Some(rest)),
        (None, Some(rest)) => (selector, Some(rest)),
        (None, None) => (selector, None),
    };
    let labels = parse_labels(selector.trim())?;
    match starts {
        Some(starts) => Ok(Line::Starts(labels, parse_starts(starts)?)),
        None => Ok(Line::Values(labels, parse_values(rest.trim())?)),
    }
}

/// `_`, `-30s`, `-30s-1mx2`
fn parse_starts(text: &str) -> Result<Vec<Option<i64>>, String> {
    let mut out = Vec::new();
    let signed = |text: &str| match text.strip_prefix('-') {
        Some(rest) => parse_duration(rest).map(|millis| -millis),
        None => parse_duration(text.strip_prefix('+').unwrap_or(text)),
    };
    for token in text.split_whitespace() {
        if let Some(rest) = token.strip_prefix('_') {
            let times = rest.strip_prefix('x').map_or(Ok(1), count)?;
            out.extend(std::iter::repeat_n(None, times));
            continue;
        }
        let (head, times) = match token.rsplit_once('x') {
            Some((head, times)) => (head, count(times)?),
            None => (token, 0),
        };
        let step_at = head.char_indices().skip(1).find(|(_, c)| matches!(c, '+' | '-')).map(|(i, _)| i);
        let (first, step) = match step_at {
            Some(i) => (signed(&head[..i])?, signed(&head[i..])?),
            None => (signed(head)?, 0),
        };
        out.extend((0..=times).map(|i| Some(first + step * i as i64)));
    }
    Ok(out)
}

/// Where the label set ends: behind its brace, or at the first space.
fn selector_end(line: &str) -> usize {
    let mut quote: Option<char> = None;
    let mut escaped = false;
    let mut in_braces = false;
    for (i, c) in line.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(q) if c == '\\' && q != '`' => escaped = true,
            Some(q) => {
                if c == q {
                    quote = None;
                }
            }
            None => match c {
                '"' | '\'' | '`' => quote = Some(c),
                '{' => in_braces = true,
                '}' => return i + 1,
                ' ' | '\t' if !in_braces => {
                    // A space may stand between name and braces.
                    let rest = line[i..].trim_start();
                    if !rest.starts_with('{') || rest.starts_with("{{") {
                        return i;
                    }
                }
                _ => {}
            },
        }
    }
    line.len()
}

fn parse_labels(text: &str) -> Result<Labels, String> {
    if text.is_empty() || text == "{}" {
        return Ok(Labels::empty());
    }
    let mut builder = LabelsBuilder::default();
    // An empty value is written to say that a label is absent; the selector needs something to select by.
    let matchers = match parse_selector(text) {
        Ok(matchers) => matchers,
        Err(_) => {
            let padded = match text.strip_suffix('}') {
                Some(head) if head.ends_with('{') => format!("{head}__pad__!=\"\"}}"),
                Some(head) => format!("{},__pad__!=\"\"}}", head.trim_end_matches([',', ' '])),
                None => return Err(format!("{text} is no label set")),
            };
            let mut matchers = parse_selector(&padded).map_err(|e| format!("{text}: {e}"))?;
            matchers.retain(|m| m.name() != "__pad__");
            matchers
        }
    };
    let braces = text.ends_with("{}") && !text.starts_with('{');
    for m in &matchers {
        builder.push(m.name(), m.value());
    }
    if braces && matchers.is_empty() {
        builder.push(METRIC_NAME, text.trim_end_matches("{}").trim());
    }
    builder.finish().map_err(|e| format!("{text}: {e}"))
}

/// Cuts at spaces that stand outside of `{{ }}`.
fn tokens(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut start, mut depth) = (0, 0i32);
    let bytes = text.as_bytes();
    for i in 0..bytes.len() {
        match bytes[i] {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b' ' | b'\t' if depth == 0 => {
                if start < i {
                    out.push(&text[start..i]);
                }
                start = i + 1;
            }
            _ => {}
        }
    }
    if start < text.len() {
        out.push(&text[start..]);
    }
    out
}

fn parse_values(text: &str) -> Result<Vec<Item>, String> {
    let mut out = Vec::new();
    for token in tokens(text) {
        parse_token(token, &mut out).map_err(|e| format!("{token}: {e}"))?;
    }
    Ok(out)
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("{text} is no count"))
}

fn parse_token(token: &str, out: &mut Vec<Item>) -> Result<(), String> {
    if token == "stale" {
        out.push(Item::Float(stale_nan(), 0));
        return Ok(());
    }
    if let Some(rest) = token.strip_prefix('_') {
        let times = match rest.strip_prefix('x') {
            Some(n) => count(n)?,
            None if rest.is_empty() => 1,
            None => return Err("unexpected text behind _".to_owned()),
        };
        out.extend(std::iter::repeat_n(Item::Omitted, times));
        return Ok(());
    }
    let (token, start) = match token.rsplit_once('@') {
        Some((value, start)) => (value, parse_duration(start)?),
        None => (token, 0),
    };
    if token.starts_with("{{") {
        return parse_histograms(token, start, out);
    }
    // value, value xN, value +inc xN, value -dec xN
    let (head, times) = match token.rsplit_once('x') {
        Some((head, n)) if !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => (head, Some(count(n)?)),
        _ => (token, None),
    };
    let Some(times) = times else {
        out.push(Item::Float(parse_float(token).ok_or("no number")?, start));
        return Ok(());
    };
    // The sign of the increment is the last one that belongs to no exponent.
    let split = head
        .char_indices()
        .skip(1)
        .filter(|(i, c)| matches!(c, '+' | '-') && !matches!(head.as_bytes()[i - 1], b'e' | b'E'))
        .map(|(i, _)| i)
        .next();
    let (base, step) = match split {
        Some(i) => (&head[..i], parse_float(&head[i..]).ok_or("no increment")?),
        None => (head, 0.0),
    };
    let mut value = parse_float(base).ok_or("no number")?;
    for _ in 0..=times {
        out.push(Item::Float(value, start));
        value += step;
    }
    Ok(())
}

fn parse_histograms(token: &str, start: i64, out: &mut Vec<Item>) -> Result<(), String> {
    let close = token.find("}}").ok_or("unclosed histogram")? + 2;
    let (base, hint_set) = parse_histogram(&token[..close])?;
    let rest = &token[close..];
    if rest.is_empty() {
        out.push(Item::Histogram(Box::new(base), hint_set, start));
        return Ok(());
    }
    if let Some(n) = rest.strip_prefix('x') {
        out.extend((0..=count(n)?).map(|_| Item::Histogram(Box::new(base.clone()), hint_set, start)));
        return Ok(());
    }
    let (sign, rest) = rest.split_at(1);
    let close = rest.find("}}").ok_or("unclosed histogram")? + 2;
    let (step, hint_set) = parse_histogram(&rest[..close])?;
    let times = count(rest[close..].strip_prefix('x').ok_or("expected x behind the histogram")?)?;
    let mut h = base;
    for i in 0..=times {
        out.push(Item::Histogram(Box::new(h.clone()), hint_set, start));
        if i < times {
            let met = if sign == "+" { h.add(&step) } else { h.subtract(&step) };
            met.map_err(|_| "histograms do not go together")?;
        }
    }
    Ok(())
}

/// `{{schema:1 sum:4 count:4 buckets:[1 2 1]}}`
fn parse_histogram(text: &str) -> Result<(Histogram, bool), String> {
    let inner = text.strip_prefix("{{").and_then(|t| t.strip_suffix("}}")).ok_or("no histogram")?;
    let mut h = Histogram::default();
    let (mut offset, mut negative_offset, mut hint_set) = (0, 0, false);
    let mut rest = inner.trim();
    while !rest.is_empty() {
        let (key, tail) = rest.split_once(':').ok_or_else(|| format!("expected a key in {rest}"))?;
        let (value, tail) = match tail.strip_prefix('[') {
            Some(list) => list.split_once(']').ok_or("unclosed list")?,
            None => match tail.find(char::is_whitespace) {
                Some(end) => tail.split_at(end),
                None => (tail, ""),
            },
        };
        rest = tail.trim_start();
        let number = || parse_float(value.trim()).ok_or_else(|| format!("{value} is no number"));
        let integer = || value.trim().parse::<i32>().map_err(|_| format!("{value} is no integer"));
        let list = || -> Result<Vec<f64>, String> {
            let numbers = value.split_whitespace();
            numbers.map(|n| parse_float(n).ok_or_else(|| format!("{n} is no number"))).collect()
        };
        match key.trim() {
            "schema" => h.schema = integer()?,
            "sum" => h.sum = number()?,
            "count" => h.count = number()?,
            "z_bucket" => h.zero_count = number()?,
            "z_bucket_w" => h.zero_threshold = number()?,
            "offset" => offset = integer()?,
            "n_offset" => negative_offset = integer()?,
            "buckets" => h.positive_buckets = list()?,
            "n_buckets" => h.negative_buckets = list()?,
            "custom_values" => h.custom_values = list()?,
            "counter_reset_hint" => {
                hint_set = true;
                h.counter_reset_hint = match value.trim() {
                    "unknown" => CounterResetHint::Unknown,
                    "reset" => CounterResetHint::Reset,
                    "not_reset" => CounterResetHint::NotReset,
                    "gauge" => CounterResetHint::Gauge,
                    other => return Err(format!("{other} is no hint")),
                };
            }
            other => return Err(format!("{other} is no part of a histogram")),
        }
    }
    let span = |offset: i32, buckets: &[f64]| match buckets.len() {
        0 => Vec::new(),
        len => vec![Span { offset, length: len as u32 }],
    };
    h.positive_spans = span(offset, &h.positive_buckets);
    h.negative_spans = span(negative_offset, &h.negative_buckets);
    Ok((h, hint_set))
}
