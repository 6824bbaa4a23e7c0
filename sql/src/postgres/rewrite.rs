//! Statements as PostgreSQL's clients write them, in the words that the planner has for the same.
//!
//! `pg_catalog.f(...)` is `f(...)`, tables of that schema are found without it, `OPERATOR(pg_catalog.~)` is `~`, a collation
//! is none, and casts to PostgreSQL's own types are casts to numbers and texts. A subquery of one value over tables that
//! never have rows is null, and `EXISTS` over them is false: the planner has no way to run those that name columns of
//! the statement around them.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, ObjectNamePart, Query, SetExpr, TableFactor, Value, ValueWithSpan,
    VisitMut, VisitorMut, visit_expressions,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::catalog::{PG_CATALOG, is_empty, is_known};

/// Rewrites a statement.
pub fn rewrite(statement: &mut Statement) {
    match statement {
        Statement::Statement(statement) => {
            let _ = statement.as_mut().visit(&mut Rewriter);
        }
        Statement::Explain(explain) => rewrite(&mut explain.statement),
        _ => {}
    }
}

struct Rewriter;

fn parts(name: &ObjectName) -> Vec<String> {
    let part = |part: &ObjectNamePart| match part {
        ObjectNamePart::Identifier(ident) if ident.quote_style.is_none() => ident.value.to_ascii_lowercase(),
        ObjectNamePart::Identifier(ident) => ident.value.clone(),
        ObjectNamePart::Function(_) => String::new(),
    };
    name.0.iter().map(part).collect()
}

fn is_ours(parts: &[String]) -> bool {
    parts.len() == 2 && parts[0] == PG_CATALOG
}

fn call(name: &str, arguments: FunctionArguments) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: arguments,
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

fn with_arguments(arguments: Vec<Expr>) -> FunctionArguments {
    let args = arguments.into_iter().map(|expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))).collect();
    FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() })
}

fn plain(value: Value) -> Expr {
    Expr::Value(ValueWithSpan { value, span: Span::empty() })
}

/// What a cast to one of PostgreSQL's own types is here; none for the types that the planner knows.
enum Own {
    Number,
    Text,
    Relation,
}

fn own(data_type: &DataType) -> Option<Own> {
    let name = match data_type {
        DataType::Regclass => return Some(Own::Relation),
        DataType::Custom(name, _) => parts(name).pop()?,
        _ => return None,
    };
    Some(match name.as_str() {
        "regclass" => Own::Relation,
        "oid" | "regtype" | "regproc" | "regrole" | "regnamespace" | "xid" => Own::Number,
        "text" | "name" | "char" | "bpchar" | "varchar" => Own::Text,
        _ => return None,
    })
}

/// Whether a query reads something that never has rows, and has no way to give rows all the same: an aggregate.
fn is_without_rows(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let is_empty = |factor: &TableFactor| matches!(factor, TableFactor::Table { name, .. } if parts(name).pop().is_some_and(|name| is_empty(&name)));
    let aggregates = visit_expressions(&select.projection, |expr: &Expr| match expr {
        Expr::Function(function) => match parts(&function.name).pop() {
            Some(name) if name.starts_with("pg_") || name == "format_type" => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        },
        _ => ControlFlow::Continue(()),
    });
    aggregates.is_continue()
        && select.from.iter().any(|from| is_empty(&from.relation) && from.joins.is_empty())
}

/// Whether a call shows who was granted what, of which there is nothing here, and which is no array.
fn lists_grants(function: &Function) -> bool {
    let FunctionArguments::List(list) = &function.args else { return false };
    let column = match list.args.first() {
        Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(path)))) => path.last(),
        Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(column)))) => Some(column),
        _ => None,
    };
    parts(&function.name) == ["array_to_string"]
        && column.is_some_and(|column| column.value.to_ascii_lowercase().ends_with("acl"))
}

impl VisitorMut for Rewriter {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        let names = parts(relation);
        if let [name] = names.as_slice()
            && is_known(name)
        {
            relation.0.insert(0, ObjectNamePart::Identifier(Ident::new(PG_CATALOG)));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) if is_ours(&parts(&function.name)) => {
                function.name.0.remove(0);
                if lists_grants(function) {
                    *expr = plain(Value::Null);
                }
            }
            Expr::BinaryOp { op, .. } => {
                if let BinaryOperator::PGCustomBinaryOperator(path) = op {
                    let known = match path.last().map(String::as_str) {
                        Some("~") => Some(BinaryOperator::PGRegexMatch),
                        Some("~*") => Some(BinaryOperator::PGRegexIMatch),
                        Some("!~") => Some(BinaryOperator::PGRegexNotMatch),
                        Some("=") => Some(BinaryOperator::Eq),
                        Some("<>") => Some(BinaryOperator::NotEq),
                        _ => None,
                    };
                    if let Some(known) = known {
                        *op = known;
                    }
                }
            }
            Expr::Collate { expr: inner, .. } => {
                let inner = std::mem::replace(inner.as_mut(), plain(Value::Null));
                *expr = inner;
            }
            Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr: inner, data_type, .. } => {
                match own(data_type) {
                    Some(Own::Number) => *data_type = DataType::BigInt(None),
                    Some(Own::Text) => *data_type = DataType::Text,
                    Some(Own::Relation) => {
                        let inner = std::mem::replace(inner.as_mut(), plain(Value::Null));
                        *expr = call("to_regclass", with_arguments(vec![inner]));
                    }
                    None => {}
                }
            }
            Expr::Identifier(ident)
                if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("current_schema") =>
            {
                *expr = call("current_schema", with_arguments(Vec::new()));
            }
            Expr::Subquery(query) if is_without_rows(query) => *expr = plain(Value::Null),
            Expr::Exists { subquery, negated } if is_without_rows(subquery) => {
                *expr = plain(Value::Boolean(*negated));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::parse_one;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let mut statement = parse_one(text).expect("it parses");
        rewrite(&mut statement);
        assert_eq!(statement.to_string(), expected);
    }

    #[test]
    fn what_clients_write_is_what_the_planner_knows() {
        check("select pg_catalog.version()", "SELECT version()");
        check(
            "select pg_catalog.array_to_string(d.datacl, E'\\n') from pg_class d",
            "SELECT NULL FROM pg_catalog.pg_class d",
        );
        check("select current_schema, current_schema()", "SELECT current_schema(), current_schema()");
        check("select oid from pg_class", "SELECT oid FROM pg_catalog.pg_class");
        check("select a OPERATOR(pg_catalog.~) '^(up)$' COLLATE pg_catalog.default", "SELECT a ~ '^(up)$'");
        check("select a::pg_catalog.text, b::oid", "SELECT a::TEXT, b::BIGINT");
        check("select 'up'::regclass", "SELECT to_regclass('up')");
        check(
            "select (select adbin from pg_catalog.pg_attrdef d where d.adrelid = a.attrelid), \
             exists (select 1 from pg_trigger), (select count(*) from pg_trigger) from pg_attribute a",
            "SELECT NULL, false, (SELECT count(*) FROM pg_catalog.pg_trigger) FROM pg_catalog.pg_attribute a",
        );
        check("select version, up.value from up", "SELECT version, up.value FROM up");
    }
}
