//! An S3 server of its own, on loopback, that keeps objects as files and verifies signatures.

use std::path::PathBuf;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

/// Whose keys the server knows.
pub const ACCESS_KEY: &str = "test-access-key";
/// The secret to them.
pub const SECRET_KEY: &str = "test-secret-key";

/// The server. It ends with the value.
pub struct S3Server {
    url: String,
    // Before the directory: nobody writes there any more when it goes.
    _runtime: Runtime,
    dir: TempDir,
}

impl S3Server {
    /// Starts it with one empty bucket.
    pub fn start(bucket: &str) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        std::fs::create_dir(dir.path().join(bucket)).expect("a bucket is a directory");
        let files = FileSystem::new(dir.path()).expect("a directory that is there");
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a thread");
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        runtime.spawn(async move {
            let connections = auto::Builder::new(TokioExecutor::new());
            while let Ok((stream, _)) = listener.accept().await {
                let connection =
                    connections.serve_connection(TokioIo::new(stream), service.clone()).into_owned();
                tokio::spawn(connection);
            }
        });
        Self { url, dir, _runtime: runtime }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The directory of a bucket: each object is a file in it.
    pub fn bucket(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}
