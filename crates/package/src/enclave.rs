//! The Gramine manifest of a package: everything that shapes what the enclave runs.
//!
//! Rendered from the package and the enclave size alone, byte for byte the same wherever it is done,
//! since MRENCLAVE is a hash over these bytes. The host reads it as `node.manifest.sgx`; keys and
//! values are Gramine's (its manifest syntax, at the version whose measurement `gramine` reproduces).

use std::collections::BTreeMap;
use std::fmt::Write;

mod archive;
mod gramine;
mod measured;
mod size;

use crate::config::NodeConfig;
use crate::fingerprint::check_size;
use crate::image::Tree;
use crate::{Error, Result};

pub use archive::FILES_LIMIT;
pub(crate) use archive::with_last_layer;
pub use gramine::{Gramine, Loader};
pub(crate) use measured::is_below;
pub use measured::{TrustedFile, trusted_files};
pub use size::{Start, start};

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

/// How sealed states that did not open are called, in [`STATE`]: this name, a dot and a number.
pub const SET_ASIDE: &str = "sealed.unreadable";

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

/// The Python packages in one archive, where there are too many files to measure each.
pub const ARCHIVE: &str = "opt/mse/python.tar";

/// The directory, in memory, below which the node unpacks [`ARCHIVE`]: each file at the path that it had in the image.
pub const PACKAGES: &str = "/opt/mse/packages";

/// What the enclave has as `/etc/hosts`, in images that an engine built.
pub const HOSTS: &str = "opt/mse/hosts";

/// Where the code archive is in the enclave, plain or encrypted.
pub const CODE_URI: &str = "file:/mse/app.tar";

/// The node's shared object, which stands in for `libpal.so` where an image has no Gramine.
pub const NODE_LIBRARY: &str = "opt/mse/python/mse_node/_node.abi3.so";

/// Threads of the enclave. Each takes one of the enclave's thread slots, and without EDMM there is no way
/// to add one later; each slot costs about 350 KiB of measured memory. The node caps each of its pools
/// and the application server's, at about 30 threads in all, which leaves slack for Gramine's own
/// and for those that the application starts.
pub const MAX_THREADS: u32 = 64;

/// A directory that lies in memory, and what a container without Gramine has to make there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryMount {
    /// Absolute path.
    pub path: &'static str,
    /// Bytes that the node itself puts there, at least.
    pub bytes: u64,
    /// Whether shared objects are loaded from there: a mount must not be `noexec` then.
    pub executable: bool,
}

/// The directories in memory, for a package whose code archive has `code_size` bytes.
pub(crate) fn memory_mounts(tree: &Tree, code_size: u64) -> Vec<MemoryMount> {
    let mount = |path| match path {
        "/mse-app" => MemoryMount { path, bytes: code_size, executable: true },
        _ => MemoryMount { path, bytes: 0, executable: false },
    };
    let packages = (tree.resolve(ARCHIVE)).map(|archive| MemoryMount {
        path: PACKAGES,
        bytes: archive.size,
        executable: true,
    });
    IN_MEMORY.into_iter().map(mount).chain(packages).collect()
}

/// The path of `libpal.so` in the image, or of the file that stands in for it. A Gramine without SGX has none: what
/// runs under it is a simulation.
pub fn libpal(tree: &Tree) -> String {
    Gramine::of(tree).and_then(|gramine| gramine.measured_libpal()).unwrap_or_else(|| NODE_LIBRARY.into())
}

/// MiB that an enclave of these files needs, and the smallest size that holds them.
pub(crate) fn smallest_size(tree: &Tree, trusted: &[TrustedFile], code_size: u64) -> (u64, u64) {
    let needed = size::needed_mb(tree, trusted, code_size);
    (needed, size::smallest(needed))
}

/// The interpreter's absolute path. One in `/usr/local` is the image's own choice, and goes first as in `PATH`.
pub fn python(tree: &Tree) -> &'static str {
    let local = tree.resolve("usr/local/bin/python3").is_some();
    if local { "/usr/local/bin/python3" } else { "/usr/bin/python3" }
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
    let gramine = Gramine::of(tree);
    let entrypoint = match &gramine {
        Some(gramine) => gramine.library_os(),
        // Nothing but the simulator loads such an image, and it takes no entry point from here.
        None => NODE_LIBRARY.into(),
    };
    let required = |path: &str, why: &str| {
        tree.resolve(path).ok_or_else(|| Error::Image {
            part: path.into(),
            expected: format!("the file, since {why}"),
            found: "none".into(),
        })
    };
    let libos = required(&entrypoint, "the enclave starts with it")?;
    let python = python(tree);
    let linker = match &gramine {
        Some(gramine) => {
            required(python.trim_start_matches('/'), "the enclave runs it")?;
            required(NODE_LIBRARY, "the interpreter loads it first")?;
            Some(gramine.linker(tree)?)
        }
        None => None,
    };

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
    if let Some(gramine) = &gramine {
        // Goes before a binary's own search path: Gramine's C library first, then Python's own directory (which is also
        // where administrators put theirs), before the system's. The directories below /usr go before /lib, which is a
        // link to one of them where they are merged: its names are not in the list of trusted files.
        let libc = gramine.libc();
        let path = format!("/{libc}:/usr/local/lib:/usr/lib/x86_64-linux-gnu:/lib/x86_64-linux-gnu");
        env.insert("LD_LIBRARY_PATH", path);
    }
    if tree.resolve(measured::CA_BUNDLE).is_some() {
        env.insert("SSL_CERT_FILE", format!("/{}", measured::CA_BUNDLE));
    }
    if tree.resolve(ARCHIVE).is_some() {
        env.insert("MSE_PACKAGES", format!("/{ARCHIVE}"));
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
    if let Some(linker) = linker {
        // Programs name this loader with its absolute path; in the enclave it has to be Gramine's.
        let uri = quoted(&format!("file:/{linker}"));
        line(&format!("    {{ path = \"/lib64/ld-linux-x86-64.so.2\", uri = {uri} }},"));
    }
    if tree.resolve(HOSTS).is_some() {
        // Container engines put a file of their own there, which nobody measured.
        let uri = quoted(&format!("file:/{HOSTS}"));
        line(&format!("    {{ path = \"/etc/hosts\", uri = {uri} }},"));
    }
    // Code, keys and secrets stay in enclave memory, never in a file that the host can see.
    for path in IN_MEMORY {
        line(&format!("    {{ type = \"tmpfs\", path = {} }},", quoted(path)));
    }
    if tree.resolve(ARCHIVE).is_some() {
        // The packages of the archive, unpacked before anything is loaded from them.
        line(&format!("    {{ type = \"tmpfs\", path = {} }},", quoted(PACKAGES)));
    }
    // Gramine gives the enclave a key only where a mount names it: nothing is kept here, and the node
    // takes from it the key that is bound to MRENCLAVE, under which it seals its state. Without SGX there is no such
    // key, and Gramine starts all the same: nothing looks into this directory.
    line(
        "    { type = \"encrypted\", path = \"/mse/sealed\", uri = \"file:/mse/sealed\", key_name = \"_sgx_mrenclave\" },",
    );
    line("]");

    line("\n[sys]");
    // Every process would be another enclave, with another measurement; fork and exec fail at once.
    line("disallow_subprocesses = true");
    // SIGTERM is how a runtime asks a node to stop. It says nothing that the host could not do anyway.
    line("enable_sigterm_injection = true");
    // Gramine makes the host name and /etc/resolv.conf from what the host says, and checks it. Container engines
    // replace such files at run time, so they could never be trusted ones.
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
