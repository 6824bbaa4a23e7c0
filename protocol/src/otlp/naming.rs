//! How OpenTelemetry's names become Prometheus' names, as Prometheus 3 translates them.
//!
//! ```text
//! metric  http.server.duration, unit s, histogram  ->  http_server_duration_seconds
//!         requests, unit 1, monotonic sum          ->  requests_total
//!         cpu.utilization, unit 1, gauge           ->  cpu_utilization_ratio
//! label   http.status_code                         ->  http_status_code
//! ```
//!
//! A [`Strategy`] says whether characters that Prometheus did not allow before its version 3 become underscores, and
//! whether unit and type become suffixes. Two attributes may end up with one name; what then happens is the business of
//! who makes the labels.

use std::borrow::Cow;

/// Which of a name's parts are changed. The names are those of Prometheus' `translation_strategy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Strategy {
    /// Escapes to underscores and adds suffixes.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// Escapes to underscores.
    UnderscoreEscapingWithoutSuffixes,
    /// Adds suffixes.
    NoUTF8EscapingWithSuffixes,
    /// Leaves names alone.
    NoTranslation,
}

impl Strategy {
    /// Whether characters other than letters, digits and underscores become underscores.
    pub const fn escapes(self) -> bool {
        matches!(self, Self::UnderscoreEscapingWithSuffixes | Self::UnderscoreEscapingWithoutSuffixes)
    }
}

/// What a metric is, as far as its name depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A gauge: of unit `1` it is a ratio.
    Gauge,
    /// A monotonic sum: a total.
    Counter,
    /// Anything else.
    Other,
}

/// Prometheus' names of units.
fn unit_word(unit: &str) -> &str {
    match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "1" => "",
        "%" => "percent",
        other => other,
    }
}

/// What stands behind "per".
fn per_word(unit: &str) -> &str {
    match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        other => other,
    }
}

/// The two parts of a unit: what is measured, and `per_` what. Annotations in braces are no units.
fn unit_parts(unit: &str) -> (String, String) {
    let is_unit = |part: &&str| !part.is_empty() && !part.contains(['{', '}']);
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let main = Some(main.trim()).filter(is_unit).map_or("", unit_word);
    let per = Some(per.trim()).filter(is_unit).map_or("", per_word);
    (main.to_owned(), if per.is_empty() { String::new() } else { format!("per_{per}") })
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

/// Makes a unit part fit for a name: one underscore for each run of other characters, none in front.
fn clean_unit(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for c in part.chars() {
        let c = if is_name_char(c) { c } else { '_' };
        if c != '_' || !out.is_empty() && !out.ends_with('_') {
            out.push(c);
        }
    }
    out
}

/// The unit of a metric, as metadata tells it.
pub fn unit_name(unit: &str) -> String {
    let (main, per) = unit_parts(unit);
    let (main, per) = (clean_unit(&main), clean_unit(&per));
    let joined = if main.is_empty() || per.is_empty() { main + &per } else { format!("{main}_{per}") };
    let joined = joined.strip_prefix('_').unwrap_or(&joined);
    joined.strip_suffix('_').unwrap_or(joined).to_owned()
}

/// The name of a metric; `None` where nothing of it remains.
pub fn metric_name(strategy: Strategy, name: &str, unit: &str, kind: MetricKind) -> Option<String> {
    let built = match strategy {
        Strategy::NoTranslation => name.to_owned(),
        Strategy::NoUTF8EscapingWithSuffixes => with_suffixes(name, unit, kind),
        Strategy::UnderscoreEscapingWithoutSuffixes => {
            let is_allowed = |c: char| is_name_char(c) || c == '_';
            let parts: Vec<&str> = name.split(|c| !is_allowed(c)).filter(|part| !part.is_empty()).collect();
            not_a_digit_first(parts.join("_"))
        }
        Strategy::UnderscoreEscapingWithSuffixes => escaped_with_suffixes(name, unit, kind),
    };
    let is_name = !built.is_empty() && (built == name || built.contains(|c| c != '_'));
    is_name.then_some(built)
}

fn not_a_digit_first(name: String) -> String {
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

fn escaped_with_suffixes(name: &str, unit: &str, kind: MetricKind) -> String {
    let mut tokens: Vec<&str> = name.split(|c| !is_name_char(c)).filter(|part| !part.is_empty()).collect();
    let (main, per) = unit_parts(unit);
    let (main, per) = (clean_unit(&main), clean_unit(&per));
    let mut main = if tokens.contains(&main.as_str()) { "" } else { main.as_str() };
    let mut per = if per == "per_" { "" } else { per.strip_suffix('_').unwrap_or(&per) };
    if tokens.contains(&per) {
        per = "";
    }
    if !per.is_empty() {
        main = main.strip_suffix('_').unwrap_or(main);
    }
    tokens.extend([main, per].into_iter().filter(|part| !part.is_empty()));
    let word = match kind {
        MetricKind::Counter => "total",
        MetricKind::Gauge if unit == "1" => "ratio",
        _ => "",
    };
    if !word.is_empty() {
        tokens.retain(|token| *token != word);
        tokens.push(word);
    }
    not_a_digit_first(tokens.join("_"))
}

/// Suffixes for names that are otherwise left alone: one that is there already stands once.
fn with_suffixes(name: &str, unit: &str, kind: MetricKind) -> String {
    let (main, per) = unit_parts(unit);
    let word = match kind {
        MetricKind::Counter => "total",
        MetricKind::Gauge if unit == "1" => "ratio",
        _ => "",
    };
    let mut base = name;
    for suffix in [word, per.as_str()].into_iter().filter(|suffix| !suffix.is_empty()) {
        base = without_suffix(base, suffix);
    }
    let mut out = base.to_owned();
    if !main.is_empty() && !base.ends_with(&main) {
        out = format!("{out}_{main}");
    }
    for suffix in [per.as_str(), word].into_iter().filter(|suffix| !suffix.is_empty()) {
        out = format!("{out}_{suffix}");
    }
    out
}

/// Takes away a suffix and the character before it, whatever that is.
fn without_suffix<'a>(name: &'a str, suffix: &str) -> &'a str {
    let Some(rest) = name.strip_suffix(suffix) else { return name };
    let mut chars = rest.chars();
    match chars.next_back() {
        Some(_) if !chars.as_str().is_empty() => chars.as_str(),
        _ => name,
    }
}

/// How label names are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelNaming {
    /// See [`Strategy::escapes`].
    pub escapes: bool,
    /// Whether a single underscore in front becomes `key_`, since such names are private by convention.
    pub underscore_sanitization: bool,
    /// Whether runs of underscores stay as they are.
    pub preserve_multiple_underscores: bool,
}

impl LabelNaming {
    /// The name of a label; `None` where nothing of it remains.
    pub fn label_name<'a>(&self, name: &'a str) -> Option<Cow<'a, str>> {
        if !self.escapes {
            return (!name.is_empty()).then_some(Cow::Borrowed(name));
        }
        let is_plain = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        let is_reserved = name.starts_with("__") && name.ends_with("__");
        let squeezes = !self.preserve_multiple_underscores && !is_reserved;
        let needs_work = !name.bytes().all(is_plain)
            || name.starts_with(|c: char| c.is_ascii_digit() || c == '_')
            || squeezes && name.contains("__");
        if !needs_work {
            return (!name.is_empty()).then_some(Cow::Borrowed(name));
        }
        let mut out = String::with_capacity(name.len() + 4);
        for c in name.chars() {
            let c = if c.is_ascii_alphanumeric() { c } else { '_' };
            if !(squeezes && c == '_' && out.ends_with('_')) {
                out.push(c);
            }
        }
        if out.starts_with(|c: char| c.is_ascii_digit()) {
            out.insert_str(0, "key_");
        } else if self.underscore_sanitization && out.starts_with('_') && !out.starts_with("__") {
            out.insert_str(0, "key");
        }
        let is_name = out == name || out.contains(|c| c != '_');
        is_name.then_some(Cow::Owned(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(strategy: Strategy, name: &str, unit: &str, kind: MetricKind, expected: &str) {
        assert_eq!(
            metric_name(strategy, name, unit, kind).unwrap_or_default(),
            expected,
            "{name:?} {unit:?}"
        );
    }

    #[test]
    fn escaped_names_with_suffixes() {
        use MetricKind::{Counter, Gauge, Other};
        let check = |name, unit, kind, expected| {
            check(Strategy::UnderscoreEscapingWithSuffixes, name, unit, kind, expected);
        };
        check("requests", "", Counter, "requests_total");
        check("requests_total", "", Counter, "requests_total");
        check("total_requests", "1", Counter, "requests_total");
        check("cpu_usage", "1", Gauge, "cpu_usage_ratio");
        check("cpu_usage_ratio", "1", Gauge, "cpu_usage_ratio");
        check("items", "1", Counter, "items_total");
        check("items", "1", Other, "items");
        check("response_time", "ms", Gauge, "response_time_milliseconds");
        check("response_time_seconds", "s", Gauge, "response_time_seconds");
        check("requests", "1/s", Gauge, "requests_per_second");
        check("throughput", "By/s", Gauge, "throughput_bytes_per_second");
        check("throughput", "By/m", Gauge, "throughput_bytes_per_minute");
        check("custom_metric", "custom_unit", Gauge, "custom_metric_custom_unit");
        check("custom_metric", "{custom}", Gauge, "custom_metric");
        check("custom_metric", "By/{custom}", Gauge, "custom_metric_bytes");
        check("custom_metric", "unit@with#special/chars", Gauge, "custom_metric_unit_with_special_per_chars");
        check(
            "metric__with__multiple__underscores",
            "unit__multiple__underscores",
            Gauge,
            "metric_with_multiple_underscores_unit_multiple_underscores",
        );
        check("http.server.request.duration", "s", Other, "http_server_request_duration_seconds");
        check("system.filesystem.usage", "By", Gauge, "system_filesystem_usage_bytes");
        check("system.memory", " GiBy ", Gauge, "system_memory_gibibytes");
        check("2xx", "", Counter, "_2xx_total");
        check("a:b", "%", Gauge, "a:b_percent");
        check("@#$%", "", Gauge, "");
        check("", "", Gauge, "");
        check("größe", "", Gauge, "gr_e");
    }

    #[test]
    fn other_strategies() {
        use MetricKind::{Counter, Gauge, Other};
        let plain = Strategy::UnderscoreEscapingWithoutSuffixes;
        check(plain, "metric@@##$$name", "By", Counter, "metric_name");
        check(plain, "metric__name", "", Gauge, "metric__name");
        check(plain, "123metric", "", Gauge, "_123metric");
        check(plain, "@#$%", "", Gauge, "");
        let utf8 = Strategy::NoUTF8EscapingWithSuffixes;
        check(utf8, "requêsts", "", Counter, "requêsts_total");
        check(utf8, "requests_total", "", Counter, "requests_total");
        check(utf8, "cpu.usagé", "1", Gauge, "cpu.usagé_ratio");
        check(utf8, "respønse_time", "ms", Gauge, "respønse_time_milliseconds");
        check(utf8, "requêsts", "1/s", Counter, "requêsts_per_second_total");
        check(utf8, "cpu_seconds_total", "s", Counter, "cpu_seconds_total");
        check(utf8, "total", "", Counter, "total_total");
        check(utf8, "@#$%", "", Counter, "@#$%_total");
        check(Strategy::NoTranslation, "http.größe", "By", Other, "http.größe");
    }

    #[test]
    fn units() {
        for (unit, expected) in [
            ("s", "seconds"),
            ("By/s", "bytes_per_second"),
            ("1", ""),
            ("{requests}", ""),
            ("1/s", "per_second"),
            ("requests/s", "requests_per_second"),
            ("°C", "C"),
            ("a@", "a"),
            ("", ""),
        ] {
            assert_eq!(unit_name(unit), expected, "{unit}");
        }
    }

    #[test]
    fn labels() {
        let naming =
            LabelNaming { escapes: true, underscore_sanitization: true, preserve_multiple_underscores: true };
        for (name, expected) in [
            ("plain", "plain"),
            ("http.status_code", "http_status_code"),
            ("label:with:colons", "label_with_colons"),
            ("label!with&special$chars)", "label_with_special_chars_"),
            ("label_with_foreign_characters_字符", "label_with_foreign_characters___"),
            ("123label", "key_123label"),
            ("_private", "key_private"),
            ("__reserved__", "__reserved__"),
            ("a..b", "a__b"),
            ("ようこそ", ""),
            ("__", "__"),
            ("", ""),
        ] {
            assert_eq!(naming.label_name(name).unwrap_or_default(), expected, "{name}");
        }
        let squeezing =
            LabelNaming { underscore_sanitization: false, preserve_multiple_underscores: false, ..naming };
        for (name, expected) in [("a..b", "a_b"), ("_private", "_private"), ("__reserved__", "__reserved__")]
        {
            assert_eq!(squeezing.label_name(name).unwrap_or_default(), expected, "{name}");
        }
        let utf8 = LabelNaming { escapes: false, ..naming };
        assert_eq!(utf8.label_name("a.b-ö").as_deref(), Some("a.b-ö"));
        assert_eq!(utf8.label_name(""), None);
    }
}
