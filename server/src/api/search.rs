//! `/api/v1/search/*`: names of metrics, names of labels and values of a label that are like what somebody types.
//!
//! Prometheus' experimental search API (`--enable-feature=search-api` there). The answer is lines of JSON: batches
//! `{"results":[...]}`, then a trailer `{"status":"success","has_more":false}`. Names are matched where the answer is put
//! together: the shards know which there are, and a tenant has few beside its series.
//!
//! ```text
//! search[]        texts; a name that is like one of them is found, every name without any
//! fuzz_alg        subsequence (default): the text's characters come in this order in the name
//!                 jarowinkler: the text is part of the name, or is as near to it as fuzz_threshold says
//! fuzz_threshold  0 to 100, the least score in hundredths
//! sort_by         alpha (default) or score, with sort_dir asc or dsc; scores begin with the best
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use query::engine::ListRequest;
use query::source::MetricMetadata;
use query::{Engine, QueryError};
use serde::Serialize;

use super::prometheus::{List, answer, unescape};
use super::read::Freshness;
use super::{App, Params};
use crate::auth::AuthContext;
use crate::error::ApiError;

const NAME: &str = "__name__";
const MAX_LIMIT: usize = 10_000;
const DEFAULT_LIMIT: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Algorithm {
    Subsequence,
    JaroWinkler,
}

/// What is looked for.
#[derive(Debug)]
struct Pattern {
    texts: Vec<String>,
    algorithm: Algorithm,
    threshold: f64,
    ignore_case: bool,
}

impl Pattern {
    /// How much a name is like one of the texts, from 0 to 1; none where it is not.
    fn score(&self, name: &str) -> Option<f64> {
        if self.texts.is_empty() {
            return Some(1.0);
        }
        let name = folded(name, self.ignore_case);
        let score = |text: &String| match self.algorithm {
            Algorithm::Subsequence => subsequence(text, &name),
            Algorithm::JaroWinkler if name.contains(text.as_str()) => Some(1.0),
            Algorithm::JaroWinkler => Some(strsim::jaro_winkler(text, &name)),
        };
        let best = self.texts.iter().filter_map(score).max_by(f64::total_cmp)?;
        (best >= self.threshold).then_some(best)
    }
}

fn folded(text: &str, ignore_case: bool) -> String {
    if ignore_case { text.to_lowercase() } else { text.to_owned() }
}

/// Where the characters of a text come in their order in a name: the squares of the lengths of the runs in which they
/// come, relative to what the whole name in one run would give. A text that is part of the name is one run.
fn subsequence(text: &str, name: &str) -> Option<f64> {
    let (of, count) = (name.chars().count(), text.chars().count());
    if count == 0 || name.contains(text) {
        return Some(if of == 0 { 1.0 } else { count as f64 / of as f64 });
    }
    let (mut wanted, mut run, mut squares) = (text.chars().peekable(), 0_usize, 0);
    for character in name.chars() {
        if wanted.next_if_eq(&character).is_some() {
            run += 1;
        } else {
            squares += run * run;
            run = 0;
        }
    }
    squares += run * run;
    wanted.peek().is_none().then(|| squares as f64 / (count * of) as f64)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    Names,
    NamesBackwards,
    Best,
    Worst,
}

/// A search as it was asked for.
struct Search {
    list: List,
    pattern: Pattern,
    order: Order,
    limit: usize,
    batch: usize,
}

fn unknown(name: &str, value: &str, known: &str) -> ApiError {
    ApiError::bad_data(format!("invalid {name} {value:?}: must be {known}"))
}

impl Search {
    fn of(app: &App, auth: AuthContext, freshness: Freshness, params: &Params) -> Result<Self, ApiError> {
        let algorithm = match params.get("fuzz_alg") {
            None | Some("subsequence") => Algorithm::Subsequence,
            Some("jarowinkler") => Algorithm::JaroWinkler,
            Some(other) => return Err(unknown("fuzz_alg", other, r#""subsequence" or "jarowinkler""#)),
        };
        let threshold = params.number::<u8>("fuzz_threshold")?.unwrap_or(0);
        if threshold > 100 {
            return Err(unknown("fuzz_threshold", &threshold.to_string(), "0-100"));
        }
        let ignore_case = match params.get("case_sensitive") {
            None | Some("true" | "1") => false,
            Some("false" | "0") => true,
            Some(other) => return Err(unknown("case_sensitive", other, "boolean")),
        };
        let is_down = match (params.get("sort_dir"), params.get("sort_by")) {
            (Some(_), None) => return Err(ApiError::bad_data("sort_dir is only valid when sort_by is set")),
            (None, _) => None,
            (Some("asc"), _) => Some(false),
            (Some("dsc"), _) => Some(true),
            (Some(other), _) => return Err(unknown("sort_dir", other, r#""asc" or "dsc""#)),
        };
        let order = match (params.get("sort_by"), is_down) {
            (None | Some("alpha"), None | Some(false)) => Order::Names,
            (None | Some("alpha"), Some(true)) => Order::NamesBackwards,
            (Some("score"), None | Some(true)) => Order::Best,
            (Some("score"), Some(false)) => Order::Worst,
            (Some(other), _) => return Err(unknown("sort_by", other, "alpha or score")),
        };
        let size = |name: &str| -> Result<usize, ApiError> {
            match params.number::<usize>(name)? {
                None | Some(0) => Ok(DEFAULT_LIMIT),
                Some(size) if size <= MAX_LIMIT => Ok(size),
                Some(size) => Err(unknown(name, &size.to_string(), "at most 10000")),
            }
        };
        let texts = params.all("search[]").chain(params.all("search")).filter(|text| !text.is_empty());
        let pattern = Pattern {
            texts: texts.map(|text| folded(text, ignore_case)).collect(),
            algorithm,
            threshold: f64::from(threshold) / 100.0,
            ignore_case,
        };
        let (limit, batch) = (size("limit")?, size("batch_size")?);
        // The limit counts what is found, not what is looked through.
        let list = List::of(app, auth, freshness, params)?.unlimited();
        Ok(Self { list, pattern, order, limit, batch })
    }
}

#[derive(Debug, PartialEq, Serialize)]
struct Found {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
}

#[derive(Serialize)]
struct Batch<'a> {
    results: &'a [Found],
}

#[derive(Serialize)]
struct Trailer {
    status: &'static str,
    has_more: bool,
}

/// The names that are like the pattern, in order, and whether there are more than the limit.
fn found(names: Vec<String>, pattern: &Pattern, order: Order, limit: usize) -> (Vec<Found>, bool) {
    let mut scored: Vec<(f64, String)> =
        names.into_iter().filter_map(|name| Some((pattern.score(&name)?, name))).collect();
    // Lists come by name.
    match order {
        Order::Names => (),
        Order::NamesBackwards => scored.reverse(),
        Order::Best => scored.sort_by(|a, b| b.0.total_cmp(&a.0)),
        Order::Worst => scored.sort_by(|a, b| a.0.total_cmp(&b.0)),
    }
    let has_more = scored.len() > limit;
    scored.truncate(limit);
    let is_scored = !pattern.texts.is_empty();
    let row =
        |(score, name)| Found { name, score: is_scored.then_some(score), kind: None, help: None, unit: None };
    (scored.into_iter().map(row).collect(), has_more)
}

fn push_line(text: &mut Vec<u8>, value: &impl Serialize) {
    text.extend(serde_json::to_vec(value).unwrap_or_default());
    text.push(b'\n');
}

fn lines(results: &[Found], has_more: bool, batch: usize) -> Vec<u8> {
    let mut text = Vec::new();
    if results.is_empty() {
        push_line(&mut text, &Batch { results });
    }
    for results in results.chunks(batch) {
        push_line(&mut text, &Batch { results });
    }
    push_line(&mut text, &Trailer { status: "success", has_more });
    text
}

/// Adds what is known of metrics: of the name itself, or of the family that a histogram's or summary's series belong to.
async fn describe(engine: &Engine, request: &ListRequest, results: &mut [Found]) -> Result<(), QueryError> {
    let request = ListRequest { selectors: Vec::new(), ..request.clone() };
    let known: HashMap<String, MetricMetadata> = engine
        .metadata(&request, None)
        .await?
        .into_iter()
        .map(|entry| (entry.family.clone(), entry))
        .collect();
    for result in results {
        let family = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| result.name.strip_suffix(suffix));
        let entry = known.get(&result.name).or_else(|| known.get(family?));
        if let Some(entry) = entry {
            let stated = |text: &String| (!text.is_empty()).then(|| text.clone());
            result.kind = stated(&entry.kind);
            result.help = stated(&entry.help);
            result.unit = stated(&entry.unit);
        }
    }
    Ok(())
}

async fn search<F>(
    app: &App,
    what: &'static str,
    search: Search,
    names: impl FnOnce(Engine, ListRequest) -> F + Send + 'static,
    with_metadata: bool,
) -> Result<Response, ApiError>
where
    F: Future<Output = Result<Vec<String>, QueryError>> + Send + 'static,
{
    let Search { list, pattern, order, limit, batch } = search;
    let mut response = answer(app, list.asked(what), move |engine| async move {
        let request = list.parsed()?;
        let names = names(engine.clone(), request.clone()).await?;
        let (mut results, has_more) = found(names, &pattern, order, limit);
        if with_metadata {
            describe(&engine, &request, &mut results).await?;
        }
        Ok(lines(&results, has_more, batch))
    })
    .await?;
    let kind = HeaderValue::from_static("application/x-ndjson; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// `/api/v1/search/metric_names`
pub async fn metric_names(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let with_metadata = params.get("include_metadata") == Some("true");
    let asked = Search::of(&app, auth, freshness, &params)?;
    let names = |engine: Engine, request| async move { Ok(engine.label_values(&request, NAME).await?.0) };
    search(&app, "search metric names", asked, names, with_metadata).await
}

/// `/api/v1/search/label_names`
pub async fn label_names(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let asked = Search::of(&app, auth, freshness, &params)?;
    let names = |engine: Engine, request| async move { Ok(engine.label_names(&request).await?.0) };
    search(&app, "search label names", asked, names, false).await
}

/// `/api/v1/search/label_values`
pub async fn label_values(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    params: Params,
) -> Result<Response, ApiError> {
    let label = unescape(params.required("label")?);
    let asked = Search::of(&app, auth, freshness, &params)?;
    let names =
        move |engine: Engine, request| async move { Ok(engine.label_values(&request, &label).await?.0) };
    search(&app, "search label values", asked, names, false).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(texts: &[&str], algorithm: Algorithm, threshold: f64, ignore_case: bool) -> Pattern {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        Pattern { texts, algorithm, threshold, ignore_case }
    }

    fn names(results: &[Found]) -> Vec<&str> {
        results.iter().map(|found| found.name.as_str()).collect()
    }

    const NAMES: [&str; 5] =
        ["http_request_duration", "http_requests_total", "process_cpu", "rpc_time", "up"];

    fn find(pattern: &Pattern, order: Order, limit: usize) -> (Vec<Found>, bool) {
        found(NAMES.map(str::to_owned).to_vec(), pattern, order, limit)
    }

    #[test]
    fn characters_in_order_make_a_subsequence() {
        assert_eq!(subsequence("up", "up"), Some(1.0));
        assert_eq!(subsequence("req", "http_req"), Some(3.0 / 8.0));
        assert_eq!(subsequence("hrt", "http_requests_total"), Some(3.0 / (3.0 * 19.0)));
        assert_eq!(subsequence("th", "ht"), None);
        assert!(
            subsequence("httptotal", "http_requests_total") > subsequence("htstl", "http_requests_total")
        );
        assert_eq!(subsequence("", ""), Some(1.0));
    }

    #[test]
    fn what_is_alike_is_found_the_best_first() {
        let some = pattern(&["req"], Algorithm::Subsequence, 0.0, false);
        let (results, has_more) = find(&some, Order::Best, 10);
        assert_eq!(names(&results), ["http_requests_total", "http_request_duration"]);
        assert!(!has_more);
        assert_eq!(names(&find(&some, Order::Worst, 1).0), ["http_request_duration"]);
        assert_eq!(names(&find(&some, Order::Names, 9).0), ["http_request_duration", "http_requests_total"]);
        let (cut, has_more) = find(&some, Order::NamesBackwards, 1);
        assert_eq!((names(&cut), has_more), (vec!["http_requests_total"], true));
        let two = pattern(&["up", "cpu"], Algorithm::Subsequence, 0.2, false);
        assert_eq!(names(&find(&two, Order::Names, 9).0), ["process_cpu", "up"], "any of the texts");
        let all = pattern(&[], Algorithm::Subsequence, 0.5, false);
        assert_eq!(find(&all, Order::Names, 9).0.len(), NAMES.len());
    }

    #[test]
    fn near_misses_and_case() {
        let typo = pattern(&["http_reqests_total"], Algorithm::JaroWinkler, 0.95, false);
        assert_eq!(names(&find(&typo, Order::Best, 9).0), ["http_requests_total"]);
        let part = pattern(&["cpu"], Algorithm::JaroWinkler, 1.0, false);
        assert_eq!(names(&find(&part, Order::Best, 9).0), ["process_cpu"]);
        assert!(find(&pattern(&["CPU"], Algorithm::Subsequence, 0.0, false), Order::Best, 9).0.is_empty());
        let any_case = pattern(&[&folded("CPU", true)], Algorithm::Subsequence, 0.0, true);
        assert_eq!(names(&find(&any_case, Order::Best, 9).0), ["process_cpu"]);
    }

    #[test]
    fn batches_and_a_trailer() {
        let text = |results: &[Found], batch| String::from_utf8(lines(results, true, batch)).expect("JSON");
        let (results, _) = find(&pattern(&[], Algorithm::Subsequence, 0.0, false), Order::Names, 3);
        let expected = "{\"results\":[{\"name\":\"http_request_duration\"},{\"name\":\"http_requests_total\"}]}\n\
                        {\"results\":[{\"name\":\"process_cpu\"}]}\n{\"status\":\"success\",\"has_more\":true}\n";
        assert_eq!(text(&results, 2), expected);
        assert_eq!(text(&[], 2), "{\"results\":[]}\n{\"status\":\"success\",\"has_more\":true}\n");
    }
}
