//! Opens a bucket: its address, and what the environment says of it.
//!
//! Keys come from the variables that every S3 tool reads, or from the role of the machine, never from the command line,
//! where every user of the machine could read them.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey as Key};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientConfigKey, RetryConfig};
use url::Url;

use super::BackupError;
use super::objects::ObjectPlace;
use super::offence::Offence;

/// What addresses begin with.
pub const SCHEME: &str = "s3://";

/// Longest that a request may take, body and all. The largest move [`super::objects::PART_BYTES`], two at once: a line of
/// 2.5 Mbit/s does that.
const REQUEST_TIMEOUT: &str = "60s";
/// Longest that a connection may take to come about.
const CONNECT_TIMEOUT: &str = "5s";

/// A failed request is sent again so often, after pauses that grow from a fifth of a second to ten at most, but not any more
/// two minutes after the first time: a moment's overload passes, and a wrong address is told within seconds.
fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(10),
            base: 2.0,
        },
        max_retries: 10,
        retry_timeout: Duration::from_secs(120),
    }
}

/// `s3://bucket/prefix`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    bucket: String,
    prefix: Path,
}

impl Address {
    /// Reads an address; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| format!("it does not begin with {SCHEME}"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let letter = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
        if bucket.is_empty() || !bucket.chars().all(letter) {
            return Err(format!("{bucket:?} is no name of a bucket: {SCHEME}BUCKET/PREFIX is wanted"));
        }
        // The client would drop it, and so mean another prefix than other tools do.
        if prefix.starts_with('/') {
            return Err("its prefix begins with a slash".to_owned());
        }
        let prefix = Path::parse(prefix).map_err(|error| error.to_string())?;
        Ok(Self { bucket: bucket.to_owned(), prefix })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let slash = if self.prefix.is_root() { "" } else { "/" };
        write!(f, "{SCHEME}{}{slash}{}", self.bucket, self.prefix)
    }
}

/// What the command line says beside the address.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Server, where it is not Amazon's.
    pub endpoint: Option<String>,
    /// Region.
    pub region: Option<String>,
}

/// An open bucket.
#[derive(Debug)]
pub struct Bucket {
    /// The place.
    pub place: ObjectPlace,
    /// No keys are in the environment: the machine's own are asked for, which takes a while where there are none.
    pub ambient: bool,
}

/// Opens the place at an address. Nothing is sent yet.
pub fn open(address: &Address, options: &Options) -> Result<Bucket, BackupError> {
    let (store, endpoint, ambient) = client(AmazonS3Builder::from_env(), address, options, retries())?;
    let place = ObjectPlace::new(Arc::new(store), address.prefix.clone(), address.to_string(), endpoint)?;
    Ok(Bucket { place, ambient })
}

/// The client, the server that it speaks to, and whether it has no keys of its own.
fn client(
    environment: AmazonS3Builder,
    address: &Address,
    options: &Options,
    retries: RetryConfig,
) -> Result<(AmazonS3, String, bool), BackupError> {
    let wrong =
        |said: String| BackupError::Store { name: address.to_string(), offence: Offence::Other { said } };
    let mut builder = environment.with_bucket_name(&address.bucket).with_retry(retries);
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    let region = builder.get_config_value(&Key::Region).unwrap_or_else(|| "us-east-1".to_owned());
    // It becomes a part of names of hosts.
    if region.is_empty() || !region.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-') {
        return Err(wrong(format!("{region:?} is no region")));
    }
    let given = options.endpoint.clone();
    let given = given.or_else(|| builder.get_config_value(&Key::S3Endpoint));
    let given = given.or_else(|| builder.get_config_value(&Key::Endpoint));
    let endpoint = match given {
        None => format!("https://s3.{region}.amazonaws.com"),
        Some(given) => {
            let endpoint = checked_endpoint(&given).map_err(wrong)?;
            // Whoever writes http means it: stores in a closed network often speak nothing else.
            let plain = endpoint.starts_with("http://").to_string();
            builder = builder
                .with_config(Key::S3Endpoint, &endpoint)
                .with_config(Key::Client(ClientConfigKey::AllowHttp), plain);
            endpoint
        }
    };
    builder = builder
        .with_config(Key::Client(ClientConfigKey::Timeout), REQUEST_TIMEOUT)
        .with_config(Key::Client(ClientConfigKey::ConnectTimeout), CONNECT_TIMEOUT);
    let unset = |key| builder.get_config_value(&key).is_none();
    match (unset(Key::AccessKeyId), unset(Key::SecretAccessKey)) {
        (true, false) => {
            return Err(wrong("AWS_SECRET_ACCESS_KEY is set without AWS_ACCESS_KEY_ID".to_owned()));
        }
        (false, true) => {
            return Err(wrong("AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY".to_owned()));
        }
        _ => {}
    }
    let ambient = unset(Key::AccessKeyId)
        && unset(Key::WebIdentityTokenFile)
        && unset(Key::ContainerCredentialsRelativeUri)
        && unset(Key::ContainerCredentialsFullUri)
        && builder.get_config_value(&Key::SkipSignature).as_deref() != Some("true");
    match builder.build() {
        Ok(store) => Ok((store, endpoint, ambient)),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// An endpoint as the client takes it. Errors do not repeat it, for it may hold what must not be seen.
fn checked_endpoint(given: &str) -> Result<String, String> {
    let url = Url::parse(given).map_err(|error| format!("the endpoint is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("the endpoint is no URL that begins with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the endpoint takes no user and password: keys belong in the environment".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("the endpoint has more than a host, a port and a path".to_owned());
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::place::Place;
    use super::*;

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("s3://backups/pharos/a", "s3://backups/pharos/a"),
            ("s3://backups/pharos/", "s3://backups/pharos"),
            ("s3://backups/", "s3://backups"),
            ("s3://backups", "s3://backups"),
        ] {
            assert_eq!(Address::parse(text).expect(text).to_string(), shown);
        }
        for text in ["s3://", "s3:///a", "s3://a b/c", "s3://u:p@host/c", "s3://a//b", "s3://a/../b", "/a"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_endpoint_is_a_url_without_secrets() {
        assert_eq!(checked_endpoint("http://minio:9000/").as_deref(), Ok("http://minio:9000"));
        assert_eq!(checked_endpoint("https://h/a b").as_deref(), Ok("https://h/a%20b"));
        let bad = [
            "minio:9000",
            "http://",
            "ftp://h",
            "http://u:hidden@h",
            "http://h?key=hidden",
            "http://999.1.1.1",
        ];
        for given in bad {
            let error = checked_endpoint(given).expect_err(given);
            assert!(!error.contains("hidden"), "{error}");
        }
    }

    fn opened(options: &Options) -> Result<(AmazonS3, String, bool), BackupError> {
        let address = Address::parse("s3://b/p").expect("an address");
        client(AmazonS3Builder::new(), &address, options, RetryConfig { max_retries: 0, ..retries() })
    }

    #[test]
    fn what_is_given_is_taken() {
        let (_, endpoint, ambient) = opened(&Options::default()).expect("a client");
        assert_eq!((endpoint.as_str(), ambient), ("https://s3.us-east-1.amazonaws.com", true));
        let region = Options { region: Some("eu-west-1".to_owned()), ..Options::default() };
        assert_eq!(opened(&region).expect("a client").1, "https://s3.eu-west-1.amazonaws.com");
        let region = Options { region: Some("eu west".to_owned()), ..Options::default() };
        assert!(opened(&region).is_err());
    }

    #[test]
    fn half_of_a_pair_of_keys_is_told() {
        let address = Address::parse("s3://b/p").expect("an address");
        for half in [
            AmazonS3Builder::new().with_access_key_id("a"),
            AmazonS3Builder::new().with_secret_access_key("hidden"),
        ] {
            let error =
                client(half, &address, &Options::default(), retries()).expect_err("the other is missing");
            let text = error.to_string();
            assert!(text.contains("is set without AWS_") && !text.contains("hidden"), "{text}");
        }
    }

    #[test]
    fn nobody_at_the_endpoint_is_told() {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let endpoint = format!("http://{}", free.local_addr().expect("an address"));
        drop(free);
        let address = Address::parse("s3://b/p").expect("an address");
        let options = Options { endpoint: Some(endpoint.clone()), region: None };
        let keys = AmazonS3Builder::new().with_access_key_id("a").with_secret_access_key("hidden");
        let once = RetryConfig { max_retries: 0, ..retries() };
        let (store, said, ambient) = client(keys, &address, &options, once).expect("a client");
        assert!(!ambient);
        let prefix = address.prefix.clone();
        let mut place =
            ObjectPlace::new(Arc::new(store), prefix, address.to_string(), said).expect("a place");
        let error = place.list().expect_err("nobody listens").to_string();
        assert!(
            error.starts_with(&format!("s3://b/p/backup.json: {endpoint} can not be reached: ")),
            "{error}"
        );
        assert!(!error.contains("hidden"), "{error}");
    }
}
