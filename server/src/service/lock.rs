//! One process at a time uses a data directory.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::ServiceError;

const FILE: &str = "LOCK";

/// Held while the process uses the directory. The kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Makes the directory, readable to its owner alone, and locks it.
    pub fn take(dir: &Path) -> Result<Self, ServiceError> {
        if !dir.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Self::failed(dir))?;
        }
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(FILE))
            .map_err(Self::failed(dir))?;
        Self::locked(dir, file.try_lock(), file)
    }

    /// Locks the directory against a node, for whoever only reads it: changes nothing, and others may do the same. `None`
    /// where no node ever ran.
    pub fn share(dir: &Path) -> Result<Option<Self>, ServiceError> {
        match File::open(dir.join(FILE)) {
            Ok(file) => Self::locked(dir, file.try_lock_shared(), file).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Self::failed(dir)(error)),
        }
    }

    fn locked(dir: &Path, outcome: Result<(), TryLockError>, file: File) -> Result<Self, ServiceError> {
        match outcome {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(ServiceError::InUse { path: dir.to_owned() }),
            Err(TryLockError::Error(source)) => Err(Self::failed(dir)(source)),
        }
    }

    fn failed(dir: &Path) -> impl FnOnce(std::io::Error) -> ServiceError {
        move |source| ServiceError::DataDir { path: dir.to_owned(), source }
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
        assert!(matches!(DirLock::share(&dir), Err(ServiceError::InUse { .. })));
        drop(held);
        let readers = [DirLock::share(&dir).unwrap(), DirLock::share(&dir).unwrap()];
        assert!(readers.iter().all(Option::is_some));
        assert!(matches!(DirLock::take(&dir), Err(ServiceError::InUse { .. })));
        drop(readers);
        DirLock::take(&dir).unwrap();
        assert!(DirLock::share(parent.path()).unwrap().is_none());
        assert!(!parent.path().join(FILE).exists(), "a look changes nothing");
    }
}
