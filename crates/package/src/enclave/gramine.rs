//! Gramine as an image carries it: where its parts are, and which of its two ways to run are there.

use crate::image::Tree;
use crate::{Error, Result};

/// Where an image may carry Gramine: copied there, or installed by a package or from source.
const PREFIXES: [&str; 5] = [
    "gramine",
    "usr/lib/x86_64-linux-gnu/gramine",
    "usr/local/lib/x86_64-linux-gnu/gramine",
    "gramine/lib/x86_64-linux-gnu/gramine",
    "opt/gramine/lib/x86_64-linux-gnu/gramine",
];

/// Gramine in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gramine {
    prefix: &'static str,
    sgx: bool,
    direct: bool,
}

/// One of Gramine's loaders, to be run as `<loader> <libpal> init node` where the manifest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loader {
    /// Absolute path of the program.
    pub loader: String,
    /// Absolute path of the `libpal.so` that belongs to it.
    pub libpal: String,
}

impl Gramine {
    /// Finds Gramine in an image: its library OS and at least one loader. A build without SGX has the direct one only.
    pub fn of(tree: &Tree) -> Option<Gramine> {
        let is_there = |path: String| tree.resolve(&path).is_some();
        PREFIXES.into_iter().find_map(|prefix| {
            let has = |kind| {
                is_there(format!("{prefix}/{kind}/loader")) && is_there(format!("{prefix}/{kind}/libpal.so"))
            };
            let found = Gramine { prefix, sgx: has("sgx"), direct: has("direct") };
            (is_there(format!("{prefix}/libsysdb.so")) && (found.sgx || found.direct)).then_some(found)
        })
    }

    /// The loader for enclaves, where this build has one.
    pub fn sgx(&self) -> Option<Loader> {
        self.sgx.then(|| self.loader("sgx"))
    }

    /// The loader that runs the same library OS without an enclave, where this build has one.
    pub fn direct(&self) -> Option<Loader> {
        self.direct.then(|| self.loader("direct"))
    }

    fn loader(&self, kind: &str) -> Loader {
        let at = |name| format!("/{}/{kind}/{name}", self.prefix);
        Loader { loader: at("loader"), libpal: at("libpal.so") }
    }

    /// The `libpal.so` that an enclave is measured with, from the image's root; `None` in a build without SGX.
    pub(super) fn measured_libpal(&self) -> Option<String> {
        self.sgx.then(|| format!("{}/sgx/libpal.so", self.prefix))
    }

    /// The library OS, from the image's root.
    pub(super) fn library_os(&self) -> String {
        format!("{}/libsysdb.so", self.prefix)
    }

    /// The directory of Gramine's own C library, from the image's root.
    pub(super) fn libc(&self) -> String {
        format!("{}/runtime/glibc", self.prefix)
    }

    /// Gramine's dynamic linker, from the image's root; refuses an image without it.
    pub(super) fn linker(&self, tree: &Tree) -> Result<String> {
        let path = format!("{}/ld-linux-x86-64.so.2", self.libc());
        match tree.resolve(&path) {
            Some(_) => Ok(path),
            None => Err(Error::Image {
                part: path,
                expected: "the dynamic linker of Gramine's own C library".into(),
                found: "none: only a part of Gramine was copied".into(),
            }),
        }
    }
}
