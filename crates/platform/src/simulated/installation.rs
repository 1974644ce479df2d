//! One simulated machine, kept in a directory.
//!
//! ```text
//! authority.pem   the make-believe Intel: certificates and private keys (attestation::issuer::Authority)
//! machine.pem     PCK certificate, PCK, attestation key (attestation::issuer::Machine)
//! machine.toml    version, FMSPC and PPID, the latter two in hex
//! cpu-secret      32 bytes in hex, from which all sealing keys follow
//! ```
//!
//! The directory has mode 0700 and the files 0600. It is made under another name and renamed when it is complete, so it
//! is there wholly or not at all, and of two processes that make it at once one wins and both use the winner's. It is
//! never changed afterwards.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attestation::certificate::Certificate;
use attestation::issuer::{
    Authority, AuthorityPlan, CollateralPlan, Machine, MachinePlan, PckCa, SIMULATED, encode_sgx_extension,
    pem_chain,
};
use attestation::pck::SGX_EXTENSION;
use attestation::{Collateral, Quote};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{Error, sealing};

const AUTHORITY: &str = "authority.pem";
const MACHINE: &str = "machine.pem";
const DESCRIPTION: &str = "machine.toml";
const CPU_SECRET: &str = "cpu-secret";
/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// The form of the directory that this code writes.
const VERSION: u32 = 1;
/// What all FMSPCs here start with; three random bytes follow, so that caches never mix two installations.
const FMSPC_PREFIX: [u8; 3] = *b"SIM";
const SEALING_INFO: &[u8] = b"MSE simulated sealing key v1";

/// How long certificates were valid before they were made: room for clocks that differ.
const BACKDATED_CERTIFICATES: SignedDuration = SignedDuration::from_hours(24);
/// How long certificates last.
const LIFETIME: SignedDuration = SignedDuration::from_hours(24 * 3653);
/// How old fresh collateral says it is: room for clocks that differ, and for a verifier who looked at its own before.
const BACKDATED_COLLATERAL: SignedDuration = SignedDuration::from_hours(1);
/// How long collateral lasts: as long as Intel's.
const COLLATERAL_LIFETIME: SignedDuration = SignedDuration::from_hours(24 * 30);

/// One simulated machine with a make-believe Intel of its own. Clones share it.
#[derive(Clone)]
pub struct Installation(Arc<Keys>);

struct Keys {
    authority: Authority,
    machine: Machine,
    cpu_secret: Zeroizing<[u8; 32]>,
    root_pem: String,
}

/// `machine.toml`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    version: u32,
    fmspc: String,
    ppid: String,
}

impl fmt::Debug for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Installation").field("fmspc", &hex::encode(self.fmspc())).finish_non_exhaustive()
    }
}

impl Installation {
    /// Opens the installation in `directory`, or makes one there if it is missing or empty. Its certificates are valid
    /// for ten years from then on; `now` must be within them.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Exposed`] and [`Error::NotValidNow`] say what to do; [`Error::Io`],
    /// [`Error::Random`].
    pub fn open_or_create(directory: &Path, now: Timestamp) -> Result<Self, Error> {
        let installation = match read(directory)? {
            Some(keys) => Self(Arc::new(keys)),
            None => {
                create(directory, now)?;
                Self::open(directory)?
            }
        };
        let (from, until) = installation.0.authority.window;
        if now < from || until < now {
            return Err(Error::NotValidNow { directory: directory.to_owned(), from, until, now });
        }
        Ok(installation)
    }

    /// Opens the installation in `directory`, which must be there.
    ///
    /// # Errors
    /// As [`Self::open_or_create`], but does not look at the time.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        match read(directory)? {
            Some(keys) => Ok(Self(Arc::new(keys))),
            None => Err(Error::io("open", directory)(io::ErrorKind::NotFound.into())),
        }
    }

    /// The root certificate, PEM.
    pub fn root_pem(&self) -> &str {
        &self.0.root_pem
    }

    /// The FMSPC of this machine: its kind, as collateral names it.
    pub fn fmspc(&self) -> [u8; 6] {
        self.0.machine.plan.sgx.fmspc
    }

    /// Freshly signed collateral for this machine, valid for 30 days.
    ///
    /// # Errors
    /// [`Error::Attestation`] for a time that X.509 cannot say.
    pub fn collateral(&self, now: Timestamp) -> Result<Collateral, Error> {
        self.collateral_under(self.0.machine.plan.ca, now)
    }

    /// As [`Self::collateral`], for the machine that made `quote` (raw bytes), which must be this one.
    ///
    /// # Errors
    /// [`Error::ForeignQuote`] for another machine's; [`Error::Attestation`] for what is no quote.
    pub fn collateral_for(&self, quote: &[u8], now: Timestamp) -> Result<Collateral, Error> {
        let chain = pem_chain(&self.0.machine.pck_chain);
        if Quote::parse(quote)?.signature.certification_data != chain.as_bytes() {
            return Err(Error::ForeignQuote);
        }
        self.collateral(now)
    }

    /// Collateral with the revocation list of this CA.
    pub(crate) fn collateral_under(&self, ca: PckCa, now: Timestamp) -> Result<Collateral, Error> {
        let issued = now.saturating_sub(BACKDATED_COLLATERAL).unwrap_or(now);
        let next_update = issued.saturating_add(COLLATERAL_LIFETIME).unwrap_or(issued);
        let mut plan = CollateralPlan::new(&self.0.machine.plan, issued, next_update);
        plan.pck_ca = ca;
        Ok(self.0.authority.issue_collateral(&plan)?)
    }

    /// The machine, which makes reports and quotes.
    pub(super) fn machine(&self) -> &Machine {
        &self.0.machine
    }

    /// What the processor gives an enclave of this measurement, and no other.
    pub(super) fn sealing_key(&self, mrenclave: &[u8; 32]) -> Zeroizing<[u8; 32]> {
        sealing::derive(&*self.0.cpu_secret, &[SEALING_INFO, mrenclave])
    }
}

/// Makes an installation; does nothing if one appears there meanwhile.
fn create(directory: &Path, now: Timestamp) -> Result<(), Error> {
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let make = DirBuilder::new().recursive(true).mode(0o700).create(parent);
    make.map_err(Error::io("create", parent))?;
    let mut temporary = tempfile::Builder::new();
    temporary.prefix(".new-simulator-").permissions(Permissions::from_mode(0o700));
    let temporary = temporary.tempdir_in(parent).map_err(Error::io("create a directory in", parent))?;
    write_fresh_keys(temporary.path(), now)?;
    match fs::rename(temporary.path(), directory) {
        Ok(()) => {
            // It is no longer there to be removed.
            let _renamed = temporary.keep();
            sync(parent)
        }
        // Somebody else was faster, and a directory with files in it is not replaced.
        Err(error) if is_taken(&error) => Ok(()),
        Err(error) => Err(Error::io("create", directory)(error)),
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}

fn write_fresh_keys(directory: &Path, now: Timestamp) -> Result<(), Error> {
    let not_before = now.saturating_sub(BACKDATED_CERTIFICATES).unwrap_or(now);
    let not_after = now.saturating_add(LIFETIME).unwrap_or(now);
    let authority = Authority::generate(&AuthorityPlan::new(SIMULATED, not_before, not_after)?)?;

    let (mut fmspc, mut ppid) = ([0; 6], [0; 16]);
    fmspc[..3].copy_from_slice(&FMSPC_PREFIX);
    random(&mut fmspc[3..])?;
    random(&mut ppid)?;
    let machine = authority.machine(MachinePlan::new(&authority, PckCa::Platform, fmspc, ppid)?)?;
    let description = Description { version: VERSION, fmspc: hex::encode(fmspc), ppid: hex::encode(ppid) };
    let description = toml::to_string(&description).unwrap_or_default();

    let mut cpu_secret = Zeroizing::new([0; 32]);
    random(&mut *cpu_secret)?;
    let cpu_secret = Zeroizing::new(hex::encode(*cpu_secret));

    for (name, content) in [
        (AUTHORITY, authority.to_pem().as_str()),
        (MACHINE, machine.to_pem().as_str()),
        (DESCRIPTION, &description),
        (CPU_SECRET, &cpu_secret),
    ] {
        let path = directory.join(name);
        write_private(&path, content.as_bytes()).map_err(Error::io("write", &path))?;
    }
    sync(directory)
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn sync(directory: &Path) -> Result<(), Error> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(Error::io("write", directory))
}

fn random(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(Error::Random)
}

/// What lies in `directory`; nothing where it is missing or empty.
fn read(directory: &Path) -> Result<Option<Keys>, Error> {
    match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", directory)(error)),
        Ok(mut entries) => {
            if entries.next().is_none() {
                return Ok(None);
            }
        }
    }
    let directory = Directory(directory);
    directory.check_private(directory.0)?;

    let description = directory.text(DESCRIPTION)?;
    let description: Description = toml::from_str(&description)
        .map_err(|error| directory.damaged("version, fmspc and ppid in machine.toml", error.message()))?;
    if description.version != VERSION {
        let found = format!("version {}", description.version);
        return Err(directory.damaged(format!("version {VERSION}"), found));
    }
    let fmspc = directory.bytes("fmspc", &description.fmspc)?;
    let ppid = directory.bytes("ppid", &description.ppid)?;
    let cpu_secret = directory.bytes(CPU_SECRET, &directory.text(CPU_SECRET)?)?;

    let authority = Authority::from_pem(&directory.text(AUTHORITY)?)
        .map_err(|error| directory.damaged(format!("an authority in {AUTHORITY}"), error))?;
    let machine = directory.text(MACHINE)?;
    let machine = MachinePlan::new(&authority, PckCa::Platform, *fmspc, *ppid)
        .and_then(|plan| authority.machine_from_pem(plan, &machine))
        .map_err(|error| directory.damaged(format!("a machine in {MACHINE}"), error))?;
    if let Err(found) = belong_together(&authority, &machine) {
        return Err(directory.damaged("files that were made together", found));
    }
    Ok(Some(Keys { root_pem: authority.root_pem(), authority, machine, cpu_secret }))
}

/// Whether the root signed itself, each certificate is the child of the one above, and the PCK's is that of this machine.
fn belong_together(authority: &Authority, machine: &Machine) -> Result<(), String> {
    let parse = |der: &[u8]| Certificate::parse(der).map_err(|error| error.to_string());
    let is_child = |child: &[u8], parent: &[u8], name: &str| {
        let signed = parse(parent)?.key().is_some_and(|key| parse(child).is_ok_and(|c| c.is_signed_by(&key)));
        if signed { Ok(()) } else { Err(format!("a {name} certificate of another authority")) }
    };
    let root = authority.root_certificate();
    if !authority.is_simulated() {
        return Err(format!("an authority named {:?}", authority.prefix));
    }
    // Children are held against its key alone: without this, its other fields could be anything.
    if is_child(root, root, "root").is_err() {
        return Err("a root certificate that its own key did not sign".to_owned());
    }
    is_child(&authority.platform_ca.certificate, root, "Platform CA")?;
    is_child(&authority.processor_ca.certificate, root, "Processor CA")?;
    is_child(&authority.tcb_signing.certificate, root, "TCB signing")?;
    let pck = &machine.pck.certificate;
    is_child(pck, &authority.pck_ca(machine.plan.ca).certificate, "PCK")?;
    match parse(pck)?.extension(&SGX_EXTENSION) {
        Some(sgx) if *sgx == encode_sgx_extension(&machine.plan.sgx) => Ok(()),
        _ => Err("a PCK certificate of another machine or of another version of this program".to_owned()),
    }
}

/// The directory while it is read.
struct Directory<'a>(&'a Path);

impl Directory<'_> {
    fn damaged(&self, expected: impl fmt::Display, found: impl fmt::Display) -> Error {
        let (expected, found) = (expected.to_string(), found.to_string());
        Error::Damaged { directory: self.0.to_owned(), expected, found }
    }

    /// Only the owner may read what lies here.
    fn check_private(&self, path: &Path) -> Result<(), Error> {
        let metadata = fs::metadata(path).map_err(Error::io("open", path))?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 == 0 {
            return Ok(());
        }
        Err(Error::Exposed { directory: self.0.to_owned(), path: path.to_owned(), mode })
    }

    fn text(&self, name: &str) -> Result<Zeroizing<String>, Error> {
        let path: PathBuf = self.0.join(name);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.damaged(format!("a file {name}"), "none"));
            }
            opened => opened.map_err(Error::io("open", &path))?,
        };
        self.check_private(&path)?;
        let mut text = Zeroizing::new(String::with_capacity(8 * 1024));
        match file.take(MAX_FILE + 1).read_to_string(&mut text) {
            Ok(length) if length as u64 <= MAX_FILE => Ok(text),
            Ok(_) => Err(self.damaged(format!("at most {MAX_FILE} bytes in {name}"), "more")),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(self.damaged(format!("text in {name}"), "bytes that are not UTF-8"))
            }
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    fn bytes<const N: usize>(&self, name: &str, text: &str) -> Result<Zeroizing<[u8; N]>, Error> {
        let mut bytes = Zeroizing::new([0; N]);
        match hex::decode_to_slice(text.trim_ascii(), &mut *bytes) {
            Ok(()) => Ok(bytes),
            Err(_) => Err(self.damaged(format!("{} hex digits for {name}", 2 * N), "something else")),
        }
    }
}
