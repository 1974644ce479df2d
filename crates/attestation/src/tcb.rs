//! TCB info: which component versions Intel considers up to date, and matching a platform against them.
//!
//! Trusts nothing until [`crate::verify`] has seen the signature over the very text. Format: Intel PCS API v4, "Get SGX TCB
//! Info", version 3. The JSON is read strictly: an unknown or doubled field refuses the whole.

use serde::{Deserialize, Serialize};

/// A TCB status, by Intel's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TcbStatus {
    /// Nothing to do.
    UpToDate,
    /// The platform is current; enclaves need software hardening.
    SWHardeningNeeded,
    /// The platform is current; its configuration needs a change.
    ConfigurationNeeded,
    /// Both of the above.
    ConfigurationAndSWHardeningNeeded,
    /// Firmware or microcode is not current.
    OutOfDate,
    /// Not current, and the configuration needs a change.
    OutOfDateConfigurationNeeded,
    /// Compromised for good.
    Revoked,
}

impl TcbStatus {
    /// All of them.
    pub const ALL: [TcbStatus; 7] = [
        Self::UpToDate,
        Self::SWHardeningNeeded,
        Self::ConfigurationNeeded,
        Self::ConfigurationAndSWHardeningNeeded,
        Self::OutOfDate,
        Self::OutOfDateConfigurationNeeded,
        Self::Revoked,
    ];

    /// Intel's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::SWHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSWHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            Self::Revoked => "Revoked",
        }
    }

    /// Whether it says that something is not current.
    pub const fn is_out_of_date(self) -> bool {
        matches!(self, Self::OutOfDate | Self::OutOfDateConfigurationNeeded)
    }
}

impl std::fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
