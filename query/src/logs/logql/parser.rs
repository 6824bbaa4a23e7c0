//! Text to [`Expr`], by recursive descent.

use protocol::matcher::MatchOp;

use super::lexer::{Cursor, Result};
use super::units::{parse_bytes, parse_duration};
use super::{
    AggregateOp, BinaryOp, Compare, Conversion, Expr, Extraction, Grouping, LabelChoice, LabelFilter,
    LabelMatcher, LabelValue, LineOp, LineTest, LogExpr, Matching, Metric, RangeExpr, RangeOp, Stage, Unwrap,
};
use crate::error::QueryError;

/// Expressions nest at most so deep.
const MAX_DEPTH: usize = 64;

/// What is wrong with a query, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parse error at line {line}, col {column}: {message}")]
pub struct LogqlError {
    /// Line, from 1.
    pub line: usize,
    /// Character of the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl LogqlError {
    pub(super) fn at(text: &str, at: usize, message: impl Into<String>) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        }
    }
}

impl From<LogqlError> for QueryError {
    fn from(error: LogqlError) -> Self {
        Self::BadParameter(error.to_string())
    }
}

/// Parses a query.
pub fn parse(text: &str) -> Result<Expr> {
    let mut parser = Parser { cursor: Cursor::new(text), depth: 0 };
    let expr = parser.expr(0)?;
    if !parser.cursor.is_done() {
        return parser.cursor.unexpected("the end");
    }
    Ok(expr)
}

/// Parses a log query.
pub fn parse_log(text: &str) -> Result<LogExpr> {
    match parse(text)? {
        Expr::Log(log) => Ok(log),
        Expr::Metric(_) => Err(LogqlError::at(text, 0, "a log query is due, not one that gives numbers")),
    }
}

/// Parses a selector alone.
pub fn parse_selector(text: &str) -> Result<Vec<LabelMatcher>> {
    let mut parser = Parser { cursor: Cursor::new(text), depth: 0 };
    let matchers = parser.selector()?;
    if !parser.cursor.is_done() {
        return parser.cursor.unexpected("the end of the selector");
    }
    Ok(matchers)
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    depth: usize,
}

impl Parser<'_> {
    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == MAX_DEPTH {
            return self.cursor.fail(self.cursor.position(), format!("nested deeper than {MAX_DEPTH}"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// An expression of operators that bind stronger than `above`.
    fn expr(&mut self, above: u8) -> Result<Expr> {
        let begin = self.cursor.position();
        let mut left = self.deeper(Self::primary)?;
        loop {
            let at = self.cursor.position();
            let Some(op) = self.binary_op() else { return Ok(left) };
            if op.precedence() <= above {
                self.cursor.go_back(at);
                return Ok(left);
            }
            let Expr::Metric(left_side) = left else {
                return self.cursor.fail(begin, format!("{} takes numbers, not lines", op.as_str()));
            };
            let matching = self.matching(op)?;
            let right_at = self.cursor.position();
            // The power binds to the right.
            let below = if op == BinaryOp::Pow { op.precedence() - 1 } else { op.precedence() };
            let Expr::Metric(right) = self.deeper(|parser| parser.expr(below))? else {
                return self.cursor.fail(right_at, format!("{} takes numbers, not lines", op.as_str()));
            };
            let is_number = |side: &Metric| matches!(side, Metric::Number(_));
            if op.is_set() && (is_number(&left_side) || is_number(&right)) {
                return self.cursor.fail(at, format!("{} takes series, not a number", op.as_str()));
            }
            left = Expr::Metric(Metric::Binary {
                op,
                matching,
                left: Box::new(left_side),
                right: Box::new(right),
            });
        }
    }

    fn binary_op(&mut self) -> Option<BinaryOp> {
        for (word, op) in [("or", BinaryOp::Or), ("and", BinaryOp::And), ("unless", BinaryOp::Unless)] {
            if self.cursor.take_word(word) {
                return Some(op);
            }
        }
        for (symbol, op) in [
            ("==", BinaryOp::Compare(Compare::Equal)),
            ("!=", BinaryOp::Compare(Compare::NotEqual)),
            (">=", BinaryOp::Compare(Compare::GreaterOrEqual)),
            ("<=", BinaryOp::Compare(Compare::LessOrEqual)),
            (">", BinaryOp::Compare(Compare::Greater)),
            ("<", BinaryOp::Compare(Compare::Less)),
            ("+", BinaryOp::Add),
            ("-", BinaryOp::Sub),
            ("*", BinaryOp::Mul),
            ("/", BinaryOp::Div),
            ("%", BinaryOp::Mod),
            ("^", BinaryOp::Pow),
        ] {
            if self.cursor.take(symbol) {
                return Some(op);
            }
        }
        None
    }

    fn matching(&mut self, op: BinaryOp) -> Result<Matching> {
        let mut matching = Matching::default();
        let at = self.cursor.position();
        if self.cursor.take_word("bool") {
            if !matches!(op, BinaryOp::Compare(_)) {
                return self.cursor.fail(at, "bool modifier can only be used on comparison operators");
            }
            matching.returns_bool = true;
        }
        for (word, on) in [("on", true), ("ignoring", false)] {
            if self.cursor.take_word(word) {
                matching.on = Some((on, self.names()?));
            }
        }
        let at = self.cursor.position();
        for (word, left) in [("group_left", true), ("group_right", false)] {
            if matching.on.is_some() && self.cursor.take_word(word) {
                if op.is_set() {
                    return self.cursor.fail(at, "no grouping allowed for set operations");
                }
                let labels = if self.cursor.sees("(") { self.names()? } else { Vec::new() };
                matching.group = Some((left, labels));
            }
        }
        Ok(matching)
    }

    /// `(a, b)`
    fn names(&mut self) -> Result<Vec<String>> {
        self.cursor.expect("(")?;
        let mut names = Vec::new();
        while !self.cursor.take(")") {
            names.push(self.cursor.name()?);
            if !self.cursor.take(",") && !self.cursor.sees(")") {
                return self.cursor.unexpected("\",\" or \")\"");
            }
        }
        Ok(names)
    }

    fn primary(&mut self) -> Result<Expr> {
        if self.cursor.sees("{") {
            return Ok(Expr::Log(self.log(false)?.0));
        }
        if self.cursor.take("(") {
            let inner = self.expr(0)?;
            self.cursor.expect(")")?;
            return match inner {
                Expr::Log(mut log) => {
                    log.stages.extend(self.stages()?);
                    Ok(Expr::Log(log))
                }
                metric => Ok(metric),
            };
        }
        let at = self.cursor.position();
        if let Some(value) = self.number()? {
            return Ok(Expr::Metric(Metric::Number(value)));
        }
        let Some(word) = self.cursor.peek_word() else {
            return self.cursor.unexpected("a selector, a function or a number");
        };
        if let Some(op) = RangeOp::ALL.into_iter().find(|op| op.as_str() == word) {
            self.cursor.take_word(word);
            return Ok(Expr::Metric(Metric::Range(Box::new(self.range(op, at)?))));
        }
        if let Some(op) = AggregateOp::ALL.into_iter().find(|op| op.as_str() == word) {
            self.cursor.take_word(word);
            return Ok(Expr::Metric(self.aggregate(op, at)?));
        }
        match word {
            "vector" => {
                self.cursor.take_word(word);
                self.cursor.expect("(")?;
                let Some(value) = self.number()? else { return self.cursor.unexpected("a number") };
                self.cursor.expect(")")?;
                Ok(Expr::Metric(Metric::Vector(value)))
            }
            "label_replace" => {
                self.cursor.take_word(word);
                self.cursor.expect("(")?;
                let expr = Box::new(self.metric()?);
                let mut texts = Vec::new();
                for _ in 0..4 {
                    self.cursor.expect(",")?;
                    texts.push(self.cursor.string()?);
                }
                self.cursor.expect(")")?;
                let mut texts = texts.into_iter();
                let mut next = || texts.next().unwrap_or_default();
                let (destination, replacement, source, expression) = (next(), next(), next(), next());
                if let Err(error) = regex::Regex::new(&expression) {
                    return self
                        .cursor
                        .fail(at, format!("invalid regex in label_replace: {}", last_line(&error)));
                }
                Ok(Expr::Metric(Metric::LabelReplace { expr, destination, replacement, source, expression }))
            }
            _ => self.cursor.unexpected("a selector, a function or a number"),
        }
    }

    fn metric(&mut self) -> Result<Metric> {
        let at = self.cursor.position();
        match self.expr(0)? {
            Expr::Metric(metric) => Ok(metric),
            Expr::Log(_) => {
                self.cursor.fail(at, "numbers are due, not lines; count_over_time(... [5m]) counts them")
            }
        }
    }

    fn number(&mut self) -> Result<Option<f64>> {
        let at = self.cursor.position();
        for (text, value) in [("+Inf", f64::INFINITY), ("-Inf", f64::NEG_INFINITY)] {
            if self.cursor.take(text) {
                return Ok(Some(value));
            }
        }
        if self.cursor.take_word("NaN") {
            return Ok(Some(f64::NAN));
        }
        match self.cursor.quantity() {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(value) => Ok(Some(value)),
                Err(_) => self.cursor.fail(at, format!("{text:?} is no number")),
            },
        }
    }

    fn grouping(&mut self) -> Result<Option<Grouping>> {
        for (word, without) in [("by", false), ("without", true)] {
            if self.cursor.take_word(word) {
                return Ok(Some(Grouping { without, labels: self.names()? }));
            }
        }
        Ok(None)
    }

    fn aggregate(&mut self, op: AggregateOp, at: usize) -> Result<Metric> {
        let before = self.grouping()?;
        self.cursor.expect("(")?;
        let mut param = None;
        if op.takes_param() {
            let Some(value) = self.number()? else {
                return self.cursor.fail(at, format!("parameter required for operation {}", op.as_str()));
            };
            if !(value >= 1.0 && value <= f64::from(u32::MAX)) || value.fract() != 0.0 {
                return self
                    .cursor
                    .fail(at, format!("invalid parameter (must be greater than 0) {}({value}", op.as_str()));
            }
            param = Some(value);
            self.cursor.expect(",")?;
        }
        let expr = Box::new(self.metric()?);
        self.cursor.expect(")")?;
        let behind = self.grouping()?;
        if before.is_some() && behind.is_some() {
            return self.cursor.fail(at, "the labels of groups stand twice");
        }
        let grouping = before.or(behind);
        if grouping.is_some() && matches!(op, AggregateOp::Sort | AggregateOp::SortDesc) {
            return self.cursor.fail(at, format!("grouping is not allowed for {}", op.as_str()));
        }
        Ok(Metric::Aggregate { op, param, grouping, expr })
    }

    fn range(&mut self, op: RangeOp, at: usize) -> Result<RangeExpr> {
        self.cursor.expect("(")?;
        let mut param = None;
        if op == RangeOp::QuantileOverTime {
            let Some(value) = self.number()? else {
                return self.cursor.fail(at, format!("parameter required for operation {}", op.as_str()));
            };
            param = Some(value);
            self.cursor.expect(",")?;
        }
        let (log, tail) = self.log(true)?;
        self.cursor.expect(")")?;
        let grouping = self.grouping()?;
        let name = op.as_str();
        let Some(range_ns) = tail.range_ns else {
            return self.cursor.fail(at, format!("{name} takes a range such as [5m]"));
        };
        use RangeOp::{AbsentOverTime, BytesOverTime, BytesRate, CountOverTime, Rate, SumOverTime};
        match op {
            Rate | AbsentOverTime => {}
            CountOverTime | BytesRate | BytesOverTime if tail.unwrap.is_some() => {
                return self.cursor.fail(at, format!("invalid aggregation {name} with unwrap"));
            }
            CountOverTime | BytesRate | BytesOverTime => {}
            _ if tail.unwrap.is_none() => {
                return self.cursor.fail(at, format!("invalid aggregation {name} without unwrap"));
            }
            _ => {}
        }
        let is_grouped =
            !matches!(op, Rate | AbsentOverTime | CountOverTime | BytesRate | BytesOverTime | SumOverTime);
        if grouping.is_some() && !is_grouped {
            return self.cursor.fail(at, format!("grouping not allowed for {name} aggregation"));
        }
        Ok(RangeExpr { op, param, log, unwrap: tail.unwrap, range_ns, offset_ns: tail.offset_ns, grouping })
    }

    /// A log expression; inside of a range function with what stands around its stages.
    fn log(&mut self, in_range: bool) -> Result<(LogExpr, RangeTail)> {
        if in_range && self.cursor.take("(") {
            let (mut log, mut tail) = self.deeper(|parser| parser.log(true))?;
            self.cursor.expect(")")?;
            self.rest_of_log(&mut log, &mut tail, true)?;
            return Ok((log, tail));
        }
        let at = self.cursor.position();
        let matchers = self.selector()?;
        let is_selective = |m: &LabelMatcher| match m.op {
            MatchOp::Equal => !m.value.is_empty(),
            MatchOp::NotEqual => m.value.is_empty(),
            MatchOp::Regex => regex::Regex::new(&anchored(&m.value)).is_ok_and(|regex| !regex.is_match("")),
            MatchOp::NotRegex => regex::Regex::new(&anchored(&m.value)).is_ok_and(|regex| regex.is_match("")),
        };
        if !matchers.is_empty() && !matchers.iter().any(is_selective) {
            let message = "queries require at least one regexp or equality matcher that does not have an empty-compatible \
                           value. For instance, app=~\".*\" does not meet this requirement, but app=~\".+\" will";
            return self.cursor.fail(at, message);
        }
        let (mut log, mut tail) = (LogExpr { matchers, stages: Vec::new() }, RangeTail::default());
        self.rest_of_log(&mut log, &mut tail, in_range)?;
        Ok((log, tail))
    }

    fn rest_of_log(&mut self, log: &mut LogExpr, tail: &mut RangeTail, in_range: bool) -> Result<()> {
        loop {
            let at = self.cursor.position();
            if in_range && self.cursor.take("[") {
                if tail.range_ns.is_some() {
                    return self.cursor.fail(at, "the range stands twice");
                }
                let inside = self.cursor.until("]")?.trim();
                let Some(range) = parse_duration(inside, true).filter(|ns| *ns > 0) else {
                    return self.cursor.fail(at, format!("{inside:?} is no duration of a range"));
                };
                tail.range_ns = Some(range);
                if self.cursor.take_word("offset") {
                    let at = self.cursor.position();
                    let offset = self.cursor.quantity().and_then(|text| parse_duration(text, true));
                    let Some(offset) = offset else {
                        return self.cursor.fail(at, "a duration is due behind offset");
                    };
                    tail.offset_ns = offset;
                }
                continue;
            }
            if in_range && self.takes_unwrap() {
                if tail.unwrap.is_some() {
                    return self.cursor.fail(at, "unwrap stands twice");
                }
                tail.unwrap = Some(self.unwrap()?);
                continue;
            }
            let Some(stage) = self.stage()? else { return Ok(()) };
            match (&mut tail.unwrap, stage) {
                (None, stage) => log.stages.push(stage),
                (Some(unwrap), Stage::Filter(filter)) => unwrap.filters.push(filter),
                (Some(_), _) => {
                    return self.cursor.fail(at, "only filters of labels may stand behind unwrap");
                }
            }
        }
    }

    fn takes_unwrap(&mut self) -> bool {
        let at = self.cursor.position();
        let found = self.cursor.take("|") && self.cursor.take_word("unwrap");
        if !found {
            self.cursor.go_back(at);
        }
        found
    }

    fn unwrap(&mut self) -> Result<Unwrap> {
        let at = self.cursor.position();
        let name = self.cursor.name()?;
        if !self.cursor.take("(") {
            return Ok(Unwrap { label: name, conversion: Conversion::None, filters: Vec::new() });
        }
        let conversion = match name.as_str() {
            "duration" | "duration_seconds" => Conversion::Duration,
            "bytes" => Conversion::Bytes,
            _ => {
                return self
                    .cursor
                    .fail(at, format!("{name:?} is no conversion: duration, duration_seconds, bytes"));
            }
        };
        let label = self.cursor.name()?;
        self.cursor.expect(")")?;
        Ok(Unwrap { label, conversion, filters: Vec::new() })
    }

    fn selector(&mut self) -> Result<Vec<LabelMatcher>> {
        self.cursor.expect("{")?;
        let mut matchers = Vec::new();
        while !self.cursor.take("}") {
            let at = self.cursor.position();
            let name = self.cursor.name()?;
            let Some(op) = self.match_op() else { return self.cursor.unexpected("=, !=, =~ or !~") };
            matchers.push(self.matcher(name, op, at)?);
            if !self.cursor.take(",") && !self.cursor.sees("}") {
                return self.cursor.unexpected("\",\" or \"}\"");
            }
        }
        Ok(matchers)
    }

    fn match_op(&mut self) -> Option<MatchOp> {
        for (symbol, op) in [
            ("=~", MatchOp::Regex),
            ("!~", MatchOp::NotRegex),
            ("!=", MatchOp::NotEqual),
            ("=", MatchOp::Equal),
        ] {
            // `==` compares numbers.
            if !self.cursor.sees("==") && self.cursor.take(symbol) {
                return Some(op);
            }
        }
        None
    }

    fn matcher(&mut self, name: String, op: MatchOp, at: usize) -> Result<LabelMatcher> {
        let value = self.cursor.string()?;
        if matches!(op, MatchOp::Regex | MatchOp::NotRegex) {
            self.check_regex(&anchored(&value), at)?;
        }
        Ok(LabelMatcher { name, op, value })
    }

    fn check_regex(&self, expression: &str, at: usize) -> Result<()> {
        match regex::Regex::new(expression) {
            Ok(_) => Ok(()),
            Err(error) => self.cursor.fail(at, format!("regular expression: {}", last_line(&error))),
        }
    }

    fn stages(&mut self) -> Result<Vec<Stage>> {
        let mut stages = Vec::new();
        while let Some(stage) = self.stage()? {
            stages.push(stage);
        }
        Ok(stages)
    }

    fn stage(&mut self) -> Result<Option<Stage>> {
        let at = self.cursor.position();
        for (symbol, op) in [
            ("|=", LineOp::Contains),
            ("!=", LineOp::NotContains),
            ("|~", LineOp::Matches),
            ("!~", LineOp::NotMatches),
            ("|>", LineOp::Pattern),
            ("!>", LineOp::NotPattern),
        ] {
            if self.cursor.take(symbol) {
                return Ok(Some(self.line_filter(op)?));
            }
        }
        if !self.cursor.take("|") {
            return Ok(None);
        }
        let Some(word) = self.cursor.peek_word() else {
            if self.cursor.sees("(") {
                return Ok(Some(Stage::Filter(self.label_filter()?)));
            }
            return self.cursor.unexpected("a stage or a label");
        };
        let stage = match word {
            "json" => {
                self.cursor.take_word(word);
                let paths = self.extractions()?;
                for path in &paths {
                    if super::lineparse::parse_path(&path.path).is_none() {
                        return self.cursor.fail(at, format!("cannot parse expression [{}]", path.path));
                    }
                }
                Stage::Json(paths)
            }
            "logfmt" => {
                self.cursor.take_word(word);
                let (mut strict, mut keep_empty) = (false, false);
                loop {
                    if self.cursor.take("--strict") {
                        strict = true;
                    } else if self.cursor.take("--keep-empty") {
                        keep_empty = true;
                    } else {
                        break;
                    }
                }
                Stage::Logfmt { strict, keep_empty, extractions: self.extractions()? }
            }
            "regexp" => {
                self.cursor.take_word(word);
                let expression = self.cursor.string()?;
                self.check_regex(&expression, at)?;
                let names = regex::Regex::new(&expression).map_or(0, |r| r.capture_names().flatten().count());
                if names == 0 {
                    return self.cursor.fail(at, "at least one named capture must be supplied");
                }
                Stage::Regexp(expression)
            }
            "pattern" => {
                self.cursor.take_word(word);
                let pattern = self.cursor.string()?;
                if let Err(reason) = super::lineparse::Pattern::new(&pattern) {
                    return self.cursor.fail(at, format!("pattern: {reason}"));
                }
                Stage::Pattern(pattern)
            }
            "unpack" => {
                self.cursor.take_word(word);
                Stage::Unpack
            }
            "decolorize" => {
                self.cursor.take_word(word);
                Stage::Decolorize
            }
            "line_format" => {
                self.cursor.take_word(word);
                let template = self.cursor.string()?;
                self.check_template(&template, at)?;
                Stage::LineFormat(template)
            }
            "label_format" => {
                self.cursor.take_word(word);
                let mut formats = Vec::new();
                loop {
                    let name = self.cursor.name()?;
                    self.cursor.expect("=")?;
                    let value = if self.cursor.sees_string() {
                        let template = self.cursor.string()?;
                        self.check_template(&template, at)?;
                        LabelValue::Template(template)
                    } else {
                        LabelValue::Rename(self.cursor.name()?)
                    };
                    if formats.iter().any(|(known, _)| *known == name) {
                        return self.cursor.fail(
                            at,
                            format!("multiple label name '{name}' not allowed in a single format operation"),
                        );
                    }
                    formats.push((name, value));
                    if !self.cursor.take(",") {
                        break;
                    }
                }
                Stage::LabelFormat(formats)
            }
            "drop" | "keep" => {
                self.cursor.take_word(word);
                let choices = self.choices()?;
                if word == "drop" { Stage::Drop(choices) } else { Stage::Keep(choices) }
            }
            "unwrap" => return self.cursor.fail(at, "unwrap stands only in functions over ranges"),
            _ => Stage::Filter(self.label_filter()?),
        };
        Ok(Some(stage))
    }

    fn check_template(&self, template: &str, at: usize) -> Result<()> {
        match super::template::Template::new(template) {
            Ok(_) => Ok(()),
            Err(reason) => self.cursor.fail(at, format!("invalid template: {reason}")),
        }
    }

    fn line_filter(&mut self, op: LineOp) -> Result<Stage> {
        let mut tests = Vec::new();
        loop {
            let at = self.cursor.position();
            if self.cursor.peek_word() == Some("ip") {
                self.cursor.take_word("ip");
                if !matches!(op, LineOp::Contains | LineOp::NotContains) {
                    return self.cursor.fail(at, "ip() stands only behind |= and !=");
                }
                tests.push(LineTest::Ip(self.ip(at)?));
            } else {
                let text = self.cursor.string()?;
                match op {
                    LineOp::Matches | LineOp::NotMatches => self.check_regex(&text, at)?,
                    LineOp::Pattern | LineOp::NotPattern if text.contains("<_><_>") => {
                        return self.cursor.fail(at, "two captures of a pattern need something between them");
                    }
                    _ => {}
                }
                tests.push(LineTest::Text(text));
            }
            if !self.cursor.take_word("or") {
                return Ok(Stage::Line(op, tests));
            }
        }
    }

    fn ip(&mut self, at: usize) -> Result<String> {
        self.cursor.expect("(")?;
        let text = self.cursor.string()?;
        self.cursor.expect(")")?;
        if super::lineparse::IpTest::new(&text).is_none() {
            return self.cursor.fail(at, format!("{text:?} is no address, range or network"));
        }
        Ok(text)
    }

    fn extractions(&mut self) -> Result<Vec<Extraction>> {
        let mut out = Vec::new();
        // Without a word, the next stage follows.
        while self.cursor.peek_word().is_some_and(|word| !matches!(word, "and" | "or" | "unless")) {
            let label = self.cursor.name()?;
            let path = if self.cursor.take("=") { self.cursor.string()? } else { label.clone() };
            out.push(Extraction { label, path });
            if !self.cursor.take(",") {
                break;
            }
        }
        Ok(out)
    }

    fn choices(&mut self) -> Result<Vec<LabelChoice>> {
        let mut out = Vec::new();
        loop {
            let at = self.cursor.position();
            let name = self.cursor.name()?;
            let choice = match self.match_op() {
                Some(op) => LabelChoice::Matcher(self.matcher(name, op, at)?),
                None => LabelChoice::Name(name),
            };
            out.push(choice);
            if !self.cursor.take(",") {
                return Ok(out);
            }
        }
    }

    fn label_filter(&mut self) -> Result<LabelFilter> {
        let mut left = self.label_and()?;
        while self.cursor.take_word("or") {
            left = LabelFilter::Or(Box::new(left), Box::new(self.label_and()?));
        }
        Ok(left)
    }

    fn label_and(&mut self) -> Result<LabelFilter> {
        let mut left = self.deeper(Self::label_test)?;
        loop {
            let is_and = self.cursor.take(",") || self.cursor.take_word("and");
            // Two tests beside each other are to be met, too.
            let is_beside = self
                .cursor
                .peek_word()
                .is_some_and(|word| !matches!(word, "or" | "unless" | "by" | "without"));
            if !is_and && !is_beside {
                return Ok(left);
            }
            left = LabelFilter::And(Box::new(left), Box::new(self.deeper(Self::label_test)?));
        }
    }

    fn label_test(&mut self) -> Result<LabelFilter> {
        if self.cursor.take("(") {
            let inner = self.label_filter()?;
            self.cursor.expect(")")?;
            return Ok(inner);
        }
        let at = self.cursor.position();
        let name = self.cursor.name()?;
        let op_at = self.cursor.position();
        if let Some(op) = self.match_op() {
            if self.cursor.sees_string() {
                return Ok(LabelFilter::Match(self.matcher(name, op, at)?));
            }
            if matches!(op, MatchOp::Equal | MatchOp::NotEqual) && self.cursor.take_word("ip") {
                return Ok(LabelFilter::Ip(name, op == MatchOp::Equal, self.ip(at)?));
            }
            if matches!(op, MatchOp::Regex | MatchOp::NotRegex) {
                return self.cursor.unexpected("a string");
            }
            self.cursor.go_back(op_at);
        }
        let compare = [
            ("==", Compare::Equal),
            ("!=", Compare::NotEqual),
            (">=", Compare::GreaterOrEqual),
            ("<=", Compare::LessOrEqual),
            ("=", Compare::Equal),
            (">", Compare::Greater),
            ("<", Compare::Less),
        ]
        .into_iter()
        .find(|(symbol, _)| self.cursor.take(symbol));
        let Some((_, compare)) = compare else { return self.cursor.unexpected("a comparison") };
        let at = self.cursor.position();
        let Some(text) = self.cursor.quantity() else {
            return self.cursor.unexpected("a string, a number, a duration or a size");
        };
        if let Ok(value) = text.parse::<f64>() {
            return Ok(LabelFilter::Number(name, compare, value));
        }
        if let Some(ns) = parse_duration(text, true) {
            return Ok(LabelFilter::Duration(name, compare, ns));
        }
        match parse_bytes(text) {
            Some(bytes) => Ok(LabelFilter::Bytes(name, compare, bytes)),
            None => self.cursor.fail(at, format!("{text:?} is no number, duration or size")),
        }
    }
}

/// What a range function has beside the stages.
#[derive(Default)]
struct RangeTail {
    range_ns: Option<i64>,
    offset_ns: i64,
    unwrap: Option<Unwrap>,
}

/// Matchers of labels match whole values.
pub(super) fn anchored(expression: &str) -> String {
    format!("^(?s:{expression})$")
}

/// The reason at the end of a message of the regex crate.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}
