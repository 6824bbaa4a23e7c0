//! Traces for people and tools: our own form, Jaeger's, Tempo's and Zipkin's, all over the same questions.
//!
//! ```text
//! own     /api/v1/traces/search, /api/v1/traces/{id}, compare, metrics, /api/v1/services, /api/v1/dependencies
//! jaeger  /api/services, /api/operations, /api/traces, /api/dependencies, /api/v3/*
//! tempo   /api/echo, /api/search, /api/v2/search/*, /api/v2/traces/{id}, /api/metrics/*
//! zipkin  /api/v2/services, /api/v2/spans, /api/v2/trace/{id}, /api/v2/traces, /api/v2/dependencies
//! ```
//!
//! Every search is TraceQL: what other dialects have as parameters is written as conditions ([`Conditions`]), so that all
//! of them find the same. Jaeger and Tempo both have `/api/traces/{id}`: who accepts protobuf gets Tempo's answer, all
//! others Jaeger's.

pub mod jaeger;
mod otlp;
pub mod own;
pub mod tempo;
pub mod zipkin;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use protocol::error::ErrorKind;
use protocol::logs::LogField;
use query::logs::engine::LogQuery;
use query::traces::Trace;
use query::traces::traceql::{
    CompareOp, Expr, Field, Intrinsic, KINDS, Literal, Query, STATES, Scope, Spansets,
};
use query::{Engine, QueryError};

use super::App;
use super::active::Asked;
use super::read::Freshness;
use crate::auth::AuthContext;
use crate::error::ApiError;
use crate::runtime::now_ns;

/// Traces that are given where a request does not say.
const DEFAULT_LIMIT: usize = 20;

/// How far into the future spans may lie: what the ways in take.
const FUTURE_NS: i64 = 600_000_000_000;

/// Everything that is kept.
fn all_time() -> (i64, i64) {
    (0, now_ns().saturating_add(FUTURE_NS))
}

/// A question as it was asked.
struct Question {
    query: LogQuery,
    what: &'static str,
}

impl Question {
    fn new(
        auth: AuthContext,
        freshness: Freshness,
        what: &'static str,
        text: impl Into<String>,
        (start_ns, end_ns): (i64, i64),
    ) -> Self {
        let query =
            LogQuery { consistency: freshness.0, ..LogQuery::new(auth.tenant, text, start_ns, end_ns) };
        Self { query, what }
    }

    /// Asks the engine on the threads of queries, which also write the answer.
    async fn ask<T, F>(
        self,
        app: &App,
        ask: impl FnOnce(Engine, LogQuery) -> F + Send + 'static,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, QueryError>> + Send + 'static,
    {
        let ms = |ns: i64| ns.div_euclid(1_000_000);
        let times = (ms(self.query.start_ns), ms(self.query.end_ns), 0);
        let asked = Asked::query(&self.query.tenant, self.what, &self.query.text, times);
        let (queries, cancel) = (&app.backend()?.queries, self.query.cancel.clone());
        queries.run(asked, cancel, move |engine, _| ask(engine, self.query)).await
    }

    /// Asks for a trace and writes it; 404 if there is none.
    async fn trace(
        self,
        app: &App,
        trace_id: [u8; 16],
        write: impl FnOnce(&Trace) -> Vec<u8> + Send + 'static,
    ) -> Result<Vec<u8>, ApiError> {
        let written = self
            .ask(app, move |engine, query| async move {
                Ok(engine.trace(&query, trace_id).await?.as_ref().map(write))
            })
            .await?;
        written.ok_or_else(|| no_trace(trace_id))
    }
}

fn no_trace(trace_id: [u8; 16]) -> ApiError {
    ApiError::new(ErrorKind::NotFound, format!("there is no trace {:032x}", u128::from_be_bytes(trace_id)))
}

/// A trace id: up to 32 hexadecimal digits, leading zeros or not.
fn trace_id(text: &str) -> Result<[u8; 16], ApiError> {
    let digits = text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match u128::from_str_radix(text, 16) {
        Ok(id) if digits => Ok(id.to_be_bytes()),
        _ => Err(ApiError::bad_data(format!("{text:?} is no trace id: up to 32 hexadecimal digits"))),
    }
}

fn path(name: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    name.map(|Path(name)| name).map_err(|error| ApiError::bad_data(format!("name in the path: {error}")))
}

fn path_id(id: Result<Path<String>, PathRejection>) -> Result<[u8; 16], ApiError> {
    trace_id(&path(id)?)
}

/// Conditions on one span, of which all are to be met.
#[derive(Default)]
struct Conditions(Vec<Expr>);

impl Conditions {
    fn is(&mut self, field: Field, op: CompareOp, literal: Literal) {
        self.0.push(Expr::Compare(field, op, literal));
    }

    /// The service, if one is named.
    fn service(&mut self, service: Option<&str>) {
        if let Some(service) = service {
            let field = Field::Attribute(Scope::Resource, "service.name".to_owned());
            self.is(field, CompareOp::Equal, Literal::Text(service.to_owned()));
        }
    }

    /// The name, if one is named; `all` is how some clients say any.
    fn operation(&mut self, operation: Option<&str>) {
        if let Some(operation) = operation.filter(|operation| !operation.eq_ignore_ascii_case("all")) {
            let literal = Literal::Text(operation.to_owned());
            self.is(Field::Intrinsic(Intrinsic::Name), CompareOp::Equal, literal);
        }
    }

    /// Shortest and longest duration of the span or the trace.
    fn durations(&mut self, of: Intrinsic, min_ns: Option<i64>, max_ns: Option<i64>) {
        for (op, ns) in [(CompareOp::GreaterEqual, min_ns), (CompareOp::LessEqual, max_ns)] {
            if let Some(ns) = ns {
                self.is(Field::Intrinsic(of), op, Literal::Duration(ns));
            }
        }
    }

    /// An attribute, wherever it is, whose value as text is this: whoever writes text does not say whether a number is
    /// meant.
    fn tag(&mut self, key: &str, value: &str) {
        let field = Field::Attribute(Scope::Any, key.to_owned());
        let mut literals = vec![Literal::Text(value.to_owned())];
        if let Ok(number) = value.parse::<i64>() {
            literals.push(Literal::Int(number));
        } else if let Ok(number) = value.parse::<f64>()
            && number.is_finite()
        {
            literals.push(Literal::Float(number));
        } else if let Ok(value) = value.parse::<bool>() {
            literals.push(Literal::Bool(value));
        }
        let compare = |literal| Expr::Compare(field.clone(), CompareOp::Equal, literal);
        let mut any: Vec<Expr> = literals.into_iter().map(compare).collect();
        match (key, value) {
            ("error", "true") => {
                let status = Literal::Status(protocol::spans::SpanStatus::Error);
                any.push(Expr::Compare(Field::Intrinsic(Intrinsic::Status), CompareOp::Equal, status));
            }
            ("span.kind", value) => any.extend(kind(value)),
            _ => {}
        }
        self.0.push(if any.len() == 1 { any.remove(0) } else { Expr::Or(any) });
    }

    /// A condition that is already one.
    fn add(&mut self, condition: Expr) {
        self.0.push(condition);
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn spansets(mut self) -> Spansets {
        Spansets::Filter(match self.0.len() {
            0 => None,
            1 => Some(self.0.remove(0)),
            _ => Some(Expr::And(self.0)),
        })
    }

    /// The conditions as TraceQL.
    fn text(self) -> String {
        Query { spansets: self.spansets(), stages: Vec::new(), metric: None }.to_string()
    }
}

/// The condition that a span is of a kind, if there is such a kind.
fn kind(name: &str) -> Option<Expr> {
    let name = name.to_ascii_lowercase();
    let (kind, _) = KINDS.iter().find(|(_, known)| *known == name)?;
    Some(Expr::Compare(Field::Intrinsic(Intrinsic::Kind), CompareOp::Equal, Literal::Kind(*kind)))
}

/// The condition that a span ended in a way, if there is such a way.
fn status(name: &str) -> Option<Expr> {
    let name = name.to_ascii_lowercase();
    let (status, _) = STATES.iter().find(|(_, known)| *known == name)?;
    Some(Expr::Compare(Field::Intrinsic(Intrinsic::Status), CompareOp::Equal, Literal::Status(*status)))
}

/// Where services are named.
fn service_field() -> LogField {
    LogField::ResourceAttribute("service.name".to_owned())
}

/// Services that have spans, by name.
async fn services(engine: &Engine, query: &LogQuery) -> Result<Vec<String>, QueryError> {
    let counted = engine.span_counts(query, &protocol::logs::LogFilter::All, &[service_field()]).await?;
    let names = counted.into_iter().flat_map(|mut group| group.values.pop());
    Ok(names.filter(|name| !name.is_empty()).collect())
}

/// Names of a service's spans with the kinds that they have, each pair with its number of spans; all services' if none is
/// named.
async fn operations(
    engine: &Engine,
    query: &LogQuery,
    service: Option<&str>,
) -> Result<Vec<(String, &'static str, u64)>, QueryError> {
    use protocol::logs::{LogFilter, LogTest};
    let filter = match service {
        Some(service) => LogFilter::Field(service_field(), LogTest::Equals(service.to_owned())),
        None => LogFilter::All,
    };
    let counted = engine.span_counts(query, &filter, &[LogField::Body, LogField::SpanKind]).await?;
    let named = counted.into_iter().map(|group| {
        let kind = group.values.get(1).and_then(|number| number.parse::<usize>().ok()).unwrap_or(0);
        let kind = KINDS.get(kind).map_or("unspecified", |(_, name)| *name);
        (group.values.into_iter().next().unwrap_or_default(), kind, group.count)
    });
    Ok(named.collect())
}

/// A duration such as `100ms` or `1.5s`.
fn duration_of(name: &str, text: &str) -> Result<i64, ApiError> {
    query::logs::logql::units::parse_duration(text, true).ok_or_else(|| {
        ApiError::bad_data(format!(
            "invalid parameter {name:?}: {text:?} is no duration such as 100ms or 1.5s"
        ))
    })
}

/// Shortest and longest duration, as most dialects name them.
fn duration_bounds(params: &super::Params) -> Result<(Option<i64>, Option<i64>), ApiError> {
    let bound = |name: &str| params.get(name).map(|text| duration_of(name, text)).transpose();
    Ok((bound("minDuration")?, bound("maxDuration")?))
}

#[cfg(test)]
mod tests;
