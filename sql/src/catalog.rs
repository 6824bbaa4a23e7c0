//! Names of tables: `metrics`, `histograms`, `exemplars`, `logs`, `spans`, `span_events`, `traces` and one per metric in the
//! schema `public`; the metrics alone, whatever they are called, in the schema `metric`; `system.*`; and what PostgreSQL's
//! clients look up, `pg_catalog.*`.
//!
//! The names that are not metrics' hide metrics of the same name, which `metric."metrics"` still reaches.
//!
//! A metric's table is made when a statement names it, of the labels that its series have at that moment. Which metrics
//! there are is asked for only where a statement wants to list tables.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::TableType;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use protocol::labels::METRIC_NAME;
use protocol::matcher::Matcher;
use query::engine::ListRequest;
use query::{Engine, QueryError};

use crate::columns::Table;
use crate::postgres::catalog::{PG_CATALOG, PgCatalog};
use crate::rows::{RowKind, RowTable};
use crate::scan::{ClusterTable, Scope};
use crate::system::SystemSchema;

/// The catalogue's name.
pub const CATALOG: &str = "pharos";
/// The schema of unqualified names.
pub const PUBLIC: &str = "public";
/// The schema of metrics alone.
pub const METRIC: &str = "metric";
/// The schema of the tables about the system.
pub const SYSTEM: &str = "system";

/// Metrics whose columns are asked for at once, where all are listed.
pub(crate) const AT_ONCE: usize = 32;

fn external(error: QueryError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The metrics of a tenant, as a statement sees them.
#[derive(Clone)]
pub struct Metrics {
    scope: Scope,
    engine: Engine,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    names: Vec<String>,
    /// Labels by metric; none for metrics that do not exist.
    labels: HashMap<String, Option<Vec<String>>>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// The metrics that an engine reaches.
    pub fn new(scope: Scope, engine: Engine) -> Self {
        Self { scope, engine, known: Arc::default() }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, selectors: Vec<Vec<Matcher>>) -> ListRequest {
        let context = self.scope.context();
        ListRequest {
            consistency: context.consistency,
            timeout: context.timeout,
            selectors,
            ..ListRequest::all(context.tenant)
        }
    }

    /// Learns which metrics there are, for lists of tables; and their labels, for lists of columns.
    pub async fn learn_all(&self, with_labels: bool) -> Result<()> {
        let (names, _) =
            self.engine.label_values(&self.request(Vec::new()), METRIC_NAME).await.map_err(external)?;
        if with_labels {
            let mut asked: Vec<BoxFuture<'_, Result<Option<Vec<String>>>>> = Vec::new();
            for name in &names {
                asked.push(self.labels(name).boxed());
            }
            let mut running = futures_util::stream::iter(asked).buffer_unordered(AT_ONCE);
            while let Some(outcome) = running.next().await {
                outcome?;
            }
        }
        self.known().names = names;
        Ok(())
    }

    async fn labels(&self, metric: &str) -> Result<Option<Vec<String>>> {
        if let Some(labels) = self.known().labels.get(metric) {
            return Ok(labels.clone());
        }
        let selector = vec![vec![Matcher::equal(METRIC_NAME, metric)]];
        let (mut names, _) = self.engine.label_names(&self.request(selector)).await.map_err(external)?;
        let is_there = !names.is_empty();
        names.retain(|name| name != METRIC_NAME);
        let labels = is_there.then_some(names);
        self.known().labels.insert(metric.to_owned(), labels.clone());
        Ok(labels)
    }

    async fn table(&self, metric: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if metric.is_empty() {
            return Ok(None);
        }
        let labels = self.labels(metric).await?;
        Ok(labels.map(|labels| self.provider(Table::metric(metric, &labels))))
    }

    fn rows(&self, kind: RowKind) -> Arc<dyn TableProvider> {
        Arc::new(RowTable::new(kind, self.scope.clone(), self.engine.clone()))
    }

    fn provider(&self, table: Table) -> Arc<dyn TableProvider> {
        Arc::new(ClusterTable::new(self.scope.clone(), table))
    }
}

fn builtin(name: &str) -> Option<Table> {
    [Table::metrics(), Table::histograms(), Table::exemplars()].into_iter().find(|table| table.name == name)
}

const BUILTIN: [&str; 7] = ["exemplars", "histograms", "logs", "metrics", "span_events", "spans", "traces"];

/// A schema of metrics, with the tables over all of them or without.
#[derive(Debug)]
struct MetricSchema {
    metrics: Metrics,
    with_builtin: bool,
}

#[async_trait]
impl SchemaProvider for MetricSchema {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.metrics.known().names.clone();
        match self.with_builtin {
            true => names.extend(BUILTIN.map(str::to_owned)),
            // Every metric is here, but a list names once what goes by one name.
            false => names.retain(|name| BUILTIN.contains(&name.as_str())),
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let of_rows = RowKind::ALL.into_iter().find(|kind| kind.name() == name);
        if let Some(kind) = of_rows.filter(|_| self.with_builtin) {
            return Ok(Some(self.metrics.rows(kind)));
        }
        match builtin(name).filter(|_| self.with_builtin) {
            Some(table) => Ok(Some(self.metrics.provider(table))),
            None => self.metrics.table(name).await,
        }
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        Ok(self.table_exist(name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|known| known == name)
    }
}

/// The catalogue of a statement.
#[derive(Debug)]
pub struct Catalog {
    schemas: Vec<(&'static str, Arc<dyn SchemaProvider>)>,
    described: PgCatalog,
}

impl Catalog {
    /// All that there is.
    pub fn new(metrics: &Metrics, system: SystemSchema) -> Self {
        let tenant = system.scope.tenant.as_str().to_owned();
        let metrics = |with_builtin| Arc::new(MetricSchema { metrics: metrics.clone(), with_builtin });
        let mut schemas: Vec<(&'static str, Arc<dyn SchemaProvider>)> =
            vec![(PUBLIC, metrics(true)), (METRIC, metrics(false)), (SYSTEM, Arc::new(system))];
        let described = PgCatalog { schemas: schemas.clone(), tenant };
        schemas.push((PG_CATALOG, Arc::new(described.clone())));
        Self { schemas, described }
    }

    /// The same as PostgreSQL's clients look it up.
    pub fn described(&self) -> &PgCatalog {
        &self.described
    }
}

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        self.schemas.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.schemas.iter().find(|(known, _)| *known == name).map(|(_, schema)| Arc::clone(schema))
    }
}
