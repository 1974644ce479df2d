//! An opened package: checked whole, before anything of it is written.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::bundle;
use crate::code_archive::{check_named, unpack_named};
use crate::config::{AppConfig, CodeForm, NodeConfig};
use crate::enclave::{self, Gramine, MemoryMount, TrustedFile};
use crate::fingerprint::SIZES;
use crate::image::{Image, Node};
use crate::native::RECORD;
use crate::python::InterpreterRecord;
use crate::region::{Hashing, Region};
use crate::{Error, Fingerprint, Result};

/// Largest `interpreter.json`, in bytes.
const RECORD_LIMIT: u64 = 16 * 1024;

/// Size, in bytes, from which a part of the image is worth an upload of its own; and most such parts, between which
/// lie as many others.
const LASTING: u64 = 1024 * 1024;
const MOST_LASTING: usize = 450;

/// Bytes of a trusted file's line in a manifest besides its URI; how many times its length a manifest takes while it is
/// measured; and bytes that all which are measured at once may take.
const MANIFEST_LINE: usize = 100;
const MANIFEST_TREE: usize = 16;
const MANIFESTS_MEMORY: usize = 64 << 20;

/// A package that passed every check. It keeps its file open and reads from it when asked to write
/// something; what it then finds changed, it refuses.
#[derive(Debug)]
pub struct Package {
    path: PathBuf,
    sha256: [u8; 32],
    config: AppConfig,
    config_toml: String,
    code: Region,
    code_sha256: [u8; 32],
    encrypted: bool,
    tests: Region,
    image: Image,
    interpreter: Option<InterpreterRecord>,
    trusted: Vec<TrustedFile>,
}

impl Package {
    /// Opens the package at `path` and checks all of it: members, configuration, code archive (if in
    /// clear), tests, and every digest of the image. Writes nothing.
    pub fn open(path: &Path) -> Result<Self> {
        Self::check(path, Region::open(path)?)
    }

    /// [`Package::open`] for a package in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        Self::check(Path::new("the package"), Region::from(bytes))
    }

    fn check(path: &Path, whole: Region) -> Result<Self> {
        let members = bundle::read(&whole)?;
        std::thread::scope(|scope| {
            let digest = scope.spawn(|| whole.sha256());
            let package = Self::read(path, members);
            let digest = digest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok(Package { sha256: digest.map_err(Error::io("read", path))?, ..package? })
        })
    }

    fn read(path: &Path, members: bundle::Members) -> Result<Self> {
        let read = |region: &Region| region.bytes().map_err(Error::io("read", path));
        let config_toml = String::from_utf8(read(&members.config)?).map_err(|_| Error::Package {
            expected: "an mse.toml in UTF-8".into(),
            found: "other bytes".into(),
        })?;
        let config = AppConfig::from_toml(&config_toml)?;
        if !members.encrypted {
            check_named(bundle::CODE, members.code.reader())?;
        }
        check_named(bundle::TESTS, members.tests.reader())?;
        let code_sha256 = members.code.sha256().map_err(Error::io("read", path))?;
        let image = Image::read(&members.image)?;
        let interpreter = interpreter(&image)?;
        let trusted = enclave::trusted_files(image.tree(), &config.image, code_sha256, members.code.len())?;
        Ok(Package {
            path: path.into(),
            sha256: [0; 32],
            config,
            config_toml,
            code: members.code,
            code_sha256,
            encrypted: members.encrypted,
            tests: members.tests,
            image,
            interpreter,
            trusted,
        })
    }

    /// The `mse.toml` inside.
    pub fn config(&self) -> &AppConfig {
        &self.config
    }

    /// The text of that `mse.toml`, as carried.
    pub fn config_toml(&self) -> &str {
        &self.config_toml
    }

    /// What the node is measured with.
    pub fn node_config(&self) -> NodeConfig {
        self.config.node_config(if self.encrypted { CodeForm::Encrypted } else { CodeForm::Plain })
    }

    /// SHA-256 of the package file.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// Where the package's file is cut for an upload in parts: sorted offsets at which a part begins, first 0, at most
    /// 1000. A layer of at least 1 MiB is a part of its own, and so is, in a natively built image, a file of that size:
    /// what is the same in two packages is the same part, wherever in them it lies.
    pub fn cuts(&self) -> Vec<u64> {
        let lasting = self.image.lasting(LASTING, self.interpreter.is_some());
        let mut cuts = BTreeSet::from([0]);
        for range in lasting.into_iter().take(MOST_LASTING) {
            // The archive around it goes on after its end.
            cuts.extend([range.start, range.end]);
        }
        cuts.into_iter().collect()
    }

    /// Whether the code archive is encrypted.
    pub fn encrypted(&self) -> bool {
        self.encrypted
    }

    /// The image inside.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The interpreter that a natively built image needs; `None` for a container image, which has its
    /// own.
    pub fn interpreter(&self) -> Option<&InterpreterRecord> {
        self.interpreter.as_ref()
    }

    /// The files that the enclave may read, and their hashes.
    pub fn trusted_files(&self) -> &[TrustedFile] {
        &self.trusted
    }

    /// Gramine as the image carries it; `None` where such an image runs as a plain process, in simulation only.
    pub fn gramine(&self) -> Option<Gramine> {
        Gramine::of(self.image.tree())
    }

    /// The absolute path of the interpreter in a container image.
    pub fn python(&self) -> &'static str {
        enclave::python(self.image.tree())
    }

    /// The directories that the manifest mounts in memory: what a container without Gramine has to mount.
    pub fn memory_mounts(&self) -> Vec<MemoryMount> {
        enclave::memory_mounts(self.image.tree(), self.code.len())
    }

    /// The smallest enclave that holds the package, in MiB, of [`SIZES`]; the largest, where none would. An estimate:
    /// threads and stacks, Gramine and the interpreter, every shared object mapped, packages and code unpacked.
    pub fn smallest_size(&self) -> u64 {
        enclave::smallest_size(self.image.tree(), &self.trusted, self.code.len()).1
    }

    /// About how many MiB the package needs in an enclave; see [`Package::smallest_size`].
    pub fn needed_mb(&self) -> u64 {
        enclave::smallest_size(self.image.tree(), &self.trusted, self.code.len()).0
    }

    /// The bytes of `node.manifest.sgx` for an enclave of `size_mb` MiB.
    pub fn manifest(&self, size_mb: u64) -> Result<Vec<u8>> {
        let text = enclave::manifest(self.image.tree(), &self.node_config(), &self.trusted, size_mb)?;
        Ok(text.into_bytes())
    }

    /// The manifest of a debug enclave, whose memory the host can read; otherwise the same. Every policy refuses one.
    pub fn debug_manifest(&self, size_mb: u64) -> Result<Vec<u8>> {
        let text = enclave::debug_manifest(self.image.tree(), &self.node_config(), &self.trusted, size_mb)?;
        Ok(text.into_bytes())
    }

    /// Writes the image for a container engine to load under `reference` and no other name: the layers, each checked
    /// on the way, and a configuration that says nothing. Nothing that the image brought of either is in it.
    pub fn write_image(&self, reference: &str, out: &mut dyn io::Write) -> Result<()> {
        self.image.write_bare(Some(reference), out)
    }

    /// The bytes of `libpal.so`, or of the file that stands in for it.
    pub fn libpal(&self) -> Result<Vec<u8>> {
        let path = enclave::libpal(self.image.tree());
        self.image.read_file(&path, ::gramine::elf::MAX_SIZE)?.ok_or_else(|| Error::Image {
            part: path,
            expected: "Gramine's libpal.so, or the node's library in its place".into(),
            found: "neither".into(),
        })
    }

    /// The fingerprint of an enclave of `size_mb` MiB.
    pub fn fingerprint(&self, size_mb: u64) -> Result<Fingerprint> {
        Fingerprint::measure(&self.manifest(size_mb)?, &self.libpal()?)
    }

    /// The fingerprints at all [`SIZES`], smallest first.
    pub fn fingerprints(&self) -> Result<Vec<(u64, Fingerprint)>> {
        self.fingerprints_for(&SIZES)
    }

    /// The fingerprints of enclaves of `sizes` MiB, smallest first.
    pub fn fingerprints_for(&self, sizes: &[u64]) -> Result<Vec<(u64, Fingerprint)>> {
        let libpal = self.libpal()?;
        // Measuring takes time in proportion to the size: the largest first, and several at once.
        let queue = Mutex::new(sizes.iter().rev());
        let work = || {
            let mut done = Vec::new();
            loop {
                let next = queue.lock().ok().and_then(|mut queue| queue.next());
                let Some(&size) = next else { return Ok(done) };
                done.push((size, Fingerprint::measure(&self.manifest(size)?, &libpal)?));
            }
        };
        let manifest: usize = self.trusted.iter().map(|file| file.uri.len() + MANIFEST_LINE).sum();
        let most = (MANIFESTS_MEMORY / (manifest * MANIFEST_TREE).max(1)).max(1);
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(sizes.len()).min(most);
        let mut all = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let mut all = Vec::new();
            for worker in workers {
                all.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok::<_, Error>(all)
        })?;
        all.sort();
        Ok(all)
    }

    /// Unpacks a natively built image into `dest`, which is made, or must be an empty directory.
    pub fn extract_image(&self, dest: &Path) -> Result<()> {
        self.image.extract(dest)
    }

    /// Unpacks the tests into `dest`, which is made, or must be an empty directory.
    pub fn extract_tests(&self, dest: &Path) -> Result<()> {
        unpack_named(bundle::TESTS, self.tests.reader(), dest)
    }

    /// Copies the code archive, as carried, to the new file `dest` (mode 0600).
    pub fn copy_code_archive(&self, dest: &Path) -> Result<()> {
        let directory = dest.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut copy = tempfile::NamedTempFile::new_in(directory).map_err(Error::io("create", dest))?;
        let mut content = Hashing::new(self.code.reader());
        io::copy(&mut content, &mut copy).map_err(Error::io("write", dest))?;
        if content.finish() != self.code_sha256 {
            let found = format!("other bytes: {} was changed meanwhile", self.path.display());
            return Err(Error::Package { expected: "the code archive that was checked".into(), found });
        }
        copy.persist_noclobber(dest).map_err(|e| Error::io("create", dest)(e.error))?;
        Ok(())
    }
}

/// What a natively built image needs; such an image holds plain files below its one directory only.
fn interpreter(image: &Image) -> Result<Option<InterpreterRecord>> {
    let Some(json) = image.read_file(RECORD, RECORD_LIMIT)? else { return Ok(None) };
    let wrong = |part: &str, expected: &str, found: String| Error::Image {
        part: part.into(),
        expected: expected.into(),
        found,
    };
    let record = serde_json::from_slice(&json)
        .map_err(|e| wrong(RECORD, "what the native builder writes", e.to_string()))?;
    image.tree().require_plain()?;
    let site = format!("{}/", enclave::SITE);
    let elsewhere =
        (image.tree().nodes()).find(|(path, node)| matches!(node, Node::File(_)) && !path.starts_with(&site));
    if let Some((path, _)) = elsewhere {
        return Err(wrong(&path, "files below opt/mse/python only", "a file".into()));
    }
    Ok(Some(record))
}
