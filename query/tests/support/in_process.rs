//! The engine in this process as what scripts are run against.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt;
use protocol::ids::TenantId;
use protocol::labels::Labels;
use query::result::{ResultValue, Value as ResultSample};
use query::{Engine, EngineOptions, Features, QueryKind, QueryRequest};

use super::memory::{MemoryCluster, Value};
use super::script::{Answer, Found, Load, Point, Subject};
use super::series::Item;

/// The engine over a cluster in memory, with every feature on: what scripts are run against.
pub struct InProcess {
    engine: Engine,
    cluster: Arc<MemoryCluster>,
}

impl InProcess {
    pub fn new(shards: usize) -> Self {
        let cluster = MemoryCluster::new(shards);
        let options = EngineOptions { features: Features::all(), ..EngineOptions::default() };
        Self { engine: Engine::new(cluster.clone(), options), cluster }
    }
}

impl Subject for InProcess {
    fn clear(&mut self) {
        self.cluster.clear();
    }

    fn load(&mut self, samples: &[Load]) -> Result<(), String> {
        for sample in samples {
            match &sample.item {
                Item::Omitted => {}
                Item::Float(value, start) => {
                    self.cluster.put(&sample.labels, sample.time, Value::Float(*value), *start);
                }
                Item::Histogram(h, _, start) => {
                    let value = Value::Histogram((**h).clone());
                    self.cluster.put(&sample.labels, sample.time, value, *start);
                }
            }
        }
        Ok(())
    }

    fn query(&mut self, query: &str, kind: QueryKind) -> Result<Answer, String> {
        let request = QueryRequest { kind, ..QueryRequest::instant(TenantId::default(), query, 0) };
        let result = self.engine.query(&request).now_or_never().expect("a cluster in memory never waits");
        let result = result.map_err(|error| error.to_string())?;
        let value = match result.value {
            ResultValue::Scalar(_, value) => Found::Scalar(value),
            ResultValue::String(_, text) => Found::String(text),
            ResultValue::Vector(samples) => Found::Vector(
                samples
                    .into_iter()
                    .map(|s| match s.value {
                        ResultSample::Float(value) => (s.labels, Point::Float(value)),
                        ResultSample::Histogram(h) => (s.labels, Point::Histogram(h)),
                    })
                    .collect(),
            ),
            ResultValue::Matrix(series) => Found::Matrix(
                series
                    .into_iter()
                    .map(|s| {
                        let mut points: BTreeMap<i64, Point> =
                            s.floats.into_iter().map(|(time, value)| (time, Point::Float(value))).collect();
                        points.extend(s.histograms.into_iter().map(|(time, h)| (time, Point::Histogram(h))));
                        (s.labels.unwrap_or_else(Labels::empty), points)
                    })
                    .collect(),
            ),
        };
        Ok(Answer { value, warnings: result.warnings, infos: result.infos })
    }

    fn raw_hints(&self) -> bool {
        self.cluster.raw_hints
    }
}
