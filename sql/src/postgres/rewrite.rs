//! Statements as PostgreSQL's clients write them, in the words that the planner has for the same.
//!
//! `pg_catalog.f(...)` is `f(...)`, tables of that schema are found without it, `OPERATOR(pg_catalog.~)` is `~`, a collation
//! is none, and casts to PostgreSQL's own types are casts to numbers and texts. A subquery of one value over tables that
//! never have rows is null, `EXISTS` over them is false and `ARRAY` of them is empty: the planner has no way to run those
//! that name columns of the statement around them. A query that reads such a table has no rows itself, and keeps only the
//! names of its columns: what else it says need not be known.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use datafusion::functions_aggregate::all_default_aggregate_functions;
use datafusion::logical_expr::AggregateUDF;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, GroupByExpr, Ident, JoinOperator, ObjectName, ObjectNamePart, Query, Select,
    SelectItem, SetExpr, TableFactor, Value, ValueWithSpan, VisitMut, VisitorMut, visit_expressions,
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
    match query.body.as_ref() {
        SetExpr::Select(select) => selects_nothing(select),
        _ => false,
    }
}

fn selects_nothing(select: &Select) -> bool {
    let is_empty = |factor: &TableFactor| matches!(factor, TableFactor::Table { name, .. } if parts(name).pop().is_some_and(|name| is_empty(&name)));
    let aggregates = visit_expressions(&select.projection, |expr: &Expr| match expr {
        Expr::Function(function)
            if parts(&function.name).pop().is_none_or(|name| AGGREGATES.contains(&name)) =>
        {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    // The first table of a join may have rows that the others lack, or the other way round.
    let keeps_rows = |join: &JoinOperator| {
        !matches!(join, JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::FullOuter(_))
    };
    let needs_rows = |join: &JoinOperator| {
        matches!(join, JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_))
    };
    let is_grouped = !matches!(&select.group_by, GroupByExpr::Expressions(list, _) if list.is_empty());
    !is_grouped
        && aggregates.is_continue()
        && select.from.iter().any(|from| {
            from.joins.iter().all(|join| keeps_rows(&join.join_operator))
                && (is_empty(&from.relation)
                    || from.joins.iter().any(|j| needs_rows(&j.join_operator) && is_empty(&j.relation)))
        })
}

/// Names of functions that make one value of many rows, or of none.
static AGGREGATES: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let functions = all_default_aggregate_functions();
    let names = |function: &Arc<AggregateUDF>| {
        let aliases = function.aliases().iter().cloned();
        aliases.chain([function.name().to_owned()]).collect::<Vec<_>>()
    };
    functions.iter().flat_map(names).collect()
});

/// The columns of a selection that gives no rows: their names, and no more. `None` where it does not say them.
fn columns_alone(select: &Select) -> Option<Vec<SelectItem>> {
    let column = |item: &SelectItem| {
        let alias = match item {
            SelectItem::ExprWithAlias { alias, .. } => alias.clone(),
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => name.clone(),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(path)) => path.last()?.clone(),
            SelectItem::UnnamedExpr(Expr::Function(function)) => Ident::new(parts(&function.name).pop()?),
            SelectItem::UnnamedExpr(_) => Ident::with_quote('"', "?column?"),
            _ => return None,
        };
        Some(SelectItem::ExprWithAlias { expr: text_null(), alias })
    };
    let mut columns = select.projection.iter().map(column).collect::<Option<Vec<_>>>()?;
    // Columns without names of their own may be several, and those of a selection have to differ.
    for at in 0..columns.len() {
        let (before, rest) = columns.split_at_mut(at);
        let taken = |ident: &Ident| {
            before
                .iter()
                .any(|item| matches!(item, SelectItem::ExprWithAlias { alias, .. } if alias == ident))
        };
        if let Some(SelectItem::ExprWithAlias { alias, .. }) = rest.first_mut()
            && taken(alias)
        {
            alias.value = format!("{}_{at}", alias.value);
        }
    }
    Some(columns)
}

fn text_null() -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(plain(Value::Null)),
        data_type: DataType::Text,
        array: false,
        format: None,
    }
}

/// The selections that a query is put together of.
fn selections<'a>(body: &'a mut SetExpr, found: &mut Vec<Option<&'a mut Select>>) {
    match body {
        SetExpr::Select(select) => found.push(Some(select.as_mut())),
        SetExpr::SetOperation { left, right, .. } => {
            selections(left, found);
            selections(right, found);
        }
        SetExpr::Query(query) => selections(&mut query.body, found),
        _ => found.push(None),
    }
}

/// Leaves of a query over tables without rows what it answers: its columns.
fn empty(query: &mut Query) {
    let mut found = Vec::new();
    selections(&mut query.body, &mut found);
    let mut made = Vec::new();
    for select in found {
        let Some(select) = select.filter(|select| selects_nothing(select)) else { return };
        let Some(columns) = columns_alone(select) else { return };
        made.push((select, columns));
    }
    for (select, columns) in made {
        select.projection = columns;
        select.from = Vec::new();
        select.selection = Some(plain(Value::Boolean(false)));
    }
    query.order_by = None;
}

/// Whether a call shows who was granted what, or the options of a table, of which there are none here: they are no arrays.
fn lists_nothing(function: &Function) -> bool {
    let FunctionArguments::List(list) = &function.args else { return false };
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(listed))) = list.args.first() else { return false };
    let names_one = visit_expressions(listed, |expr: &Expr| {
        let column = match expr {
            Expr::CompoundIdentifier(path) => path.last(),
            Expr::Identifier(column) => Some(column),
            _ => None,
        };
        let name = column.map(|column| column.value.to_ascii_lowercase());
        match name.is_some_and(|name| name.ends_with("acl") || name == "reloptions") {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    parts(&function.name) == ["array_to_string"] && names_one.is_break()
}

impl VisitorMut for Rewriter {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        empty(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Subquery(query) if is_without_rows(query) => *expr = plain(Value::Null),
            Expr::Exists { subquery, negated } if is_without_rows(subquery) => {
                *expr = plain(Value::Boolean(*negated));
            }
            Expr::Function(Function { name, args: FunctionArguments::Subquery(query), .. })
                if parts(name) == ["array"] && is_without_rows(query) =>
            {
                *expr = plain(Value::SingleQuotedString("{}".to_owned()));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

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
                if lists_nothing(function) {
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
        check(
            "select pg_catalog.array_to_string(c.reloptions || array(select 'toast.' || x from unnest(tc.reloptions) x), ', ') \
             from pg_class c",
            "SELECT NULL FROM pg_catalog.pg_class c",
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

    #[test]
    fn of_queries_over_tables_without_rows_the_columns_are_left() {
        check(
            "select n.nspname as \"Schema\", p.proname, pg_catalog.pg_get_function_result(p.oid), 1 from pg_catalog.pg_proc p \
             left join pg_catalog.pg_namespace n on n.oid = p.pronamespace where p.prokind <> 'a' order by 1, 2",
            "SELECT CAST(NULL AS TEXT) AS \"Schema\", CAST(NULL AS TEXT) AS proname, CAST(NULL AS TEXT) AS \
             pg_get_function_result, CAST(NULL AS TEXT) AS \"?column?\" WHERE false",
        );
        check(
            "select pubname from pg_publication p join pg_publication_rel r on p.oid = r.prpubid \
             union all select pubname from pg_publication order by 1",
            "SELECT CAST(NULL AS TEXT) AS pubname WHERE false UNION ALL SELECT CAST(NULL AS TEXT) AS pubname WHERE false",
        );
        check(
            "select a, b.a from pg_index, b",
            "SELECT CAST(NULL AS TEXT) AS a, CAST(NULL AS TEXT) AS a_1 WHERE false",
        );
        check(
            "select r.rolname, array(select b.rolname from pg_auth_members m join pg_roles b on m.roleid = b.oid) from pg_roles r",
            "SELECT r.rolname, '{}' FROM pg_catalog.pg_roles r",
        );
        // Here there may be rows.
        let kept = [
            "SELECT relname FROM pg_catalog.pg_class AS c LEFT JOIN pg_catalog.pg_am AS a ON c.relam = a.oid",
            "SELECT relname FROM pg_catalog.pg_am AS a RIGHT JOIN pg_catalog.pg_class AS c ON c.relam = a.oid",
            "SELECT count(*) FROM pg_catalog.pg_index",
            "SELECT indrelid FROM pg_catalog.pg_index GROUP BY indrelid",
            "SELECT * FROM pg_catalog.pg_index",
            "SELECT relname FROM pg_catalog.pg_class UNION SELECT amname FROM pg_catalog.pg_am",
        ];
        kept.iter().for_each(|text| check(text, text));
    }
}
