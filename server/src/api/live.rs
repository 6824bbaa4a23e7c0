//! `/api/v1/live`: what changes, pushed over one WebSocket a page.
//!
//! ```text
//! page -> {"do": "subscribe", "id": 1, "topic": "cluster"}
//!         {"do": "subscribe", "id": 2, "topic": "promql", "query": "...", "window": ms, "step": ms, "tenant": "..."}
//!         {"do": "unsubscribe", "id": 2}, {"do": "pause"}, {"do": "resume"}
//! node -> {"id": 1, "data": {...}, "dropped": n}                  the cluster's status, where it changed
//!         binary: id u32 LE | dropped u32 LE | columns            a window of an expression, at each of its steps
//!         {"id": 2, "error": {"type": "bad_data", "error": "..."}}
//!         {"topic": "heartbeat", "now": ms}                       after some seconds of silence
//! ```
//!
//! A subscription has at most one evaluation in work, and nothing is queued for a page that is slow: what came due
//! meanwhile is left out and counted as `dropped`. Pages of other sites are refused by their `Origin`. Sockets have
//! places of their own, beside those of requests: they live long and cost little.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use protocol::error::ErrorKind;
use protocol::ids::TenantId;
use query::source::Consistency;
use query::{CancelFlag, QueryKind, QueryRequest};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::App;
use super::active::Asked;
use super::columns::{self, Steps};
use crate::auth::AuthContext;
use crate::error::{ApiError, outside};
use crate::runtime::now_ms;

/// Sockets of a node.
pub const MAX_SOCKETS: usize = 512;
/// Subscriptions of a socket.
const MAX_SUBSCRIPTIONS: usize = 64;
/// Longest message of a page.
const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// Steps of a window.
const MAX_STEPS: i64 = 2_000;
/// Series of a window; more are cut.
const MAX_SERIES: usize = 1_000;
/// How often what is due is looked for: at most four updates a second.
const TICK: Duration = Duration::from_millis(250);
/// How often the cluster's status is taken.
const CLUSTER_EVERY: Duration = Duration::from_secs(1);
/// A status this young serves every socket of the node.
const STATUS_YOUNG: Duration = Duration::from_millis(500);
/// The longest silence.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// After an error a subscription rests.
const REST: Duration = Duration::from_secs(5);

/// The newest status, shared by all sockets of the node.
#[derive(Debug, Default)]
pub struct StatusCache(Mutex<Option<(Instant, Arc<str>)>>);

impl StatusCache {
    /// The status as text, taken now if the one that is known is old.
    async fn get(&self, app: &App) -> Result<Arc<str>, ApiError> {
        // Held over the call: sockets that ask together ask once.
        let mut known = self.0.lock().await;
        if let Some((taken, text)) = &*known
            && taken.elapsed() < STATUS_YOUNG
        {
            return Ok(Arc::clone(text));
        }
        let status = app.backend()?.operations.status().await?;
        let text: Arc<str> = status.to_string().into();
        *known = Some((Instant::now(), Arc::clone(&text)));
        Ok(text)
    }
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "topic", rename_all = "lowercase")]
enum Topic {
    Cluster,
    Promql {
        query: String,
        window: i64,
        step: i64,
        #[serde(default)]
        tenant: Option<TenantId>,
    },
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "do", rename_all = "lowercase")]
enum Wish {
    Subscribe {
        id: u32,
        #[serde(flatten)]
        topic: Topic,
    },
    Unsubscribe {
        id: u32,
    },
    Pause,
    Resume,
}

/// What a socket is told about.
struct Subscription {
    topic: Arc<Topic>,
    /// Tells an answer to an old subscription of the same number from one to this.
    generation: u64,
    due: Instant,
    in_work: bool,
    dropped: u32,
    /// What was sent last, to send only news.
    last: Option<Arc<str>>,
    last_end_ms: i64,
}

/// What an evaluation came to.
enum Update {
    Status(Arc<str>),
    Columns { body: Vec<u8>, end_ms: i64 },
    Failed(ApiError),
}

struct Done {
    id: u32,
    generation: u64,
    update: Update,
}

/// Whether the page that asks was served by this host.
fn is_own_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    match (text(header::ORIGIN), text(header::HOST)) {
        // Programs send none.
        (None, _) => true,
        (Some(origin), Some(host)) => {
            origin.split_once("://").is_some_and(|(_, origin)| origin.eq_ignore_ascii_case(host))
        }
        (Some(_), None) => false,
    }
}

/// `/api/v1/live`
pub async fn live(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|error| {
        ApiError::bad_data(format!("this is a WebSocket: {error}")).with_status(StatusCode::UPGRADE_REQUIRED)
    })?;
    if !is_own_page(&headers) {
        return Err(ApiError::new(
            ErrorKind::PermissionDenied,
            "pages of other sites have no live data here",
        ));
    }
    let place = Arc::clone(&app.live_places)
        .try_acquire_owned()
        .map_err(|_| ApiError::new(ErrorKind::Unavailable, "too many live pages on this node"))?;
    Ok(upgrade.max_message_size(MAX_MESSAGE_BYTES).on_upgrade(move |socket| async move {
        Session::new(app, auth.tenant).run(socket).await;
        drop(place);
    }))
}

struct Session {
    app: Arc<App>,
    tenant: TenantId,
    subscriptions: BTreeMap<u32, Subscription>,
    generations: u64,
    paused: bool,
}

impl Session {
    fn new(app: Arc<App>, tenant: TenantId) -> Self {
        Self { app, tenant, subscriptions: BTreeMap::new(), generations: 0, paused: false }
    }

    async fn run(mut self, mut socket: WebSocket) {
        let mut work: FuturesUnordered<BoxFuture<'static, Done>> = FuturesUnordered::new();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut spoke = Instant::now();
        loop {
            let message = tokio::select! {
                biased;
                received = socket.recv() => match received {
                    Some(Ok(Message::Text(text))) => self.wish(&text),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => None,
                },
                Some(done) = work.next(), if !work.is_empty() => self.finish(done),
                _ = ticks.tick() => {
                    if self.app.is_stopping() {
                        // The page looks for another node, or for this one when it is back.
                        let _ = socket.send(Message::Close(None)).await;
                        return;
                    }
                    self.begin_due(&mut work);
                    let silent = spoke.elapsed() >= HEARTBEAT;
                    silent.then(|| text(json!({"topic": "heartbeat", "now": now_ms()}).to_string()))
                }
            };
            if let Some(message) = message {
                spoke = Instant::now();
                if socket.send(message).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Does what the page asks; an answer only where it can not be done.
    fn wish(&mut self, message: &str) -> Option<Message> {
        let wish = match serde_json::from_str(message) {
            Ok(wish) => wish,
            Err(error) => return Some(failed(None, &ApiError::bad_data(format!("not understood: {error}")))),
        };
        match wish {
            Wish::Subscribe { id, topic } => {
                if let Err(error) = self.check(id, &topic) {
                    return Some(failed(Some(id), &error));
                }
                self.generations += 1;
                let subscription = Subscription {
                    topic: Arc::new(topic),
                    generation: self.generations,
                    due: Instant::now(),
                    in_work: false,
                    dropped: 0,
                    last: None,
                    last_end_ms: i64::MIN,
                };
                self.subscriptions.insert(id, subscription);
            }
            Wish::Unsubscribe { id } => {
                self.subscriptions.remove(&id);
            }
            Wish::Pause => self.paused = true,
            Wish::Resume => {
                self.paused = false;
                let now = Instant::now();
                self.subscriptions.values_mut().for_each(|subscription| subscription.due = now);
            }
        }
        None
    }

    fn check(&self, id: u32, topic: &Topic) -> Result<(), ApiError> {
        if self.subscriptions.len() >= MAX_SUBSCRIPTIONS && !self.subscriptions.contains_key(&id) {
            let message = format!("more than {MAX_SUBSCRIPTIONS} subscriptions on one socket");
            return Err(ApiError::new(ErrorKind::LimitExceeded, message));
        }
        let Topic::Promql { window, step, .. } = topic else { return Ok(()) };
        if !(1_000..=86_400_000).contains(step) {
            return Err(ApiError::bad_data("step must be between one second and one day, in milliseconds"));
        }
        if *window < *step || *window / *step > MAX_STEPS {
            return Err(ApiError::bad_data(format!(
                "window must be 1 to {MAX_STEPS} steps, in milliseconds"
            )));
        }
        Ok(())
    }

    /// Starts what is due and not in work.
    fn begin_due(&mut self, work: &mut FuturesUnordered<BoxFuture<'static, Done>>) {
        if self.paused {
            return;
        }
        let now = Instant::now();
        for (&id, subscription) in &mut self.subscriptions {
            if subscription.due > now {
                continue;
            }
            let every = match &*subscription.topic {
                Topic::Cluster => CLUSTER_EVERY,
                Topic::Promql { step, .. } => Duration::from_millis(step.unsigned_abs()).max(CLUSTER_EVERY),
            };
            subscription.due = now + every;
            if subscription.in_work {
                subscription.dropped += 1;
                continue;
            }
            subscription.in_work = true;
            let (app, tenant) = (Arc::clone(&self.app), self.tenant.clone());
            let (topic, generation) = (Arc::clone(&subscription.topic), subscription.generation);
            work.push(Box::pin(async move {
                let update = evaluate(&app, tenant, &topic).await.unwrap_or_else(Update::Failed);
                Done { id, generation, update }
            }));
        }
    }

    /// Takes an answer in; none where it is no news or nobody wants it any more.
    fn finish(&mut self, done: Done) -> Option<Message> {
        let Done { id, generation, update } = done;
        let subscription = self.subscriptions.get_mut(&id).filter(|s| s.generation == generation)?;
        subscription.in_work = false;
        match update {
            Update::Failed(error) => {
                subscription.due = Instant::now() + REST;
                Some(failed(Some(id), &error))
            }
            Update::Status(status) => {
                if subscription.last.as_ref() == Some(&status) {
                    return None;
                }
                let dropped = std::mem::take(&mut subscription.dropped);
                let message = format!("{{\"id\":{id},\"dropped\":{dropped},\"data\":{status}}}");
                subscription.last = Some(status);
                Some(text(message))
            }
            Update::Columns { mut body, end_ms } => {
                if subscription.last_end_ms == end_ms {
                    return None;
                }
                subscription.last_end_ms = end_ms;
                let dropped = std::mem::take(&mut subscription.dropped);
                body[..4].copy_from_slice(&id.to_le_bytes());
                body[4..8].copy_from_slice(&dropped.to_le_bytes());
                Some(Message::Binary(Bytes::from(body)))
            }
        }
    }
}

fn text(message: String) -> Message {
    Message::Text(Utf8Bytes::from(message))
}

fn failed(id: Option<u32>, error: &ApiError) -> Message {
    let row = outside(error.kind());
    text(json!({"id": id, "error": {"type": row.error_type, "error": error.to_string()}}).to_string())
}

async fn evaluate(app: &App, tenant: TenantId, topic: &Topic) -> Result<Update, ApiError> {
    let (query, window, step, tenant) = match topic {
        Topic::Cluster => return Ok(Update::Status(app.live_status.get(app).await?)),
        Topic::Promql { query, window, step, tenant: own } => {
            (query, *window, *step, own.clone().unwrap_or(tenant))
        }
    };
    let end = now_ms().div_euclid(step) * step;
    let start = end - window / step * step;
    let kind = QueryKind::Range { start, end, step };
    let cancel = CancelFlag::default();
    let request = QueryRequest {
        query: query.clone(),
        features: Some(app.config.features_of(tenant.as_str())),
        tenant,
        kind,
        consistency: Consistency::Linearizable,
        lookback: None,
        timeout: None,
        explain: false,
        use_cache: true,
        cancel: cancel.clone(),
    };
    let asked = Asked::query(&request.tenant, "live", query, (start, end, step));
    let body = app
        .backend()?
        .queries
        .run(asked, cancel, move |engine, notes| async move {
            let mut result = engine.query(&request).await?;
            notes.count(result.stats.total_queryable_samples);
            result.value.limit(MAX_SERIES);
            let count = usize::try_from((end - start) / step).unwrap_or_default() + 1;
            // Room for the number of the subscription and the count of what was left out.
            let mut body = vec![0; 8];
            columns::encode(&result.value, Steps { start_ms: start, step_ms: step, count }, &mut body);
            Ok(body)
        })
        .await?;
    Ok(Update::Columns { body, end_ms: end })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), axum::http::HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let own = [(header::HOST, "a:9601"), (header::ORIGIN, "http://a:9601")];
        assert!(is_own_page(&headers(&own)));
        assert!(is_own_page(&headers(&[(header::HOST, "a:9601")])));
        for origin in ["http://a:9602", "http://evil", "null", "http://a:9601.evil"] {
            assert!(
                !is_own_page(&headers(&[(header::HOST, "a:9601"), (header::ORIGIN, origin)])),
                "{origin}"
            );
        }
    }

    #[test]
    fn wishes_are_read() {
        let wish: Wish =
            serde_json::from_str(r#"{"do":"subscribe","id":3,"topic":"cluster"}"#).expect("a wish");
        assert_eq!(wish, Wish::Subscribe { id: 3, topic: Topic::Cluster });
        let wish = r#"{"do":"subscribe","id":4,"topic":"promql","query":"up","window":60000,"step":1000}"#;
        let Wish::Subscribe { topic: Topic::Promql { query, tenant, .. }, .. } =
            serde_json::from_str(wish).expect("a wish")
        else {
            panic!("another wish")
        };
        assert_eq!((query.as_str(), tenant), ("up", None));
        for bad in ["", "{}", r#"{"do":"subscribe","id":-1,"topic":"cluster"}"#, r#"{"do":"dance"}"#] {
            assert!(serde_json::from_str::<Wish>(bad).is_err(), "{bad}");
        }
    }

    fn session() -> Session {
        let app = App::new(Arc::default(), Arc::new(crate::telemetry::Metrics::new()));
        Session::new(app, TenantId::default())
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let mut session = session();
        let promql = |id: usize, window: i64, step: i64| {
            json!({"do": "subscribe", "id": id, "topic": "promql", "query": "up", "window": window, "step": step})
                .to_string()
        };
        assert!(session.wish(&promql(1, 60_000, 10)).is_some(), "a step too short");
        assert!(session.wish(&promql(1, 1_000 * (MAX_STEPS + 1), 1_000)).is_some(), "too many steps");
        assert!(session.wish("nonsense").is_some());
        for id in 0..MAX_SUBSCRIPTIONS {
            assert!(session.wish(&promql(id, 60_000, 1_000)).is_none(), "{id}");
        }
        assert!(session.wish(&promql(MAX_SUBSCRIPTIONS, 60_000, 1_000)).is_some());
        assert!(session.wish(&promql(3, 60_000, 2_000)).is_none(), "a known number is asked anew");
    }

    #[tokio::test]
    async fn only_news_is_sent_and_what_is_left_out_is_counted() {
        let mut session = session();
        assert!(session.wish(r#"{"do":"subscribe","id":1,"topic":"cluster"}"#).is_none());
        let mut work = FuturesUnordered::new();
        session.begin_due(&mut work);
        assert_eq!(work.len(), 1);
        session.subscriptions.get_mut(&1).expect("there").due = Instant::now();
        session.begin_due(&mut work);
        assert_eq!(work.len(), 1, "one evaluation at a time");
        let generation = session.generations;
        let status: Arc<str> = "{\"node\":1}".into();
        let done = || Done { id: 1, generation, update: Update::Status(Arc::clone(&status)) };
        let Some(Message::Text(sent)) = session.finish(done()) else { panic!("nothing was sent") };
        assert_eq!(sent.as_str(), r#"{"id":1,"dropped":1,"data":{"node":1}}"#);
        assert!(session.finish(done()).is_none(), "no news");
        let old = Done { id: 1, generation: generation - 1, update: Update::Status("{}".into()) };
        assert!(session.finish(old).is_none(), "an answer to an earlier subscription");
    }
}
