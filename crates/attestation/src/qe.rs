//! QE identity: which quoting enclaves Intel stands for, and matching a QE report against them.
//!
//! Trusts nothing until [`crate::verify`] has seen the signature over the very text. Format: Intel PCS API v4, "Get SGX QE
//! Identity", version 2. The JSON is read strictly: a doubled field refuses the whole, and so does an unknown one unless
//! [`crate::signed_json`] passes over it.

use jiff::Timestamp;
use serde::Deserialize;

use crate::error::Error;
use crate::report::EnclaveReport;
use crate::signed_json::{Below, Shape, Unknown, passed_over};
use crate::tcb::{Object, TcbStatus, hex_bytes, is_current, non_empty, object, utc_time};

/// The longest QE identity that is read, in bytes. Real ones have about 1 kB.
pub const MAX_LEN: usize = 262_144;
/// The only version that is read.
pub const VERSION: u32 = 2;
/// The id of the quoting enclave for SGX.
pub const ID: &str = "QE";

/// The names in a QE identity.
static SHAPE: Shape = Shape {
    fields: &[
        ("id", Below::Value),
        ("version", Below::Value),
        ("issueDate", Below::Value),
        ("nextUpdate", Below::Value),
        ("tcbEvaluationDataNumber", Below::Value),
        ("miscselect", Below::Value),
        ("miscselectMask", Below::Value),
        ("attributes", Below::Value),
        ("attributesMask", Below::Value),
        ("mrsigner", Below::Value),
        ("isvprodid", Below::Value),
        ("tcbLevels", Below::List(&LEVEL)),
    ],
    unknown: Unknown::Weighed,
};

static LEVEL: Shape = Shape {
    fields: &[
        ("tcb", Below::Object(&VERSION_OF_LEVEL)),
        ("tcbDate", Below::Value),
        ("tcbStatus", Below::Value),
        ("advisoryIDs", Below::Value),
    ],
    unknown: Unknown::Refused,
};

static VERSION_OF_LEVEL: Shape = Shape { fields: &[("isvsvn", Below::Value)], unknown: Unknown::Refused };

/// The identity of a quoting enclave. Byte strings stand in hex in the order of the report.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QeIdentity {
    /// `QE` (others are for other enclaves).
    pub id: String,
    /// Version of the structure.
    pub version: u32,
    /// When it was signed.
    #[serde(deserialize_with = "utc_time")]
    pub issue_date: Timestamp,
    /// Until when it is current.
    #[serde(deserialize_with = "utc_time")]
    pub next_update: Timestamp,
    /// Counts the reviews behind this data.
    pub tcb_evaluation_data_number: u32,
    /// MISCSELECT under its mask.
    #[serde(deserialize_with = "hex_bytes")]
    pub miscselect: [u8; 4],
    /// Mask of MISCSELECT.
    #[serde(deserialize_with = "hex_bytes")]
    pub miscselect_mask: [u8; 4],
    /// ATTRIBUTES under their mask.
    #[serde(deserialize_with = "hex_bytes")]
    pub attributes: [u8; 16],
    /// Mask of ATTRIBUTES.
    #[serde(deserialize_with = "hex_bytes")]
    pub attributes_mask: [u8; 16],
    /// MRSIGNER.
    #[serde(deserialize_with = "hex_bytes")]
    pub mrsigner: [u8; 32],
    /// ISVPRODID.
    pub isvprodid: u16,
    /// Levels, best first; at least one.
    #[serde(deserialize_with = "non_empty")]
    pub tcb_levels: Vec<QeLevel>,
    /// Unknown names that were passed over.
    #[serde(skip)]
    pub passed_over: Vec<String>,
}

/// One level.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct QeLevel {
    /// The version a QE needs to reach it.
    #[serde(deserialize_with = "object")]
    pub tcb: QeTcb,
    /// The date of the level.
    #[serde(deserialize_with = "utc_time")]
    pub tcb_date: Timestamp,
    /// The status of a QE on it.
    pub tcb_status: TcbStatus,
    /// Advisories that apply to a QE on it.
    #[serde(default, rename = "advisoryIDs")]
    pub advisory_ids: Vec<String>,
}

/// The version of one level.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QeTcb {
    /// Minimum ISVSVN.
    pub isvsvn: u16,
}

impl QeIdentity {
    /// Reads a QE identity of version 2.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`MAX_LEN`]; [`Error::Malformed`] for anything but that structure.
    pub fn parse(json: &str) -> Result<Self, Error> {
        Error::check_size("QE identity", json.as_bytes(), MAX_LEN)?;
        let read = || {
            let passed_over = passed_over(json, &SHAPE)?;
            let Object(identity) = serde_json::from_str::<Object<Self>>(json)?;
            Ok::<_, serde_json::Error>(Self { passed_over, ..identity })
        };
        read().map_err(|e| {
            Error::malformed("QE identity", "the strict JSON of QE identity version 2", e.to_string())
        })
    }

    /// Whether the report's MISCSELECT is the identity's under its mask.
    pub fn fits_misc_select(&self, report: &EnclaveReport) -> bool {
        fits(&report.misc_select.to_le_bytes(), &self.miscselect_mask, &self.miscselect)
    }

    /// Whether the report's ATTRIBUTES are the identity's under their mask.
    pub fn fits_attributes(&self, report: &EnclaveReport) -> bool {
        fits(&report.attributes.to_bytes(), &self.attributes_mask, &self.attributes)
    }

    /// The first level whose ISVSVN the report reaches.
    pub fn level_of(&self, report: &EnclaveReport) -> Option<&QeLevel> {
        self.tcb_levels.iter().find(|level| report.isv_svn >= level.tcb.isvsvn)
    }

    /// The level that would be current: the first that is neither out of date nor revoked.
    pub fn current_level(&self) -> Option<&QeLevel> {
        self.tcb_levels.iter().find(|level| is_current(level.tcb_status))
    }
}

/// Whether `value & mask == wanted`.
fn fits(value: &[u8], mask: &[u8], wanted: &[u8]) -> bool {
    value.iter().zip(mask).zip(wanted).all(|((value, mask), wanted)| value & mask == *wanted)
}
