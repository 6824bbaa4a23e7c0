//! Settings of a session.
//!
//! Most of PostgreSQL's settings have one value here, which can be asked for and set to itself; some can be set to
//! anything because they mean nothing to one that only reads. Both are listed, a setting that is in neither list is
//! refused by name. Names with a dot in them are the client's own.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::postgres::{Failure, Severity};
use query::source::Consistency;
use sql::postgres::catalog::{VERSION, VERSION_NUMBER};

/// Longest value of a setting that is kept.
const MAX_VALUE_BYTES: usize = 1024;
/// Settings of the client's own, at most.
const MAX_OWN: usize = 64;

/// What may become of a setting.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// It is what it is: these values, in lower case, are other words for it.
    Fixed(&'static [&'static str]),
    /// It may have any value.
    Free,
    /// A time; 0 for none.
    Time,
    /// `linearizable` or `local`.
    Freshness,
}

struct Known {
    /// As it is shown.
    name: &'static str,
    default: &'static str,
    rule: Rule,
    /// Whether clients are told of it by themselves.
    reported: bool,
}

const fn known(name: &'static str, default: &'static str, rule: Rule, reported: bool) -> Known {
    Known { name, default, rule, reported }
}

const UTF8: Rule = Rule::Fixed(&["utf8", "utf-8", "unicode", "sql_ascii", "auto"]);
const UTC: Rule = Rule::Fixed(&["utc", "etc/utc", "gmt", "z", "0", "+00", "+00:00"]);
const ONLY: Rule = Rule::Fixed(&[]);
const YES: Rule = Rule::Fixed(&["on", "true", "yes", "1"]);

const SETTINGS: &[Known] = &[
    known("server_version", VERSION, ONLY, true),
    known("server_version_num", VERSION_NUMBER, ONLY, false),
    known("server_encoding", "UTF8", UTF8, true),
    known("client_encoding", "UTF8", UTF8, true),
    known("application_name", "", Rule::Free, true),
    known("session_authorization", "", ONLY, true),
    known("is_superuser", "off", ONLY, true),
    known("integer_datetimes", "on", YES, true),
    known("standard_conforming_strings", "on", YES, true),
    known("default_transaction_read_only", "on", YES, true),
    known("in_hot_standby", "off", ONLY, true),
    known("DateStyle", "ISO, MDY", Rule::Fixed(&["iso", "iso,mdy", "iso,dmy", "iso,ymd"]), true),
    known("IntervalStyle", "postgres", ONLY, true),
    known("TimeZone", "UTC", UTC, true),
    known("transaction_read_only", "on", YES, false),
    known("transaction_isolation", "read committed", Rule::Free, false),
    known("default_transaction_isolation", "read committed", Rule::Free, false),
    known("bytea_output", "hex", ONLY, false),
    known("max_identifier_length", "63", ONLY, false),
    known(
        "search_path",
        "public",
        Rule::Fixed(&["\"$user\",public", "public,pg_catalog", "$user,public"]),
        false,
    ),
    known("statement_timeout", "0", Rule::Time, false),
    known("pharos.consistency", "linearizable", Rule::Freshness, false),
    known("extra_float_digits", "1", Rule::Free, false),
    known("client_min_messages", "notice", Rule::Free, false),
    known("lock_timeout", "0", Rule::Free, false),
    known("idle_in_transaction_session_timeout", "0", Rule::Free, false),
    known("idle_session_timeout", "0", Rule::Free, false),
    known("row_security", "on", Rule::Free, false),
    known("synchronize_seqscans", "on", Rule::Free, false),
    known("jit", "off", Rule::Free, false),
    known("work_mem", "4MB", Rule::Free, false),
    known("geqo", "off", Rule::Free, false),
    known("xmloption", "content", Rule::Free, false),
    known("quote_all_identifiers", "off", Rule::Free, false),
    known("escape_string_warning", "on", Rule::Free, false),
];

fn refusal(state: &'static str, message: String) -> Failure {
    Failure { severity: Severity::Error, state, message, hint: None, position: None }
}

fn find(name: &str) -> Option<&'static Known> {
    SETTINGS.iter().find(|known| known.name.eq_ignore_ascii_case(name))
}

/// Milliseconds of `500`, `500ms`, `5s`, `1min`, `2h`.
fn millis(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let count: u64 = text[..end].parse().ok()?;
    let unit = match text[end..].trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    count.checked_mul(unit)
}

/// Settings of a session: those that are not as they were at the begin.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    user: String,
    /// By their names in lower case.
    set: BTreeMap<String, String>,
}

impl Settings {
    /// Those that a greeting asks for. What can not be is told by the values that are reported; only text in another
    /// encoding would be misunderstood.
    pub fn begin(user: &str, parameters: &[(String, String)]) -> Result<Self, Failure> {
        let mut settings = Self { user: user.to_owned(), set: BTreeMap::new() };
        for (name, value) in parameters {
            match name.as_str() {
                "user" | "database" | "replication" => {}
                "options" => settings.set_options(value)?,
                "client_encoding" => drop(settings.set(name, Some(value))?),
                _ => drop(settings.set(name, Some(value))),
            }
        }
        Ok(settings)
    }

    /// `-c name=value`, several times, a backslash before a blank of a value.
    fn set_options(&mut self, options: &str) -> Result<(), Failure> {
        let mut words = vec![String::new()];
        let mut chars = options.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => words.last_mut().into_iter().for_each(|word| word.extend(chars.next())),
                c if c.is_whitespace() => words.push(String::new()),
                c => words.last_mut().into_iter().for_each(|word| word.push(c)),
            }
        }
        words.retain(|word| !word.is_empty());
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let pair = match word.as_str() {
                "-c" => words.next().map(String::as_str),
                word => word.strip_prefix("-c").or(word.strip_prefix("--")),
            };
            let Some((name, value)) = pair.and_then(|pair| pair.split_once('=')) else {
                return Err(refusal("22023", format!("options: {word:?} is not -c name=value")));
            };
            self.set(&name.replace('-', "_"), Some(value))?;
        }
        Ok(())
    }

    /// Sets something, or sets it back. The value that clients have to be told of comes back with its name.
    pub fn set(
        &mut self,
        name: &str,
        value: Option<&str>,
    ) -> Result<Option<(&'static str, String)>, Failure> {
        let key = name.to_ascii_lowercase();
        let known = find(name);
        let Some(value) = value else {
            self.set.remove(&key);
            return match known {
                Some(known) => Ok(known.reported.then(|| (known.name, known.default.to_owned()))),
                None if key.contains('.') => Ok(None),
                None => Err(self.unknown(name)),
            };
        };
        if value.len() > MAX_VALUE_BYTES {
            return Err(refusal(
                "22023",
                format!("the value of {name} has more than {MAX_VALUE_BYTES} bytes"),
            ));
        }
        match known {
            Some(known) => {
                let fits = match known.rule {
                    Rule::Free => true,
                    Rule::Time => millis(value).is_some(),
                    Rule::Freshness => matches!(value, "linearizable" | "local"),
                    Rule::Fixed(words) => {
                        let plain: String = value.chars().filter(|c| !c.is_whitespace()).collect();
                        let own: String = known.default.chars().filter(|c| !c.is_whitespace()).collect();
                        plain.eq_ignore_ascii_case(&own)
                            || words.iter().any(|word| plain.eq_ignore_ascii_case(word))
                    }
                };
                if !fits {
                    let message = match known.rule {
                        Rule::Fixed(_) => {
                            format!("{} is {:?} here and can not be {value:?}", known.name, known.default)
                        }
                        _ => format!("{value:?} is no value of {}", known.name),
                    };
                    return Err(refusal("22023", message));
                }
                if matches!(known.rule, Rule::Fixed(_)) {
                    return Ok(None);
                }
            }
            None if !key.contains('.') => return Err(self.unknown(name)),
            None if self.set.len() >= MAX_OWN && !self.set.contains_key(&key) => {
                return Err(refusal("54000", format!("a session has at most {MAX_OWN} settings of its own")));
            }
            None => {}
        }
        self.set.insert(key, value.to_owned());
        Ok(known.filter(|known| known.reported).map(|known| (known.name, value.to_owned())))
    }

    fn unknown(&self, name: &str) -> Failure {
        refusal("42704", format!("there is no setting {name:?}"))
    }

    /// Sets everything back.
    pub fn reset(&mut self) {
        self.set.clear();
    }

    /// The value of a setting, and its name as it is written.
    pub fn show<'a>(&'a self, name: &'a str) -> Result<(&'a str, &'a str), Failure> {
        let set = self.set.get(&name.to_ascii_lowercase()).map(String::as_str);
        match (find(name), set) {
            (Some(known), _) if known.name == "session_authorization" => Ok((known.name, &self.user)),
            (Some(known), set) => Ok((known.name, set.unwrap_or(known.default))),
            (None, Some(value)) => Ok((name, value)),
            (None, None) => Err(self.unknown(name)),
        }
    }

    /// What clients are told at the begin.
    pub fn reported(&self) -> impl Iterator<Item = (&str, &str)> {
        SETTINGS.iter().filter(|known| known.reported).filter_map(|known| self.show(known.name).ok())
    }

    /// How long a statement may take, if the client says.
    pub fn statement_timeout(&self) -> Option<Duration> {
        let set = self.set.get("statement_timeout").and_then(|text| millis(text));
        set.filter(|millis| *millis > 0).map(Duration::from_millis)
    }

    /// How fresh answers are.
    pub fn consistency(&self) -> Consistency {
        match self.set.get("pharos.consistency").map(String::as_str) {
            Some("local") => Consistency::Local,
            _ => Consistency::Linearizable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_what_they_are_or_what_was_set() {
        let mut settings = Settings::begin("ann", &[("application_name".into(), "psql".into())]).unwrap();
        assert_eq!(settings.show("Application_Name").unwrap(), ("application_name", "psql"));
        assert_eq!(settings.show("session_authorization").unwrap().1, "ann");
        assert_eq!(settings.set("client_encoding", Some("utf-8")), Ok(None));
        assert_eq!(settings.set("client_encoding", Some("LATIN1")).unwrap_err().state, "22023");
        assert_eq!(settings.set("timezone", Some("Europe/Rome")).unwrap_err().state, "22023");
        assert_eq!(settings.set("warp", Some("9")).unwrap_err().state, "42704");
        assert_eq!(settings.set("my.own", Some("9")), Ok(None));
        assert_eq!(settings.show("my.own").unwrap().1, "9");
        assert_eq!(settings.statement_timeout(), None);
        settings.set("statement_timeout", Some("5s")).unwrap();
        assert_eq!(settings.statement_timeout(), Some(Duration::from_secs(5)));
        assert!(settings.set("statement_timeout", Some("soon")).is_err());
        settings.set("pharos.consistency", Some("local")).unwrap();
        assert_eq!(settings.consistency(), Consistency::Local);
        settings.reset();
        assert_eq!((settings.statement_timeout(), settings.consistency()), (None, Consistency::Linearizable));
        for number in 0..MAX_OWN {
            settings.set(&format!("my.{number}"), Some("x")).unwrap();
        }
        assert_eq!(settings.set("my.more", Some("x")).unwrap_err().state, "54000");
        assert!(settings.set("my.0", Some(&"x".repeat(MAX_VALUE_BYTES + 1))).is_err());
    }

    #[test]
    fn a_greeting_may_set_some() {
        let begin = |name: &str, value: &str| Settings::begin("ann", &[(name.to_owned(), value.to_owned())]);
        let settings = begin("options", "-c statement_timeout=7 --my.own=a\\ b").unwrap();
        assert_eq!(settings.statement_timeout(), Some(Duration::from_millis(7)));
        assert_eq!(settings.show("my.own").unwrap().1, "a b");
        assert!(begin("options", "-x").is_err());
        assert!(begin("client_encoding", "LATIN1").is_err());
        let elsewhere = begin("TimeZone", "Europe/Rome").unwrap();
        assert!(elsewhere.reported().any(|reported| reported == ("TimeZone", "UTC")));
    }
}
