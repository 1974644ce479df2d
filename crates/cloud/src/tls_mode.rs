//! Where the users' TLS of an app ends.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where the users' TLS of an app ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// In the enclave, with its RA-TLS certificate.
    #[default]
    ZeroTrust,
    /// In the enclave, with its owner's certificate.
    OwnerCertificate,
    /// At the operator's router, which sees everything.
    UntrustedSsl,
}

impl TlsMode {
    /// All of them.
    pub const ALL: [TlsMode; 3] = [TlsMode::ZeroTrust, TlsMode::OwnerCertificate, TlsMode::UntrustedSsl];

    /// The mode that a package must be made for, to be deployed so: it is measured.
    pub fn measured(self) -> package::config::TlsMode {
        match self {
            TlsMode::ZeroTrust => package::config::TlsMode::RaTls,
            TlsMode::OwnerCertificate => package::config::TlsMode::OwnerCertificate,
            TlsMode::UntrustedSsl => package::config::TlsMode::OperatorCertificate,
        }
    }
}

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsMode::ZeroTrust => "zero-trust",
            TlsMode::OwnerCertificate => "owner-certificate",
            TlsMode::UntrustedSsl => "untrusted-ssl",
        })
    }
}

impl FromStr for TlsMode {
    type Err = ();

    fn from_str(text: &str) -> Result<TlsMode, ()> {
        TlsMode::ALL.into_iter().find(|mode| mode.to_string() == text).ok_or(())
    }
}
