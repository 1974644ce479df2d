//! From a project to a package.
//!
//! A package is written beside its final name, moved there whole, and then opened and checked as anybody
//! else would: what cannot be opened is not delivered. The same project, lock and interpreter give the
//! same bytes, except for an encrypted code archive, whose key and header are fresh.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use secrets::code::CodeKey;
use tempfile::NamedTempFile;

use crate::application::{Installed, Sources};
use crate::config::{AppConfig, Application, TlsMode};
use crate::fingerprint::SIZES;
use crate::image::{Image, Node};
use crate::native::{LOCK, NodeFiles};
use crate::opened::Package;
use crate::python::Interpreter;
use crate::{Error, Fingerprint, Result, application, bundle, code_archive, discovery, enclave, native};

/// Where the parts of a project are. [`Project::open`] fills in the usual places; a caller may
/// change any of them.
#[derive(Debug, Clone)]
pub struct Project {
    /// `mse.toml`.
    pub config: PathBuf,
    /// `mse_src/`.
    pub code: PathBuf,
    /// `tests/`; a project without it has an empty tests archive.
    pub tests: PathBuf,
    /// `requirements.txt`, if there is one.
    pub requirements: Option<PathBuf>,
    /// Whether `mse.toml` names that file: then it counts even if it is empty. See [`crate::discovery`].
    pub requirements_named: bool,
    /// `requirements.lock`, written when missing or stale.
    pub lock: PathBuf,
    /// The TLS mode, where it is not for `mse.toml` alone to say. The package's `mse.toml` then says it too; one that says
    /// another is refused.
    pub tls_mode: Option<TlsMode>,
}

impl Project {
    /// The usual places below `dir`, and the configuration they hold.
    pub fn open(dir: &Path) -> Result<(Project, AppConfig)> {
        Self::with_config(dir, &dir.join(bundle::CONFIG))
    }

    /// The usual places below `dir`, but the configuration at `path`.
    pub fn with_config(dir: &Path, path: &Path) -> Result<(Project, AppConfig)> {
        let (_, config) = AppConfig::read(path)?;
        let requirements = match &config.image.requirements {
            Some(named) => Some(dir.join(named)),
            None => Some(dir.join("requirements.txt")).filter(|path| path.exists()),
        };
        let project = Project {
            config: path.into(),
            code: dir.join("mse_src"),
            tests: dir.join("tests"),
            requirements,
            requirements_named: config.image.requirements.is_some(),
            lock: dir.join(LOCK),
            tls_mode: None,
        };
        Ok((project, config))
    }
}

/// The configuration as the package will carry it: with the TLS mode that was asked for.
fn config_of(project: &Project) -> Result<(String, AppConfig)> {
    let (text, config) = AppConfig::read(&project.config)?;
    let Some(mode) = project.tls_mode.filter(|mode| *mode != config.tls_mode) else {
        return Ok((text, config));
    };
    let said = text.parse::<toml::Table>().is_ok_and(|table| table.contains_key("tls_mode"));
    if said {
        return Err(Error::Field {
            file: bundle::CONFIG.into(),
            field: "tls_mode",
            expected: "absent, or the mode that this package is made for",
            found: format!("{:?} where {mode:?} is asked for", config.tls_mode),
        });
    }
    // Keys outside any table come first in TOML.
    let text = format!(
        "tls_mode = {}\n{text}",
        toml::Value::try_from(mode).unwrap_or_else(|e| unreachable!("a word: {e}"))
    );
    let config = AppConfig::from_toml(&text)?;
    Ok((text, config))
}

/// Where the image comes from.
#[derive(Debug, Clone)]
pub enum Builder<'a> {
    /// The native builder: a Python environment, for the simulation only.
    Native {
        /// The interpreter that the image is built for.
        interpreter: &'a Interpreter,
        /// The node's own files.
        node_files: &'a NodeFiles,
        /// Directory that keeps what was downloaded and installed, for the next time.
        cache: &'a Path,
    },
    /// An image that a container engine built and saved. It is written anew, under no name, with a last layer of what
    /// an enclave needs besides.
    Saved(&'a Path),
}

/// How to build.
pub struct Options<'a> {
    /// Where the image comes from.
    pub builder: Builder<'a>,
    /// Whether to encrypt the code archive.
    pub encrypt: bool,
    /// The directory for the package and the key; made if missing.
    pub output: &'a Path,
    /// The time for the file names.
    pub now: Timestamp,
    /// Called with each step as it begins: "resolving requirements", ...
    pub progress: &'a mut dyn FnMut(&str),
}

/// What was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// `package_<name>_<unix time in ns>.tar`.
    pub package: PathBuf,
    /// `package_<name>_<unix time in ns>.key`, 64 hexadecimal digits, mode 0600; when encrypted.
    pub key: Option<PathBuf>,
    /// SHA-256 of the package.
    pub sha256: [u8; 32],
    /// SHA-256 of the code archive before it was encrypted: [`code_archive::sha256`] of the project's code.
    pub code_sha256: [u8; 32],
    /// The fingerprint for each size (MiB), smallest first.
    pub fingerprints: Vec<(u64, Fingerprint)>,
    /// Number and bytes of the files that the enclave trusts.
    pub trusted_files: (usize, u64),
    /// About how many seconds Gramine takes until the application runs.
    pub start_seconds: f64,
    /// The directory whose listing costs the most of them, and the bytes that are hashed for it.
    pub start_directory: Option<(String, u64)>,
    /// Whether they are so many that whoever built the image should know.
    pub many_files: bool,
    /// The smallest enclave size that holds the package, in MiB.
    pub smallest_size: u64,
}

/// Trusted files above which [`Built::many_files`] is set.
pub const MANY_FILES: usize = 10_000;

/// Makes a package of a project, and reports its fingerprints at all sizes.
pub fn build(project: &Project, options: Options<'_>) -> Result<Built> {
    build_for(&SIZES, project, options)
}

/// Makes a package of a project, and reports its fingerprints for enclaves of `sizes` MiB; measuring the
/// larger ones takes a second or more.
pub fn build_for(sizes: &[u64], project: &Project, options: Options<'_>) -> Result<Built> {
    let Options { builder, encrypt, output, now, progress } = options;
    let (config_toml, config) = config_of(project)?;

    progress("archiving code and tests");
    let (code, code_files) = code_archive_of(&project.code)?;
    let code_sha256 = code_archive::digest_of(&code).map_err(Error::io("read", &project.code))?;
    let (tests, _) = if project.tests.exists() { code_archive_of(&project.tests)? } else { empty_archive()? };

    let image = match builder {
        Builder::Saved(path) => {
            progress("reading the image");
            let image = enclave::with_last_layer(Image::open(path)?, &config.image)?;
            let files: Vec<String> = (image.tree().nodes())
                .filter(|(_, node)| !matches!(node, Node::Directory))
                .map(|(path, _)| path)
                .collect();
            let files = files.iter().map(String::as_str).collect();
            check_application(project, &config, &code_files, Installed::Image(files))?;
            progress("writing the image");
            let mut file = temporary()?;
            image.write_bare(None, &mut BufWriter::with_capacity(1 << 17, &mut file))?;
            file
        }
        Builder::Native { interpreter, node_files, cache } => {
            let requirements = discovery::requirements(project)?.path;
            let site = native::install(requirements.as_deref(), &project.lock, interpreter, cache, progress)?;
            let installed = native::installed(&site)?;
            let installed = Installed::Site(&site, installed.iter().map(String::as_str).collect());
            check_application(project, &config, &code_files, installed)?;
            progress("writing the image");
            let mut image = temporary()?;
            native::write_image(&site, node_files, interpreter, BufWriter::new(&mut image), output)?;
            image
        }
    };

    fs::create_dir_all(output).map_err(Error::io("create", output))?;
    let name = format!("package_{}_{}", config.name, now.as_nanosecond());
    let package = output.join(format!("{name}.tar"));
    let key = encrypt.then(|| CodeKey::generate().map_err(|e| Error::Encrypt(e.to_string()))).transpose()?;
    let (code_name, code) = match &key {
        None => (bundle::CODE, code),
        Some(key) => {
            progress("encrypting the code");
            (bundle::CODE_ENCRYPTED, encrypted(key, code)?)
        }
    };
    progress("writing the package");
    let config_bytes = config_toml.as_bytes();
    let members = BTreeMap::from([
        (code_name, content(code)?),
        (bundle::IMAGE, content(image)?),
        (bundle::CONFIG, (config_bytes.len() as u64, Box::new(config_bytes) as _)),
        (bundle::TESTS, content(tests)?),
    ]);
    let written = write_new(output, 0o644, |file| {
        let mut writer = BufWriter::with_capacity(1 << 17, file);
        bundle::write(members, &mut writer)?;
        writer.flush()
    })
    .map_err(Error::io("write", &package))?;

    progress("checking the package and computing its fingerprints");
    let opened = Package::open(written.path())?;
    let largest = SIZES[SIZES.len() - 1];
    if opened.needed_mb() > largest {
        let what = format!("the package, which needs about {} MiB of enclave,", opened.needed_mb());
        return Err(Error::Limit { what, limit: format!("{largest} MiB") });
    }
    let fingerprints = opened.fingerprints_for(sizes)?;
    // The key first: a package whose code nobody can open is worth nothing.
    let key = key.map(|key| write_key(&key, output, &output.join(format!("{name}.key")))).transpose()?;
    written.persist_noclobber(&package).map_err(|e| Error::io("create", &package)(e.error))?;
    let trusted = opened.trusted_files();
    let start = enclave::start(trusted);
    Ok(Built {
        package,
        key,
        sha256: opened.sha256(),
        code_sha256,
        fingerprints,
        trusted_files: (trusted.len(), trusted.iter().map(|file| file.size).sum()),
        start_seconds: start.seconds,
        start_directory: start.directory,
        many_files: trusted.len() > MANY_FILES,
        smallest_size: opened.smallest_size(),
    })
}

/// Refuses a project whose application is in neither the code nor the packages, or is no application: it would fail only
/// in the enclave, where it is harder to see why.
fn check_application(
    project: &Project,
    config: &AppConfig,
    code: &[String],
    installed: Installed<'_>,
) -> Result<()> {
    match Application::parse(&config.python_application) {
        Some(named) => {
            application::check(&named, &Sources { code: &project.code, code_files: code, installed })
        }
        // The configuration was validated.
        None => Ok(()),
    }
}

fn code_archive_of(dir: &Path) -> Result<(File, Vec<String>)> {
    if !dir.is_dir() {
        let found = if dir.exists() { "something else" } else { "nothing" };
        return Err(Error::Project { path: dir.into(), expected: "a directory".into(), found: found.into() });
    }
    let mut file = temporary()?;
    let files = code_archive::write(dir, &mut file)?;
    Ok((file, files))
}

fn empty_archive() -> Result<(File, Vec<String>)> {
    let empty = tempfile::tempdir().map_err(Error::io("create", &std::env::temp_dir()))?;
    code_archive_of(empty.path())
}

fn encrypted(key: &CodeKey, mut code: File) -> Result<File> {
    let mut file = temporary()?;
    code.rewind().map_err(Error::io("read", Path::new("the code archive")))?;
    secrets::code::encrypt(key, io::BufReader::new(code), BufWriter::new(&mut file))
        .map_err(|e| Error::Encrypt(e.to_string()))?;
    Ok(file)
}

/// A file without a name: nobody else sees it, and nothing is left of it.
fn temporary() -> Result<File> {
    tempfile::tempfile().map_err(Error::io("create a file in", &std::env::temp_dir()))
}

fn content(mut file: File) -> Result<bundle::Content<'static>> {
    let size = file.metadata().and_then(|metadata| file.rewind().map(|()| metadata.len()));
    Ok((size.map_err(Error::io("read", Path::new("a member of the package")))?, Box::new(file)))
}

fn write_key(key: &CodeKey, directory: &Path, path: &Path) -> Result<PathBuf> {
    let text = key.to_hex();
    write_new(directory, 0o600, |file| {
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")
    })
    .and_then(|file| file.persist_noclobber(path).map_err(|e| e.error))
    .map_err(Error::io("create", path))?;
    Ok(path.into())
}

/// A new file in `directory`, written and on disk, ready to be given its name.
pub(crate) fn write_new(
    directory: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<NamedTempFile> {
    let mut file = NamedTempFile::new_in(directory)?;
    write(file.as_file_mut())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    Ok(file)
}
