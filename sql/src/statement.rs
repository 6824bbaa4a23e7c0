//! Statements as text: parsing, what is let through, and values put in for parameters.
//!
//! The dialect is PostgreSQL's; what it does not know is tried in DataFusion's own. Only what reads is let through, and
//! the answer to anything else says so.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    self, Expr, Statement as Sql, UnaryOperator, Value, ValueWithSpan, visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, PostgreSqlDialect};
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, Tokenizer};

use crate::error::{Position, SqlError, read_only};

/// Bytes of a statement. Longer ones are no work of people, and plans take a multiple of it.
pub const MAX_STATEMENT_BYTES: usize = 256 << 10;
/// How deep expressions may nest.
const MAX_NESTING: usize = 64;
/// Operators that may follow each other: plans of longer chains are deep, and take time by the square of the length.
const MAX_OPERATORS: usize = 1024;
/// How deep calls of functions may nest: the planner asks for the type of each argument twice, hence takes twice the time
/// per level.
const MAX_CALL_NESTING: usize = 12;

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// `NULL`
    Null,
    /// True or false.
    Bool(bool),
    /// A number as it is written.
    Number(String),
    /// Text.
    Text(String),
    /// Text that is read as a value of a type, or a null of it.
    Cast {
        /// The text.
        text: Option<String>,
        /// The type.
        to: CastType,
    },
}

/// Types that values of parameters may be read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CastType {
    /// `boolean`
    Bool,
    /// `bigint`
    Int,
    /// `double precision`
    Float,
    /// `timestamp`, in UTC
    Moment,
    /// `date`
    Day,
    /// `interval`
    Interval,
}

impl CastType {
    fn data_type(self) -> ast::DataType {
        match self {
            Self::Bool => ast::DataType::Boolean,
            Self::Int => ast::DataType::BigInt(None),
            Self::Float => ast::DataType::DoublePrecision,
            Self::Moment => ast::DataType::Timestamp(None, ast::TimezoneInfo::None),
            Self::Day => ast::DataType::Date,
            Self::Interval => ast::DataType::Interval { fields: None, precision: None },
        }
    }
}

/// Values of parameters by name: `1` for `$1`, `job` for `$job`.
pub type Parameters = BTreeMap<String, Parameter>;

fn parse_with(text: &str, dialect: &dyn Dialect) -> Result<Vec<Statement>, DataFusionError> {
    let statements = DFParserBuilder::new(text)
        .with_dialect(dialect)
        .with_recursion_limit(MAX_NESTING)
        .build()?
        .parse_statements()?;
    Ok(statements.into())
}

/// The statements of a text, of which all only read.
pub fn parse(text: &str) -> Result<Vec<Statement>, SqlError> {
    if text.len() > MAX_STATEMENT_BYTES {
        return Err(SqlError::invalid(format!(
            "the statement has {} bytes, more than {MAX_STATEMENT_BYTES}",
            text.len()
        )));
    }
    check_chains(text)?;
    let statements = match parse_with(text, &PostgreSqlDialect {}) {
        Ok(statements) => statements,
        Err(error) => parse_with(text, &GenericDialect {}).map_err(|_| placed(error.into(), text))?,
    };
    for statement in &statements {
        check_reads(statement)?;
    }
    Ok(statements)
}

/// An error that says that the text is over, with the place of its end: the parser gives none.
fn placed(error: SqlError, text: &str) -> SqlError {
    if error.position.is_some() || !error.message.ends_with("found: EOF") {
        return error;
    }
    let last = text.rsplit('\n').next().unwrap_or_default();
    let line = text.matches('\n').count() as u64 + 1;
    SqlError { position: Some(Position { line, column: last.chars().count() as u64 + 1 }), ..error }
}

/// Refuses chains of operators that are too long, before anything recursive is made of them.
fn check_chains(text: &str) -> Result<(), SqlError> {
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize() else { return Ok(()) };
    let is_operator = |token: &Token| match token {
        Token::Word(word) => {
            let known =
                ["AND", "OR", "NOT", "UNION", "EXCEPT", "INTERSECT", "JOIN", "IS", "LIKE", "CASE", "WHEN"];
            word.quote_style.is_none() && known.iter().any(|k| word.value.eq_ignore_ascii_case(k))
        }
        Token::Plus
        | Token::Minus
        | Token::Mul
        | Token::Div
        | Token::Mod
        | Token::StringConcat
        | Token::DoubleColon
        | Token::LBracket
        | Token::Eq
        | Token::Lt
        | Token::Gt
        | Token::LtEq
        | Token::GtEq
        | Token::Neq
        | Token::Ampersand
        | Token::Pipe
        | Token::Caret
        | Token::Tilde => true,
        _ => false,
    };
    check_calls(&tokens)?;
    let operators = tokens.iter().filter(|token| is_operator(token)).count();
    if operators > MAX_OPERATORS {
        let message = format!("the statement has {operators} operators, more than {MAX_OPERATORS}");
        return Err(SqlError::invalid(message).with_hint("compare with many values by IN (...)"));
    }
    Ok(())
}

/// Refuses calls of functions that nest too deep.
fn check_calls(tokens: &[Token]) -> Result<(), SqlError> {
    // Words that may stand before a parenthesis which groups.
    const NO_CALLS: [&str; 36] = [
        "ALL",
        "AND",
        "ANY",
        "AS",
        "BETWEEN",
        "BY",
        "CASE",
        "DISTINCT",
        "ELSE",
        "EXCEPT",
        "EXISTS",
        "FILTER",
        "FROM",
        "GROUP",
        "HAVING",
        "ILIKE",
        "IN",
        "INTERSECT",
        "IS",
        "JOIN",
        "LATERAL",
        "LIKE",
        "LIMIT",
        "NOT",
        "OFFSET",
        "ON",
        "OR",
        "OVER",
        "SELECT",
        "SOME",
        "THEN",
        "UNION",
        "USING",
        "VALUES",
        "WHEN",
        "WHERE",
    ];
    let (mut open, mut calls) = (Vec::new(), 0);
    let mut before: Option<&Token> = None;
    for token in tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))) {
        match token {
            Token::LParen => {
                let is_call = matches!(
                    before,
                    Some(Token::Word(word))
                        if word.quote_style.is_some()
                            || !NO_CALLS.iter().any(|no| word.value.eq_ignore_ascii_case(no))
                );
                calls += usize::from(is_call);
                open.push(is_call);
                if calls > MAX_CALL_NESTING {
                    let message = format!("calls of functions nest deeper than {MAX_CALL_NESTING}");
                    return Err(SqlError::invalid(message));
                }
            }
            Token::RParen => calls -= usize::from(open.pop().unwrap_or(false)),
            _ => {}
        }
        before = Some(token);
    }
    Ok(())
}

/// The only statement of a text.
pub fn parse_one(text: &str) -> Result<Statement, SqlError> {
    let mut statements = parse(text)?;
    match (statements.len(), statements.pop()) {
        (1, Some(statement)) => Ok(statement),
        (0, _) => Err(SqlError::invalid("there is no statement")),
        (n, _) => Err(SqlError::invalid(format!("there are {n} statements where one is expected"))),
    }
}

fn check_reads(statement: &Statement) -> Result<(), SqlError> {
    match statement {
        Statement::Statement(statement) => check_sql_reads(statement),
        Statement::Explain(explain) => check_reads(&explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => Err(read_only()),
    }
}

fn check_sql_reads(statement: &Sql) -> Result<(), SqlError> {
    match statement {
        Sql::Query(query) => check_query_reads(query),
        Sql::ShowTables { .. }
        | Sql::ShowColumns { .. }
        | Sql::ShowVariable { .. }
        | Sql::ShowFunctions { .. }
        | Sql::ExplainTable { .. } => Ok(()),
        Sql::Explain { statement, .. } => check_sql_reads(statement),
        _ => Err(read_only()),
    }
}

/// `SELECT ... INTO` and writes inside of queries do not read.
fn check_query_reads(query: &ast::Query) -> Result<(), SqlError> {
    let mut bodies = vec![query.body.as_ref()];
    bodies.extend(query.with.iter().flat_map(|with| &with.cte_tables).map(|cte| cte.query.body.as_ref()));
    while let Some(body) = bodies.pop() {
        match body {
            ast::SetExpr::Select(select) if select.into.is_some() => return Err(read_only()),
            ast::SetExpr::Query(query) => bodies.push(&query.body),
            ast::SetExpr::SetOperation { left, right, .. } => bodies.extend([left.as_ref(), right.as_ref()]),
            ast::SetExpr::Insert(_)
            | ast::SetExpr::Update(_)
            | ast::SetExpr::Delete(_)
            | ast::SetExpr::Merge(_) => return Err(read_only()),
            _ => {}
        }
    }
    Ok(())
}

fn visited<F>(statement: &mut Statement, visit: &mut F) -> ControlFlow<SqlError>
where
    F: FnMut(&mut Expr) -> ControlFlow<SqlError>,
{
    match statement {
        Statement::Statement(statement) => visit_expressions_mut(statement.as_mut(), visit),
        Statement::Explain(explain) => visited(&mut explain.statement, visit),
        _ => ControlFlow::Continue(()),
    }
}

/// Names of the parameters of a statement, without the `$`, each once.
pub fn parameters(statement: &Statement) -> Vec<String> {
    let mut found = Vec::new();
    let mut statement = statement.clone();
    let _ = visited(&mut statement, &mut |expr: &mut Expr| {
        if let Some((name, _)) = placeholder(expr)
            && !found.contains(&name)
        {
            found.push(name);
        }
        ControlFlow::Continue(())
    });
    found
}

fn placeholder(expr: &Expr) -> Option<(String, Location)> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Placeholder(text), span }) => {
            Some((text.trim_start_matches(['$', ':', '@']).to_owned(), span.start))
        }
        _ => None,
    }
}

/// Puts values in for the parameters of a statement. Each needs one; values that no parameter names are refused, too.
pub fn bind(statement: &mut Statement, values: &Parameters) -> Result<(), SqlError> {
    let mut unused: Vec<&String> = values.keys().collect();
    let outcome = visited(statement, &mut |expr: &mut Expr| {
        let Some((name, at)) = placeholder(expr) else { return ControlFlow::Continue(()) };
        unused.retain(|known| **known != name);
        match values.get(&name) {
            Some(value) => {
                *expr = literal(value);
                ControlFlow::Continue(())
            }
            None => {
                let position = (at.line > 0).then_some(Position { line: at.line, column: at.column });
                let error = SqlError::invalid(format!("there is no value for the parameter ${name}"));
                ControlFlow::Break(SqlError { position, ..error })
            }
        }
    });
    if let ControlFlow::Break(error) = outcome {
        return Err(error);
    }
    match unused.first() {
        Some(name) => Err(SqlError::invalid(format!("the statement has no parameter ${name}"))),
        None => Ok(()),
    }
}

fn literal(value: &Parameter) -> Expr {
    let plain = |value| Expr::Value(ValueWithSpan { value, span: Span::empty() });
    match value {
        Parameter::Null => plain(Value::Null),
        Parameter::Bool(value) => plain(Value::Boolean(*value)),
        Parameter::Text(text) => plain(Value::SingleQuotedString(text.clone())),
        Parameter::Cast { text, to } => Expr::Cast {
            kind: ast::CastKind::Cast,
            expr: Box::new(plain(text.clone().map_or(Value::Null, Value::SingleQuotedString))),
            data_type: to.data_type(),
            array: false,
            format: None,
        },
        Parameter::Number(digits) => match digits.strip_prefix('-') {
            Some(digits) => Expr::Nested(Box::new(Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr: Box::new(plain(Value::Number(digits.to_owned(), false))),
            })),
            None => plain(Value::Number(digits.clone(), false)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reading_is_let_through() {
        for fine in [
            "select 1",
            "with a as (select 1) select * from a union all select 2",
            "explain analyze select 1",
            "show tables",
            "show columns from metrics",
            "describe metrics",
            "values (1), (2)",
            "select 1;",
        ] {
            assert!(parse_one(fine).is_ok(), "{fine}: {:?}", parse_one(fine));
        }
        for bad in [
            "insert into metrics values (1)",
            "delete from metrics",
            "update metrics set value = 1",
            "create table a (b int)",
            "create view a as select 1",
            "drop table metrics",
            "truncate metrics",
            "alter table metrics add column a int",
            "copy metrics to 'file.csv'",
            "copy (select 1) to 'x.parquet'",
            "create external table a stored as csv location '/etc/passwd'",
            "select * into a from metrics",
            "set datafusion.execution.batch_size = 1",
            "explain insert into metrics values (1)",
            "with a as (insert into metrics values (1) returning *) select * from a",
            "begin",
            "prepare a as select 1",
        ] {
            let error = parse_one(bad).expect_err(bad);
            assert!(error.message.starts_with("SQL only reads"), "{bad}: {error}");
        }
    }

    #[test]
    fn errors_have_places() {
        let error = parse_one("select 1\nfrom (").expect_err("no SQL");
        assert_eq!(error.position, Some(Position { line: 2, column: 7 }), "{error}");
        let error = parse_one("select 1\nfrom ) a").expect_err("no SQL");
        assert_eq!(error.position.map(|p| p.line), Some(2), "{error}");
        assert_eq!(parse_one("").expect_err("empty").message, "there is no statement");
        assert!(parse_one("select 1; select 2").expect_err("two").message.contains("2 statements"));
        let long = format!("select 1{}", " + 1".repeat(MAX_OPERATORS + 1));
        assert!(parse_one(&long).expect_err("long").message.contains("operators"));
        let calls = |n| format!("select {}1{}", "abs(".repeat(n), ")".repeat(n));
        assert!(parse_one(&calls(MAX_CALL_NESTING)).is_ok());
        assert!(parse_one(&calls(MAX_CALL_NESTING + 1)).expect_err("deep calls").message.contains("nest"));
        let cases =
            format!("select {}1{}", "case when (true) then (".repeat(20), ") else (2) end".repeat(20));
        assert!(parse_one(&cases).is_ok(), "groups are no calls");
        let deep = format!("select {}1{}", "(".repeat(1000), ")".repeat(1000));
        assert!(parse_one(&deep).is_err());
        assert!(
            parse_one(&"x".repeat(MAX_STATEMENT_BYTES + 1)).expect_err("large").message.contains("bytes")
        );
    }

    #[test]
    fn parameters_are_bound() {
        let mut statement = parse_one("select $1, $job from metrics where value > $1").expect("it parses");
        assert_eq!(parameters(&statement), ["1", "job"]);
        let mut values = Parameters::from([("1".to_owned(), Parameter::Number("-1.5".to_owned()))]);
        let error = bind(&mut statement.clone(), &values).expect_err("one is missing");
        assert_eq!(error.to_string(), "there is no value for the parameter $job (line 1, column 12)");
        values.insert("job".to_owned(), Parameter::Text("it's".to_owned()));
        bind(&mut statement, &values).expect("all are there");
        assert_eq!(statement.to_string(), "SELECT (-1.5), 'it''s' FROM metrics WHERE value > (-1.5)");
        let error = bind(&mut statement, &values).expect_err("none is left");
        assert_eq!(error.message, "the statement has no parameter $1");
    }
}
