//! One process at a time uses a data directory.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::ServiceError;

const FILE: &str = "LOCK";

/// Held while the process uses the directory. The kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Makes the directory, readable to its owner alone, and locks it.
    pub fn take(dir: &Path) -> Result<Self, ServiceError> {
        let failed = |source| ServiceError::DataDir { path: dir.to_owned(), source };
        if !dir.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        }
        let file =
            File::options().create(true).truncate(false).write(true).open(dir.join(FILE)).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(ServiceError::InUse { path: dir.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_user() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a/b");
        let held = DirLock::take(&dir).unwrap();
        assert!(matches!(DirLock::take(&dir), Err(ServiceError::InUse { .. })));
        drop(held);
        DirLock::take(&dir).unwrap();
    }
}
