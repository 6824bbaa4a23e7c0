//! Templates of `line_format` and `label_format`: Go's, the part that queries use.
//!
//! ```text
//! {{ .label }}  {{ .label | upper | trunc 5 }}  {{ if eq .level "error" }}...{{ else }}...{{ end }}
//! {{ __line__ }}  {{ __timestamp__ }}  {{- trims the space on its side -}}
//! ```
//!
//! Values are texts, numbers and truth values; where a number is due, a text that is one will do. A function that cannot
//! do with what it gets fails the line (`TemplateFormatErr`), not the query. Texts are bounded: what a template builds may
//! not grow beyond [`MAX_BYTES`].

use regex::Regex;

use super::units::{parse_bytes, parse_duration};

/// Longest text that a template may build.
const MAX_BYTES: usize = 4 << 20;
/// Actions nest at most so deep.
const MAX_DEPTH: usize = 32;

/// A template, ready to be filled.
#[derive(Clone, Debug)]
pub(super) struct Template(Vec<Node>);

#[derive(Clone, Debug)]
enum Node {
    Text(String),
    Show(Pipe),
    If(Pipe, Vec<Node>, Vec<Node>),
}

/// Commands, each of which gets what the one before gave as its last argument.
type Pipe = Vec<Command>;

#[derive(Clone, Debug)]
enum Command {
    Value(Operand),
    Call(Function, Vec<Operand>),
}

#[derive(Clone, Debug)]
enum Operand {
    Label(String),
    /// `.` alone.
    Dot,
    Text(String),
    Number(f64),
    Bool(bool),
    Regex(Regex, String),
    Pipe(Pipe),
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Text(String),
    Number(f64),
    Bool(bool),
}

impl Value {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) if number.fract() == 0.0 && number.abs() < 1e15 => format!("{number}"),
            Self::Number(number) => crate::format::format_g(*number),
            Self::Bool(value) => value.to_string(),
        }
    }

    fn number(&self) -> Result<f64, String> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Text(text) => text.trim().parse().map_err(|_| format!("{text:?} is no number")),
            Self::Bool(value) => Ok(f64::from(u8::from(*value))),
        }
    }

    fn is_true(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::Number(number) => *number != 0.0,
            Self::Bool(value) => *value,
        }
    }
}

/// What a template is filled from.
pub(super) trait Fields {
    /// Value of a label; empty if there is none.
    fn label(&self, name: &str) -> &str;
    /// The line.
    fn line(&self) -> &str;
    /// Nanoseconds since 1970.
    fn time_ns(&self) -> i64;
}

macro_rules! functions {
    ($($($name:literal)|+ $variant:ident $least:literal..=$most:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Function {
            $($variant,)*
        }

        /// Function, and how many arguments it takes, by name.
        fn function(name: &str) -> Option<(Function, usize, usize)> {
            match name {
                $($($name)|+ => Some((Function::$variant, $least, $most)),)*
                _ => None,
            }
        }
    };
}

functions! {
    "ToLower" | "lower" Lower 1..=1, "ToUpper" | "upper" Upper 1..=1, "title" Title 1..=1,
    "trim" | "TrimSpace" Trim 1..=1, "Trim" TrimCutset 2..=2, "trimAll" TrimAll 2..=2,
    "TrimLeft" TrimLeft 2..=2, "TrimRight" TrimRight 2..=2,
    "trimPrefix" TrimPrefix 2..=2, "TrimPrefix" TrimPrefixOf 2..=2,
    "trimSuffix" TrimSuffix 2..=2, "TrimSuffix" TrimSuffixOf 2..=2,
    "Replace" ReplaceOf 4..=4, "replace" Replace 3..=3, "substr" Substr 3..=3, "trunc" Trunc 2..=2,
    "contains" Contains 2..=2, "hasPrefix" HasPrefix 2..=2, "hasSuffix" HasSuffix 2..=2,
    "indent" Indent 2..=2, "nindent" Nindent 2..=2, "repeat" Repeat 2..=2,
    "alignLeft" AlignLeft 2..=2, "alignRight" AlignRight 2..=2,
    "regexReplaceAll" RegexReplace 3..=3, "regexReplaceAllLiteral" RegexReplaceLiteral 3..=3, "count" Count 2..=2,
    "default" Default 2..=2, "len" Len 1..=1, "print" Print 0..=16, "printf" Printf 1..=16,
    "urlencode" UrlEncode 1..=1, "urldecode" UrlDecode 1..=1, "b64enc" Base64 1..=1, "b64dec" Unbase64 1..=1,
    "int" Int 1..=1, "float64" Float 1..=1, "add" Add 2..=16, "addf" AddF 2..=16, "sub" Sub 2..=2, "subf" SubF 2..=2,
    "mul" Mul 2..=16, "mulf" MulF 2..=16, "div" Div 2..=2, "divf" DivF 2..=2, "mod" Mod 2..=2, "max" | "maxf" Max 2..=16,
    "min" | "minf" Min 2..=16, "ceil" Ceil 1..=1, "floor" Floor 1..=1, "round" Round 2..=2,
    "bytes" Bytes 1..=1, "duration" | "duration_seconds" Duration 1..=1, "unixEpoch" UnixEpoch 1..=1,
    "eq" Eq 2..=16, "ne" Ne 2..=2, "lt" Lt 2..=2, "le" Le 2..=2, "gt" Gt 2..=2, "ge" Ge 2..=2,
    "and" And 1..=16, "or" Or 1..=16, "not" Not 1..=1, "__line__" Line 0..=0, "__timestamp__" Timestamp 0..=0,
}

impl Template {
    /// Parses a template.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text, depth: 0 };
        let (nodes, end) = parser.nodes()?;
        match end {
            Stop::Text => Ok(Self(nodes)),
            Stop::Else(_) => Err("else without if".to_owned()),
            Stop::End => Err("end without if".to_owned()),
        }
    }

    /// Fills the template.
    pub fn fill(&self, fields: &dyn Fields) -> Result<String, String> {
        let mut out = String::new();
        fill(&self.0, fields, &mut out)?;
        Ok(out)
    }
}

enum Stop<'a> {
    Text,
    /// With what stands behind the word.
    Else(&'a str),
    End,
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn nodes(&mut self) -> Result<(Vec<Node>, Stop<'a>), String> {
        if self.depth > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH}"));
        }
        let mut nodes = Vec::new();
        loop {
            let Some(open) = self.rest.find("{{") else {
                push_text(&mut nodes, self.rest);
                self.rest = "";
                return Ok((nodes, Stop::Text));
            };
            let (mut text, inside) = (&self.rest[..open], &self.rest[open + 2..]);
            let close = action_end(inside).ok_or("unclosed action")?;
            let (mut action, mut behind) = (&inside[..close], &inside[close + 2..]);
            if let Some(trimmed) = action.strip_prefix('-').filter(|a| a.starts_with(char::is_whitespace)) {
                text = text.trim_end();
                action = trimmed;
            }
            if let Some(trimmed) = action.strip_suffix('-').filter(|a| a.ends_with(char::is_whitespace)) {
                behind = behind.trim_start();
                action = trimmed;
            }
            push_text(&mut nodes, text);
            self.rest = behind;
            let action = action.trim();
            let (word, argument) = action.split_once(char::is_whitespace).unwrap_or((action, ""));
            match word {
                "end" => return Ok((nodes, Stop::End)),
                "else" => return Ok((nodes, Stop::Else(argument.trim()))),
                "if" => nodes.push(self.branches(argument)?),
                "range" | "with" | "define" | "template" | "block" | "break" | "continue" => {
                    return Err(format!("{word:?} is not supported"));
                }
                _ if action.starts_with("/*") => {}
                _ => nodes.push(Node::Show(pipe(action)?)),
            }
        }
    }

    fn branches(&mut self, condition: &str) -> Result<Node, String> {
        self.depth += 1;
        let condition = pipe(condition)?;
        let (then, end) = self.nodes()?;
        let otherwise = match end {
            Stop::Text => return Err("if without end".to_owned()),
            Stop::End => Vec::new(),
            Stop::Else("") => match self.nodes()? {
                (nodes, Stop::End) => nodes,
                _ => return Err("else without end".to_owned()),
            },
            Stop::Else(more) => {
                match more.strip_prefix("if").filter(|rest| rest.starts_with(char::is_whitespace)) {
                    Some(condition) => vec![self.branches(condition)?],
                    None => return Err(format!("unexpected {more:?} behind else")),
                }
            }
        };
        self.depth -= 1;
        Ok(Node::If(condition, then, otherwise))
    }
}

fn push_text(nodes: &mut Vec<Node>, text: &str) {
    if !text.is_empty() {
        nodes.push(Node::Text(text.to_owned()));
    }
}

/// Where an action ends: at `}}` outside of strings.
fn action_end(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) => {
                if c == open && !is_escaped {
                    quote = None;
                }
                is_escaped = c == '\\' && !is_escaped && open == '"';
            }
            None if matches!(c, '"' | '`') => quote = Some(c),
            None if text[at..].starts_with("}}") => return Some(at),
            None => {}
        }
    }
    None
}

/// Words of an action.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Open,
    Close,
    Bar,
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut out = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '(' => out.push(Token::Open),
            ')' => out.push(Token::Close),
            '|' => out.push(Token::Bar),
            '"' | '`' => {
                let mut string = String::new();
                loop {
                    match chars.next() {
                        None => return Err("unterminated string".to_owned()),
                        Some(end) if end == c => break,
                        Some('\\') if c == '"' => match chars.next() {
                            Some('n') => string.push('\n'),
                            Some('t') => string.push('\t'),
                            Some('r') => string.push('\r'),
                            Some(other @ ('"' | '\\' | '\'')) => string.push(other),
                            Some(other) => return Err(format!("unknown escape \\{other}")),
                            None => return Err("unterminated string".to_owned()),
                        },
                        Some(other) => string.push(other),
                    }
                }
                out.push(Token::Text(string));
            }
            c => {
                let mut word = String::from(c);
                while let Some(next) =
                    chars.next_if(|c| !c.is_whitespace() && !matches!(c, '(' | ')' | '|' | '"' | '`'))
                {
                    word.push(next);
                }
                out.push(Token::Word(word));
            }
        }
    }
    Ok(out)
}

fn pipe(text: &str) -> Result<Pipe, String> {
    let tokens = tokens(text)?;
    let mut at = 0;
    let pipe = parse_pipe(&tokens, &mut at, 0)?;
    if at < tokens.len() {
        return Err("unexpected \")\"".to_owned());
    }
    Ok(pipe)
}

fn parse_pipe(tokens: &[Token], at: &mut usize, depth: usize) -> Result<Pipe, String> {
    if depth > MAX_DEPTH {
        return Err(format!("nested deeper than {MAX_DEPTH}"));
    }
    let mut commands = Vec::new();
    loop {
        commands.push(parse_command(tokens, at, depth, !commands.is_empty())?);
        match tokens.get(*at) {
            Some(Token::Bar) => *at += 1,
            _ => return Ok(commands),
        }
    }
}

fn parse_command(tokens: &[Token], at: &mut usize, depth: usize, is_piped: bool) -> Result<Command, String> {
    let called = match tokens.get(*at) {
        None | Some(Token::Bar | Token::Close) => return Err("a value or a function is missing".to_owned()),
        Some(Token::Word(word)) => function(word).map(|found| (word.clone(), found)),
        Some(_) => None,
    };
    let Some((name, (function, least, most))) = called else {
        let operand = parse_operand(tokens, at, depth)?;
        if is_piped {
            return Err("a function is due behind \"|\"".to_owned());
        }
        return match tokens.get(*at) {
            None | Some(Token::Bar | Token::Close) => Ok(Command::Value(operand)),
            Some(_) => Err("only functions take arguments".to_owned()),
        };
    };
    *at += 1;
    let mut operands = Vec::new();
    while !matches!(tokens.get(*at), None | Some(Token::Bar | Token::Close)) {
        operands.push(parse_operand(tokens, at, depth)?);
    }
    let given = operands.len() + usize::from(is_piped);
    if !(least..=most).contains(&given) {
        return Err(format!("wrong number of args for {name}: want {least} got {given}"));
    }
    let is_regex =
        matches!(function, Function::RegexReplace | Function::RegexReplaceLiteral | Function::Count);
    if let (true, Some(Operand::Text(text))) = (is_regex, operands.first()) {
        let regex = Regex::new(text).map_err(|_| format!("{text:?} is no regular expression"))?;
        operands[0] = Operand::Regex(regex, text.clone());
    }
    Ok(Command::Call(function, operands))
}

fn parse_operand(tokens: &[Token], at: &mut usize, depth: usize) -> Result<Operand, String> {
    let token = tokens.get(*at).ok_or("a value is missing")?;
    *at += 1;
    match token {
        Token::Text(text) => Ok(Operand::Text(text.clone())),
        Token::Open => {
            let inner = parse_pipe(tokens, at, depth + 1)?;
            match tokens.get(*at) {
                Some(Token::Close) => *at += 1,
                _ => return Err("\"(\" is not closed".to_owned()),
            }
            Ok(Operand::Pipe(inner))
        }
        Token::Close | Token::Bar => Err("a value is missing".to_owned()),
        Token::Word(word) => match word.as_str() {
            "true" => Ok(Operand::Bool(true)),
            "false" => Ok(Operand::Bool(false)),
            "." => Ok(Operand::Dot),
            word => {
                if let Some(name) = word.strip_prefix('.') {
                    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    return match name.chars().all(is_name) {
                        true => Ok(Operand::Label(name.to_owned())),
                        false => Err(format!("bad character in the name of label {word:?}")),
                    };
                }
                if let Some((function, 0, 0)) = function(word) {
                    return Ok(Operand::Pipe(vec![Command::Call(function, Vec::new())]));
                }
                let number = word.parse::<f64>().ok().filter(|number| number.is_finite());
                number.map(Operand::Number).ok_or_else(|| format!("function {word:?} not defined"))
            }
        },
    }
}

fn fill(nodes: &[Node], fields: &dyn Fields, out: &mut String) -> Result<(), String> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Show(pipe) => out.push_str(&run(pipe, fields)?.text()),
            Node::If(condition, then, otherwise) => {
                let is_true = run(condition, fields)?.is_true();
                fill(if is_true { then } else { otherwise }, fields, out)?;
            }
        }
        if out.len() > MAX_BYTES {
            return Err(format!("the text is longer than {MAX_BYTES} bytes"));
        }
    }
    Ok(())
}

fn run(pipe: &Pipe, fields: &dyn Fields) -> Result<Value, String> {
    let mut last = None;
    for command in pipe {
        last = Some(match command {
            Command::Value(operand) => value(operand, fields)?,
            Command::Call(function, operands) => {
                let regex = match operands.first() {
                    Some(Operand::Regex(regex, _)) => Some(regex),
                    _ => None,
                };
                let mut arguments = Vec::with_capacity(operands.len() + 1);
                for operand in operands {
                    arguments.push(value(operand, fields)?);
                }
                arguments.extend(last.take());
                call(*function, &arguments, regex, fields)?
            }
        });
    }
    last.ok_or_else(|| "an empty pipeline".to_owned())
}

fn value(operand: &Operand, fields: &dyn Fields) -> Result<Value, String> {
    Ok(match operand {
        Operand::Label(name) => Value::Text(fields.label(name).to_owned()),
        Operand::Dot => Value::Text(fields.line().to_owned()),
        Operand::Text(text) | Operand::Regex(_, text) => Value::Text(text.clone()),
        Operand::Number(number) => Value::Number(*number),
        Operand::Bool(value) => Value::Bool(*value),
        Operand::Pipe(pipe) => run(pipe, fields)?,
    })
}

fn call(
    function: Function,
    arguments: &[Value],
    regex: Option<&Regex>,
    fields: &dyn Fields,
) -> Result<Value, String> {
    use Function as F;
    // The number of arguments was checked when the template was parsed.
    let argument = |at: usize| arguments.get(at).ok_or_else(|| "an argument is missing".to_owned());
    let text = |at: usize| argument(at).map(Value::text);
    let number = |at: usize| argument(at).and_then(Value::number);
    let whole = |at: usize| number(at).map(f64::trunc);
    let set = |at: usize| text(at).map(|set| set.chars().collect::<Vec<char>>());
    let compiled = |at: usize| match regex {
        Some(regex) => Ok(regex.clone()),
        None => text(at)
            .and_then(|text| Regex::new(&text).map_err(|_| format!("{text:?} is no regular expression"))),
    };
    let size = |at: usize| {
        number(at).and_then(|size| match (0.0..=MAX_BYTES as f64).contains(&size) {
            true => Ok(size as usize),
            false => Err(format!("{size} is no length")),
        })
    };
    let fold = |start: fn(usize) -> usize, fold: fn(f64, f64) -> f64, is_whole: bool| {
        let mut total: Option<f64> = None;
        for at in start(0)..arguments.len() {
            let next = if is_whole { whole(at)? } else { number(at)? };
            total = Some(total.map_or(next, |total| fold(total, next)));
        }
        total.ok_or_else(|| "an argument is missing".to_owned())
    };
    let first = |at: usize| at;
    let texts = Value::Text;
    Ok(match function {
        F::Lower => texts(text(0)?.to_lowercase()),
        F::Upper => texts(text(0)?.to_uppercase()),
        F::Title => {
            let mut out = String::new();
            for (at, c) in text(0)?.char_indices() {
                let begins = at == 0 || out.ends_with(char::is_whitespace);
                if begins { out.extend(c.to_uppercase()) } else { out.push(c) }
            }
            texts(out)
        }
        F::Trim => texts(text(0)?.trim().to_owned()),
        F::TrimCutset => texts(text(0)?.trim_matches(set(1)?.as_slice()).to_owned()),
        F::TrimAll => texts(text(1)?.trim_matches(set(0)?.as_slice()).to_owned()),
        F::TrimLeft => texts(text(0)?.trim_start_matches(set(1)?.as_slice()).to_owned()),
        F::TrimRight => texts(text(0)?.trim_end_matches(set(1)?.as_slice()).to_owned()),
        F::TrimPrefix | F::TrimPrefixOf => {
            let (text, prefix) =
                if function == F::TrimPrefix { (text(1)?, text(0)?) } else { (text(0)?, text(1)?) };
            texts(text.strip_prefix(prefix.as_str()).unwrap_or(&text).to_owned())
        }
        F::TrimSuffix | F::TrimSuffixOf => {
            let (text, suffix) =
                if function == F::TrimSuffix { (text(1)?, text(0)?) } else { (text(0)?, text(1)?) };
            texts(text.strip_suffix(suffix.as_str()).unwrap_or(&text).to_owned())
        }
        F::ReplaceOf => {
            let (text, old, new, count) = (text(0)?, text(1)?, text(2)?, number(3)?);
            bounded(&text, &old, &new)?;
            texts(if count < 0.0 {
                text.replace(&old, &new)
            } else {
                text.replacen(&old, &new, count as usize)
            })
        }
        F::Replace => {
            let (old, new, text) = (text(0)?, text(1)?, text(2)?);
            bounded(&text, &old, &new)?;
            texts(text.replace(&old, &new))
        }
        F::Substr => {
            let (from, to, text) = (number(0)?, number(1)?, text(2)?);
            let chars: Vec<char> = text.chars().collect();
            let from = if from < 0.0 { 0 } else { (from as usize).min(chars.len()) };
            let to = if to < 0.0 { chars.len() } else { (to as usize).min(chars.len()) };
            texts(chars.get(from..to).unwrap_or_default().iter().collect())
        }
        F::Trunc => {
            let (count, text) = (number(0)?, text(1)?);
            let length = text.chars().count();
            let kept = count.abs() as usize;
            texts(match count < 0.0 {
                true => text.chars().skip(length.saturating_sub(kept)).collect(),
                false => text.chars().take(kept).collect(),
            })
        }
        F::Contains => Value::Bool(text(1)?.contains(&text(0)?)),
        F::HasPrefix => Value::Bool(text(1)?.starts_with(&text(0)?)),
        F::HasSuffix => Value::Bool(text(1)?.ends_with(&text(0)?)),
        F::Indent | F::Nindent => {
            let (pad, text) = (" ".repeat(size(0)?), text(1)?);
            bounded(&text, "\n", &pad)?;
            let begin = if function == F::Nindent { "\n" } else { "" };
            texts(format!("{begin}{pad}{}", text.replace('\n', &format!("\n{pad}"))))
        }
        F::Repeat => {
            let (count, text) = (size(0)?, text(1)?);
            if count.saturating_mul(text.len()) > MAX_BYTES {
                return Err(format!("the text is longer than {MAX_BYTES} bytes"));
            }
            texts(text.repeat(count))
        }
        F::AlignLeft | F::AlignRight => {
            let (width, text) = (size(0)?, text(1)?);
            let length = text.chars().count();
            texts(match (function, length > width) {
                (F::AlignLeft, true) => text.chars().take(width).collect(),
                (F::AlignLeft, false) => format!("{text}{}", " ".repeat(width - length)),
                (_, true) => text.chars().skip(length - width).collect(),
                (_, false) => format!("{}{text}", " ".repeat(width - length)),
            })
        }
        F::RegexReplace | F::RegexReplaceLiteral => {
            let (regex, text, new) = (compiled(0)?, text(1)?, text(2)?);
            let matches = regex.find_iter(&text).count();
            if matches.saturating_mul(new.len() + text.len()) > MAX_BYTES.max(text.len() * 4) * 4 {
                return Err(format!("the text is longer than {MAX_BYTES} bytes"));
            }
            texts(match function {
                F::RegexReplace => regex.replace_all(&text, new.as_str()).into_owned(),
                _ => regex.replace_all(&text, regex::NoExpand(&new)).into_owned(),
            })
        }
        F::Count => Value::Number(compiled(0)?.find_iter(&text(1)?).count() as f64),
        F::Default => {
            if argument(1)?.is_true() {
                argument(1)?.clone()
            } else {
                argument(0)?.clone()
            }
        }
        F::Len => Value::Number(text(0)?.len() as f64),
        F::Print => texts(arguments.iter().map(Value::text).collect::<Vec<_>>().join(" ")),
        F::Printf => texts(printf(&text(0)?, arguments.get(1..).unwrap_or_default())?),
        F::UrlEncode => texts(url_encode(&text(0)?)),
        F::UrlDecode => texts(url_decode(&text(0)?)?),
        F::Base64 => texts(protocol::logs::value::base64(text(0)?.as_bytes())),
        F::Unbase64 => texts(unbase64(&text(0)?)?),
        F::Int => Value::Number(whole(0)?),
        F::Float => Value::Number(number(0)?),
        F::Add => Value::Number(fold(first, |a, b| a + b, true)?),
        F::AddF => Value::Number(fold(first, |a, b| a + b, false)?),
        F::Mul => Value::Number(fold(first, |a, b| a * b, true)?),
        F::MulF => Value::Number(fold(first, |a, b| a * b, false)?),
        F::Max => Value::Number(fold(first, f64::max, false)?),
        F::Min => Value::Number(fold(first, f64::min, false)?),
        F::Sub => Value::Number(whole(0)? - whole(1)?),
        F::SubF => Value::Number(number(0)? - number(1)?),
        F::DivF => Value::Number(number(0)? / number(1)?),
        F::Div | F::Mod => match (whole(0)?, whole(1)?) {
            (_, 0.0) => return Err("integer divide by zero".to_owned()),
            (a, b) if function == F::Div => Value::Number((a / b).trunc()),
            (a, b) => Value::Number(a % b),
        },
        F::Ceil => Value::Number(number(0)?.ceil()),
        F::Floor => Value::Number(number(0)?.floor()),
        F::Round => {
            let scale = 10f64.powi(whole(1)?.clamp(-300.0, 300.0) as i32);
            Value::Number((number(0)? * scale).round() / scale)
        }
        F::Bytes => {
            let text = text(0)?;
            Value::Number(parse_bytes(&text).ok_or_else(|| format!("{text:?} is no size"))? as f64)
        }
        F::Duration => {
            let text = text(0)?;
            let ns = parse_duration(&text, false).ok_or_else(|| format!("invalid duration {text:?}"))?;
            Value::Number(ns as f64 / 1e9)
        }
        F::UnixEpoch => Value::Number((number(0)? / 1e9).floor()),
        F::Eq => {
            let first = argument(0)?;
            Value::Bool(arguments[1..].iter().any(|other| is_equal(first, other)))
        }
        F::Ne => Value::Bool(!is_equal(argument(0)?, argument(1)?)),
        F::Lt => Value::Bool(is_less(argument(0)?, argument(1)?)),
        F::Gt => Value::Bool(is_less(argument(1)?, argument(0)?)),
        F::Le => Value::Bool(!is_less(argument(1)?, argument(0)?)),
        F::Ge => Value::Bool(!is_less(argument(0)?, argument(1)?)),
        F::And => arguments
            .iter()
            .find(|value| !value.is_true())
            .or(arguments.last())
            .cloned()
            .unwrap_or(Value::Bool(true)),
        F::Or => arguments
            .iter()
            .find(|value| value.is_true())
            .or(arguments.last())
            .cloned()
            .unwrap_or(Value::Bool(false)),
        F::Not => Value::Bool(!argument(0)?.is_true()),
        F::Line => texts(fields.line().to_owned()),
        F::Timestamp => Value::Number(fields.time_ns() as f64),
    })
}

/// Refuses a replacement whose result could not be held.
fn bounded(text: &str, old: &str, new: &str) -> Result<(), String> {
    let places = if old.is_empty() { text.len() + 1 } else { text.len() / old.len() + 1 };
    match text.len().saturating_add(places.saturating_mul(new.len())) > MAX_BYTES * 4 {
        true => Err(format!("the text is longer than {MAX_BYTES} bytes")),
        false => Ok(()),
    }
}

/// As numbers where both are, else as texts.
fn is_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => a == b,
        _ => match (a.number(), b.number()) {
            (Ok(a), Ok(b)) => a == b,
            _ => a.text() == b.text(),
        },
    }
}

fn is_less(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => a < b,
        _ => match (a.number(), b.number()) {
            (Ok(a), Ok(b)) => a < b,
            _ => a.text() < b.text(),
        },
    }
}

/// `%s`, `%v`, `%q`, `%d`, `%f`, each with width and precision.
fn printf(format: &str, arguments: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let (is_left, is_zero) = (chars.next_if_eq(&'-').is_some(), chars.next_if_eq(&'0').is_some());
        let mut digits = |first: Option<char>| {
            let mut number = first.map(|_| 0usize);
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                number = Some(number.unwrap_or(0).saturating_mul(10).saturating_add(digit as usize));
                chars.next();
            }
            number
        };
        let width = digits(None).unwrap_or(0);
        let precision = if chars.next_if_eq(&'.').is_some() {
            let mut number = 0usize;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                number = number.saturating_mul(10).saturating_add(digit as usize);
                chars.next();
            }
            Some(number)
        } else {
            None
        };
        if width > MAX_BYTES || precision.is_some_and(|precision| precision > 1000) {
            return Err("the width of the format is too large".to_owned());
        }
        let verb = chars.next().ok_or("the format ends behind \"%\"")?;
        let value = arguments.next().ok_or("the format has more verbs than there are values")?;
        let text = match verb {
            's' | 'v' => match precision {
                Some(precision) => value.text().chars().take(precision).collect(),
                None => value.text(),
            },
            'q' => format!("{:?}", value.text()),
            'd' => format!("{}", value.number()?.trunc()),
            'f' => format!("{:.*}", precision.unwrap_or(6), value.number()?),
            verb => return Err(format!("the format has an unknown verb %{verb}")),
        };
        let missing = width.saturating_sub(text.chars().count());
        let pad = (if is_zero && !is_left { "0" } else { " " }).repeat(missing);
        out.push_str(&if is_left { format!("{text}{pad}") } else { format!("{pad}{text}") });
    }
    Ok(out)
}

fn url_encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn url_decode(text: &str) -> Result<String, String> {
    let wrong = || format!("invalid URL escape in {text:?}");
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = (digit().ok_or_else(wrong)?, digit().ok_or_else(wrong)?);
                out.push((high * 16 + low) as u8);
            }
            byte => out.push(byte),
        }
    }
    String::from_utf8(out).map_err(|_| wrong())
}

fn unbase64(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is no base64");
    let mut out = Vec::new();
    let (mut word, mut bits) = (0u32, 0u32);
    for byte in text.trim_end_matches('=').bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(wrong()),
        };
        word = (word << 6 | u32::from(digit)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits) as u8);
        }
    }
    String::from_utf8(out).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Example;

    impl Fields for Example {
        fn label(&self, name: &str) -> &str {
            match name {
                "level" => "error",
                "took" => "1500ms",
                "n" => "42",
                "odd" => " x,y ",
                _ => "",
            }
        }

        fn line(&self) -> &str {
            "the line"
        }

        fn time_ns(&self) -> i64 {
            1_500_000_000_000_000_000
        }
    }

    fn check(template: &str, expected: &str) {
        let filled = Template::new(template).unwrap_or_else(|e| panic!("{template}: {e}")).fill(&Example);
        assert_eq!(filled.as_deref(), Ok(expected), "{template}");
    }

    #[test]
    fn values_and_pipes() {
        check("plain", "plain");
        check("{{.level}} {{ .none }}!", "error !");
        check("{{.level | ToUpper | trunc 3}}", "ERR");
        check("{{ __line__ }} {{ __timestamp__ | unixEpoch }}", "the line 1500000000");
        check("a {{- .level -}} b", "aerrorb");
        check("{{ \"}}\" }}{{`x`}}", "}}x");
        check("{{/* note */}}x", "x");
        check("{{ (printf \"%s-%05.1f\" .level 2.25) | upper }}", "ERROR-002.2");
    }

    #[test]
    fn conditions() {
        check("{{if eq .level \"error\"}}E{{else}}other{{end}}", "E");
        check("{{if eq .level \"a\"}}A{{else if gt (int .n) 40}}big{{else}}small{{end}}", "big");
        check("{{if and .none .level}}x{{end}}", "");
        check("{{if or .none .level}}x{{end}}", "x");
        check("{{if not .none}}x{{end}}", "x");
        check("{{ if contains \"rr\" .level }}y{{ end }}", "y");
    }

    #[test]
    fn functions_on_texts_and_numbers() {
        check("{{ trim .odd }}|{{ trimAll \" \" .odd }}", "x,y|x,y");
        check("{{ Replace .level \"r\" \"R\" 1 }}{{ .level | replace \"r\" \"_\" }}", "eRrore__o_");
        check("{{ trimPrefix \"er\" .level }}{{ trimSuffix \"or\" .level }}", "rorerr");
        check("{{ substr 1 3 .level }}{{ trunc -2 .level }}", "rror");
        check("{{ regexReplaceAll \"r+(.)\" .level \"<$1>\" }}", "e<o>r");
        check("{{ regexReplaceAllLiteral \"r+\" .level \"$1\" }}", "e$1o$1");
        check("{{ default \"x\" .none }}{{ .level | default \"x\" }}", "xerror");
        check(
            "{{ duration .took }} {{ add 1 .n }} {{ div 7 2 }} {{ mod 7 2 }} {{ mulf 1.5 2 }}",
            "1.5 43 3 1 3",
        );
        check("{{ alignLeft 7 .level }}|{{ alignRight 3 .level }}", "error  |ror");
        check("{{ \"a b&\" | urlencode }} {{ urldecode \"a+b%26\" }}", "a+b%26 a b&");
        check("{{ b64enc \"hi\" }} {{ b64dec \"aGk=\" }}", "aGk= hi");
        check(
            "{{ count \"r\" .level }} {{ len .level }} {{ round 2.345 2 }} {{ bytes \"2KB\" }}",
            "3 5 2.35 2000",
        );
        check("{{ repeat 2 .n }}{{ indent 1 \"a\\nb\" }}", "4242 a\n b");
    }

    #[test]
    fn what_is_no_template() {
        for text in [
            "{{",
            "{{}}",
            "{{ .a b }}",
            "{{ nope }}",
            "{{ upper }}",
            "{{if .a}}",
            "{{end}}",
            "{{else}}",
            "{{ (.a }}",
            "{{ .a | \"x\" }}",
            "{{ \"x }}",
            "{{ range .a }}{{end}}",
            "{{ trunc 1 }}",
            "{{ .a) }}",
            "{{ .a-b }}",
            "{{ regexReplaceAll \"(\" .a \"\" }}",
        ] {
            assert!(Template::new(text).is_err(), "{text}");
        }
        assert!(Template::new(&"{{if .a}}".repeat(100)).is_err());
        assert!(Template::new(&format!("{{{{{}}}}}", "(".repeat(100))).is_err());
    }

    #[test]
    fn what_cannot_be_filled() {
        for text in [
            "{{ div 1 0 }}",
            "{{ add .level 1 }}",
            "{{ duration .level }}",
            "{{ repeat 99999999 .level }}",
            "{{ printf \"%d\" }}",
            "{{ printf \"%z\" .n }}",
            "{{ urldecode \"%z\" }}",
            "{{ b64dec \"!\" }}",
            "{{ repeat -1 .level }}",
        ] {
            let template = Template::new(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert!(template.fill(&Example).is_err(), "{text}");
        }
    }
}
