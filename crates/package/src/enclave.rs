//! The Gramine manifest of a package: everything that shapes what the enclave runs.
//!
//! Rendered from the package and the enclave size alone, byte for byte the same wherever it is done,
//! since MRENCLAVE is a hash over these bytes. The host reads it as `node.manifest.sgx`; keys and
//! values are Gramine's (its manifest syntax, at the version whose measurement `gramine` reproduces).

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::config::NodeConfig;
use crate::fingerprint::check_size;
use crate::image::{Node, Tree};
use crate::{Error, Result};

/// Where the node, the application server and the application's packages are in an image.
pub const SITE: &str = "opt/mse/python";

/// Where a node's own files lie in the enclave, and in the container around it: a volume of the host's.
pub const VOLUME: &str = "/mse";

/// The code archive as the package carries it, plain or encrypted; measured.
pub const CODE: &str = "/mse/app.tar";

/// What the operator chose: an [`Instance`](crate::instance::Instance).
pub const INSTANCE: &str = "/mse/instance.toml";

/// The manifest, where Gramine's SGX loader looks for that of a node called `node`.
pub const MANIFEST: &str = "/mse/node.manifest.sgx";

/// The same bytes, where Gramine's direct loader looks for them.
pub const MANIFEST_DIRECT: &str = "/mse/node.manifest";

/// The SIGSTRUCT of the manifest.
pub const SIGSTRUCT: &str = "/mse/node.sig";

/// The node's sealed state: a directory that the enclave may write to.
pub const STATE: &str = "/mse/state";

/// An empty directory: the mount that makes Gramine give the key which is bound to MRENCLAVE.
pub const SEALED: &str = "/mse/sealed";

/// Where there is no SGX: what a simulated enclave is loaded from. Below [`STATE`], because Gramine lets the node read
/// nothing else that was not measured.
pub const SIMULATION: &str = "/mse/state/simulation";

/// The copy of the simulator's installation directory, below [`SIMULATION`].
pub const SIMULATED_INSTALLATION: &str = "/mse/state/simulation/installation";

/// The copy of [`MANIFEST`], below [`SIMULATION`].
pub const SIMULATED_MANIFEST: &str = "/mse/state/simulation/node.manifest.sgx";

/// The copy of [`SIGSTRUCT`], below [`SIMULATION`].
pub const SIMULATED_SIGSTRUCT: &str = "/mse/state/simulation/node.sig";

/// The measured `libpal.so`, or what stands in for it, below [`SIMULATION`].
pub const SIMULATED_LIBPAL: &str = "/mse/state/simulation/libpal.so";

/// The directories which the manifest mounts in memory: code, keys and secrets, and what the application writes. A
/// container without Gramine mounts its own there.
pub const IN_MEMORY: [&str; 5] = ["/dev/shm", "/key", "/mse-app", "/root", "/tmp"];

/// Where the code archive is in the enclave, plain or encrypted.
pub const CODE_URI: &str = "file:/mse/app.tar";

/// The node's shared object, which stands in for `libpal.so` where an image has no Gramine.
pub const NODE_LIBRARY: &str = "opt/mse/python/mse_node/_node.abi3.so";

/// Where an image may carry Gramine: copied there, or installed from Debian's or Gramine's packages.
const GRAMINE: [&str; 2] = ["gramine", "usr/lib/x86_64-linux-gnu/gramine"];

/// Threads of the enclave. Each takes one of the enclave's thread slots, and without EDMM there is no way
/// to add one later; each slot costs about 350 KiB of measured memory. The node caps each of its pools
/// and the application server's, at about 30 threads in all, which leaves slack for Gramine's own
/// and for those that the application starts.
pub const MAX_THREADS: u32 = 64;

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

/// The files of an image that the enclave may read, sorted, and the code archive.
pub fn trusted_files(tree: &Tree, code_sha256: [u8; 32], code_size: u64) -> Vec<TrustedFile> {
    let gramine = gramine(tree);
    let mut files: BTreeMap<String, ([u8; 32], u64)> = (tree.nodes())
        .filter(|(path, node)| !matches!(node, Node::Directory) && is_measured(path, gramine))
        // A link is trusted under its own name, with the content that it leads to.
        .filter_map(|(path, _)| {
            let file = tree.resolve(path)?;
            Some((format!("file:/{path}"), (file.sha256, file.size)))
        })
        .collect();
    // Last, so that no file of the image can stand in for the code.
    files.insert(CODE_URI.into(), (code_sha256, code_size));
    files.into_iter().map(|(uri, (sha256, size))| TrustedFile { uri, sha256, size }).collect()
}

/// Whether a file of the image may be read in the enclave. The list is kept short, because Gramine
/// starts slowly on a long one: what a Python application can load, and no caches, tests or tools.
fn is_measured(path: &str, gramine: Option<&str>) -> bool {
    if path.ends_with(".pyc") || path.contains("/__pycache__/") {
        return false;
    }
    if let Some(rest) = path.strip_prefix(SITE).and_then(|rest| rest.strip_prefix('/')) {
        return !rest.is_empty();
    }
    if let Some(rest) = gramine.and_then(|prefix| path.strip_prefix(prefix)).and_then(|r| r.strip_prefix('/'))
    {
        return rest == "libsysdb.so" || rest.starts_with("runtime/glibc/");
    }
    let library = |dir: &str| path.strip_prefix(dir).is_some_and(is_library);
    library("usr/lib/x86_64-linux-gnu/")
        || library("lib/x86_64-linux-gnu/")
        || library("usr/local/lib/")
        || ["usr/bin/python3", "usr/local/bin/python3"].iter().any(|prefix| path.starts_with(prefix))
        || ["usr/lib/", "usr/local/lib/"]
            .iter()
            .filter_map(|dir| path.strip_prefix(dir))
            .any(is_python_library)
        || path.starts_with("etc/ssl/certs/")
        || ["etc/passwd", "etc/group", "etc/nsswitch.conf", "etc/services", "etc/protocols", "etc/mime.types"]
            .contains(&path)
}

/// `libssl.so.3`, directly in a library directory.
fn is_library(rest: &str) -> bool {
    !rest.contains('/') && (rest.ends_with(".so") || rest.contains(".so."))
}

/// `python3.11/json/decoder.py`, but nothing of what only developers load.
fn is_python_library(rest: &str) -> bool {
    const LEFT_OUT: [&str; 7] =
        ["test/", "idlelib/", "tkinter/", "turtledemo/", "lib2to3/", "ensurepip/", "config-"];
    rest.strip_prefix("python3")
        .and_then(|rest| rest.split_once('/'))
        .is_some_and(|(_, inside)| !LEFT_OUT.iter().any(|prefix| inside.starts_with(prefix)))
}

/// Where the image carries Gramine, if it does.
pub fn gramine(tree: &Tree) -> Option<&'static str> {
    GRAMINE.into_iter().find(|prefix| tree.resolve(&format!("{prefix}/sgx/libpal.so")).is_some())
}

/// The path of `libpal.so` in the image, or of the file that stands in for it.
pub fn libpal(tree: &Tree) -> String {
    match gramine(tree) {
        Some(prefix) => format!("{prefix}/sgx/libpal.so"),
        None => NODE_LIBRARY.into(),
    }
}

/// Renders the manifest for an enclave of `size_mb` MiB.
pub fn manifest(tree: &Tree, node: &NodeConfig, trusted: &[TrustedFile], size_mb: u64) -> Result<String> {
    render(tree, node, trusted, size_mb, false)
}

/// Renders the manifest for a debug enclave of `size_mb` MiB, whose memory the host can read.
pub fn debug_manifest(
    tree: &Tree,
    node: &NodeConfig,
    trusted: &[TrustedFile],
    size_mb: u64,
) -> Result<String> {
    render(tree, node, trusted, size_mb, true)
}

fn render(
    tree: &Tree,
    node: &NodeConfig,
    trusted: &[TrustedFile],
    size_mb: u64,
    debug: bool,
) -> Result<String> {
    check_size(size_mb)?;
    let gramine = gramine(tree);
    let entrypoint = match gramine {
        Some(prefix) => format!("{prefix}/libsysdb.so"),
        // Nothing but the simulator loads such an image, and it takes no entry point from here.
        None => NODE_LIBRARY.into(),
    };
    let libos = tree.resolve(&entrypoint).ok_or_else(|| Error::Image {
        part: entrypoint.clone(),
        expected: "the file, since the enclave starts with it".into(),
        found: "none".into(),
    })?;
    let local = tree.resolve("usr/local/bin/python3").is_some();
    let python = if local { "/usr/local/bin/python3" } else { "/usr/bin/python3" };

    // The environment is closed: nothing of the host's passes through, and nothing is added later.
    let mut env = BTreeMap::from([
        ("LANG", "C.UTF-8".to_string()),
        // One heap for all threads: each further one would reserve 64 MiB of the enclave.
        ("MALLOC_ARENA_MAX", "1".into()),
        ("MSE_NODE_CONFIG", node.to_json()),
        // Python looks itself up here, to find its library.
        ("PATH", "/usr/local/bin:/usr/bin:/bin".into()),
        // Caches of bytecode would be files that nobody measured.
        ("PYTHONDONTWRITEBYTECODE", "1".into()),
        ("PYTHONNOUSERSITE", "1".into()),
        ("PYTHONPATH", format!("/{SITE}")),
        ("PYTHONUNBUFFERED", "1".into()),
    ]);
    if let Some(prefix) = gramine {
        // Goes before a binary's own search path: Gramine's C library first, then Python's own
        // directory, before the system's.
        let own = if local { ":/usr/local/lib" } else { "" };
        let path = format!("/{prefix}/runtime/glibc{own}:/usr/lib/x86_64-linux-gnu:/lib/x86_64-linux-gnu");
        env.insert("LD_LIBRARY_PATH", path);
    }

    let mut out = String::new();
    let mut line = |text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    line(&format!("libos.entrypoint = {}", quoted(python)));
    line("\n[loader]");
    line(&format!(
        "entrypoint = {{ uri = {}, sha256 = \"{}\" }}",
        quoted(&format!("file:/{entrypoint}")),
        hex::encode(libos.sha256)
    ));
    line("log_level = \"error\"");
    // A fixed list: the host's command line is not passed on.
    line("argv = [\"python3\", \"-m\", \"mse_node\"]");
    line("\n[loader.env]");
    for (name, value) in &env {
        line(&format!("{name} = {}", quoted(value)));
    }

    line("\n[fs]");
    line(&format!("start_dir = {}", quoted(&format!("/{SITE}"))));
    line("root = { type = \"chroot\", uri = \"file:/\" }");
    line("mounts = [");
    if let Some(prefix) = gramine {
        // Programs name this loader with its absolute path; in the enclave it has to be Gramine's.
        let loader = quoted(&format!("file:/{prefix}/runtime/glibc/ld-linux-x86-64.so.2"));
        line(&format!("    {{ path = \"/lib64/ld-linux-x86-64.so.2\", uri = {loader} }},"));
    }
    // Code, keys and secrets stay in enclave memory, never in a file that the host can see.
    for path in IN_MEMORY {
        line(&format!("    {{ type = \"tmpfs\", path = {} }},", quoted(path)));
    }
    // Gramine gives the enclave a key only where a mount names it: nothing is kept here, and the node
    // takes from it the key that is bound to MRENCLAVE, under which it seals its state.
    line(
        "    { type = \"encrypted\", path = \"/mse/sealed\", uri = \"file:/mse/sealed\", key_name = \"_sgx_mrenclave\" },",
    );
    line("]");

    line("\n[sys]");
    // Every process would be another enclave, with another measurement; fork and exec fail at once.
    line("disallow_subprocesses = true");
    // SIGTERM is how a runtime asks a node to stop. It says nothing that the host could not do anyway.
    line("enable_sigterm_injection = true");
    // Gramine itself makes /etc/hosts, /etc/hostname and /etc/resolv.conf, which container engines
    // replace at run time and which could therefore never be trusted files.
    line("enable_extra_runtime_domain_names_conf = true");
    // Stacks are reserved whole. 2 MiB is what Rust gives its threads and enough for Python's
    // recursion limit; Linux's 8 MiB would take half of the smallest enclave.
    line("stack.size = \"2M\"");
    // Gramine's default of 900 is few for a server with many clients.
    line("fds.limit = 65535");

    line("\n[sgx]");
    line(&format!("enclave_size = \"{size_mb}M\""));
    line(&format!("max_threads = {MAX_THREADS}"));
    // A debug enclave's memory can be read by the host; every policy refuses one.
    line(&format!("debug = {debug}"));
    line("remote_attestation = \"dcap\"");
    // All memory is added before the start. Adding it later needs SGX2 and Linux 6.0, and the owner's
    // fingerprint must not depend on which machine the operator has.
    line("edmm_enable = false");
    // Nothing in the enclave handles page faults itself, so it need not be told about them.
    line("use_exinfo = false");
    line("enable_stats = false");
    line("isvprodid = 0");
    line("isvsvn = 0");
    // A file that is neither trusted nor allowed cannot be opened.
    line("file_check_policy = \"strict\"");
    // What differs from node to node: the instance file and the sealed state. Both are the host's to
    // change, and the node reads both as hostile input.
    line("allowed_files = [\"file:/mse/instance.toml\", \"file:/mse/state/\"]");
    line("trusted_files = [");
    for file in trusted {
        let (uri, sha256) = (quoted(&file.uri), hex::encode(file.sha256));
        line(&format!("    {{ uri = {uri}, sha256 = \"{sha256}\" }},"));
    }
    line("]");
    Ok(out)
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            // Writing to a String cannot fail.
            c if c.is_control() => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
