//! An enclave's inputs and a machine to load it on.

use std::fs;
use std::path::Path;

use gramine::{SigStruct, SignerKey};
use jiff::Timestamp;
use platform::Error;
use platform::simulated::{Enclave, Installation};
use ring::digest::{SHA256, digest};
use tempfile::TempDir;

/// A small ELF that was made for measuring, and a key that was made to be known.
pub const LIBPAL: &[u8] = include_bytes!("../../../gramine/tests/vectors/01-defaults-256m-t4/libpal.so");
const SIGNER: &str = include_str!("../../../gramine/tests/vectors/01-defaults-256m-t4/key.pem");

pub fn signer() -> SignerKey {
    SignerKey::from_pem(SIGNER).unwrap()
}

pub fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

pub fn sign(manifest: &str) -> Vec<u8> {
    let date = "2026-03-01".parse().unwrap();
    SigStruct::sign(manifest.as_bytes(), LIBPAL, &signer(), date).unwrap().to_bytes().to_vec()
}

/// Everything that goes into one enclave; correct until changed.
pub struct Inputs {
    pub directory: TempDir,
    pub installation: Installation,
    pub manifest: String,
    pub libpal: Vec<u8>,
    pub sigstruct: Vec<u8>,
}

impl Inputs {
    /// An enclave with two trusted files.
    pub fn new() -> Self {
        Self::with("", &["app/main.py", "lib/data"])
    }

    /// With more lines in `[sgx]`, and trusted files at these places, each holding its own name.
    pub fn with(settings: &str, files: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        for file in files {
            let path = directory.path().join("root").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        let uris = files.iter().map(|file| (format!("file:/{file}"), sha256(file.as_bytes())));
        let manifest = manifest(settings, &uris.collect::<Vec<_>>());
        let installation = Installation::open_or_create(&directory.path().join("simulator"), now()).unwrap();
        let sigstruct = sign(&manifest);
        Self { directory, installation, manifest, libpal: LIBPAL.to_vec(), sigstruct }
    }

    pub fn root(&self) -> std::path::PathBuf {
        self.directory.path().join("root")
    }

    /// Trusts exactly this, signed for.
    pub fn trust(&mut self, uri: &str, content: &[u8]) {
        self.manifest = manifest("", &[(uri.to_owned(), sha256(content))]);
        self.sigstruct = sign(&self.manifest);
    }

    pub fn load(&self) -> Result<Enclave, Error> {
        self.load_on(&self.installation)
    }

    pub fn load_on(&self, installation: &Installation) -> Result<Enclave, Error> {
        let root = self.root();
        let root: &Path = &root;
        Enclave::load(installation, self.manifest.as_bytes(), &self.libpal, &self.sigstruct, root)
    }

    /// Where Gramine compares the files itself.
    pub fn load_under_gramine(&self) -> Result<Enclave, Error> {
        let manifest = self.manifest.as_bytes();
        Enclave::load_under_gramine(&self.installation, manifest, &self.libpal, &self.sigstruct)
    }
}

fn manifest(settings: &str, files: &[(String, String)]) -> String {
    let files = files.iter().map(|(uri, sha256)| format!("{{ uri = {uri:?}, sha256 = \"{sha256}\" }},\n"));
    let attestation =
        if settings.contains("remote_attestation") { "" } else { "remote_attestation = \"dcap\"\n" };
    format!(
        "[sgx]\nenclave_size = \"256M\"\n{attestation}{settings}\ntrusted_files = [\n{}]\n",
        files.collect::<String>()
    )
}
