//! Makes the directory of a node from its package, all of it or nothing.
//!
//! ```text
//! instance.toml         what the operator chose (package::instance)
//! node.manifest.sgx     the measured manifest, and
//! node.sig              its SIGSTRUCT (1808 bytes)
//! app.tar               the code archive as carried, plain or encrypted; again as image/mse/app.tar
//! image/                the unpacked image: the manifest's file:/x is image/x
//! state/                where the node keeps its sealed state
//! log, node.json        written by this runtime
//! ```

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use gramine::sigstruct::{Date, SigStruct};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use package::fingerprint;
use package::instance::{Instance, Simulation};
use package::python::Interpreter;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::{Builder, TempDir};

use crate::NodeSpec;
use crate::error::Error;
use crate::name::NodeName;
use crate::process::memory::remove_tree;
use crate::process::record::Record;

pub(super) const MANIFEST: &str = "node.manifest.sgx";
pub(super) const IMAGE: &str = "image";
const MARK: &str = ".tmp-";
/// In a half-made directory: locked as long as its maker lives.
const LOCK: &str = ".lock";
/// The longest validity of a certificate, in days: ten years.
const LONGEST_VALIDITY: u32 = 3653;

/// Checks everything that can be checked before anything is written.
pub(super) fn check(spec: &NodeSpec<'_>) -> Result<(), Error> {
    fingerprint::check_size(spec.size_mb)?;
    check_validity(spec)?;
    instance(spec)?.validate()?;
    let Some(record) = spec.package.interpreter() else {
        return Err(Error::NotForProcesses {
            reason: "it carries a container image with an interpreter of its own; it needs the docker runtime",
        });
    };
    Interpreter::discover_for(record)?;
    Ok(())
}

/// Whether a certificate may be valid that long.
pub(crate) fn check_validity(spec: &NodeSpec<'_>) -> Result<(), Error> {
    if (1..=LONGEST_VALIDITY).contains(&spec.days) {
        return Ok(());
    }
    Err(Error::Specification {
        what: "validity of the certificate",
        expected: format!("1 to {LONGEST_VALIDITY} days"),
        found: format!("{} days", spec.days),
    })
}

/// The end of that validity.
pub(crate) fn not_after(spec: &NodeSpec<'_>) -> Timestamp {
    spec.now + SignedDuration::from_hours(24 * i64::from(spec.days))
}

/// The manifest that is asked for.
pub(crate) fn measured(spec: &NodeSpec<'_>) -> Result<Vec<u8>, Error> {
    let manifest = match spec.debug {
        true => spec.package.debug_manifest(spec.size_mb),
        false => spec.package.manifest(spec.size_mb),
    };
    Ok(manifest?)
}

fn instance(spec: &NodeSpec<'_>) -> Result<Instance, Error> {
    let Some(installation) = spec.simulator else {
        return Err(Error::NotForProcesses {
            reason: "processes are simulated enclaves, and no simulator was named",
        });
    };
    Ok(Instance {
        app_id: spec.app_id,
        host: spec.host.to_owned(),
        other_hosts: spec.other_hosts.to_vec(),
        listen: spec.listen,
        not_before: spec.now,
        not_after: not_after(spec),
        subject: spec.subject.to_owned(),
        simulation: Some(Simulation { installation: installation.to_owned() }),
    })
}

/// Writes all of a node's files into `directory`; returns the record, which is written too.
pub(super) fn fill(directory: &Path, spec: &NodeSpec<'_>) -> Result<Record, Error> {
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.join(name);
        fs::write(&path, bytes).map_err(Error::file("write", &path))
    };
    let manifest = measured(spec)?;
    let signed = SigStruct::sign(&manifest, &spec.package.libpal()?, spec.signer, date(spec.now))?;
    write(MANIFEST, &manifest)?;
    write("node.sig", &signed.to_bytes())?;
    write("instance.toml", instance(spec)?.to_toml()?.as_bytes())?;
    make_directory(&directory.join("state"))?;

    let image = directory.join(IMAGE);
    spec.package.extract_image(&image)?;
    let archive = directory.join("app.tar");
    spec.package.copy_code_archive(&archive)?;
    make_directory(&image.join("mse"))?;
    link_or_copy(&archive, &image.join("mse/app.tar"))?;

    let record = Record {
        version: Record::VERSION,
        name: spec.name.clone(),
        application: spec.package.config().name.clone(),
        host: spec.host.to_owned(),
        listen: spec.listen,
        size_mb: spec.size_mb,
        app_id: spec.app_id,
        healthcheck: spec.package.node_config().healthcheck,
        fingerprint: hex::encode(signed.mrenclave),
        package_sha256: hex::encode(spec.package.sha256()),
        created_at: spec.now,
        started_at: None,
        process: None,
        memory: None,
        stopped: true,
    };
    record.write(directory)?;
    Ok(record)
}

pub(crate) fn date(now: Timestamp) -> Date {
    let date = now.to_zoned(TimeZone::UTC).date();
    // A time stamp's year is -9999 to 9999, month and day are positive.
    Date {
        year: u16::try_from(date.year()).unwrap_or(0),
        month: date.month().unsigned_abs(),
        day: date.day().unsigned_abs(),
    }
}

fn make_directory(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::file("make the directory", path))
}

/// One file under two names where the file system has links.
fn link_or_copy(from: &Path, to: &Path) -> Result<(), Error> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Error::file("link", to)(error)),
        Err(_) => fs::copy(from, to).map(drop).map_err(Error::file("copy", to)),
    }
}

/// A directory that disappears again unless it is finished.
pub(crate) struct HalfMade {
    directory: TempDir,
    _lock: File,
}

impl HalfMade {
    /// Makes `<nodes>/<name>.tmp-*`, mode 0700; call it with the runtime's lock held.
    pub(crate) fn create(nodes: &Path, name: &NodeName) -> Result<HalfMade, Error> {
        let directory = Builder::new()
            .prefix(&format!("{name}{MARK}"))
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(nodes)
            .map_err(Error::file("make a directory in", nodes))?;
        let path = directory.path().join(LOCK);
        let lock = File::create(&path).map_err(Error::file("make", &path))?;
        lock.lock().map_err(Error::file("lock", &path))?;
        Ok(HalfMade { directory, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Leaves it for the next command.
    pub(crate) fn leave(self) {
        let _ = self.directory.keep();
    }

    /// Gives it its name; refuses a name that is taken by now.
    pub(super) fn finish(self, name: &NodeName) -> Result<PathBuf, Error> {
        let from = self.directory.path();
        let nodes = from.parent().unwrap_or(from);
        let to = nodes.join(name.as_str());
        let lock = from.join(LOCK);
        fs::remove_file(&lock).map_err(Error::file("remove", &lock))?;
        match renameat_with(CWD, from, CWD, &to, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(Error::NameInUse { name: name.to_string() }),
            // File systems without that flag: a directory replaces at most an empty one, and ours never are.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !to.exists() => {
                fs::rename(from, &to).map_err(Error::file("rename", from))?;
            }
            Err(error) => return Err(Error::file("rename", from)(error.into())),
        }
        let _ = self.directory.keep();
        Ok(to)
    }
}

/// Removes a node's directory: out of the way in one step, then for good.
pub(super) fn remove(nodes: &Path, directory: &Path, name: &NodeName) -> Result<(), Error> {
    let grave = HalfMade::create(nodes, name)?;
    fs::rename(directory, grave.path().join("removed")).map_err(Error::file("remove", directory))?;
    remove_tree(grave.path())
}

/// Removes half-made directories whose makers are gone, once `undo` has undone what else they say was made; call it with
/// the runtime's lock held.
pub(crate) fn remove_half_made(nodes: &Path, undo: impl Fn(&Path) -> bool) -> Result<(), Error> {
    for entry in fs::read_dir(nodes).map_err(Error::file("list", nodes))? {
        let entry = entry.map_err(Error::file("list", nodes))?;
        let path = entry.path();
        let half_made = entry.file_name().to_str().is_some_and(|name| name.contains(MARK));
        if half_made && !is_being_made(&path) && undo(&path) {
            remove_tree(&path)?;
        }
    }
    Ok(())
}

fn is_being_made(path: &Path) -> bool {
    match File::open(path.join(LOCK)) {
        Ok(lock) => lock.try_lock().is_err(),
        // The lock is made in the same breath as the directory, and removed with the runtime's lock held.
        Err(_) => false,
    }
}
