//! Settings with a unit: sizes (`64MiB`), durations (`1h30m`) and retention (`30d` or `unlimited`).
//!
//! A size or a duration always carries its unit, in files, in the environment and in flags alike; a bare number is
//! an error, because `timeout: 30` has meant seconds in one product and milliseconds in the next. `0` alone is fine.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a value with a unit was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// No digits where a number was due.
    #[error("{input:?} is no {what}: a number followed by one of {units} is expected")]
    Syntax { input: String, what: &'static str, units: &'static str },
    /// The number has no unit.
    #[error("{input:?} has no unit: write one of {units} behind the number")]
    NoUnit { input: String, units: &'static str },
    /// Neither an address nor a word.
    #[error("{input:?} is no address: ip:port, auto or off is expected")]
    Listen { input: String },
    /// The value does not fit.
    #[error("{input:?} is too large")]
    TooLarge { input: String },
}

const SIZE_UNITS: &str = "B, KB, MB, GB, TB, KiB, MiB, GiB, TiB";
const DURATION_UNITS: &str = "ms, s, m, h, d, w, y";

/// A number of bytes, written with a decimal (`MB`) or binary (`MiB`) unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// So many binary megabytes.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// As an in-memory length.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(input: &str) -> Result<Self, UnitError> {
        let text = input.trim();
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let syntax = || UnitError::Syntax { input: input.to_owned(), what: "size", units: SIZE_UNITS };
        let too_large = || UnitError::TooLarge { input: input.to_owned() };
        if digits.is_empty() {
            return Err(syntax());
        }
        let number: u64 = digits.parse().map_err(|_| too_large())?;
        let factor: u64 = match unit.trim() {
            "" if number == 0 => 1,
            "" => return Err(UnitError::NoUnit { input: input.to_owned(), units: SIZE_UNITS }),
            "B" => 1,
            "KB" | "kB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return Err(syntax()),
        };
        number.checked_mul(factor).map(Self).ok_or_else(too_large)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 8] = [
            (1 << 40, "TiB"),
            (1_000_000_000_000, "TB"),
            (1 << 30, "GiB"),
            (1_000_000_000, "GB"),
            (1 << 20, "MiB"),
            (1_000_000, "MB"),
            (1 << 10, "KiB"),
            (1_000, "KB"),
        ];
        for (factor, unit) in UNITS {
            if self.0 != 0 && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// A length of time, written as in PromQL: `500ms`, `1h30m`, `30d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

impl Span {
    /// So many milliseconds.
    pub const fn millis(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }

    /// So many seconds.
    pub const fn secs(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }

    /// Milliseconds, saturating.
    pub fn as_ms(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }
}

/// Milliseconds and names of the units, largest first.
const SPANS: [(u64, &str); 7] = [
    (365 * 86_400_000, "y"),
    (7 * 86_400_000, "w"),
    (86_400_000, "d"),
    (3_600_000, "h"),
    (60_000, "m"),
    (1_000, "s"),
    (1, "ms"),
];

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(input: &str) -> Result<Self, UnitError> {
        let syntax =
            || UnitError::Syntax { input: input.to_owned(), what: "duration", units: DURATION_UNITS };
        let too_large = || UnitError::TooLarge { input: input.to_owned() };
        let mut rest = input.trim();
        if rest == "0" {
            return Ok(Self(Duration::ZERO));
        }
        if rest.is_empty() {
            return Err(syntax());
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let split = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (digits, tail) = rest.split_at(split);
            if digits.is_empty() {
                return Err(syntax());
            }
            if tail.is_empty() {
                return Err(UnitError::NoUnit { input: input.to_owned(), units: DURATION_UNITS });
            }
            let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(end);
            let number: u64 = digits.parse().map_err(|_| too_large())?;
            let factor = SPANS.iter().find(|(_, name)| *name == unit.trim()).ok_or_else(syntax)?.0;
            total = number.checked_mul(factor).and_then(|ms| total.checked_add(ms)).ok_or_else(too_large)?;
            rest = tail;
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        // Weeks and years are read but not written: nobody recognises "4w2d" as 30 days.
        for (factor, unit) in &SPANS[2..] {
            if rest >= *factor {
                write!(f, "{}{unit}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

/// How long data is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Retention {
    /// Partitions older than this are dropped, and samples older than this refused.
    For(Span),
    /// Nothing is dropped for its age; every timestamp from 1970 on is accepted.
    Unlimited,
}

impl Retention {
    /// Milliseconds, or nothing when unlimited.
    pub fn as_ms(self) -> Option<i64> {
        match self {
            Self::For(span) => Some(span.as_ms()),
            Self::Unlimited => None,
        }
    }

    /// Whether clocks and late senders would make it a gamble: less than an hour.
    pub fn is_too_short(self) -> bool {
        self.as_ms().is_some_and(|ms| ms < 3_600_000)
    }
}

impl FromStr for Retention {
    type Err = UnitError;

    fn from_str(input: &str) -> Result<Self, UnitError> {
        if input.trim() == "unlimited" { Ok(Self::Unlimited) } else { input.parse().map(Self::For) }
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(span) => span.fmt(f),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

/// How long roll-ups of metrics are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RollupRetention {
    /// None are made.
    #[default]
    None,
    /// So long.
    Kept(Retention),
}

impl FromStr for RollupRetention {
    type Err = UnitError;

    fn from_str(input: &str) -> Result<Self, UnitError> {
        if input.trim() == "none" { Ok(Self::None) } else { input.parse().map(Self::Kept) }
    }
}

impl fmt::Display for RollupRetention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Kept(retention) => retention.fmt(f),
        }
    }
}

/// A setting of one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[serde(bound(serialize = "T: Clone + fmt::Display", deserialize = "T: FromStr<Err = UnitError>"))]
pub enum Own<T> {
    /// As everybody's.
    #[default]
    Default,
    /// Its own.
    Set(T),
}

impl<T> Own<T> {
    /// What it comes to, where everybody's is the given one.
    pub fn or(self, general: T) -> T {
        match self {
            Self::Default => general,
            Self::Set(own) => own,
        }
    }
}

impl<T: FromStr<Err = UnitError>> FromStr for Own<T> {
    type Err = UnitError;

    fn from_str(input: &str) -> Result<Self, UnitError> {
        if input.trim() == "default" { Ok(Self::Default) } else { input.parse().map(Self::Set) }
    }
}

impl<T: fmt::Display> fmt::Display for Own<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Set(own) => own.fmt(f),
        }
    }
}

impl<T: FromStr<Err = UnitError>> TryFrom<String> for Own<T> {
    type Error = UnitError;

    fn try_from(text: String) -> Result<Self, UnitError> {
        text.parse()
    }
}

impl<T: fmt::Display> From<Own<T>> for String {
    fn from(value: Own<T>) -> Self {
        value.to_string()
    }
}

/// How long something is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Patience {
    /// So long.
    For(Span),
    /// For ever.
    Endless,
}

impl Patience {
    /// How long, or nothing when endless.
    pub fn limit(self) -> Option<Duration> {
        match self {
            Self::For(span) => Some(span.0),
            Self::Endless => None,
        }
    }
}

impl FromStr for Patience {
    type Err = UnitError;

    fn from_str(input: &str) -> Result<Self, UnitError> {
        if input.trim() == "never" { Ok(Self::Endless) } else { input.parse().map(Self::For) }
    }
}

impl fmt::Display for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(span) => span.fmt(f),
            Self::Endless => f.write_str("never"),
        }
    }
}

/// How much memory a node may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MemoryBudget {
    /// Half of what the machine, or the control group of the process, has.
    Auto,
    /// So much.
    Size(ByteSize),
}

impl FromStr for MemoryBudget {
    type Err = UnitError;

    fn from_str(input: &str) -> Result<Self, UnitError> {
        if input.trim() == "auto" { Ok(Self::Auto) } else { input.parse().map(Self::Size) }
    }
}

impl fmt::Display for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Size(size) => size.fmt(f),
        }
    }
}

/// Where a further listener listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Listen {
    /// On its usual port, beside the HTTP API; if that port is taken, nowhere.
    Auto,
    /// Nowhere.
    Off,
    /// There.
    On(SocketAddr),
}

impl Listen {
    /// The address beside another one, and whether it is needed.
    pub fn beside(self, addr: SocketAddr, usual_port: u16) -> Option<(SocketAddr, bool)> {
        match self {
            Self::Auto => Some((SocketAddr::new(addr.ip(), usual_port), false)),
            Self::Off => None,
            Self::On(addr) => Some((addr, true)),
        }
    }
}

impl FromStr for Listen {
    type Err = UnitError;

    fn from_str(input: &str) -> Result<Self, UnitError> {
        match input.trim() {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            addr => addr.parse().map(Self::On).map_err(|_| UnitError::Listen { input: input.to_owned() }),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::On(addr) => addr.fmt(f),
        }
    }
}

macro_rules! text_form {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = UnitError;
            fn try_from(text: String) -> Result<Self, UnitError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    )*};
}
text_form!(ByteSize, Span, Retention, RollupRetention, Patience, MemoryBudget, Listen);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn size(text: &str, bytes: u64, shown: &str) {
        let parsed: ByteSize = text.parse().unwrap();
        assert_eq!((parsed.0, parsed.to_string().as_str()), (bytes, shown));
    }

    #[track_caller]
    fn span(text: &str, ms: u64, shown: &str) {
        let parsed: Span = text.parse().unwrap();
        assert_eq!((parsed.0.as_millis() as u64, parsed.to_string().as_str()), (ms, shown));
    }

    #[test]
    fn sizes() {
        size("64MiB", 64 << 20, "64MiB");
        size("32 MB", 32_000_000, "32MB");
        size("0", 0, "0B");
        size("1500B", 1500, "1500B");
        size("3000B", 3000, "3KB");
        for bad in ["", "MiB", "12", "12XB", "-1MiB", "1.5GiB", "99999999999TiB", "99999999999999999999999B"]
        {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn spans() {
        span("500ms", 500, "500ms");
        span("1h30m", 5_400_000, "1h30m");
        span("4w", 28 * 86_400_000, "28d");
        span("0", 0, "0s");
        for bad in ["", "s", "30", "1h30", "5 minutes", "-5m", "1.5h", "999999999999999999y"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn memory_budget() {
        assert_eq!("auto".parse::<MemoryBudget>().unwrap().to_string(), "auto");
        assert_eq!("2GiB".parse::<MemoryBudget>().unwrap(), MemoryBudget::Size(ByteSize(2 << 30)));
        assert!("lots".parse::<MemoryBudget>().is_err());
    }

    #[test]
    fn retention() {
        assert_eq!("unlimited".parse::<Retention>().unwrap().as_ms(), None);
        assert_eq!("30d".parse::<Retention>().unwrap().to_string(), "30d");
        assert!("forever".parse::<Retention>().is_err());
        let general = Retention::For(Span::secs(5));
        for (text, kept_ms) in [("default", Some(5000)), ("unlimited", None), ("7d", Some(7 * 86_400_000))] {
            let own: Own<Retention> = text.parse().unwrap();
            assert_eq!((own.to_string(), own.or(general).as_ms()), (text.to_owned(), kept_ms));
        }
        assert!("none".parse::<Own<Retention>>().is_err());
        let none: Own<RollupRetention> = "none".parse().unwrap();
        assert_eq!(none.or(RollupRetention::Kept(general)), RollupRetention::None);
        assert_eq!("400d".parse::<RollupRetention>().unwrap().to_string(), "400d");
    }
}
