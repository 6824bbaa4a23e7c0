//! What a client asks for: a question that the engine answers, or something about its session.
//!
//! Drivers and tools send commands that mean something to a database that writes. Those that mean nothing to one that
//! only reads (transactions) are told apart here, so that a session can agree to them; what would have to change
//! something is left to the engine, which refuses it with its reason.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A statement for the engine; its answer ends with this word.
    Query(&'static str),
    /// Begins a transaction.
    Begin,
    /// Ends it.
    Commit,
    /// Gives it up, or what happened since a savepoint, by the word that the answer ends with.
    Rollback {
        /// Whether only to a savepoint.
        to_savepoint: bool,
    },
    /// Agreed to without any effect; the answer ends with this.
    Nothing(&'static str),
    /// Sets something.
    Set {
        /// In lower case.
        name: String,
        /// Without quotes; none for the default.
        value: Option<String>,
    },
    /// Sets everything back; forgets prepared statements as well if so.
    Reset {
        /// Whether it was `DISCARD ALL`.
        all: bool,
    },
    /// Shows a setting.
    Show(String),
    /// Forgets a prepared statement, or all.
    Deallocate(Option<String>),
}

fn tokens(text: &str) -> Option<Vec<TokenWithSpan>> {
    Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location().ok()
}

/// Where each line of a text begins, to find tokens in it.
fn line_starts(text: &str) -> Vec<usize> {
    let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(ends).collect()
}

/// The statements of a text, each with the byte that it begins at. A text that is none is one, for the parser to say why.
pub fn split(text: &str) -> Vec<(usize, &str)> {
    let Some(tokens) = tokens(text) else { return vec![(0, text)] };
    let lines = line_starts(text);
    let place = |token: &TokenWithSpan| {
        let (line, column) = (token.span.start.line.max(1) - 1, token.span.start.column.max(1) - 1);
        let from = lines.get(line as usize).copied().unwrap_or(text.len());
        let rest = text.get(from..).unwrap_or("");
        from + rest.char_indices().nth(column as usize).map_or(rest.len(), |(at, _)| at)
    };
    let mut out = Vec::new();
    // Where the statement begins, once something of it was seen.
    let mut begun = None;
    for token in &tokens {
        match &token.token {
            Token::Whitespace(_) | Token::EOF => {}
            Token::SemiColon => {
                let end = place(token);
                out.extend(begun.take().and_then(|start| Some((start, text.get(start..end)?))));
            }
            _ => begun = begun.or_else(|| Some(place(token))),
        }
    }
    out.extend(begun.and_then(|start| Some((start, text.get(start..)?.trim_end()))));
    out
}

fn plain(token: &Token) -> String {
    match token {
        Token::Word(word) => word.value.clone(),
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What a single statement asks for.
pub fn command(text: &str) -> Command {
    let Some(tokens) = tokens(text) else { return Command::Query("SELECT") };
    let tokens: Vec<Token> = tokens
        .into_iter()
        .map(|token| token.token)
        .filter(|token| !matches!(token, Token::Whitespace(_) | Token::EOF | Token::SemiColon))
        .collect();
    let word = |at: usize| match tokens.get(at) {
        Some(Token::Word(word)) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
        _ => String::new(),
    };
    let (first, second) = (word(0), word(1));
    match (first.as_str(), second.as_str()) {
        ("BEGIN", _) | ("START", "TRANSACTION") => Command::Begin,
        ("COMMIT" | "END", _) => Command::Commit,
        ("ROLLBACK", _) => Command::Rollback { to_savepoint: (1..3).any(|at| word(at) == "TO") },
        ("ABORT", _) => Command::Rollback { to_savepoint: false },
        ("SAVEPOINT", _) => Command::Nothing("SAVEPOINT"),
        ("RELEASE", _) => Command::Nothing("RELEASE"),
        ("DISCARD", _) => Command::Reset { all: true },
        ("RESET", "ALL") => Command::Reset { all: false },
        ("RESET", _) => Command::Set { name: setting(&tokens[1..]).0, value: None },
        ("DEALLOCATE", _) => {
            let at = if second == "PREPARE" { 2 } else { 1 };
            Command::Deallocate(if word(at) == "ALL" { None } else { tokens.get(at).map(plain) })
        }
        ("SET", "TRANSACTION") => Command::Nothing("SET"),
        ("SET", "SESSION") if word(2) == "CHARACTERISTICS" => Command::Nothing("SET"),
        ("SET", scope) => {
            let from = if matches!(scope, "SESSION" | "LOCAL") { 2 } else { 1 };
            let (name, value) = setting(tokens.get(from..).unwrap_or_default());
            Command::Set { name, value }
        }
        ("SHOW", "TABLES" | "COLUMNS" | "FUNCTIONS" | "ALL") => Command::Query("SHOW"),
        ("SHOW", "TRANSACTION") => Command::Show("transaction_isolation".to_owned()),
        ("SHOW", "TIME") => Command::Show("timezone".to_owned()),
        ("SHOW", _) if tokens.len() > 1 => {
            Command::Show(tokens[1..].iter().map(plain).collect::<String>().to_ascii_lowercase())
        }
        ("EXPLAIN", _) => Command::Query("EXPLAIN"),
        _ => Command::Query("SELECT"),
    }
}

/// Name and value of `name = value`, `name TO value`, and of the forms that have a name of their own.
fn setting(tokens: &[Token]) -> (String, Option<String>) {
    let words: Vec<String> = tokens.iter().map(plain).collect();
    let upper: Vec<String> = words.iter().map(|word| word.to_ascii_uppercase()).collect();
    let (name, rest) = match upper.first().map(String::as_str) {
        Some("TIME") if upper.get(1).is_some_and(|word| word == "ZONE") => ("timezone".to_owned(), 2),
        Some("NAMES") => ("client_encoding".to_owned(), 1),
        _ => {
            let end = upper.iter().position(|word| word == "=" || word == "TO").unwrap_or(upper.len());
            (words[..end].concat().to_ascii_lowercase(), (end + 1).min(upper.len()))
        }
    };
    let value = words[rest.min(words.len())..].concat();
    let is_default = value.is_empty() || value.eq_ignore_ascii_case("default");
    (name, (!is_default).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_split_where_statements_end() {
        let text = " select ';' -- no; \n as é; \n\n select $a$;$a$ ;; ";
        assert_eq!(split(text), [(1, "select ';' -- no; \n as é"), (31, "select $a$;$a$ ")]);
        assert_eq!(split("select 1"), [(0, "select 1")]);
        assert_eq!(split("select \"a;b\" /* ; */ from c;"), [(0, "select \"a;b\" /* ; */ from c")]);
        assert!(split(" ; -- nothing").is_empty());
        assert_eq!(split("select '"), [(0, "select '")]);
    }

    #[test]
    fn commands() {
        let set = |name: &str, value: Option<&str>| Command::Set {
            name: name.to_owned(),
            value: value.map(str::to_owned),
        };
        for (text, expected) in [
            ("select 1", Command::Query("SELECT")),
            ("EXPLAIN select 1", Command::Query("EXPLAIN")),
            ("begin isolation level serializable", Command::Begin),
            ("START TRANSACTION", Command::Begin),
            ("commit", Command::Commit),
            ("rollback", Command::Rollback { to_savepoint: false }),
            ("ROLLBACK TO SAVEPOINT a", Command::Rollback { to_savepoint: true }),
            ("set session characteristics as transaction read only", Command::Nothing("SET")),
            ("SET statement_timeout = 500", set("statement_timeout", Some("500"))),
            ("set local search_path to public, metric", set("search_path", Some("public,metric"))),
            ("SET TIME ZONE 'UTC'", set("timezone", Some("UTC"))),
            ("set names 'utf8'", set("client_encoding", Some("utf8"))),
            ("set DateStyle to default", set("datestyle", None)),
            ("set", set("", None)),
            ("reset all", Command::Reset { all: false }),
            ("discard all", Command::Reset { all: true }),
            ("deallocate \"S_1\"", Command::Deallocate(Some("S_1".to_owned()))),
            ("deallocate all", Command::Deallocate(None)),
            ("show tables", Command::Query("SHOW")),
            ("SHOW Server_Version", Command::Show("server_version".to_owned())),
            ("show transaction isolation level", Command::Show("transaction_isolation".to_owned())),
            ("show", Command::Query("SELECT")),
            ("\"begin\"", Command::Query("SELECT")),
        ] {
            assert_eq!(command(text), expected, "{text}");
        }
    }
}
