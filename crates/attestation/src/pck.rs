//! The SGX extension of a PCK certificate: which processor this is and at which TCB its key was certified.
//!
//! Trusts nothing: the extension is as good as the chain above the certificate. Format: Intel "SGX PCK Certificate and
//! CRL Profile Specification", OID 1.2.840.113741.1.13.1: a sequence of (OID, value) pairs. Unknown and doubled
//! pairs are refused, since they could say something else than what is read.

use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Decode, Reader, SliceReader, Tag, Tagged};

use crate::error::Error;

/// OID of the SGX extension.
pub const SGX_EXTENSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113741.1.13.1");
/// OID of the extension that marks the PCK certificates of a simulator; its value is the DER `UTF8String`
/// [`SIMULATION_MARKER_TEXT`].
pub const SIMULATION_MARKER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.58270.5555.1");
/// Content of the simulation marker.
pub const SIMULATION_MARKER_TEXT: &str = "MSE simulated platform";
/// The longest SGX extension that is read, in bytes. Real ones have about 550.
pub const MAX_LEN: usize = 8_192;

/// The most pairs in one sequence: the TCB has the most, 18. Doubled pairs are found by comparing all with all.
const MAX_PAIRS: usize = 32;

/// The last arcs below the TCB's OID: 1 to 16 are the component SVNs, then come PCESVN and CPUSVN.
const COMPONENTS: std::ops::RangeInclusive<u32> = 1..=16;
const PCE_SVN: u32 = 17;
const CPU_SVN: u32 = 18;

/// How the processor protects its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SgxType {
    /// Client processors: encryption with integrity and replay protection.
    Standard,
    /// Server processors: encryption only.
    Scalable,
    /// Server processors: encryption with integrity.
    ScalableWithIntegrity,
}

/// The platform's configuration; certificates of the Processor CA have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Packages can be added to the platform.
    pub dynamic_platform: Option<bool>,
    /// The platform's root keys are kept by Intel's registration service.
    pub cached_keys: Option<bool>,
    /// Hyper-threading is on.
    pub smt: Option<bool>,
}

/// The SGX extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SgxExtension {
    /// Platform provisioning id.
    pub ppid: [u8; 16],
    /// The 16 component SVNs.
    pub components: [u8; 16],
    /// SVN of the provisioning certification enclave.
    pub pce_svn: u16,
    /// CPUSVN as the processor reports it.
    pub cpu_svn: [u8; 16],
    /// Id of the provisioning certification enclave.
    pub pce_id: [u8; 2],
    /// Family, model, stepping, platform type and SKU.
    pub fmspc: [u8; 6],
    /// Sort of memory protection.
    pub sgx_type: SgxType,
    /// Id of this instance of a multi-package platform.
    pub platform_instance_id: Option<[u8; 16]>,
    /// Configuration, where the certificate has it.
    pub configuration: Option<Configuration>,
}

impl SgxExtension {
    /// Reads the value of the extension.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`MAX_LEN`]; [`Error::Malformed`] for anything but strict DER with each required field
    /// once, in its type and length.
    pub fn parse(der: &[u8]) -> Result<Self, Error> {
        Error::check_size("SGX extension", der, MAX_LEN)?;
        let top = Pairs::read(der, &SGX_EXTENSION)?;
        top.only(&[1, 2, 3, 4, 5, 6, 7])?;
        let tcb = Pairs::of(top.get(2)?, &oid(&[2]))?;
        let (components, pce_svn, cpu_svn) = read_tcb(&tcb)?;
        let sgx_type = match top.get(5)? {
            value if value.tag() != Tag::Enumerated => {
                return Err(wrong("an ENUMERATED SGX type", "another type"));
            }
            value => match value.value() {
                [0] => SgxType::Standard,
                [1] => SgxType::Scalable,
                [2] => SgxType::ScalableWithIntegrity,
                other => return Err(wrong("SGX type 0, 1 or 2", hex::encode(other))),
            },
        };
        Ok(Self {
            ppid: octets(top.get(1)?, "PPID")?,
            components,
            pce_svn,
            cpu_svn,
            pce_id: octets(top.get(3)?, "PCE id")?,
            fmspc: octets(top.get(4)?, "FMSPC")?,
            sgx_type,
            platform_instance_id: top
                .find(6)
                .map(|value| octets(value, "platform instance id"))
                .transpose()?,
            configuration: top.find(7).map(read_configuration).transpose()?,
        })
    }
}

fn read_tcb(tcb: &Pairs<'_>) -> Result<([u8; 16], u16, [u8; 16]), Error> {
    tcb.only(&(1..=CPU_SVN).collect::<Vec<_>>())?;
    let mut components = [0; 16];
    for (number, component) in COMPONENTS.zip(&mut components) {
        let value = tcb.get(number)?;
        let bad = |e: der::Error| wrong(format!("component SVN {number} from 0 to 255"), e.to_string());
        *component = value.decode_as().map_err(bad)?;
    }
    let pce_svn = tcb.get(PCE_SVN)?;
    let pce_svn =
        pce_svn.decode_as().map_err(|e: der::Error| wrong("a PCESVN from 0 to 65535", e.to_string()))?;
    Ok((components, pce_svn, octets(tcb.get(CPU_SVN)?, "CPUSVN")?))
}

fn read_configuration(value: AnyRef<'_>) -> Result<Configuration, Error> {
    let pairs = Pairs::of(value, &oid(&[7]))?;
    pairs.only(&[1, 2, 3])?;
    let flag = |number| {
        let bad = |e: der::Error| wrong("a BOOLEAN flag", e.to_string());
        let decode = |value: AnyRef<'_>| value.decode_as().map_err(bad);
        pairs.find(number).map(decode).transpose()
    };
    Ok(Configuration { dynamic_platform: flag(1)?, cached_keys: flag(2)?, smt: flag(3)? })
}

/// A sequence of (OID, value) pairs, by the last arc of the OID.
struct Pairs<'a>(Vec<(u32, AnyRef<'a>)>);

impl<'a> Pairs<'a> {
    /// Reads a whole `SEQUENCE`, tag included, of pairs whose OIDs are children of `parent`.
    fn read(der: &'a [u8], parent: &ObjectIdentifier) -> Result<Self, Error> {
        let value = AnyRef::from_der(der).map_err(|e| wrong("strict DER", e.to_string()))?;
        Self::of(value, parent)
    }

    fn of(value: AnyRef<'a>, parent: &ObjectIdentifier) -> Result<Self, Error> {
        if value.tag() != Tag::Sequence {
            return Err(wrong(format!("a SEQUENCE for {parent}"), "another type"));
        }
        let pairs = read_pairs(value.value()).map_err(|e| wrong("pairs of OID and value", e.to_string()))?;
        let mut known = Vec::with_capacity(pairs.len());
        for (id, value) in pairs {
            let arc = match (id.parent(), id.arcs().last()) {
                (Some(above), Some(arc)) if above == *parent => arc,
                _ => return Err(wrong(format!("OIDs below {parent}"), id.to_string())),
            };
            if known.iter().any(|(earlier, _)| *earlier == arc) {
                return Err(wrong("each OID once", format!("{id} twice")));
            }
            known.push((arc, value));
        }
        Ok(Self(known))
    }

    /// Refuses any pair whose last arc is not in `arcs`.
    fn only(&self, arcs: &[u32]) -> Result<(), Error> {
        match self.0.iter().find(|(arc, _)| !arcs.contains(arc)) {
            Some((arc, _)) => Err(wrong("no unknown field", format!("one that ends in .{arc}"))),
            None => Ok(()),
        }
    }

    fn find(&self, arc: u32) -> Option<AnyRef<'a>> {
        self.0.iter().find(|(found, _)| *found == arc).map(|(_, value)| *value)
    }

    fn get(&self, arc: u32) -> Result<AnyRef<'a>, Error> {
        self.find(arc).ok_or_else(|| wrong(format!("a field that ends in .{arc}"), "none"))
    }
}

/// All pairs in the content of a `SEQUENCE`.
fn read_pairs(content: &[u8]) -> Result<Vec<(ObjectIdentifier, AnyRef<'_>)>, der::Error> {
    let mut reader = SliceReader::new(content)?;
    let mut pairs = Vec::new();
    while !reader.is_finished() {
        if pairs.len() == MAX_PAIRS {
            return Err(der::ErrorKind::Overlength.into());
        }
        pairs.push(reader.sequence(|pair| {
            Ok::<_, der::Error>((ObjectIdentifier::decode(pair)?, AnyRef::decode(pair)?))
        })?);
    }
    Ok(pairs)
}

/// An `OCTET STRING` of exactly `N` bytes.
fn octets<const N: usize>(value: AnyRef<'_>, field: &str) -> Result<[u8; N], Error> {
    let bad = |e: der::Error| wrong(format!("{N} bytes of {field}"), e.to_string());
    let octets: &OctetStringRef = value.decode_as().map_err(bad)?;
    let bytes = octets.as_bytes();
    bytes.try_into().map_err(|_| wrong(format!("{N} bytes of {field}"), format!("{} bytes", bytes.len())))
}

/// The SGX extension's OID with `arcs` after it.
fn oid(arcs: &[u32]) -> ObjectIdentifier {
    arcs.iter().fold(SGX_EXTENSION, |above, arc| above.push_arc(*arc).unwrap_or(above))
}

fn wrong(expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::malformed("SGX extension", expected, found)
}
