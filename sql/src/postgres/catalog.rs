//! `pg_catalog`: what clients look up to show tables and columns, as PostgreSQL would describe them.
//!
//! Tables are tables there (`relkind` r), though nothing can be written to them: that is what clients list and offer. What
//! does not exist here, such as indexes and constraints, has its table all the same, without rows: [`is_empty`] knows them.
//!
//! A number (`oid`) of a table or schema is made of its name, so that it means the same to all nodes and from one
//! statement to the next; two tables may have one by chance, and are then shown with the columns of both.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::arrow::array::{Array, new_empty_array};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{SchemaProvider, Session, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TableProviderFilterPushDown, TableType, TypeSignature, Volatility, create_udf,
};
use datafusion::physical_plan::ExecutionPlan;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};

use super::values::{oid, types};
use crate::catalog::{AT_ONCE, PUBLIC};
use crate::system::{Cell, CellType, batch, schema};

/// Its name.
pub const PG_CATALOG: &str = "pg_catalog";

/// Who owns everything.
const OWNER: &str = "pharos";
const OWNER_OID: i64 = 10;
/// PostgreSQL's own numbers of schemas.
const PG_CATALOG_OID: i64 = 11;
const PUBLIC_OID: i64 = 2200;
const TABLESPACE_OID: i64 = 1663;

type Columns = &'static [(&'static str, CellType)];

use CellType::{Bool, Float, Int, Text};

/// Tables that have rows.
const FILLED: [(&str, Columns); 7] = [
    (
        "pg_class",
        &[
            ("oid", Int),
            ("relname", Text),
            ("relnamespace", Int),
            ("reltype", Int),
            ("reloftype", Int),
            ("relowner", Int),
            ("relam", Int),
            ("reltablespace", Int),
            ("relpages", Int),
            ("reltuples", Float),
            ("reltoastrelid", Int),
            ("relhasindex", Bool),
            ("relisshared", Bool),
            ("relpersistence", Text),
            ("relkind", Text),
            ("relnatts", Int),
            ("relchecks", Int),
            ("relhasrules", Bool),
            ("relhastriggers", Bool),
            ("relhassubclass", Bool),
            ("relrowsecurity", Bool),
            ("relforcerowsecurity", Bool),
            ("relispopulated", Bool),
            ("relreplident", Text),
            ("relispartition", Bool),
            ("relacl", Text),
            ("reloptions", Text),
            ("relpartbound", Text),
        ],
    ),
    ("pg_namespace", &[("oid", Int), ("nspname", Text), ("nspowner", Int), ("nspacl", Text)]),
    (
        "pg_attribute",
        &[
            ("attrelid", Int),
            ("attname", Text),
            ("atttypid", Int),
            ("attlen", Int),
            ("attnum", Int),
            ("attndims", Int),
            ("atttypmod", Int),
            ("attnotnull", Bool),
            ("atthasdef", Bool),
            ("attidentity", Text),
            ("attgenerated", Text),
            ("attisdropped", Bool),
            ("attcollation", Int),
            ("attstorage", Text),
            ("attcompression", Text),
            ("attstattarget", Int),
            ("attfdwoptions", Text),
            ("attacl", Text),
        ],
    ),
    (
        "pg_type",
        &[
            ("oid", Int),
            ("typname", Text),
            ("typnamespace", Int),
            ("typowner", Int),
            ("typlen", Int),
            ("typtype", Text),
            ("typcategory", Text),
            ("typdelim", Text),
            ("typrelid", Int),
            ("typelem", Int),
            ("typarray", Int),
            ("typbasetype", Int),
            ("typnotnull", Bool),
            ("typtypmod", Int),
            ("typcollation", Int),
        ],
    ),
    (
        "pg_database",
        &[
            ("oid", Int),
            ("datname", Text),
            ("datdba", Int),
            ("encoding", Int),
            ("datcollate", Text),
            ("datctype", Text),
            ("datistemplate", Bool),
            ("datallowconn", Bool),
            ("datacl", Text),
            ("dattablespace", Int),
        ],
    ),
    (
        "pg_roles",
        &[
            ("oid", Int),
            ("rolname", Text),
            ("rolsuper", Bool),
            ("rolinherit", Bool),
            ("rolcreaterole", Bool),
            ("rolcreatedb", Bool),
            ("rolcanlogin", Bool),
            ("rolreplication", Bool),
            ("rolbypassrls", Bool),
            ("rolconnlimit", Int),
            ("rolvaliduntil", Text),
        ],
    ),
    ("pg_tablespace", &[("oid", Int), ("spcname", Text), ("spcowner", Int), ("spcacl", Text)]),
];

/// Tables about what does not exist here.
const EMPTY: [(&str, Columns); 18] = [
    ("pg_am", &[("oid", Int), ("amname", Text)]),
    ("pg_auth_members", &[("roleid", Int), ("member", Int), ("grantor", Int), ("admin_option", Bool)]),
    ("pg_attrdef", &[("oid", Int), ("adrelid", Int), ("adnum", Int), ("adbin", Text)]),
    ("pg_collation", &[("oid", Int), ("collname", Text), ("collnamespace", Int)]),
    (
        "pg_constraint",
        &[
            ("oid", Int),
            ("conname", Text),
            ("connamespace", Int),
            ("contype", Text),
            ("conrelid", Int),
            ("conindid", Int),
            ("confrelid", Int),
        ],
    ),
    ("pg_description", &[("objoid", Int), ("classoid", Int), ("objsubid", Int), ("description", Text)]),
    ("pg_enum", &[("oid", Int), ("enumtypid", Int), ("enumsortorder", Float), ("enumlabel", Text)]),
    ("pg_extension", &[("oid", Int), ("extname", Text), ("extversion", Text), ("extnamespace", Int)]),
    (
        "pg_index",
        &[
            ("indexrelid", Int),
            ("indrelid", Int),
            ("indisunique", Bool),
            ("indisprimary", Bool),
            ("indkey", Text),
        ],
    ),
    ("pg_inherits", &[("inhrelid", Int), ("inhparent", Int), ("inhseqno", Int)]),
    ("pg_policy", &[("oid", Int), ("polname", Text), ("polrelid", Int)]),
    ("pg_proc", &[("oid", Int), ("proname", Text), ("pronamespace", Int)]),
    ("pg_publication", &[("oid", Int), ("pubname", Text), ("puballtables", Bool)]),
    ("pg_publication_rel", &[("oid", Int), ("prpubid", Int), ("prrelid", Int)]),
    ("pg_range", &[("rngtypid", Int), ("rngsubtype", Int)]),
    ("pg_shdescription", &[("objoid", Int), ("classoid", Int), ("description", Text)]),
    ("pg_statistic_ext", &[("oid", Int), ("stxrelid", Int), ("stxname", Text)]),
    ("pg_trigger", &[("oid", Int), ("tgrelid", Int), ("tgname", Text)]),
];

/// Types of columns: number, name, as SQL has it, bytes, category, number of its array.
const TYPES: [(u32, &str, &str, i64, &str, i64); 17] = [
    (types::BOOL, "bool", "boolean", 1, "B", 1000),
    (types::BYTEA, "bytea", "bytea", -1, "U", 1001),
    (types::NAME, "name", "name", 64, "S", 1003),
    (types::INT8, "int8", "bigint", 8, "N", 1016),
    (types::INT2, "int2", "smallint", 2, "N", 1005),
    (types::INT4, "int4", "integer", 4, "N", 1007),
    (types::TEXT, "text", "text", -1, "S", 1009),
    (types::OID, "oid", "oid", 4, "N", 1028),
    (types::JSON, "json", "json", -1, "U", 199),
    (types::FLOAT4, "float4", "real", 4, "N", 1021),
    (types::FLOAT8, "float8", "double precision", 8, "N", 1022),
    (types::VARCHAR, "varchar", "character varying", -1, "S", 1015),
    (types::DATE, "date", "date", 4, "D", 1182),
    (types::TIMESTAMP, "timestamp", "timestamp without time zone", 8, "D", 1115),
    (types::TIMESTAMPTZ, "timestamptz", "timestamp with time zone", 8, "D", 1185),
    (types::INTERVAL, "interval", "interval", 16, "T", 1187),
    (types::NUMERIC, "numeric", "numeric", -1, "N", 1231),
];

fn columns_of(name: &str) -> Option<Columns> {
    FILLED.iter().chain(&EMPTY).find(|(known, _)| *known == name).map(|(_, columns)| *columns)
}

/// Whether a table of that name is here.
pub fn is_known(name: &str) -> bool {
    columns_of(name).is_some()
}

/// Whether it is one that never has rows.
pub fn is_empty(name: &str) -> bool {
    EMPTY.iter().any(|(known, _)| *known == name)
}

/// A number of 31 bits above those that PostgreSQL keeps for itself.
fn number(schema: &str, name: &str) -> i64 {
    let bytes = schema.bytes().chain(*b".").chain(name.bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let bits = (hash ^ (hash >> 32)) & 0x7fff_ffff;
    bits.max(16_384) as i64
}

fn schema_number(name: &str) -> i64 {
    match name {
        PUBLIC => PUBLIC_OID,
        PG_CATALOG => PG_CATALOG_OID,
        other => number("", other),
    }
}

/// The schema.
#[derive(Clone)]
pub struct PgCatalog {
    /// The schemas of tables, by their names.
    pub schemas: Vec<(&'static str, Arc<dyn SchemaProvider>)>,
    /// The database's name.
    pub tenant: String,
}

impl fmt::Debug for PgCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PgCatalog")
    }
}

#[async_trait]
impl SchemaProvider for PgCatalog {
    /// None of them: who lists tables looks for his own.
    fn table_names(&self) -> Vec<String> {
        Vec::new()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let known = FILLED.iter().chain(&EMPTY).find(|(known, _)| *known == name);
        Ok(known.map(|(name, columns)| {
            Arc::new(Provider { name, columns, catalog: self.clone() }) as Arc<dyn TableProvider>
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        is_known(name)
    }
}

#[derive(Debug)]
struct Provider {
    name: &'static str,
    columns: Columns,
    catalog: PgCatalog,
}

#[async_trait]
impl TableProvider for Provider {
    fn schema(&self) -> SchemaRef {
        schema(self.columns)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // They are looked at to do less, and applied by the engine all the same.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut rows = match self.name {
            "pg_class" => self.catalog.classes(),
            "pg_namespace" => self.catalog.namespaces(),
            "pg_attribute" => self.catalog.attributes(filters.iter().find_map(relation)).await?,
            "pg_type" => type_rows(),
            "pg_database" => vec![vec![
                Cell::Int(number("", &self.catalog.tenant)),
                Cell::text(self.catalog.tenant.as_str()),
                Cell::Int(OWNER_OID),
                Cell::Int(6),
                Cell::text("C.UTF-8"),
                Cell::text("C.UTF-8"),
                Cell::Bool(false),
                Cell::Bool(true),
                Cell::Null,
                Cell::Int(TABLESPACE_OID),
            ]],
            // It may log in and read, and nothing else.
            "pg_roles" => vec![vec![
                Cell::Int(OWNER_OID),
                Cell::text(OWNER),
                Cell::Bool(false),
                Cell::Bool(true),
                Cell::Bool(false),
                Cell::Bool(false),
                Cell::Bool(true),
                Cell::Bool(false),
                Cell::Bool(false),
                Cell::Int(-1),
                Cell::Null,
            ]],
            "pg_tablespace" => {
                vec![vec![
                    Cell::Int(TABLESPACE_OID),
                    Cell::text("pg_default"),
                    Cell::Int(OWNER_OID),
                    Cell::Null,
                ]]
            }
            _ => Vec::new(),
        };
        rows.iter_mut().for_each(|row| row.resize(self.columns.len(), Cell::Null));
        let batch = batch(self.columns, &rows)?;
        let plan = MemorySourceConfig::try_new_exec(&[vec![batch]], self.schema(), projection.cloned())?;
        Ok(plan)
    }
}

/// The relation of `attrelid = 5`, however the number is written.
fn relation(filter: &Expr) -> Option<i64> {
    fn number(expr: &Expr) -> Option<i64> {
        match expr {
            Expr::Literal(value, _) => match value.cast_to(&DataType::Int64).ok()? {
                ScalarValue::Int64(value) => value,
                _ => None,
            },
            Expr::Cast(cast) => number(&cast.expr),
            _ => None,
        }
    }
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = filter else { return None };
    match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), value) | (value, Expr::Column(column)) if column.name == "attrelid" => {
            number(value)
        }
        _ => None,
    }
}

impl PgCatalog {
    fn tables(&self) -> impl Iterator<Item = (&'static str, &Arc<dyn SchemaProvider>, String)> {
        self.schemas.iter().flat_map(|(name, schema)| {
            schema.table_names().into_iter().map(move |table| (*name, schema, table))
        })
    }

    fn classes(&self) -> Vec<Vec<Cell>> {
        let row = |(schema, _, table): (&str, &Arc<dyn SchemaProvider>, String)| {
            let (none, no) = (Cell::Int(0), Cell::Bool(false));
            vec![
                Cell::Int(number(schema, &table)),
                Cell::Text(table),
                Cell::Int(schema_number(schema)),
                none.clone(),
                none.clone(),
                Cell::Int(OWNER_OID),
                none.clone(),
                none.clone(),
                none.clone(),
                Cell::Float(-1.0),
                none.clone(),
                no.clone(),
                no.clone(),
                Cell::text("p"),
                Cell::text("r"),
                none.clone(),
                none,
                no.clone(),
                no.clone(),
                no.clone(),
                no.clone(),
                no.clone(),
                Cell::Bool(true),
                Cell::text("n"),
                no,
                Cell::Null,
                Cell::Null,
                Cell::Null,
            ]
        };
        self.tables().map(row).collect()
    }

    fn namespaces(&self) -> Vec<Vec<Cell>> {
        let names = self.schemas.iter().map(|(name, _)| *name).chain([PG_CATALOG, "information_schema"]);
        names
            .map(|name| {
                vec![Cell::Int(schema_number(name)), Cell::text(name), Cell::Int(OWNER_OID), Cell::Null]
            })
            .collect()
    }

    /// Columns of one relation, or of all.
    async fn attributes(&self, of: Option<i64>) -> Result<Vec<Vec<Cell>>> {
        let wanted: Vec<(i64, &Arc<dyn SchemaProvider>, String)> = self
            .tables()
            .map(|(schema, provider, table)| (number(schema, &table), provider, table))
            .filter(|(number, _, _)| of.is_none_or(|of| of == *number))
            .collect();
        let found = wanted.into_iter().map(|(relation, provider, table)| {
            async move { (relation, provider.table(&table).await) }.boxed()
        });
        let found: Vec<BoxFuture<'_, (i64, Result<Option<Arc<dyn TableProvider>>>)>> = found.collect();
        let mut found = futures_util::stream::iter(found).buffered(AT_ONCE);
        let mut rows = Vec::new();
        while let Some((relation, table)) = found.next().await {
            let Some(table) = table? else { continue };
            for (at, field) in table.schema().fields().iter().enumerate() {
                let type_oid = oid(field.data_type());
                let size = TYPES.iter().find(|row| row.0 == type_oid).map_or(-1, |row| row.3);
                rows.push(vec![
                    Cell::Int(relation),
                    Cell::text(field.name()),
                    Cell::Int(type_oid.into()),
                    Cell::Int(size),
                    Cell::Int(at as i64 + 1),
                    Cell::Int(0),
                    Cell::Int(-1),
                    Cell::Bool(!field.is_nullable()),
                    Cell::Bool(false),
                    Cell::text(""),
                    Cell::text(""),
                    Cell::Bool(false),
                    Cell::Int(0),
                    Cell::text(if size > 0 { "p" } else { "x" }),
                    Cell::text(""),
                    Cell::Int(-1),
                    Cell::Null,
                    Cell::Null,
                ]);
            }
        }
        Ok(rows)
    }
}

fn type_rows() -> Vec<Vec<Cell>> {
    let row = |oid: i64, name: String, size: i64, category: &str, element: i64, array: i64| {
        vec![
            Cell::Int(oid),
            Cell::Text(name),
            Cell::Int(PG_CATALOG_OID),
            Cell::Int(OWNER_OID),
            Cell::Int(size),
            Cell::text("b"),
            Cell::text(category),
            Cell::text(","),
            Cell::Int(0),
            Cell::Int(element),
            Cell::Int(array),
            Cell::Int(0),
            Cell::Bool(false),
            Cell::Int(-1),
            Cell::Int(0),
        ]
    };
    let plain = TYPES.iter().map(|(oid, name, _, size, category, array)| {
        row((*oid).into(), (*name).to_owned(), *size, category, 0, *array)
    });
    let arrays = TYPES
        .iter()
        .map(|(oid, name, _, _, _, array)| row(*array, format!("_{name}"), -1, "A", (*oid).into(), 0));
    plain.chain(arrays).collect()
}

/// What a type is called in SQL.
fn type_title(oid: i64) -> String {
    let plain = |oid: i64| TYPES.iter().find(|row| i64::from(row.0) == oid).map(|row| row.2.to_owned());
    let array = || TYPES.iter().find(|row| row.5 == oid).map(|row| format!("{}[]", row.2));
    plain(oid).or_else(array).unwrap_or_else(|| "???".to_owned())
}

/// A function that says the same whatever it is asked.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Constant {
    name: &'static str,
    signature: Signature,
    value: ScalarValue,
}

impl ScalarUDFImpl for Constant {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

/// A function of single values.
fn of_values(
    name: &str,
    arguments: Vec<DataType>,
    result: DataType,
    map: impl Fn(&[ScalarValue]) -> ScalarValue + Send + Sync + 'static,
) -> ScalarUDF {
    let empty = result.clone();
    let invoke = move |given: &[ColumnarValue]| {
        let single = |value: &ColumnarValue| match value {
            ColumnarValue::Scalar(value) => Some(value.clone()),
            ColumnarValue::Array(_) => None,
        };
        if let Some(values) = given.iter().map(single).collect::<Option<Vec<_>>>() {
            return Ok(ColumnarValue::Scalar(map(&values)));
        }
        let arrays = ColumnarValue::values_to_arrays(given)?;
        let rows = arrays.first().map_or(0, |array| array.len());
        if rows == 0 {
            return Ok(ColumnarValue::Array(new_empty_array(&empty)));
        }
        let of_row = |row| {
            let values: Result<Vec<_>> =
                arrays.iter().map(|array| ScalarValue::try_from_array(array, row)).collect();
            values.map(|values| map(&values))
        };
        let mapped = (0..rows).map(of_row).collect::<Result<Vec<_>>>()?;
        Ok(ColumnarValue::Array(ScalarValue::iter_to_array(mapped)?))
    };
    create_udf(name, arguments, result, Volatility::Stable, Arc::new(invoke))
}

fn whole(value: &ScalarValue) -> Option<i64> {
    if let ScalarValue::Int64(value) = value { *value } else { None }
}

fn text(value: &ScalarValue) -> Option<&str> {
    if let ScalarValue::Utf8(value) = value { value.as_deref() } else { None }
}

fn text_value(value: Option<String>) -> ScalarValue {
    ScalarValue::Utf8(value)
}

/// A name as a statement has to write it.
fn quoted(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// The number of a table by its name, as statements write it.
fn number_of_name(name: &str) -> i64 {
    let plain = |part: &str| match part.strip_prefix('"').and_then(|part| part.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => part.to_ascii_lowercase(),
    };
    if let Ok(number) = name.trim().parse() {
        return number;
    }
    match name.split_once('.') {
        Some((schema, table)) if !schema.contains('"') || schema.ends_with('"') => {
            number(&plain(schema), &plain(table))
        }
        _ => number(PUBLIC, &plain(name)),
    }
}

/// The functions that go with the catalogue.
pub fn functions(catalog: &PgCatalog) -> Vec<ScalarUDF> {
    let constant = |name: &'static str, value: ScalarValue| {
        let any = vec![TypeSignature::Nullary, TypeSignature::VariadicAny];
        let signature = Signature::one_of(any, Volatility::Stable);
        ScalarUDF::new_from_impl(Constant { name, signature, value })
    };
    let says = |name, value: &str| constant(name, text_value(Some(value.to_owned())));
    let nothing = |name| constant(name, text_value(None));
    let truth = |name, value| constant(name, ScalarValue::Boolean(Some(value)));
    let version = format!("PostgreSQL {VERSION} (Pharos {})", env!("CARGO_PKG_VERSION"));
    let mut all = vec![
        says("version", &version),
        says("current_schema", PUBLIC),
        says("current_database", &catalog.tenant),
        says("current_catalog", &catalog.tenant),
        says("current_user", OWNER),
        says("session_user", OWNER),
        says("user", OWNER),
        says("pg_get_userbyid", OWNER),
        says("pg_encoding_to_char", "UTF8"),
        nothing("pg_get_expr"),
        nothing("pg_get_viewdef"),
        nothing("pg_get_indexdef"),
        nothing("pg_get_constraintdef"),
        nothing("obj_description"),
        nothing("col_description"),
        nothing("shobj_description"),
        nothing("pg_table_size"),
        nothing("pg_total_relation_size"),
        nothing("pg_relation_size"),
        nothing("pg_database_size"),
        nothing("pg_tablespace_location"),
        nothing("pg_size_pretty"),
        truth("has_table_privilege", true),
        truth("has_column_privilege", true),
        truth("has_any_column_privilege", true),
        truth("has_schema_privilege", true),
        truth("has_database_privilege", true),
        truth("pg_is_in_recovery", false),
        truth("pg_is_other_temp_schema", false),
        truth("pg_type_is_visible", true),
        truth("pg_function_is_visible", true),
        constant("pg_my_temp_schema", ScalarValue::Int64(Some(0))),
    ];
    let public =
        catalog.schemas.iter().find(|(name, _)| *name == PUBLIC).map(|(_, schema)| Arc::clone(schema));
    // Which tables there are is known only once the statement is planned.
    let visible: OnceLock<BTreeSet<i64>> = OnceLock::new();
    let is_visible = move |relation: i64| {
        let names = || public.iter().flat_map(|schema| schema.table_names());
        visible.get_or_init(|| names().map(|name| number(PUBLIC, &name)).collect()).contains(&relation)
    };
    all.extend([
        of_values("pg_table_is_visible", vec![DataType::Int64], DataType::Boolean, move |values| {
            ScalarValue::Boolean(values.first().and_then(whole).map(&is_visible))
        }),
        of_values("format_type", vec![DataType::Int64, DataType::Int64], DataType::Utf8, |values| {
            text_value(values.first().and_then(whole).map(type_title))
        }),
        of_values("quote_ident", vec![DataType::Utf8], DataType::Utf8, |values| {
            text_value(values.first().and_then(text).map(quoted))
        }),
        of_values("to_regclass", vec![DataType::Utf8], DataType::Int64, |values| {
            ScalarValue::Int64(values.first().and_then(text).map(number_of_name))
        }),
        of_values("current_setting", vec![DataType::Utf8], DataType::Utf8, |values| {
            let known = |name: &str| {
                let found = SETTINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                found.map(|(_, value)| (*value).to_owned())
            };
            text_value(values.first().and_then(text).and_then(known))
        }),
    ]);
    all
}

/// The version of PostgreSQL that is described.
pub const VERSION: &str = "14.0";
/// The same as a number.
pub const VERSION_NUMBER: &str = "140000";

/// Settings that statements may ask for; those of sessions are not known here.
const SETTINGS: [(&str, &str); 6] = [
    ("server_version", VERSION),
    ("server_version_num", VERSION_NUMBER),
    ("search_path", PUBLIC),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("timezone", "UTC"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{METRIC, SYSTEM};

    #[test]
    fn numbers_follow_from_names() {
        assert_eq!(number_of_name("up"), number(PUBLIC, "up"));
        assert_eq!(number_of_name("UP"), number(PUBLIC, "up"));
        assert_eq!(number_of_name("metric.\"App:requests\""), number(METRIC, "App:requests"));
        assert_eq!(number_of_name("\"a.b\""), number(PUBLIC, "a.b"));
        assert_eq!(number_of_name("16385"), 16_385);
        assert_ne!(number(PUBLIC, "up"), number(METRIC, "up"));
        assert!((16_384..1 << 31).contains(&number(SYSTEM, "nodes")));
    }

    #[test]
    fn types_have_names() {
        assert_eq!(type_title(701), "double precision");
        assert_eq!(type_title(1022), "double precision[]");
        assert_eq!(type_title(1), "???");
        assert_eq!(quoted("up_2"), "up_2");
        assert_eq!(quoted("Up\""), "\"Up\"\"\"");
    }

    #[test]
    fn a_filter_names_a_relation() {
        use datafusion::logical_expr::{cast, col, lit};
        assert_eq!(relation(&col("attrelid").eq(lit("17"))), Some(17));
        assert_eq!(relation(&cast(lit(17_i32), DataType::Int64).eq(col("attrelid"))), Some(17));
        assert_eq!(relation(&col("attnum").eq(lit(17))), None);
        assert_eq!(relation(&col("attrelid").gt(lit(17))), None);
    }

    #[test]
    fn rows_have_the_columns() {
        let catalog = PgCatalog { schemas: Vec::new(), tenant: "default".to_owned() };
        for (name, rows) in [("pg_namespace", catalog.namespaces()), ("pg_type", type_rows())] {
            let columns = columns_of(name).expect("known");
            assert!(!rows.is_empty() && rows.iter().all(|row| row.len() == columns.len()), "{name}");
        }
        assert!(is_known("pg_am") && is_empty("pg_am") && !is_empty("pg_class") && !is_known("up"));
    }
}
