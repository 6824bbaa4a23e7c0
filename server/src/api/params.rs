//! Parameters of a request: the query string, and the form body of a POST behind it, as Prometheus takes them.

use std::sync::Arc;

use axum::Form;
use axum::body::Body;
use axum::extract::{FromRequest, Query, Request};
use axum::http::{Method, StatusCode, Uri, header};

use super::App;
use super::body;
use super::time::{parse_duration_ms, parse_time_ms};
use crate::error::ApiError;

/// Names and values in the order they came. Unknown names are ignored: clients of every age send some.
#[derive(Debug, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// The first value of a name; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// All values of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A value that must be there.
    pub fn required(&self, name: &str) -> Result<&str, ApiError> {
        self.get(name).ok_or_else(|| ApiError::bad_data(format!("parameter {name:?} is missing")))
    }

    fn invalid(name: &str, text: &str, what: &str) -> ApiError {
        ApiError::bad_data(format!("invalid parameter {name:?}: cannot parse {text:?} to {what}"))
    }

    /// A time in milliseconds.
    pub fn time_ms(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name)
            .map(|text| parse_time_ms(text).ok_or_else(|| Self::invalid(name, text, "a valid timestamp")))
            .transpose()
    }

    /// A duration in milliseconds.
    pub fn duration_ms(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name)
            .map(|text| parse_duration_ms(text).ok_or_else(|| Self::invalid(name, text, "a valid duration")))
            .transpose()
    }

    /// A whole number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        self.get(name).map(|text| text.parse().map_err(|_| Self::invalid(name, text, "a number"))).transpose()
    }

    /// The parameters of a query string alone, for requests whose body is data.
    pub fn of_uri(uri: &Uri) -> Result<Self, ApiError> {
        Self::from_uri(uri).map(Self)
    }

    fn from_uri(uri: &Uri) -> Result<Vec<(String, String)>, ApiError> {
        let Query(pairs) =
            Query::try_from_uri(uri).map_err(|error| ApiError::bad_data(format!("query string: {error}")))?;
        Ok(pairs)
    }
}

impl FromRequest<Arc<App>> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let mut pairs = Vec::new();
        if parts.method == Method::POST {
            let kind =
                parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
            let essence = kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
            let http = &app.config.http;
            let bytes = body::collect(body, http.max_form_body.as_usize(), http.body_timeout.0).await?;
            match essence.as_str() {
                "application/x-www-form-urlencoded" => {
                    let form = Request::from_parts(parts.clone(), Body::from(bytes));
                    let Form(form) = Form::from_request(form, app)
                        .await
                        .map_err(|error| ApiError::bad_data(format!("form body: {error}")))?;
                    pairs = form;
                }
                _ if bytes.is_empty() => (),
                other => {
                    let message = format!("content type {other:?} is not application/x-www-form-urlencoded");
                    return Err(ApiError::bad_data(message).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
                }
            }
        }
        // The body's values come first, as in Go's `Form`.
        pairs.extend(Self::from_uri(&parts.uri)?);
        Ok(Self(pairs))
    }
}
