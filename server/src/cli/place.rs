//! Where a backup lies, as the command line says it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::{CliError, complain};
use crate::backup::objects::ObjectPlace;
use crate::backup::s3::{self, Address, Options, SCHEME};

/// A directory or an address of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    Dir(PathBuf),
    S3(Address),
}

impl Location {
    /// Reads an argument. Whatever is no address is a directory.
    pub fn parse(argument: OsString) -> Result<Self, String> {
        match argument.to_str() {
            Some(text) if text.starts_with(SCHEME) => Address::parse(text).map(Self::S3),
            _ => Ok(Self::Dir(argument.into())),
        }
    }
}

/// How a bucket is reached.
#[derive(Debug, Args)]
pub(super) struct S3Args {
    /// With s3://: the server, where it is not Amazon's; http:// is taken as it stands [default: AWS_ENDPOINT_URL_S3,
    /// AWS_ENDPOINT_URL]
    #[arg(long, value_name = "URL")]
    s3_endpoint: Option<String>,
    /// With s3://: the region of the bucket [default: AWS_REGION, AWS_DEFAULT_REGION, us-east-1]
    #[arg(long, value_name = "NAME")]
    s3_region: Option<String>,
}

impl S3Args {
    /// Opens a bucket.
    pub fn open(self, address: &Address) -> Result<ObjectPlace, CliError> {
        let options = Options { endpoint: self.s3_endpoint, region: self.s3_region };
        let bucket = s3::open(address, &options)?;
        if bucket.ambient {
            complain(
                "no keys in the environment: asking this machine's metadata service for those of its role",
            );
        }
        Ok(bucket.place)
    }

    /// Refuses what is said of a bucket where there is none.
    pub fn expect_none(&self) -> Result<(), CliError> {
        match (&self.s3_endpoint, &self.s3_region) {
            (None, None) => Ok(()),
            _ => Err(CliError::Usage(format!("--s3-endpoint and --s3-region go with {SCHEME} alone"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_no_address_is_a_directory() {
        let dir = |text: &str| Location::parse(text.into()) == Ok(Location::Dir(text.into()));
        assert!(dir("/backups/pharos") && dir("backups") && dir("s3") && dir("s3:/a"));
        assert!(matches!(Location::parse("s3://bucket/prefix".into()), Ok(Location::S3(_))));
        assert!(Location::parse("s3://".into()).is_err());
    }
}
