//! Why a statement failed, in words for its author: what is wrong, where in the text, and what would help.

use std::fmt;

use datafusion::common::SchemaError;
use datafusion::common::diagnostic::Diagnostic;
use datafusion::error::DataFusionError;
use protocol::error::ErrorKind;
use query::QueryError;
use query::source::SourceError;

/// A place in a statement, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: u64,
    /// Character in the line.
    pub column: u64,
}

/// A failed statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SqlError {
    /// Decides the code that the client sees and whether a retry can help.
    pub kind: ErrorKind,
    /// What is wrong.
    pub message: String,
    /// Where, if that is known.
    pub position: Option<Position>,
    /// What may help.
    pub hint: Option<String>,
    /// SQLSTATE, for clients that tell errors apart by it.
    pub state: &'static str,
}

/// What a kind of error is to clients of PostgreSQL, where nothing more is known of it.
pub const fn state_of(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidInput => "42000",
        ErrorKind::NotFound => "42704",
        ErrorKind::Conflict => "55000",
        ErrorKind::PermissionDenied => "42501",
        ErrorKind::LimitExceeded => "54000",
        ErrorKind::ResourceExhausted => "53000",
        ErrorKind::Unavailable => "57P03",
        ErrorKind::Timeout | ErrorKind::Canceled => "57014",
        ErrorKind::Corruption => "XX001",
        ErrorKind::Internal => "XX000",
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, " (line {line}, column {column})")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, ". Hint: {hint}")?;
        }
        Ok(())
    }
}

impl SqlError {
    /// An error without a place.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), position: None, hint: None, state: state_of(kind) }
    }

    /// A statement or parameter that can not be served as it is.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// The end of a statement that nobody waits for.
    pub fn canceled() -> Self {
        Self::new(ErrorKind::Canceled, "the query was canceled")
    }

    /// The end of a statement that took too long.
    pub fn timed_out() -> Self {
        Self::new(ErrorKind::Timeout, "the query took longer than it may (query.timeout, or its own timeout)")
    }

    /// As something more exact than its kind.
    pub fn with_state(mut self, state: &'static str) -> Self {
        self.state = state;
        self
    }

    /// With advice.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<QueryError> for SqlError {
    fn from(error: QueryError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

impl From<SourceError> for SqlError {
    fn from(error: SourceError) -> Self {
        Self::new(error.kind, error.message)
    }
}

impl From<SqlError> for DataFusionError {
    fn from(error: SqlError) -> Self {
        Self::External(Box::new(error))
    }
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        let position = error.diagnostic().and_then(Diagnostic::position);
        let found = of_root(error.find_root());
        Self { position: found.position.or(position), ..found }
    }
}

trait WithPosition {
    fn position(&self) -> Option<Position>;
}

impl WithPosition for Diagnostic {
    fn position(&self) -> Option<Position> {
        let start = self.span?.start;
        (start.line > 0).then_some(Position { line: start.line, column: start.column })
    }
}

fn of_root(root: &DataFusionError) -> SqlError {
    match root {
        DataFusionError::External(error) => {
            if let Some(error) = error.downcast_ref::<SqlError>() {
                return error.clone();
            }
            if let Some(error) = error.downcast_ref::<QueryError>() {
                return error.clone().into();
            }
            if let Some(error) = error.downcast_ref::<SourceError>() {
                return error.clone().into();
            }
            SqlError::new(ErrorKind::Internal, error.to_string())
        }
        DataFusionError::SQL(error, _) => syntax(&error.to_string()),
        DataFusionError::ResourcesExhausted(message) => {
            // What an operator says of its memory does not tell whose limit it was.
            let message = match message.contains("limit") || message.contains("query.max_memory") {
                true => message.clone(),
                false => format!("the query needs more memory than its budget (query.max_memory): {message}"),
            };
            SqlError::new(ErrorKind::LimitExceeded, message)
                .with_hint("aggregate, select fewer columns, series or a shorter time, or add a LIMIT")
        }
        DataFusionError::SchemaError(error, _) => {
            let found = SqlError::invalid(error.to_string());
            match error.as_ref() {
                SchemaError::AmbiguousReference { .. } => found.with_state("42702"),
                SchemaError::FieldNotFound { .. } => found.with_state("42703").with_hint(
                    "names are folded to lower case unless quoted with \"\"; text is quoted with ''",
                ),
                _ => found,
            }
        }
        DataFusionError::Plan(message) => planning(message),
        DataFusionError::NotImplemented(message) => {
            SqlError::invalid(format!("not supported: {}", message.trim_end_matches('.'))).with_state("0A000")
        }
        DataFusionError::Execution(message) => SqlError::new(ErrorKind::LimitExceeded, message.clone()),
        DataFusionError::ArrowError(error, _) => SqlError::new(ErrorKind::LimitExceeded, error.to_string()),
        DataFusionError::Configuration(message) => SqlError::invalid(message.clone()),
        error => SqlError::new(ErrorKind::Internal, error.strip_backtrace()),
    }
}

/// `sql parser error: Expected: ..., found: ... at Line: 1, Column: 8`
fn syntax(text: &str) -> SqlError {
    let text = text.trim_start_matches("sql parser error: ");
    let place = text.rsplit_once(" at Line: ").and_then(|(message, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        let position = Position { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? };
        Some((message, position))
    });
    let (message, position) = place.map_or((text, None), |(message, position)| (message, Some(position)));
    let found = SqlError::invalid(format!("syntax error: {message}")).with_state("42601");
    SqlError { position, ..found }
}

fn planning(message: &str) -> SqlError {
    let message = message.trim();
    if let Some(name) = message.strip_prefix("table '").and_then(|rest| rest.strip_suffix("' not found")) {
        let name = name.strip_prefix("pharos.public.").or(name.strip_prefix("pharos.")).unwrap_or(name);
        return SqlError::invalid(format!("there is no table {name:?}")).with_state("42P01").with_hint(
            "SHOW TABLES lists the tables; a metric has one once it has samples, and a name with capitals, colons or \
             dots is quoted with \"\"",
        );
    }
    if let Some(name) =
        message.strip_prefix("table function '").and_then(|rest| rest.strip_suffix("' not found"))
    {
        return SqlError::invalid(format!("there is no table function {name:?}"))
            .with_state("42883")
            .with_hint(
                "there are promql('<query>', start, end, step) and generate_series(first, last, step)",
            );
    }
    let writes = ["DDL not supported", "DML not supported", "Statement not supported"];
    if writes.iter().any(|prefix| message.starts_with(prefix)) {
        return read_only();
    }
    let state = if message.starts_with("Invalid function") { "42883" } else { "42000" };
    match message.split_once("\nDid you mean") {
        Some((message, other)) => SqlError::invalid(message.trim_end_matches('.'))
            .with_state(state)
            .with_hint(format!("did you mean{other}")),
        None => SqlError::invalid(message).with_state(state),
    }
}

/// For statements that would change something.
pub fn read_only() -> SqlError {
    SqlError::invalid("SQL only reads here: statements that write or change settings are refused")
        .with_state("25006")
        .with_hint(
            "samples come in by remote write; series are deleted with POST /api/v1/admin/tsdb/delete_series",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_hints_reach_the_text() {
        let error = syntax("sql parser error: Expected: an expression, found: FROM at Line: 1, Column: 8");
        assert_eq!(error.position, Some(Position { line: 1, column: 8 }));
        assert_eq!(
            error.to_string(),
            "syntax error: Expected: an expression, found: FROM (line 1, column 8)"
        );
        assert_eq!(syntax("sql parser error: EOF").position, None);
        let missing = planning("table 'pharos.public.up' not found").to_string();
        assert!(missing.starts_with("there is no table \"up\". Hint: SHOW TABLES"), "{missing}");
        assert!(planning("DDL not supported: CreateView").message.starts_with("SQL only reads"));
    }

    #[test]
    fn kinds_come_through() {
        let source = SourceError::new(ErrorKind::Unavailable, "shard 3 has no leader");
        let wrapped = DataFusionError::Context(
            "while scanning".into(),
            Box::new(DataFusionError::External(Box::new(source))),
        );
        let error = SqlError::from(wrapped);
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Unavailable, "shard 3 has no leader"));
        let full = SqlError::from(DataFusionError::ResourcesExhausted("too much".into()));
        assert_eq!(full.kind, ErrorKind::LimitExceeded);
        let own = DataFusionError::from(SqlError::invalid("x").with_hint("y"));
        assert_eq!(SqlError::from(own).to_string(), "x. Hint: y");
    }
}
