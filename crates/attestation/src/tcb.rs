//! TCB info: which component versions Intel considers up to date, and matching a platform against them.
//!
//! Trusts nothing until [`crate::verify`] has seen the signature over the very text. Format: Intel PCS API v4, "Get SGX TCB
//! Info", version 3. The JSON is read strictly: a doubled field refuses the whole, and so does an unknown one unless
//! [`crate::signed_json`] passes over it.

use std::marker::PhantomData;

use jiff::Timestamp;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::Error;
use crate::pck::SgxExtension;
use crate::signed_json::{Below, Shape, Unknown, passed_over};

/// The longest TCB info that is read, in bytes. Real ones have 3 to 30 kB.
pub const MAX_LEN: usize = 1_048_576;
/// The only version that is read.
pub const VERSION: u32 = 3;

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

    /// Whether it says that the configuration needs a change.
    pub const fn needs_configuration(self) -> bool {
        matches!(
            self,
            Self::ConfigurationNeeded
                | Self::ConfigurationAndSWHardeningNeeded
                | Self::OutOfDateConfigurationNeeded
        )
    }

    /// Whether it says that enclaves need software hardening.
    pub const fn needs_hardening(self) -> bool {
        matches!(self, Self::SWHardeningNeeded | Self::ConfigurationAndSWHardeningNeeded)
    }

    /// The status of two parts together: everything that is wrong with either. What is out of date has no separate name
    /// for hardening, and what is revoked has none for anything else.
    pub const fn worst(self, other: Self) -> Self {
        let configuration = self.needs_configuration() || other.needs_configuration();
        let hardening = self.needs_hardening() || other.needs_hardening();
        if matches!(self, Self::Revoked) || matches!(other, Self::Revoked) {
            Self::Revoked
        } else if self.is_out_of_date() || other.is_out_of_date() {
            if configuration { Self::OutOfDateConfigurationNeeded } else { Self::OutOfDate }
        } else {
            match (configuration, hardening) {
                (true, true) => Self::ConfigurationAndSWHardeningNeeded,
                (true, false) => Self::ConfigurationNeeded,
                (false, true) => Self::SWHardeningNeeded,
                (false, false) => Self::UpToDate,
            }
        }
    }
}

impl std::fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The names in TCB info.
static SHAPE: Shape = Shape {
    fields: &[
        ("id", Below::Value),
        ("version", Below::Value),
        ("issueDate", Below::Value),
        ("nextUpdate", Below::Value),
        ("fmspc", Below::Value),
        ("pceId", Below::Value),
        ("tcbType", Below::Value),
        ("tcbEvaluationDataNumber", Below::Value),
        ("tcbLevels", Below::List(&LEVEL)),
    ],
    unknown: Unknown::Weighed,
};

static LEVEL: Shape = Shape {
    fields: &[
        ("tcb", Below::Object(&VERSIONS)),
        ("tcbDate", Below::Value),
        ("tcbStatus", Below::Value),
        ("advisoryIDs", Below::Value),
    ],
    unknown: Unknown::Refused,
};

static VERSIONS: Shape = Shape {
    fields: &[("sgxtcbcomponents", Below::List(&COMPONENT)), ("pcesvn", Below::Value)],
    unknown: Unknown::Refused,
};

static COMPONENT: Shape = Shape {
    fields: &[("svn", Below::Value), ("category", Below::Value), ("type", Below::Value)],
    unknown: Unknown::Refused,
};

/// TCB info of one FMSPC.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TcbInfo {
    /// `SGX` (or `TDX`, which is not for SGX quotes).
    pub id: String,
    /// Version of the structure.
    pub version: u32,
    /// When it was signed.
    #[serde(deserialize_with = "utc_time")]
    pub issue_date: Timestamp,
    /// Until when it is current.
    #[serde(deserialize_with = "utc_time")]
    pub next_update: Timestamp,
    /// The processors it is for.
    #[serde(deserialize_with = "hex_bytes")]
    pub fmspc: [u8; 6],
    /// The provisioning certification enclave it is for.
    #[serde(deserialize_with = "hex_bytes")]
    pub pce_id: [u8; 2],
    /// How components compare; 0 is component-wise.
    pub tcb_type: u32,
    /// Counts the reviews behind this data.
    pub tcb_evaluation_data_number: u32,
    /// Levels, best first; at least one.
    #[serde(deserialize_with = "non_empty")]
    pub tcb_levels: Vec<TcbLevel>,
    /// Unknown names that were passed over.
    #[serde(skip)]
    pub passed_over: Vec<String>,
}

/// One level.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TcbLevel {
    /// The versions a platform needs to reach it.
    #[serde(deserialize_with = "object")]
    pub tcb: Tcb,
    /// The date of the level.
    #[serde(deserialize_with = "utc_time")]
    pub tcb_date: Timestamp,
    /// The status of a platform on it.
    pub tcb_status: TcbStatus,
    /// Advisories that apply to a platform on it.
    #[serde(default, rename = "advisoryIDs")]
    pub advisory_ids: Vec<String>,
}

/// The versions of one level.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tcb {
    /// Minimum of each component.
    #[serde(deserialize_with = "components")]
    pub sgxtcbcomponents: [Component; 16],
    /// Minimum of the provisioning certification enclave's SVN.
    pub pcesvn: u16,
}

/// One component.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Security version.
    pub svn: u8,
    /// Who updates it, for instance `BIOS` or `OS/VMM`.
    pub category: Option<String>,
    /// What it is, for instance `Early Microcode Update`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

impl TcbInfo {
    /// Reads TCB info of version 3.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`MAX_LEN`]; [`Error::Malformed`] for anything but that structure.
    pub fn parse(json: &str) -> Result<Self, Error> {
        Error::check_size("TCB info", json.as_bytes(), MAX_LEN)?;
        let read = || {
            let passed_over = passed_over(json, &SHAPE)?;
            let Object(info) = serde_json::from_str::<Object<Self>>(json)?;
            Ok::<_, serde_json::Error>(Self { passed_over, ..info })
        };
        read()
            .map_err(|e| Error::malformed("TCB info", "the strict JSON of TCB info version 3", e.to_string()))
    }

    /// The first level that the platform reaches in every component and in PCESVN.
    pub fn level_of(&self, pck: &SgxExtension) -> Option<&TcbLevel> {
        self.tcb_levels.iter().find(|level| level.tcb.is_reached_by(pck))
    }

    /// The level that would be current: the first that is neither out of date nor revoked.
    pub fn current_level(&self) -> Option<&TcbLevel> {
        self.tcb_levels.iter().find(|level| is_current(level.tcb_status))
    }
}

impl Tcb {
    /// Whether every version of the platform is at least the level's.
    pub fn is_reached_by(&self, pck: &SgxExtension) -> bool {
        let components = self.sgxtcbcomponents.iter().zip(pck.components);
        components.into_iter().all(|(wanted, has)| has >= wanted.svn) && pck.pce_svn >= self.pcesvn
    }
}

/// Neither out of date nor revoked.
pub(crate) fn is_current(status: TcbStatus) -> bool {
    !status.is_out_of_date() && status != TcbStatus::Revoked
}

/// The version that some JSON object declares, whatever else is in it.
pub(crate) fn declared_version(json: &str) -> Option<u32> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    serde_json::from_str::<Head>(json).ok().map(|head| head.version)
}

/// `YYYY-MM-DDTHH:MM:SSZ` and no other form.
pub(crate) fn utc_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    let shape = "dddd-dd-ddTdd:dd:ddZ";
    let fits = text.len() == shape.len()
        && text.bytes().zip(shape.bytes()).all(|(byte, wanted)| match wanted {
            b'd' => byte.is_ascii_digit(),
            literal => byte == literal,
        });
    let time = if fits { text.parse().ok() } else { None };
    time.ok_or_else(|| {
        serde::de::Error::custom(format!("expected a time as 2025-01-31T00:00:00Z, found {text:?}"))
    })
}

/// Exactly `N` bytes in hex, of either case.
pub(crate) fn hex_bytes<'de, D: Deserializer<'de>, const N: usize>(
    deserializer: D,
) -> Result<[u8; N], D::Error> {
    let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    let mut bytes = [0; N];
    hex::decode_to_slice(text.as_bytes(), &mut bytes)
        .map_err(|_| serde::de::Error::custom(format!("expected {N} bytes in hex, found {text:?}")))?;
    Ok(bytes)
}

/// A list of objects with something in it.
pub(crate) fn non_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let list: Vec<Object<T>> = Vec::deserialize(deserializer)?;
    if list.is_empty() {
        return Err(serde::de::Error::custom("expected at least one level, found none"));
    }
    Ok(list.into_iter().map(|object| object.0).collect())
}

fn components<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[Component; 16], D::Error> {
    let components: [Object<Component>; 16] = Deserialize::deserialize(deserializer)?;
    Ok(components.map(|object| object.0))
}

/// A structure that stands as a JSON object.
pub(crate) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|object| object.0)
}

/// A structure that stands as a JSON object: serde's derived structures would read an array of their fields too.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_worst_of_two_statuses_keeps_what_is_wrong_with_either() {
        use TcbStatus::*;
        for status in TcbStatus::ALL {
            assert_eq!(status.worst(status), status);
            assert_eq!(status.worst(UpToDate), status);
            assert_eq!(status.worst(Revoked), Revoked);
            for other in TcbStatus::ALL {
                assert_eq!(status.worst(other), other.worst(status));
                assert!(status.worst(other) >= status.max(other), "{status} and {other}");
            }
        }
        assert_eq!(SWHardeningNeeded.worst(ConfigurationNeeded), ConfigurationAndSWHardeningNeeded);
        assert_eq!(SWHardeningNeeded.worst(OutOfDate), OutOfDate);
        assert_eq!(ConfigurationAndSWHardeningNeeded.worst(OutOfDate), OutOfDateConfigurationNeeded);
        assert_eq!(OutOfDateConfigurationNeeded.worst(SWHardeningNeeded), OutOfDateConfigurationNeeded);
    }

    #[test]
    fn names_are_intels() {
        for status in TcbStatus::ALL {
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{status}\""));
        }
    }

    #[test]
    fn times_have_one_form() {
        #[derive(Deserialize)]
        struct At(#[serde(deserialize_with = "utc_time")] Timestamp);
        let read = |text: &str| serde_json::from_str::<At>(&format!("\"{text}\"")).map(|at| at.0).ok();
        assert_eq!(read("2025-06-19T10:56:11Z"), Some("2025-06-19T10:56:11Z".parse().unwrap()));
        for text in [
            "",
            "2025-06-19",
            "2025-06-19T10:56:11",
            "2025-06-19 10:56:11Z",
            "2025-06-19T10:56:11z",
            "2025-06-19T10:56:11+00",
            "2025-13-19T10:56:11Z",
            "2025-06-31T10:56:11Z",
            "2025-06-19T10:56:1１Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_limited() {
        assert!(matches!(TcbInfo::parse(&" ".repeat(MAX_LEN + 1)), Err(Error::TooLarge { .. })));
    }
}
