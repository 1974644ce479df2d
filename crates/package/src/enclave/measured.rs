//! Which files of an image the enclave may read.
//!
//! The list is kept short, because Gramine starts slowly on a long one: what a Python application can load, and no
//! caches, tests or tools. A file has to be listed under the very name by which a program opens it, since Gramine knows
//! nothing of the host's symbolic links:
//!
//! * a link to a file is listed under its own name, with the content that it leads to;
//! * a link to a directory is followed inside trees of Python packages and inside the owner's own roots;
//! * `/lib` and `/bin`, links on today's systems, are not: `LD_LIBRARY_PATH` names the directories below `/usr` before
//!   them, `PATH` does the same, and no program of ours opens a library by an absolute path.
//!
//! What a container engine replaces (`/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`) and what the manifest mounts over
//! is never listed.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use super::{ARCHIVE, CODE_URI, HOSTS, IN_MEMORY, PACKAGES, SITE, gramine::Gramine};
use crate::config::ImageConfig;
use crate::image::{File, Node, Tree};
use crate::paths::Budget;
use crate::{Error, Result};

/// How deep links to directories may lead into each other, and how many names they may make: a hostile image could
/// double them with each link.
const LINKS_DEPTH: usize = 4;
const NAMES_LIMIT: usize = 400_000;

/// How many files links to directories may lead past: so many in any case, and so many times what is in the image.
const VISITS_FREE: usize = 100_000;
const VISITS_RATIO: usize = 4;

/// Bytes that a measured file takes besides its name: here, in the manifest, and while that is measured.
const NAME: u64 = 640;

/// A measured file: its URI and the SHA-256 of its content, and its size in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedFile {
    /// `file:` and the absolute path.
    pub uri: String,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
    /// Bytes.
    pub size: u64,
}

/// The files of an image that the enclave may read, sorted, and the code archive. Beyond what Python and its packages
/// need, `config` says what else is measured, and what is not.
///
/// # Errors
/// [`Error::Image`] for a root of `config` that is not in the image; [`Error::Limit`] for too many names.
pub fn trusted_files(
    tree: &Tree,
    config: &ImageConfig,
    code_sha256: [u8; 32],
    code_size: u64,
) -> Result<Vec<TrustedFile>> {
    let archived = tree.resolve(ARCHIVE).is_some();
    let mut files: BTreeMap<String, ([u8; 32], u64)> = (measured(tree, config)?.into_iter())
        // What the archive carries is unpacked from there, and not read where it was.
        .filter(|(path, _)| !(archived && package_tree(path).is_some()))
        .map(|(path, file)| (format!("file:/{path}"), (file.sha256, file.size)))
        .collect();
    // Last, so that no file of the image can stand in for the code.
    files.insert(CODE_URI.into(), (code_sha256, code_size));
    Ok(files.into_iter().map(|(uri, (sha256, size))| TrustedFile { uri, sha256, size }).collect())
}

/// The measured files in trees of Python packages, by their paths: what an archive of them would carry.
pub(super) fn packages<'a>(tree: &'a Tree, config: &ImageConfig) -> Result<BTreeMap<String, &'a File>> {
    let mut files = measured(tree, config)?;
    files.retain(|path, _| package_tree(path).is_some());
    Ok(files)
}

fn measured<'a>(tree: &'a Tree, config: &ImageConfig) -> Result<BTreeMap<String, &'a File>> {
    let rules = Rules {
        tree,
        gramine: Gramine::of(tree),
        bundle: tree.resolve(CA_BUNDLE).is_some(),
        tests: RefCell::default(),
    };
    let visits = VISITS_FREE + tree.len() * VISITS_RATIO;
    let mut names = Names { files: BTreeMap::new(), budget: tree.budget(), visits };
    for (path, node) in tree.nodes() {
        match node {
            Node::File(file) if rules.keep(&path) => names.add(path, file)?,
            Node::Symlink(_) => match tree.resolve(&path) {
                Some(file) if rules.keep(&path) => names.add(path, file)?,
                None if package_tree(&path).is_some() => {
                    follow(tree, &path, 0, &mut names, &|p| rules.keep(p))?
                }
                _ => {}
            },
            _ => {}
        }
    }
    for path in FILES {
        if let Some(file) = tree.resolve(path) {
            names.add(path.into(), file)?;
        }
    }
    for root in &config.measured {
        let root = root.trim_matches('/');
        match tree.resolve(root) {
            Some(file) => names.add(root.into(), file)?,
            None => follow(tree, root, 0, &mut names, &|path| !is_bytecode(path))?,
        }
        let below = format!("{root}/");
        let first = names.files.range(below.clone()..).next();
        if !names.files.contains_key(root) && first.is_none_or(|(path, _)| !path.starts_with(&below)) {
            return Err(Error::Image {
                part: format!("/{root}"),
                expected: "files, since `image.measured` in mse.toml names it".into(),
                found: "none".into(),
            });
        }
    }
    let left_out = |path: &str| {
        REPLACED.contains(&path)
            || ["dev", "mse", "proc", "sys"].iter().any(|top| is_below(path, top))
            || IN_MEMORY.iter().chain([&PACKAGES]).any(|mount| is_below(path, mount.trim_start_matches('/')))
            || config.unmeasured.iter().any(|prefix| is_below(path, prefix.trim_matches('/')))
    };
    names.files.retain(|path, _| !left_out(path));
    Ok(names.files)
}

/// The measured files, by the names under which they are opened.
struct Names<'a> {
    files: BTreeMap<String, &'a File>,
    budget: Budget,
    /// How many files links may still lead past.
    visits: usize,
}

impl<'a> Names<'a> {
    fn add(&mut self, name: String, file: &'a File) -> Result<()> {
        self.budget.charge(name.len() as u64 + NAME, "names of measured files")?;
        self.files.insert(name, file);
        if self.files.len() > NAMES_LIMIT {
            return Err(Error::Limit {
                what: "names of measured files".into(),
                limit: NAMES_LIMIT.to_string(),
            });
        }
        Ok(())
    }
}

/// Adds what is in the directory that `alias` is or leads to, under names that begin with `alias`.
fn follow<'a>(
    tree: &'a Tree,
    alias: &str,
    depth: usize,
    names: &mut Names<'a>,
    keep: &dyn Fn(&str) -> bool,
) -> Result<()> {
    let Some(directory) = tree.resolve_directory(alias).filter(|_| depth < LINKS_DEPTH) else {
        return Ok(());
    };
    for (path, node, file) in tree.below(&directory) {
        names.visits = names.visits.checked_sub(1).ok_or_else(|| Error::Limit {
            what: "files in directories that links lead to".into(),
            limit: format!("{VISITS_FREE}, and {VISITS_RATIO} times those of the image"),
        })?;
        let name = format!("{alias}{}", &path[directory.len()..]);
        match (node, file) {
            (Node::File(_) | Node::Symlink(_), Some(file)) if keep(&name) => names.add(name, file)?,
            (Node::Symlink(_), None) => follow(tree, &name, depth + 1, names, keep)?,
            _ => {}
        }
    }
    Ok(())
}

/// Whether `path` is `root` or below it.
pub(crate) fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Files that engines replace at run time; their content is the host's.
const REPLACED: [&str; 3] = ["etc/hostname", "etc/hosts", "etc/resolv.conf"];

/// All certificates in one file, which the manifest's environment names. The directory around it holds each of them
/// twice more.
pub(super) const CA_BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";

/// Single files, each under the name by which libraries open it, whatever links lead there.
const FILES: [&str; 15] = [
    ARCHIVE,
    HOSTS,
    CA_BUNDLE,
    "etc/group",
    "etc/localtime",
    "etc/mime.types",
    "etc/nsswitch.conf",
    "etc/os-release",
    "etc/passwd",
    "etc/protocols",
    "etc/services",
    "etc/ssl/openssl.cnf",
    "usr/lib/os-release",
    "usr/lib/ssl/cert.pem",
    // Were it there and not to be read, OpenSSL would note an error that the next TLS connection trips over.
    "usr/lib/ssl/openssl.cnf",
];

struct Rules<'a> {
    tree: &'a Tree,
    gramine: Option<Gramine>,
    bundle: bool,
    /// Whether a directory has tests in it, for those that were looked into.
    tests: RefCell<HashMap<String, bool>>,
}

impl Rules<'_> {
    /// Whether a file of the image may be read in the enclave, as long as the owner says nothing else.
    fn keep(&self, path: &str) -> bool {
        if is_bytecode(path) {
            return false;
        }
        if is_below(path, SITE) {
            return true;
        }
        if let Some((tree, inside)) = package_tree(path) {
            return self.keep_package(tree, inside);
        }
        if let Some(gramine) = &self.gramine
            && let Some(name) = path.strip_prefix(&gramine.libc()).and_then(|rest| rest.strip_prefix('/'))
        {
            return is_library(name);
        }
        if self.gramine.as_ref().is_some_and(|gramine| path == gramine.library_os()) {
            return true;
        }
        let library = |dir: &str| path.strip_prefix(dir).is_some_and(is_library);
        library("usr/lib/x86_64-linux-gnu/")
            || library("lib/x86_64-linux-gnu/")
            || library("usr/local/lib/")
            || PLUGINS.iter().any(|dir| library(dir))
            || ["usr/bin/python3", "usr/local/bin/python3"].iter().any(|prefix| path.starts_with(prefix))
            || ["usr/lib/", "usr/local/lib/"]
                .iter()
                .filter_map(|dir| path.strip_prefix(dir))
                .any(is_python_library)
            || (path.starts_with("etc/ssl/certs/") && !self.bundle)
            || path
                .strip_prefix("usr/share/zoneinfo/")
                .is_some_and(|zone| !zone.starts_with("posix/") && !zone.starts_with("right/"))
    }

    /// Whether a file of an installed package is one that an application can load. Who needs one of the others names it
    /// in `image.measured`.
    fn keep_package(&self, tree: &str, path: &str) -> bool {
        // They install packages, which an enclave does not; engines' images bring them without being asked.
        const TOOLS: [&str; 6] =
            ["_distutils_hack", "distutils-precedence.pth", "pip", "pkg_resources", "setuptools", "wheel"];
        const TOOLS_METADATA: [&str; 3] = ["pip-", "setuptools-", "wheel-"];
        // For compilers, type checkers and translators. A package's own `__init__.pyi` may be what it loads itself by.
        const ENDINGS: [&str; 11] =
            [".a", ".c", ".cuh", ".exe", ".h", ".hpp", ".po", ".pot", ".pxd", ".pyi", ".pyx"];
        let (top, rest) = path.split_once('/').unwrap_or((path, ""));
        let metadata = top.ends_with(".dist-info") || top.ends_with(".egg-info");
        if TOOLS.contains(&top) || (metadata && TOOLS_METADATA.iter().any(|tool| top.starts_with(tool))) {
            return false;
        }
        // Tests directly inside a package. Deeper ones stay: packages are known to load helpers from theirs.
        if let Some((directory @ ("tests" | "test"), _)) = rest.split_once('/')
            && self.has_tests(format!("{tree}/{top}/{directory}"))
        {
            return false;
        }
        rest.ends_with("__init__.pyi") || !ENDINGS.iter().any(|ending| path.ends_with(ending))
    }

    fn has_tests(&self, directory: String) -> bool {
        *self.tests.borrow_mut().entry(directory).or_insert_with_key(|directory| {
            self.tree.below(directory).any(|(path, ..)| {
                let name = path.rsplit('/').next().unwrap_or_default();
                name.starts_with("test_") && name.ends_with(".py")
            })
        })
    }
}

/// Directories of shared objects that libraries load by themselves or that alternatives lead to.
const PLUGINS: [&str; 4] = [
    "usr/lib/x86_64-linux-gnu/blas/",
    "usr/lib/x86_64-linux-gnu/lapack/",
    "usr/lib/x86_64-linux-gnu/openblas-pthread/",
    "usr/lib/x86_64-linux-gnu/ossl-modules/",
];

fn is_bytecode(path: &str) -> bool {
    path.ends_with(".pyc") || path.contains("/__pycache__/")
}

/// `libssl.so.3`, directly in a library directory.
fn is_library(rest: &str) -> bool {
    !rest.contains('/') && (rest.ends_with(".so") || rest.contains(".so."))
}

/// `python3.11/json/decoder.py`, but nothing of what only developers load.
fn is_python_library(rest: &str) -> bool {
    const LEFT_OUT: [&str; 11] = [
        "config-",
        "ctypes/test/",
        "distutils/tests/",
        "ensurepip/",
        "idlelib/",
        "lib2to3/",
        "pydoc_data/",
        "test/",
        "tkinter/",
        "turtledemo/",
        "unittest/test/",
    ];
    rest.strip_prefix("python3")
        .and_then(|rest| rest.split_once('/'))
        .is_some_and(|(_, inside)| !LEFT_OUT.iter().any(|prefix| inside.starts_with(prefix)))
}

/// Splits the path of a file in a tree of Python packages into the tree and the rest. The node itself is in none: it
/// has to be there before anything can be unpacked.
fn package_tree(path: &str) -> Option<(&str, &str)> {
    let split = |at: usize| Some((&path[..at], &path[at + 1..])).filter(|(_, inside)| !inside.is_empty());
    if is_below(path, SITE) {
        let inside = path.strip_prefix(SITE)?.strip_prefix('/')?;
        return if is_below(inside, "mse_node") || inside == "interpreter.json" {
            None
        } else {
            split(SITE.len())
        };
    }
    let library = path.strip_prefix("usr/local/lib/").or_else(|| path.strip_prefix("usr/lib/"))?;
    let (version, inside) = library.strip_prefix("python3")?.split_once('/')?;
    if !version.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    let directory = inside.split('/').next()?;
    let length = path.len() - inside.len() + directory.len();
    match directory {
        "site-packages" | "dist-packages" if inside.len() > directory.len() => split(length),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_of_packages_are_recognised() {
        for (path, tree, inside) in [
            ("opt/mse/python/granian/a.py", "opt/mse/python", "granian/a.py"),
            ("usr/lib/python3/dist-packages/six.py", "usr/lib/python3/dist-packages", "six.py"),
            (
                "usr/local/lib/python3.12/site-packages/a/b.so",
                "usr/local/lib/python3.12/site-packages",
                "a/b.so",
            ),
        ] {
            assert_eq!(package_tree(path), Some((tree, inside)));
        }
        for path in [
            "opt/mse/python",
            "opt/mse/python/mse_node/serve.py",
            "opt/mse/python/interpreter.json",
            "usr/lib/python3.11/json/decoder.py",
            "usr/lib/python3.11/site-packages",
            "usr/lib/python3x/site-packages/a",
            "opt/venv/lib/python3.11/site-packages/a.py",
        ] {
            assert_eq!(package_tree(path), None, "{path}");
        }
    }
}
