//! `pharos sql`: statements from the command line, from standard input, or at a prompt with history and completion.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Editor, Helper};
use serde_json::Value;

use super::client::Target;
use super::table::table;
use super::{CliError, complain, say};

const EXAMPLES: &str = "\
Examples:
  pharos sql                                                        a prompt; \\q or Ctrl-D leaves it
  pharos sql -e 'SHOW TABLES'
  pharos sql -e 'SELECT instance, avg(value) FROM up GROUP BY instance' --format csv
  pharos sql < statements.sql                                       each ended by a semicolon

docs/sql.md says which tables there are.";

const PATH: &str = "/api/v1/sql";
const HISTORY: &str = ".pharos_sql_history";

/// How rows are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Shown {
    /// Columns for people
    #[default]
    Table,
    /// Comma-separated values, names first
    Csv,
    /// The server's answer
    Json,
}

/// Arguments of `pharos sql`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SqlArgs {
    /// A statement to answer; may come several times
    #[arg(short = 'e', long = "execute", value_name = "STATEMENT")]
    execute: Vec<String>,
    /// How rows are shown
    #[arg(long, value_enum, default_value_t)]
    format: Shown,
    /// Gives up after this long
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    #[command(flatten)]
    target: Target,
}

impl SqlArgs {
    pub fn run(self) -> Result<(), CliError> {
        if !self.execute.is_empty() {
            return self.execute.iter().try_for_each(|text| self.answer_all(text));
        }
        if std::io::stdin().is_terminal() {
            return self.prompt();
        }
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| CliError::Failed(format!("standard input: {error}")))?;
        self.answer_all(&text)
    }

    fn answer_all(&self, text: &str) -> Result<(), CliError> {
        split(text).into_iter().try_for_each(|statement| self.answer(statement))
    }

    fn answer(&self, statement: &str) -> Result<(), CliError> {
        let mut params = vec![("query", statement.to_owned())];
        params.extend(self.timeout.clone().map(|timeout| ("timeout", timeout)));
        match self.format {
            Shown::Table => say(&shown(&self.target.post(PATH, &params)?["data"])),
            Shown::Json => say(&self.target.post(PATH, &params)?.to_string()),
            Shown::Csv => {
                params.push(("format", "csv".to_owned()));
                say(self.target.post_text(PATH, &params)?.trim_end_matches('\n'));
            }
        }
        Ok(())
    }

    fn prompt(&self) -> Result<(), CliError> {
        let failed = |error: ReadlineError| CliError::Failed(format!("the prompt: {error}"));
        let mut editor: Editor<Words, FileHistory> = Editor::new().map_err(failed)?;
        editor.set_helper(Some(Words(self.words()?)));
        let history = std::env::home_dir().map(|home: PathBuf| home.join(HISTORY));
        if let Some(path) = &history {
            // There is none before the first time.
            let _ = editor.load_history(path);
        }
        say("A statement ends with a semicolon; \\q or Ctrl-D leaves, \\d lists the tables.");
        loop {
            let line = match editor.readline("pharos> ") {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => continue,
                Err(ReadlineError::Eof) => break,
                Err(error) => return Err(failed(error)),
            };
            let text = match line.trim() {
                "" => continue,
                "\\q" | "quit" | "exit" => break,
                "\\d" => "SHOW TABLES",
                text => text,
            };
            let _ = editor.add_history_entry(text);
            if let Err(error) = self.answer_all(text) {
                complain(&format!("{error}"));
            }
        }
        if let Some(path) = &history {
            // A home that can not be written to only costs the history.
            let _ = editor.save_history(path);
        }
        Ok(())
    }

    /// What may be completed: names of tables, and the words of the language.
    fn words(&self) -> Result<Vec<String>, CliError> {
        let names = "SELECT table_schema, table_name FROM information_schema.tables";
        let answer = self.target.post(PATH, &[("query", names.to_owned())])?;
        let mut words: Vec<String> = WORDS.iter().map(|word| (*word).to_owned()).collect();
        for row in answer["data"]["rows"].as_array().into_iter().flatten() {
            let (schema, name) = (row[0].as_str().unwrap_or_default(), row[1].as_str().unwrap_or_default());
            let is_plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            let name = if is_plain { name.to_owned() } else { format!("\"{name}\"") };
            words.push(if schema == "public" { name } else { format!("{schema}.{name}") });
        }
        words.sort_unstable();
        words.dedup();
        Ok(words)
    }
}

const WORDS: [&str; 44] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "ORDER BY",
    "HAVING",
    "LIMIT",
    "OFFSET",
    "AND",
    "OR",
    "NOT",
    "IN",
    "IS NULL",
    "IS NOT NULL",
    "BETWEEN",
    "LIKE",
    "AS",
    "ON",
    "JOIN",
    "LEFT JOIN",
    "WITH",
    "UNION ALL",
    "DISTINCT",
    "EXPLAIN",
    "EXPLAIN ANALYZE",
    "SHOW TABLES",
    "SHOW COLUMNS FROM",
    "DESCRIBE",
    "INTERVAL",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "count(*)",
    "sum(",
    "avg(",
    "min(",
    "max(",
    "approx_percentile_cont(",
    "date_bin(",
    "now()",
    "promql(",
    "time",
];

/// Completes words.
struct Words(Vec<String>);

impl Completer for Words {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let before = line.get(..at).unwrap_or(line);
        let start = before
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.' || c == '"'))
            .map_or(0, |found| found + before[found..].chars().next().map_or(1, char::len_utf8));
        let begun = before[start..].to_lowercase();
        if begun.is_empty() {
            return Ok((start, Vec::new()));
        }
        let fits = |word: &&String| word.to_lowercase().starts_with(&begun);
        Ok((start, self.0.iter().filter(fits).cloned().collect()))
    }
}

impl Validator for Words {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input().trim();
        let is_whole = text.is_empty()
            || text.ends_with(';')
            || text.starts_with('\\')
            || matches!(text, "quit" | "exit");
        Ok(if is_whole { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}

impl Helper for Words {}

/// The statements of a text, between semicolons outside of quotes and comments.
fn split(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut start, mut inside) = (0, None);
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        match (inside, c) {
            (None, '\'' | '"') => inside = Some(c),
            (None, '-') if next == Some('-') => inside = Some('\n'),
            (None, '/') if next == Some('*') => inside = Some('*'),
            (None, ';') => {
                out.push(text[start..at].trim());
                start = at + 1;
            }
            (Some('*'), '*') if next == Some('/') => {
                chars.next();
                inside = None;
            }
            (Some(end), c) if end == c && end != '*' => inside = None,
            _ => {}
        }
    }
    out.push(text[start..].trim());
    out.retain(|statement| !statement.is_empty());
    out
}

/// Rows for people.
fn shown(data: &Value) -> String {
    let empty = Vec::new();
    let names: Vec<&str> = data["columns"]
        .as_array()
        .unwrap_or(&empty)
        .iter()
        .filter_map(|column| column["name"].as_str())
        .collect();
    // Plans are text of several lines, which no column holds.
    if names == ["plan_type", "plan"] {
        let plans = data["rows"].as_array().unwrap_or(&empty).iter();
        let lines = plans.flat_map(|row| row.as_array().unwrap_or(&empty)).filter_map(Value::as_str);
        return lines.collect::<Vec<_>>().join("\n");
    }
    let rows: Vec<Vec<String>> = data["rows"]
        .as_array()
        .unwrap_or(&empty)
        .iter()
        .map(|row| row.as_array().unwrap_or(&empty).iter().map(cell).collect())
        .collect();
    let count = match rows.len() {
        1 => "(1 row)".to_owned(),
        n => format!("({n} rows)"),
    };
    format!("{}\n{count}", table(&names, &rows))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => text.replace('\n', "\\n"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statements_end_at_semicolons() {
        assert_eq!(split("select 1; select ';' -- no;\n, 2;;"), ["select 1", "select ';' -- no;\n, 2"]);
        assert_eq!(split("select \"a;b\" /* ; */ from c"), ["select \"a;b\" /* ; */ from c"]);
        assert!(split(" ;\n").is_empty());
    }

    #[test]
    fn rows_for_people() {
        let data = json!({"columns": [{"name": "job"}, {"name": "n"}], "rows": [["a", 10], [null, 2]]});
        assert_eq!(shown(&data), "job    n\na     10\nNULL   2\n(2 rows)");
        let plan =
            json!({"columns": [{"name": "plan_type"}, {"name": "plan"}], "rows": [["logical", "A\n  B"]]});
        assert_eq!(shown(&plan), "logical\nA\n  B");
    }

    #[test]
    fn words_are_completed() {
        let words = Words(vec!["SELECT".to_owned(), "system.nodes".to_owned()]);
        let history = rustyline::history::MemHistory::new();
        let context = Context::new(&history);
        let at = |line: &str| words.complete(line, line.len(), &context).expect("completions");
        assert_eq!(at("sel"), (0, vec!["SELECT".to_owned()]));
        assert_eq!(at("select * from system.n"), (14, vec!["system.nodes".to_owned()]));
        assert_eq!(at("select "), (7, Vec::new()));
    }
}
