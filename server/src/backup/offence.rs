//! What a store of objects said, in words that name the cause.
//!
//! The client's errors are texts around the store's answer, which may repeat what was signed. Only its code and message
//! are taken from it: neither headers nor keys get into what people see.

use std::error::Error as _;
use std::fmt;

use object_store::Error;

/// Longest answer that is shown where it is not in S3's form.
const MAX_SHOWN_CHARS: usize = 200;

/// Codes of answers to a request with keys that do not open this door.
const DENIED: [&str; 9] = [
    "AccessDenied",
    "AccountProblem",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "NotSignedUp",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
];

/// Why a store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offence {
    /// The bucket is not there.
    NoBucket {
        /// Where it was looked for.
        endpoint: String,
    },
    /// The keys are wrong, or may not do this.
    Denied {
        /// What the store says.
        said: String,
    },
    /// There are no keys.
    NoKeys,
    /// Nobody answers.
    Unreachable {
        /// Where.
        endpoint: String,
        /// What the system says.
        reason: String,
    },
    /// The bucket is elsewhere.
    Region,
    /// Anything else.
    Other {
        /// What the store, or its client, says.
        said: String,
    },
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBucket { endpoint } => write!(f, "there is no such bucket at {endpoint}"),
            Self::Denied { said } => write!(
                f,
                "access denied ({said}): look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and at what they may do"
            ),
            Self::NoKeys => write!(
                f,
                "no keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; the metadata service of a machine with a role \
                 does not answer either"
            ),
            Self::Unreachable { endpoint, reason } => write!(f, "{endpoint} can not be reached: {reason}"),
            Self::Region => {
                write!(f, "the bucket is in another region: give it with --s3-region or AWS_REGION")
            }
            Self::Other { said } => write!(f, "{said}"),
        }
    }
}

impl Offence {
    /// Reads an error of the client of `endpoint`.
    pub fn of(error: &Error, endpoint: &str) -> Self {
        let text = error.to_string();
        let endpoint = endpoint.to_owned();
        if text.contains("/latest/api/token") || text.contains("/latest/meta-data/") {
            return Self::NoKeys;
        }
        if text.contains("Received redirect") {
            return Self::Region;
        }
        // Only what came back from the other side has a status.
        let answered = text.contains("status code: ") || text.contains("<Code>");
        if !answered && text.contains("HTTP error") {
            let reason = root(error);
            // Keys may come from a service of their own, and that may be who is away.
            return if text.contains(&endpoint) {
                Self::Unreachable { endpoint, reason }
            } else {
                Self::Other { said: format!("{}: {reason}", shortened(&text)) }
            };
        }
        let code = element(&text, "Code");
        let said = match (code, element(&text, "Message")) {
            (Some(code), Some(message)) if !message.is_empty() => format!("{code}: {message}"),
            (Some(code), _) => code.to_owned(),
            // Not S3's form: the line of its status, as far as it can be shown.
            (None, _) => shortened(&text),
        };
        let denied_status = text.contains("status code: 403") || text.contains("status code: 401");
        match code {
            Some("NoSuchBucket") => Self::NoBucket { endpoint },
            Some("PermanentRedirect") => Self::Region,
            Some(code) if DENIED.contains(&code) => Self::Denied { said },
            _ if denied_status => Self::Denied { said },
            _ => Self::Other { said },
        }
    }
}

/// Whether a store does not know how to write on a condition.
pub fn knows_no_conditions(error: &Error) -> bool {
    matches!(error, Error::NotImplemented { .. })
        || element(&error.to_string(), "Code") == Some("NotImplemented")
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).collect()
}

/// Content of an element of an answer in XML.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0.trim())
}

/// What is at the bottom of an error.
fn root(error: &Error) -> String {
    let mut cause = error.source();
    let mut text = error.to_string();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: &str = "http://127.0.0.1:1";

    fn generic(text: &str) -> Error {
        Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    fn answer(status: &str, body: &str) -> Error {
        generic(&format!(
            "Error performing GET {ENDPOINT}/b/backup.json in 2ms - Server returned non-2xx status code: {status}: {body}"
        ))
    }

    #[track_caller]
    fn check(error: &Error, expected: &str) {
        assert_eq!(Offence::of(error, ENDPOINT).to_string(), expected);
    }

    #[test]
    fn the_cause_is_named() {
        let bucket = "<Error><Code>NoSuchBucket</Code><Message>m</Message></Error>";
        check(&answer("404 Not Found", bucket), "there is no such bucket at http://127.0.0.1:1");
        check(
            &answer("503 Slow Down", "<Error><Code>SlowDown</Code><Message>slower</Message></Error>"),
            "SlowDown: slower",
        );
        check(&answer("403 Forbidden", "<Error><Code>Odd</Code></Error>"), &denied("Odd"));
        check(
            &generic("Received redirect without LOCATION, this normally indicates ..."),
            "the bucket is in another region: give it with --s3-region or AWS_REGION",
        );
        check(
            &generic(
                "Error performing PUT http://169.254.169.254/latest/api/token in 3s - HTTP error: no route",
            ),
            &Offence::NoKeys.to_string(),
        );
        check(
            &generic("Error performing GET http://127.0.0.1:1/b in 3s - HTTP error: error sending request"),
            "http://127.0.0.1:1 can not be reached: \
             Error performing GET http://127.0.0.1:1/b in 3s - HTTP error: error sending request",
        );
        check(
            &generic("Error performing GET http://10.0.0.1/role in 3s - HTTP error: no route"),
            "Generic S3 error: Error performing GET http://10.0.0.1/role in 3s - HTTP error: no route: \
             Error performing GET http://10.0.0.1/role in 3s - HTTP error: no route",
        );
        let page = "x".repeat(5000);
        assert!(Offence::of(&answer("500 Oh", &page), ENDPOINT).to_string().len() < 300);
    }

    fn denied(said: &str) -> String {
        Offence::Denied { said: said.to_owned() }.to_string()
    }

    #[test]
    fn what_was_signed_is_not_repeated() {
        let body = "<Error><Code>SignatureDoesNotMatch</Code><Message>it differs</Message>\
                    <AWSAccessKeyId>AKIA</AWSAccessKeyId><StringToSign>secret things</StringToSign></Error>";
        check(&answer("403 Forbidden", body), &denied("SignatureDoesNotMatch: it differs"));
        let body = "<Error><Code>ExpiredToken</Code><Message>old</Message><Token-0>tok</Token-0></Error>";
        check(&answer("400 Bad Request", body), &denied("ExpiredToken: old"));
    }

    #[test]
    fn a_store_without_conditions_is_recognised() {
        let body = "<Error><Code>NotImplemented</Code><Message>If-Match</Message></Error>";
        assert!(knows_no_conditions(&answer("501 Not Implemented", body)));
        assert!(!knows_no_conditions(&answer("412 Precondition Failed", "<Code>PreconditionFailed</Code>")));
    }
}
