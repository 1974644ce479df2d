//! Nodes as containers, and what is asked of a container engine: the Docker Engine API (from version 1.41, which
//! Docker 20.10 speaks).
//!
//! * [`engine`]: where the engine is, how it is asked, and what its silence and its refusals mean;
//! * [`images`]: build, save, load, find and remove images;
//! * [`nodes`]: the runtime itself;
//! * [`dev`]: one short-lived container without an enclave, for tests of an application.
//!
//! The engine belongs to the operator and protects nothing: what runs in a container, its fingerprint says. What the
//! engine answers is taken as hostile all the same: ids and names are checked, lines are cut, and nothing is waited for
//! without end that should be quick.

mod containers;
pub mod dev;
pub mod engine;
pub mod images;
pub mod nodes;
mod pipe;
mod prepare;
mod record;

use std::collections::HashMap;

use bollard::models::{HostConfig, HostConfigLogConfig};

pub use dev::{DevContainer, DevSpec};
pub use engine::{Engine, EngineVersion};
pub use images::{BuildRequest, ImageId};
pub use nodes::DockerRuntime;

/// So many processes and threads a container may have: an enclave has 64, and Gramine and Python some outside.
const PIDS: i64 = 1024;

/// Logs are kept by the engine in the form that keeps every byte and can be read again, whatever it does by default:
/// five files of at most 20 MB.
fn logging() -> HostConfig {
    let options = [("max-size", "20m"), ("max-file", "5")];
    let config = HostConfigLogConfig {
        typ: Some("local".into()),
        config: Some(
            options.into_iter().map(|(name, value)| (name.into(), value.into())).collect::<HashMap<_, _>>(),
        ),
    };
    HostConfig { log_config: Some(config), ..HostConfig::default() }
}
