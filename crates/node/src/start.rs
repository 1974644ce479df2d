//! From the environment of `python3 -m mse_node` to a node and its listening socket.
//!
//! `MSE_NODE_CONFIG` is measured with the manifest. `MSE_ROOT` and `MSE_MEMORY` come from the `process` runtime and
//! mean simulation; without them this is an enclave, or a container that looks like one, where every place is fixed and
//! `instance.toml` says whether there is SGX.

use std::env;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use package::config::NodeConfig;
use package::instance::{self, Instance};
use platform::Platform;
use platform::simulated::{Enclave, Installation};

use crate::node::{Node, Setup};
use crate::places::{Places, read_limited};
use crate::{Error, Result, journal, listener};

/// Length of a SIGSTRUCT, in bytes.
const SIGSTRUCT_SIZE: u64 = gramine::sigstruct::SIZE as u64;

/// A node that listens, and does not serve yet.
pub struct Started {
    /// The node.
    pub node: Arc<Node>,
    /// The socket on which it listens already.
    pub listener: TcpListener,
    /// Where the enclave is simulated: the threads that a real one would have (`sgx.max_threads`).
    pub simulated_threads: Option<u32>,
}

/// Starts the node of this process. `module_installed` says whether the image holds the application's top module.
pub fn start(module_installed: bool) -> Result<Started> {
    let text = env::var("MSE_NODE_CONFIG").map_err(|_| Error::Environment("MSE_NODE_CONFIG"))?;
    let config = NodeConfig::from_json(&text)?;
    let places = match env::var_os("MSE_ROOT") {
        None => Places::enclave(),
        Some(root) => {
            let memory = env::var_os("MSE_MEMORY").ok_or(Error::Environment("MSE_MEMORY"))?;
            Places::process(root.as_ref(), memory.as_ref())
        }
    };
    let instance = read_instance(&places)?;
    let places = if instance.simulation.is_some() { places.simulated() } else { places };
    // Bound first, so that whoever connects waits rather than being refused while keys and quotes are made.
    let listener = listener::bind(instance.listen)?;
    journal::note(&format!("listening on {}", instance.listen));
    let (platform, simulated_threads) = open_platform(&instance, &places)?;
    let node = Node::open(Setup { platform, config, instance, places })?;
    let node = Arc::new(node.with_module_installed(module_installed));
    Ok(Started { node, listener, simulated_threads })
}

fn read_instance(places: &Places) -> Result<Instance> {
    let path = &places.instance;
    let missing = || Error::io("read", path)(std::io::ErrorKind::NotFound.into());
    let text = read_limited(path, instance::LIMIT)?.ok_or_else(missing)?;
    let text = String::from_utf8(text).map_err(|e| Error::io("read", path)(std::io::Error::other(e)))?;
    Ok(Instance::from_toml(&text)?)
}

/// The simulated platform where `instance.toml` names one, else Gramine's. A simulated enclave cannot pass for a real
/// one, whatever the host writes there: its quotes chain to the simulator's own root.
fn open_platform(instance: &Instance, places: &Places) -> Result<(Arc<dyn Platform>, Option<u32>)> {
    let Some(simulation) = &instance.simulation else {
        return Ok((Arc::new(platform::sgx::Gramine::open(Path::new(platform::sgx::DEVICE))?), None));
    };
    let read = |path: &Path, limit: u64| {
        let missing = || Error::io("read", path)(std::io::ErrorKind::NotFound.into());
        read_limited(path, usize::try_from(limit).unwrap_or(usize::MAX))?.ok_or_else(missing)
    };
    let installation = Installation::open(&simulation.installation)?;
    let manifest = read(&places.manifest, gramine::manifest::MAX_SIZE)?;
    let libpal = read(&places.libpal, gramine::elf::MAX_SIZE)?;
    let sigstruct = read(&places.sigstruct, SIGSTRUCT_SIZE)?;
    let enclave = match places.enforced_by_gramine() {
        true => Enclave::load_under_gramine(&installation, &manifest, &libpal, &sigstruct)?,
        false => Enclave::load(&installation, &manifest, &libpal, &sigstruct, &places.image)?,
    };
    let threads = enclave.max_threads();
    Ok((Arc::new(enclave), Some(threads)))
}
