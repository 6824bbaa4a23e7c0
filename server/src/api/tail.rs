//! Live tail: what is written, as it is written, over a WebSocket.
//!
//! ```text
//! every second: what the query finds from [`LOOKBACK_NS`] before the newest that was sent, up to now
//!               ─ what was sent before ─► one message
//! ```
//!
//! Places of records never move, so what was sent is known by its place, and a record that comes a little late is sent,
//! too. A reader, or a node, that cannot keep up is not fed from the past for ever: once the next record to be sent is
//! older than [`MAX_LAG_NS`], the tail leaves out what is in between and says how many records that were.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::{IntoResponse, Response};
use protocol::error::ErrorKind;
use query::logs::engine::{LogQuery, Place};
use query::logs::logql::engine::{LogLine, LogqlAnswer, LogqlRequest, When};
use query::logs::logql::{self};
use query::logs::search;
use query::{CancelFlag, Engine, QueryError};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, MissedTickBehavior};

use super::active::Asked;
use super::logs::{duration_ns, row_json, time_ns};
use super::loki::{LokiError, limit, streams_json};
use super::read::Freshness;
use super::{App, Params};
use crate::auth::{AuthContext, Permission, authorize_tenant};
use crate::error::ApiError;
use crate::runtime::now_ns;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(1);
/// Records may come so much later than newer ones.
const LOOKBACK_NS: i64 = 5_000_000_000;
/// Records that are older than this when their turn comes are left out.
const MAX_LAG_NS: i64 = 10_000_000_000;
/// Records of one message.
const MAX_RECORDS: usize = 2_000;
/// Longest that a tail may hold records back.
const MAX_DELAY_NS: i64 = 5_000_000_000;
/// Tails that a node feeds at once: their connections no longer count among those of HTTP.
const MAX_TAILS: usize = 256;
static PLACES: Semaphore = Semaphore::const_new(MAX_TAILS);
/// How long a message may take to be sent.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// What was found.
struct Found {
    place: Place,
    /// As it is sent.
    item: Item,
}

enum Item {
    Row(Value),
    Line(LogLine),
}

/// In which language a tail asks, and how it answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Pharos,
    Loki,
}

/// A tail: what it asks for, and what it has sent.
struct Tail {
    app: Arc<App>,
    dialect: Dialect,
    query: LogQuery,
    delay_ns: i64,
    /// Its place among the tails of the node, for as long as it lives.
    _place: SemaphorePermit<'static>,
    sent: BTreeSet<Place>,
    /// Records before this are not looked for.
    from_ns: i64,
}

/// Finds records oldest first.
async fn find(
    engine: &Engine,
    dialect: Dialect,
    query: &LogQuery,
    newest_first: bool,
    limit: usize,
) -> Result<Vec<Found>, QueryError> {
    match dialect {
        Dialect::Pharos => {
            let filter = filter_of(&query.text)?;
            let rows = engine.log_rows(query, &filter, newest_first, limit, None).await?;
            Ok(rows.iter().map(|row| Found { place: row.place, item: Item::Row(row_json(row)) }).collect())
        }
        Dialect::Loki => {
            let when = When::Every { step_ns: 1 };
            let request = LogqlRequest { query: query.clone(), when, limit, newest_first };
            match engine.logql(&request).await? {
                LogqlAnswer::Lines(lines) => Ok(lines
                    .into_iter()
                    .map(|line| Found { place: line.place, item: Item::Line(line) })
                    .collect()),
                _ => Err(QueryError::BadParameter("only log queries can be tailed".to_owned())),
            }
        }
    }
}

fn filter_of(text: &str) -> Result<protocol::logs::LogFilter, QueryError> {
    search::parse(text)
        .and_then(|parsed| parsed.filter(text))
        .map_err(|error| QueryError::BadParameter(format!("invalid parameter \"query\": {error}")))
}

/// Number of records that a query finds.
async fn count(engine: &Engine, dialect: Dialect, query: &LogQuery) -> Result<u64, QueryError> {
    match dialect {
        Dialect::Pharos => {
            let filter = filter_of(&query.text)?;
            Ok(engine.log_top(query, &filter, &[], 1).await?.total)
        }
        Dialect::Loki => {
            let range = query.end_ns.saturating_sub(query.start_ns).saturating_add(1);
            let text =
                format!("sum(count_over_time({} [{}]))", query.text, logql::units::format_duration(range));
            let request = LogqlRequest {
                query: LogQuery { text, ..query.clone() },
                when: When::Once,
                limit: 0,
                newest_first: false,
            };
            match engine.logql(&request).await? {
                LogqlAnswer::Vector(_, series) => {
                    let counts = series.iter().filter_map(|series| series.values.first().copied().flatten());
                    Ok(counts.sum::<f64>() as u64)
                }
                _ => Ok(0),
            }
        }
    }
}

/// What a look brought.
struct Round {
    fresh: Vec<Item>,
    dropped: u64,
}

impl Tail {
    /// Begins at the oldest of the last `limit` records since a time.
    async fn begin(&mut self, limit: usize) -> Result<(), ApiError> {
        let now = now_ns().saturating_sub(self.delay_ns);
        let query = LogQuery { start_ns: self.from_ns, end_ns: now, ..self.query.clone() };
        let dialect = self.dialect;
        let found =
            self.run(
                query,
                move |engine, query| async move { find(&engine, dialect, &query, true, limit).await },
            );
        let found = found.await?;
        // With fewer, everything since then is sent, and what comes late to it, too.
        if found.len() >= limit {
            self.from_ns = found.last().map_or(now.saturating_add(1), |oldest| oldest.place.time_ns);
        }
        Ok(())
    }

    /// Runs something that asks the engine, as a query of its own.
    async fn run<T, F>(
        &self,
        query: LogQuery,
        ask: impl FnOnce(Engine, LogQuery) -> F + Send + 'static,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, QueryError>> + Send + 'static,
    {
        let ms = |ns: i64| ns.div_euclid(1_000_000);
        let asked =
            Asked::query(&query.tenant, "logs tail", &query.text, (ms(query.start_ns), ms(query.end_ns), 0));
        // Of its own: what stops a query when it is over would stop the next one.
        let cancel = CancelFlag::default();
        let query = LogQuery { cancel: cancel.clone(), ..query };
        self.app.backend()?.queries.run(asked, cancel, move |engine, _| ask(engine, query)).await
    }

    /// Looks for what is new.
    async fn look(&mut self) -> Result<Round, ApiError> {
        let now = now_ns().saturating_sub(self.delay_ns);
        let dialect = self.dialect;
        let query = LogQuery { start_ns: self.from_ns, end_ns: now, ..self.query.clone() };
        if query.end_ns < query.start_ns {
            return Ok(Round { fresh: Vec::new(), dropped: 0 });
        }
        let limit = self.sent.len() + MAX_RECORDS;
        let found = self
            .run(query.clone(), move |engine, query| async move {
                find(&engine, dialect, &query, false, limit).await
            })
            .await?;
        let is_full = found.len() >= limit;
        let last = found.last().map_or(now, |found| found.place.time_ns);
        let mut fresh = Vec::new();
        for Found { place, item } in found {
            if self.sent.insert(place) {
                fresh.push(item);
            }
        }
        let mut dropped = 0;
        let until = now.saturating_sub(EVERY.as_nanos() as i64);
        if is_full && now.saturating_sub(last) > MAX_LAG_NS {
            let skipped = LogQuery { end_ns: until, ..query };
            let there = self
                .run(skipped, move |engine, query| async move { count(&engine, dialect, &query).await })
                .await?;
            let sent = self.sent.iter().filter(|place| place.time_ns <= until).count();
            dropped = there.saturating_sub(sent as u64);
            self.from_ns = until.saturating_add(1);
        } else {
            self.from_ns = self.from_ns.max(last.min(now).saturating_sub(LOOKBACK_NS));
        }
        let from = self.from_ns;
        self.sent.retain(|place| place.time_ns >= from);
        Ok(Round { fresh, dropped })
    }

    fn message(&self, round: Round) -> String {
        let mut rows = Vec::new();
        let mut lines = Vec::new();
        for item in round.fresh {
            match item {
                Item::Row(row) => rows.push(row),
                Item::Line(line) => lines.push(line),
            }
        }
        match self.dialect {
            Dialect::Pharos => json!({"rows": rows, "dropped": round.dropped}).to_string(),
            Dialect::Loki => {
                // Loki names each entry that it left out; of these, only when the last of them would have come.
                let at = self.from_ns.saturating_sub(1).to_string();
                let dropped: Vec<Value> = (0..round.dropped.min(1))
                    .map(|_| json!({"timestamp": at, "labels": {"dropped": round.dropped.to_string()}}))
                    .collect();
                let mut out = json!({"streams": streams_json(&lines, false)});
                if !dropped.is_empty() {
                    out["dropped_entries"] = json!(dropped);
                }
                out.to_string()
            }
        }
    }

    /// Feeds a reader until it leaves, or until nothing can be read any more.
    async fn feed(mut self, mut socket: WebSocket, limit: usize) {
        if let Err(error) = self.send_all(&mut socket, limit).await {
            let mut reason = error.to_string();
            // What a close frame holds is bounded.
            let cut = (0..=120.min(reason.len())).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
            reason.truncate(cut);
            let frame = CloseFrame { code: close_code::ERROR, reason: reason.into() };
            // The reader may be gone already.
            let _ = tokio::time::timeout(SEND_TIMEOUT, socket.send(Message::Close(Some(frame)))).await;
        }
    }

    async fn send_all(&mut self, socket: &mut WebSocket, limit: usize) -> Result<(), ApiError> {
        self.begin(limit).await?;
        let mut ticks = tokio::time::interval_at(Instant::now(), EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                message = socket.recv() => match message {
                    // Pings are answered by the socket itself; what else a reader says means nothing.
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
                    Some(Ok(_)) => continue,
                },
            }
            if self.app.is_stopping() {
                return Err(ApiError::new(ErrorKind::Unavailable, "the node is stopping"));
            }
            let round = self.look().await?;
            if round.fresh.is_empty() && round.dropped == 0 {
                continue;
            }
            let text = self.message(round);
            match tokio::time::timeout(SEND_TIMEOUT, socket.send(Message::Text(text.into()))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Ok(()),
            }
        }
    }
}

fn tail_of(
    app: Arc<App>,
    dialect: Dialect,
    auth: AuthContext,
    freshness: Freshness,
    params: &Params,
) -> Result<Tail, ApiError> {
    app.backend()?;
    let text = match dialect {
        Dialect::Pharos => params.get("query").unwrap_or("*"),
        Dialect::Loki => params.required("query")?,
    };
    // What does not parse is refused before the connection becomes a socket.
    match dialect {
        Dialect::Pharos => drop(filter_of(text).map_err(|error| ApiError::bad_data(error.to_string()))?),
        Dialect::Loki => drop(logql::parse_log(text).map_err(|error| ApiError::bad_data(error.to_string()))?),
    }
    let delay_ns = match (dialect, params.get("delay_for")) {
        // Loki counts whole seconds here.
        (Dialect::Loki, Some(text)) => {
            let seconds = text.parse::<i64>().ok().filter(|seconds| (0..=5).contains(seconds));
            let seconds = seconds.ok_or_else(|| ApiError::bad_data("delay_for can't be greater than 5"))?;
            seconds * 1_000_000_000
        }
        _ => duration_ns(params, "delay")?.unwrap_or(0),
    };
    if delay_ns > MAX_DELAY_NS {
        return Err(ApiError::bad_data("invalid parameter \"delay\": more than 5s"));
    }
    let place = PLACES.try_acquire().map_err(|_| {
        ApiError::new(ErrorKind::ResourceExhausted, format!("{MAX_TAILS} tails are fed by this node already"))
    })?;
    let now = now_ns();
    let from_ns = time_ns(params, "start")?.unwrap_or(match dialect {
        Dialect::Pharos => now,
        Dialect::Loki => now.saturating_sub(3_600_000_000_000),
    });
    let query = LogQuery { consistency: freshness.0, ..LogQuery::new(auth.tenant, text, from_ns, now) };
    Ok(Tail { app, dialect, query, delay_ns, _place: place, sent: BTreeSet::new(), from_ns })
}

/// `/api/v1/logs/tail`
pub async fn tail(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    upgrade: WebSocketUpgrade,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.number::<usize>("limit")?.unwrap_or(100);
    // Browsers can not give a socket's request a header.
    let auth = match params.get("tenant") {
        Some(name) => authorize_tenant(Permission::Read, Some(name))
            .map_err(|error| ApiError::bad_data(format!("invalid parameter \"tenant\": {error}")))?,
        None => auth,
    };
    let tail = tail_of(app, Dialect::Pharos, auth, freshness, &params)?;
    Ok(upgrade.on_upgrade(move |socket| tail.feed(socket, limit)).into_response())
}

/// `/loki/api/v1/tail`
pub async fn loki_tail(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    upgrade: WebSocketUpgrade,
    params: Params,
) -> Result<Response, LokiError> {
    let limit = limit(&params, 100)?;
    let tail = tail_of(app, Dialect::Loki, auth, freshness, &params)?;
    Ok(upgrade.on_upgrade(move |socket| tail.feed(socket, limit)).into_response())
}
