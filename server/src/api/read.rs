//! Running queries for clients: a bounded number at once, on a runtime of their own, stopped when the client leaves.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use protocol::commit_token::CommitToken;
use protocol::error::ErrorKind;
use query::source::Consistency;
use query::{CancelFlag, Engine, QueryError};
use sql::SqlError;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::active::{ActiveQueries, Asked, Notes};
use crate::config::QuerySection;
use crate::error::{ApiError, chain};
use crate::ingest::remote_write::COMMIT_TOKEN_HEADER;
use crate::telemetry::metrics::QueryMetrics;
use crate::telemetry::trace::{self, OpenSpan};

/// Header that says how fresh a read must be.
pub const CONSISTENCY_HEADER: &str = "x-pharos-consistency";

/// Time beyond a query's own limit after which it is given up from outside: it should have ended by itself.
const GRACE: Duration = Duration::from_secs(5);

/// How fresh a request wants its answer, from its headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freshness(pub Consistency);

impl<S: Sync> FromRequestParts<S> for Freshness {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let text =
            |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap_or("?").trim().to_owned());
        let token = text(COMMIT_TOKEN_HEADER);
        if let Some(token) = &token {
            token
                .parse::<CommitToken>()
                .map_err(|error| ApiError::bad_data(format!("X-Pharos-Commit-Token: {error}")))?;
        }
        match (text(CONSISTENCY_HEADER).as_deref(), token) {
            (None | Some("session"), Some(token)) => Ok(Self(Consistency::Session { token })),
            (None | Some("linearizable"), _) => Ok(Self(Consistency::Linearizable)),
            (Some("local"), _) => Ok(Self(Consistency::Local)),
            (Some("session"), None) => {
                Err(ApiError::bad_data("X-Pharos-Consistency: session needs X-Pharos-Commit-Token"))
            }
            (Some(other), _) => Err(ApiError::bad_data(format!(
                "X-Pharos-Consistency: {other:?} is not linearizable, session or local"
            ))),
        }
    }
}

/// A failed query, for the client.
pub fn query_error(error: &QueryError) -> ApiError {
    match error.kind() {
        ErrorKind::Internal => ApiError::internal(error),
        kind => ApiError::new(kind, chain(error)),
    }
}

/// Why something that asks the engine failed.
pub trait Failure: Send + 'static {
    /// What the client is told.
    fn for_client(&self) -> ApiError;
}

impl Failure for QueryError {
    fn for_client(&self) -> ApiError {
        query_error(self)
    }
}

impl Failure for SqlError {
    fn for_client(&self) -> ApiError {
        match self.kind {
            ErrorKind::Internal => ApiError::internal(self),
            kind => ApiError::new(kind, self.to_string()),
        }
    }
}

/// The engine and the places for running queries.
#[derive(Clone)]
pub struct Queries {
    engine: Engine,
    active: Arc<ActiveQueries>,
    runtime: Handle,
    places: Arc<Semaphore>,
    queue_timeout: Duration,
    timeout: Duration,
    metrics: QueryMetrics,
}

/// Stops the query when its request goes away.
struct StopOnDrop {
    cancel: CancelFlag,
    gone: CancellationToken,
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.gone.cancel();
    }
}

impl Queries {
    /// Queries of an engine, evaluated on `runtime`.
    pub fn new(
        engine: Engine,
        runtime: Handle,
        settings: &QuerySection,
        metrics: QueryMetrics,
        active: Arc<ActiveQueries>,
    ) -> Self {
        Self {
            engine,
            active,
            runtime,
            places: Arc::new(Semaphore::new(settings.max_concurrent as usize)),
            queue_timeout: settings.queue_timeout.0,
            timeout: settings.timeout.0,
            metrics,
        }
    }

    /// The queries that are running.
    pub fn active(&self) -> &Arc<ActiveQueries> {
        &self.active
    }

    /// Longest a query may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Runs work that is too long for a reactor and asks nothing of the shards.
    pub async fn on_own_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        self.runtime.spawn_blocking(work).await.map_err(|error| {
            tracing::error!(%error, "reading a request panicked");
            ApiError::new(ErrorKind::Internal, "internal error, see the node's log")
        })
    }

    /// Runs something that asks the engine, once there is a place. Dropping the future stops it.
    pub async fn run<T, F>(
        &self,
        asked: Asked,
        cancel: CancelFlag,
        ask: impl FnOnce(Engine, Arc<Notes>) -> F + Send + 'static,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, QueryError>>,
    {
        self.run_any(asked, cancel, ask).await
    }

    /// The same for what fails in other ways.
    pub async fn run_any<T, E, F>(
        &self,
        asked: Asked,
        cancel: CancelFlag,
        ask: impl FnOnce(Engine, Arc<Notes>) -> F + Send + 'static,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        E: Failure,
        F: Future<Output = Result<T, E>>,
    {
        let mut span = trace::span("query");
        span.set("pharos.query.type", asked.what);
        span.set("pharos.tenant", asked.tenant.as_str());
        span.set("db.query.text", asked.text.as_str());
        let outcome = self.run_in(&mut span, asked, cancel, ask).await;
        if let Err(error) = &outcome {
            span.fail(error);
        }
        outcome
    }

    async fn run_in<T, E, F>(
        &self,
        span: &mut OpenSpan,
        asked: Asked,
        cancel: CancelFlag,
        ask: impl FnOnce(Engine, Arc<Notes>) -> F + Send + 'static,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        E: Failure,
        F: Future<Output = Result<T, E>>,
    {
        let begun = Instant::now();
        let place = tokio::time::timeout(self.queue_timeout, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            self.metrics.refused.inc();
            let message =
                format!("no place for the query within {:?}: too many are running", self.queue_timeout);
            return Err(ApiError::new(ErrorKind::ResourceExhausted, message));
        };
        let mut active = self.active.begin(asked)?;
        let notes = Arc::clone(&active.notes);
        let waited = begun.elapsed();
        notes.waited(waited);
        span.set("pharos.query.waited", waited);
        let (engine, metrics) = (self.engine.clone(), self.metrics.clone());
        let stop = StopOnDrop { cancel, gone: CancellationToken::new() };
        let (runtime, gone) = (self.runtime.clone(), stop.gone.clone());
        let (position, counted) = (span.position(), Arc::clone(&notes));
        // A thread for each query: what one computes on its answers delays the others no more than the system does.
        let mut task = self.runtime.spawn_blocking(move || {
            metrics.running.inc();
            let _counted = RunningGuard(metrics, place);
            // Dropped where it waits, it stops what it has asked of the shards.
            let asked = trace::compute_at(position.clone(), || ask(engine, notes));
            runtime.block_on(trace::at(position, gone.run_until_cancelled(asked)))
        });
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(self.timeout + GRACE, &mut task) => outcome,
            () = active.kill.cancelled() => {
                active.outcome = "killed";
                return Err(ApiError::new(ErrorKind::Canceled, "the query was killed by an administrator"));
            }
        };
        drop(stop);
        span.set("pharos.query.samples", counted.samples());
        self.metrics.seconds.observe(begun.elapsed().as_secs_f64());
        active.outcome = match &outcome {
            Ok(Ok(Some(Ok(_)))) => "answered",
            Ok(_) => "failed",
            Err(_) => "timed out",
        };
        match outcome {
            Ok(Ok(Some(Ok(answer)))) => Ok(answer),
            Ok(Ok(Some(Err(error)))) => Err(error.for_client()),
            Ok(Ok(None)) => Err(ApiError::new(ErrorKind::Canceled, "the query was stopped")),
            Ok(Err(error)) => {
                tracing::error!(%error, "a query panicked");
                Err(ApiError::new(ErrorKind::Internal, "internal error, see the node's log"))
            }
            Err(_) => Err(ApiError::new(
                ErrorKind::Timeout,
                format!("the query took longer than {:?}", self.timeout),
            )),
        }
    }
}

/// A query that runs and the place that it holds.
struct RunningGuard(QueryMetrics, #[allow(dead_code)] tokio::sync::OwnedSemaphorePermit);

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.0.running.dec();
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    async fn freshness(headers: &[(&str, &str)]) -> Result<Consistency, ApiError> {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        Freshness::from_request_parts(&mut parts, &()).await.map(|freshness| freshness.0)
    }

    #[test]
    fn what_is_wrong_with_an_expression_is_told_once() {
        let error = QueryError::from(query::promql::parser::parse("sum(").unwrap_err());
        assert_eq!(query_error(&error).to_string(), "1:5: parse error: unclosed left parenthesis");
    }

    #[tokio::test]
    async fn headers_say_how_fresh() {
        let session = Consistency::Session { token: "1-5.3-2".to_owned() };
        assert_eq!(freshness(&[]).await.unwrap(), Consistency::Linearizable);
        assert_eq!(freshness(&[(CONSISTENCY_HEADER, "local")]).await.unwrap(), Consistency::Local);
        assert_eq!(freshness(&[(COMMIT_TOKEN_HEADER, "1-5.3-2")]).await.unwrap(), session);
        let both = [(CONSISTENCY_HEADER, "session"), (COMMIT_TOKEN_HEADER, "1-5.3-2")];
        assert_eq!(freshness(&both).await.unwrap(), session);
        for bad in [
            &[(CONSISTENCY_HEADER, "eventual")][..],
            &[(CONSISTENCY_HEADER, "session")],
            &[(COMMIT_TOKEN_HEADER, "yesterday")],
        ] {
            assert_eq!(freshness(bad).await.unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
    }
}
