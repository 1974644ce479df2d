//! Reading `manifest.sgx`: TOML 1.0 with Gramine's keys.
//!
//! The bytes of the file are what is measured; this module only takes from them what shapes the enclave
//! ([`EnclaveSettings`]) and what runs in it ([`Manifest`]). Missing keys have the defaults of Gramine's signer. Keys
//! that are not needed here are not looked at.
//!
//! Where Gramine asks whether a value is "exactly true" and takes anything else for false, this reader refuses anything
//! that is not a boolean: a manifest with `debug = 1` is a mistake.

use std::collections::{BTreeMap, HashMap};

use toml::de::{DeTable, DeValue};

use crate::Error;
use crate::toml_tree::{Section, found};

/// The largest manifest that is read: 16 MiB, ninety thousand trusted files. Gramine takes minutes on half of that, and
/// a TOML parser may need 160 times the size of a hostile text.
pub const MAX_SIZE: u64 = 16 << 20;

/// What a manifest says of a CPU feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuFeature {
    /// The enclave uses it where the machine has it.
    Unspecified,
    /// The enclave runs without it.
    Disabled,
    /// The enclave runs only where it is.
    Required,
}

/// `sgx.cpu_features`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuFeatures {
    /// `avx`; default: unspecified.
    pub avx: CpuFeature,
    /// `avx512`; default: unspecified.
    pub avx512: CpuFeature,
    /// `amx`; default: unspecified.
    pub amx: CpuFeature,
    /// `mpx`; default: disabled, never unspecified.
    pub mpx: CpuFeature,
    /// `pkru`; default: disabled, never unspecified.
    pub pkru: CpuFeature,
}

/// `sgx.remote_attestation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteAttestation {
    /// `"none"`, the default.
    None,
    /// `"dcap"`: ECDSA quotes.
    Dcap,
}

/// The keys of `[sgx]` that shape the enclave and its SIGSTRUCT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnclaveSettings {
    /// `enclave_size` in bytes; default: 1 TiB with EDMM, 256 MiB without.
    pub enclave_size: u64,
    /// `max_threads`; default: 4.
    pub max_threads: u32,
    /// `debug`; default: false.
    pub debug: bool,
    /// `edmm_enable`, heap pages added at run time; default: false.
    pub edmm_enable: bool,
    /// `use_exinfo`; default: false.
    pub use_exinfo: bool,
    /// `cpu_features`.
    pub cpu_features: CpuFeatures,
    /// `isvprodid`; default: 0.
    pub isv_prod_id: u16,
    /// `isvsvn`; default: 0.
    pub isv_svn: u16,
    /// `remote_attestation`.
    pub remote_attestation: RemoteAttestation,
}

/// One entry of `sgx.trusted_files`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedFile {
    /// `file:` and the path, as written.
    pub uri: String,
    /// SHA-256 of the file's content.
    pub sha256: [u8; 32],
}

/// A whole manifest: the enclave and what runs in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What shapes the enclave.
    pub sgx: EnclaveSettings,
    /// `sgx.trusted_files`, in order, each with its hash.
    pub trusted_files: Vec<TrustedFile>,
    /// `loader.env`: the variables whose values the manifest fixes.
    pub env: BTreeMap<String, String>,
    /// `loader.argv`; empty where the manifest has none.
    pub argv: Vec<String>,
}

impl EnclaveSettings {
    /// Reads what shapes the enclave, and nothing else.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; [`Error::ManifestSyntax`] with the line; [`Error::ManifestKey`] with the key.
    pub fn parse(manifest: &[u8]) -> Result<EnclaveSettings, Error> {
        EnclaveSettings::read(&Section::root(&parse_toml(manifest)?))
    }

    fn read(root: &Section<'_, '_>) -> Result<EnclaveSettings, Error> {
        let sgx = root.section("sgx")?;
        let features = sgx.section("cpu_features")?;
        let edmm_enable = sgx.boolean("edmm_enable", false)?;
        let default_size = if edmm_enable { "1024G" } else { "256M" };
        let enclave_size = sgx.text("enclave_size")?.unwrap_or(default_size);
        let optional = [
            ("unspecified", CpuFeature::Unspecified),
            ("disabled", CpuFeature::Disabled),
            ("required", CpuFeature::Required),
        ];
        let decided = &optional[1..];
        Ok(EnclaveSettings {
            enclave_size: parse_size(enclave_size).ok_or_else(|| {
                sgx.wrong(
                    "enclave_size",
                    "an integer, then K, M or G or nothing, below 2^64 bytes",
                    format!("{enclave_size:?}"),
                )
            })?,
            max_threads: sgx.integer("max_threads", 4)?,
            debug: sgx.boolean("debug", false)?,
            edmm_enable,
            use_exinfo: sgx.boolean("use_exinfo", false)?,
            cpu_features: CpuFeatures {
                avx: features.choice("avx", &optional)?,
                avx512: features.choice("avx512", &optional)?,
                amx: features.choice("amx", &optional)?,
                mpx: features.choice("mpx", decided)?,
                pkru: features.choice("pkru", decided)?,
            },
            isv_prod_id: sgx.integer("isvprodid", 0)?,
            isv_svn: sgx.integer("isvsvn", 0)?,
            remote_attestation: sgx.choice(
                "remote_attestation",
                &[("none", RemoteAttestation::None), ("dcap", RemoteAttestation::Dcap)],
            )?,
        })
    }
}

impl Manifest {
    /// Reads a manifest of which all trusted files have their hashes, as signers write it.
    ///
    /// # Errors
    /// Those of [`EnclaveSettings::parse`].
    pub fn parse(manifest: &[u8]) -> Result<Manifest, Error> {
        Manifest::read(&Section::root(&parse_toml(manifest)?))
    }

    pub(crate) fn read(root: &Section<'_, '_>) -> Result<Manifest, Error> {
        let loader = root.section("loader")?;
        Ok(Manifest {
            sgx: EnclaveSettings::read(root)?,
            trusted_files: trusted_files(&root.section("sgx")?)?,
            env: environment(&loader.section("env")?)?,
            argv: arguments(&loader)?,
        })
    }

    /// Checks all that [`Manifest::read`] reads, and keeps the settings alone: the list of files may be long.
    pub(crate) fn check(root: &Section<'_, '_>) -> Result<EnclaveSettings, Error> {
        let settings = EnclaveSettings::read(root)?;
        let loader = root.section("loader")?;
        each_trusted_file(&root.section("sgx")?, |_, _| ())?;
        environment(&loader.section("env")?)?;
        arguments(&loader)?;
        Ok(settings)
    }
}

/// Parses the TOML. The tree borrows from `manifest`.
pub(crate) fn parse_toml(manifest: &[u8]) -> Result<DeTable<'_>, Error> {
    let size = manifest.len() as u64;
    if size > MAX_SIZE {
        return Err(Error::TooLarge { what: "manifest", limit: MAX_SIZE, found: size });
    }
    let line_of = |offset: usize| {
        1 + manifest[..offset.min(manifest.len())].iter().filter(|&&byte| byte == b'\n').count()
    };
    let text = std::str::from_utf8(manifest).map_err(|e| Error::ManifestSyntax {
        line: line_of(e.valid_up_to()),
        message: "bytes that are not UTF-8".into(),
    })?;
    DeTable::parse(text).map(toml::Spanned::into_inner).map_err(|e| Error::ManifestSyntax {
        line: line_of(e.span().map_or(0, |span| span.start)),
        message: e.message().into(),
    })
}

/// `enclave_size` as Gramine's signer reads it: an integer as Python writes it, and a unit.
fn parse_size(text: &str) -> Option<u64> {
    let units = [('K', 10), ('M', 20), ('G', 30)];
    let (number, shift) =
        units.iter().find_map(|&(unit, shift)| Some((text.strip_suffix(unit)?, shift))).unwrap_or((text, 0));
    parse_python_integer(number)?.checked_mul(1 << shift)
}

/// A non-negative integer as `int(text, 0)` of Python reads it: base prefixes, single underscores between digits, no
/// leading zeros but in zero itself.
fn parse_python_integer(text: &str) -> Option<u64> {
    let text = text.trim();
    let text = text.strip_prefix('+').unwrap_or(text);
    let prefixes = [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)];
    let with_prefix = prefixes.iter().find_map(|&(prefix, radix)| Some((text.strip_prefix(prefix)?, radix)));
    let (digits, radix) = match with_prefix {
        Some((digits, radix)) => (digits.strip_prefix('_').unwrap_or(digits), radix),
        None => (text, 10),
    };
    let groups = digits.split('_');
    if groups.clone().any(|group| group.is_empty() || !group.bytes().all(|b| b.is_ascii_alphanumeric())) {
        return None;
    }
    let digits = groups.collect::<String>();
    let leading_zero = radix == 10 && digits.starts_with('0') && digits.bytes().any(|digit| digit != b'0');
    if leading_zero { None } else { u64::from_str_radix(&digits, radix).ok() }
}

fn trusted_files(sgx: &Section<'_, '_>) -> Result<Vec<TrustedFile>, Error> {
    let mut files = Vec::new();
    each_trusted_file(sgx, |uri, sha256| files.push(TrustedFile { uri: uri.into(), sha256 }))?;
    Ok(files)
}

fn each_trusted_file(sgx: &Section<'_, '_>, mut visit: impl FnMut(&str, [u8; 32])) -> Result<(), Error> {
    let mut hashes = HashMap::new();
    for (index, entry) in sgx.array("trusted_files")?.iter().enumerate() {
        let key = format!("trusted_files[{index}]");
        let DeValue::Table(entry) = entry.get_ref() else {
            return Err(sgx.wrong(&key, "a table of uri and sha256", found(entry.get_ref())));
        };
        let entry = sgx.child(&key, entry);
        let uri = entry.text("uri")?.unwrap_or_default();
        if !uri.starts_with("file:") {
            return Err(entry.wrong("uri", "file: and a path", format!("{uri:?}")));
        }
        let hexadecimal = entry.text("sha256")?.unwrap_or_default();
        let mut sha256 = [0; 32];
        hex::decode_to_slice(hexadecimal, &mut sha256)
            .map_err(|_| entry.wrong("sha256", "64 hexadecimal digits", format!("{hexadecimal:?}")))?;
        if hashes.insert(uri, sha256).is_some_and(|earlier| earlier != sha256) {
            return Err(entry.wrong("sha256", format!("the hash that {uri:?} has further up"), "another"));
        }
        visit(uri, sha256);
    }
    Ok(())
}

/// Each variable is a string, or a table with `value`. One that the host may set (`passthrough`) is refused.
fn environment(env: &Section<'_, '_>) -> Result<BTreeMap<String, String>, Error> {
    let mut variables = BTreeMap::new();
    for (name, value) in env.entries() {
        let value = match value {
            DeValue::String(value) => value.as_ref(),
            DeValue::Table(table) => {
                let variable = env.child(name, table);
                if variable.boolean("passthrough", false)? {
                    return Err(variable.wrong(
                        "passthrough",
                        "false: the host must not set variables",
                        "true",
                    ));
                }
                variable.text("value")?.ok_or_else(|| variable.wrong("value", "a string", "nothing"))?
            }
            other => return Err(env.wrong(name, "a string, or a table with value", found(other))),
        };
        variables.insert(name.into(), value.into());
    }
    Ok(variables)
}

fn arguments(loader: &Section<'_, '_>) -> Result<Vec<String>, Error> {
    let arguments = loader.array("argv")?.iter().enumerate();
    let text = |(index, argument): (usize, &toml::Spanned<DeValue<'_>>)| match argument.get_ref() {
        DeValue::String(argument) => Ok(argument.to_string()),
        other => Err(loader.wrong(&format!("argv[{index}]"), "a string", found(other))),
    };
    arguments.map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_python_reads_them() {
        for (text, size) in [
            ("256M", 256 << 20),
            ("1024G", 1 << 40),
            ("4K", 4096),
            ("4096", 4096),
            ("0x100M", 256 << 20),
            ("0", 0),
            ("000", 0),
            ("1_000", 1000),
            ("0x_ff", 255),
            ("0b101K", 5 << 10),
            ("0O17", 15),
            (" 4 K", 4096),
            ("+4K", 4096),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Some(size), "{text}");
        }
        for text in [
            "",
            "M",
            "256m",
            "256MB",
            "1.5G",
            "-4K",
            "++4",
            "010",
            "0x",
            "1__0",
            "_1",
            "1_",
            "0x__1",
            "\u{661}",
            "1e3",
            "18446744073709551616",
            "16777216T",
            "17179869184G",
            "0b2",
            "0xg",
        ] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
