//! Expressions to text that parses to the same.

use std::fmt::{Display, Formatter, Result, Write};

use super::units::format_duration;
use super::{
    AggregateOp, Conversion, Expr, Extraction, Grouping, LabelChoice, LabelFilter, LabelMatcher, LabelValue,
    LineOp, LineTest, LogExpr, Matching, Metric, RangeExpr, Stage, Unwrap,
};

fn quoted(f: &mut Formatter<'_>, text: &str) -> Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_control() => write!(f, "\\U{:08x}", c as u32)?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

fn list<T>(
    f: &mut Formatter<'_>,
    items: &[T],
    between: &str,
    mut write: impl FnMut(&mut Formatter<'_>, &T) -> Result,
) -> Result {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            f.write_str(between)?;
        }
        write(f, item)?;
    }
    Ok(())
}

/// A number, always as digits.
fn number(f: &mut Formatter<'_>, value: f64) -> Result {
    if value.is_infinite() {
        return f.write_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
    write!(f, "{value}")
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Log(log) => log.fmt(f),
            Self::Metric(metric) => metric.fmt(f),
        }
    }
}

impl Display for LabelMatcher {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}{}", self.name, self.op.as_str())?;
        quoted(f, &self.value)
    }
}

impl LogExpr {
    fn selector(&self, f: &mut Formatter<'_>) -> Result {
        f.write_char('{')?;
        list(f, &self.matchers, ", ", |f, matcher| matcher.fmt(f))?;
        f.write_char('}')
    }
}

impl Display for LogExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.selector(f)?;
        self.stages.iter().try_for_each(|stage| write!(f, " {stage}"))
    }
}

fn extractions(f: &mut Formatter<'_>, extractions: &[Extraction]) -> Result {
    if extractions.is_empty() {
        return Ok(());
    }
    f.write_char(' ')?;
    list(f, extractions, ", ", |f, extraction| {
        write!(f, "{}=", extraction.label)?;
        quoted(f, &extraction.path)
    })
}

fn choices(f: &mut Formatter<'_>, choices: &[LabelChoice]) -> Result {
    list(f, choices, ", ", |f, choice| match choice {
        LabelChoice::Name(name) => f.write_str(name),
        LabelChoice::Matcher(matcher) => matcher.fmt(f),
    })
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let with_text = |f: &mut Formatter<'_>, name: &str, text: &str| {
            write!(f, "| {name} ")?;
            quoted(f, text)
        };
        match self {
            Self::Line(op, tests) => {
                f.write_str(match op {
                    LineOp::Contains => "|= ",
                    LineOp::NotContains => "!= ",
                    LineOp::Matches => "|~ ",
                    LineOp::NotMatches => "!~ ",
                    LineOp::Pattern => "|> ",
                    LineOp::NotPattern => "!> ",
                })?;
                list(f, tests, " or ", |f, test| match test {
                    LineTest::Text(text) => quoted(f, text),
                    LineTest::Ip(text) => {
                        f.write_str("ip(")?;
                        quoted(f, text)?;
                        f.write_char(')')
                    }
                })
            }
            Self::Json(paths) => {
                f.write_str("| json")?;
                extractions(f, paths)
            }
            Self::Logfmt { strict, keep_empty, extractions: paths } => {
                f.write_str("| logfmt")?;
                if *strict {
                    f.write_str(" --strict")?;
                }
                if *keep_empty {
                    f.write_str(" --keep-empty")?;
                }
                extractions(f, paths)
            }
            Self::Regexp(text) => with_text(f, "regexp", text),
            Self::Pattern(text) => with_text(f, "pattern", text),
            Self::Unpack => f.write_str("| unpack"),
            Self::Filter(filter) => write!(f, "| {filter}"),
            Self::LineFormat(text) => with_text(f, "line_format", text),
            Self::LabelFormat(formats) => {
                f.write_str("| label_format ")?;
                list(f, formats, ", ", |f, (name, value)| {
                    write!(f, "{name}=")?;
                    match value {
                        LabelValue::Rename(other) => f.write_str(other),
                        LabelValue::Template(template) => quoted(f, template),
                    }
                })
            }
            Self::Drop(labels) => {
                f.write_str("| drop ")?;
                choices(f, labels)
            }
            Self::Keep(labels) => {
                f.write_str("| keep ")?;
                choices(f, labels)
            }
            Self::Decolorize => f.write_str("| decolorize"),
        }
    }
}

impl Display for LabelFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::And(left, right) => write!(f, "({left} and {right})"),
            Self::Or(left, right) => write!(f, "({left} or {right})"),
            Self::Match(matcher) => matcher.fmt(f),
            Self::Number(name, compare, value) => {
                write!(f, "{name} {} ", compare.as_str())?;
                number(f, *value)
            }
            Self::Duration(name, compare, ns) => {
                write!(f, "{name} {} {}", compare.as_str(), format_duration(*ns))
            }
            Self::Bytes(name, compare, bytes) => write!(f, "{name} {} {bytes}B", compare.as_str()),
            Self::Ip(name, is_equal, text) => {
                write!(f, "{name} {} ip(", if *is_equal { "=" } else { "!=" })?;
                quoted(f, text)?;
                f.write_char(')')
            }
        }
    }
}

impl Display for Unwrap {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.conversion {
            Conversion::None => write!(f, "| unwrap {}", self.label)?,
            Conversion::Duration => write!(f, "| unwrap duration({})", self.label)?,
            Conversion::Bytes => write!(f, "| unwrap bytes({})", self.label)?,
        }
        self.filters.iter().try_for_each(|filter| write!(f, " | {filter}"))
    }
}

impl Display for Grouping {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} ({})", if self.without { "without" } else { "by" }, self.labels.join(", "))
    }
}

impl Display for RangeExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}(", self.op.as_str())?;
        if let Some(param) = self.param {
            number(f, param)?;
            f.write_str(", ")?;
        }
        self.log.fmt(f)?;
        if let Some(unwrap) = &self.unwrap {
            write!(f, " {unwrap}")?;
        }
        write!(f, " [{}]", format_duration(self.range_ns))?;
        if self.offset_ns != 0 {
            write!(f, " offset {}", format_duration(self.offset_ns))?;
        }
        f.write_char(')')?;
        match &self.grouping {
            Some(grouping) => write!(f, " {grouping}"),
            None => Ok(()),
        }
    }
}

impl Display for Matching {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if self.returns_bool {
            f.write_str("bool ")?;
        }
        if let Some((on, labels)) = &self.on {
            write!(f, "{} ({}) ", if *on { "on" } else { "ignoring" }, labels.join(", "))?;
        }
        if let Some((left, labels)) = &self.group {
            write!(f, "{} ({}) ", if *left { "group_left" } else { "group_right" }, labels.join(", "))?;
        }
        Ok(())
    }
}

impl Display for Metric {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Number(value) => number(f, *value),
            Self::Vector(value) => {
                f.write_str("vector(")?;
                number(f, *value)?;
                f.write_char(')')
            }
            Self::Range(range) => range.fmt(f),
            Self::Aggregate { op, param, grouping, expr } => {
                f.write_str(op.as_str())?;
                if let Some(grouping) = grouping {
                    write!(f, " {grouping} ")?;
                }
                f.write_char('(')?;
                if let Some(param) = param {
                    number(f, *param)?;
                    f.write_str(", ")?;
                }
                write!(f, "{expr})")
            }
            // Every operation in parentheses: none is left out by mistake.
            Self::Binary { op, matching, left, right } => {
                write!(f, "({left} {} {matching}{right})", op.as_str())
            }
            Self::LabelReplace { expr, destination, replacement, source, expression } => {
                write!(f, "label_replace({expr}")?;
                for text in [destination, replacement, source, expression] {
                    f.write_str(", ")?;
                    quoted(f, text)?;
                }
                f.write_char(')')
            }
        }
    }
}

impl AggregateOp {
    /// Takes a number in front of its expression.
    pub fn takes_param(self) -> bool {
        matches!(self, Self::Topk | Self::Bottomk)
    }
}
