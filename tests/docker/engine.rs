//! What the tests do with the engine beside `mse`: its own client, and the base image, built once for all of them.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::installation::Installation;

/// A system's own bundle: behind a proxy it holds the proxy's CA, elsewhere it does no harm.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The option that makes builds trust this machine's CAs.
pub fn build_ca() -> String {
    if Path::new(BUNDLE).is_file() { format!("--build-ca {BUNDLE}") } else { String::new() }
}

/// An account on a machine with an engine and the base image; `None`, with a word, where such tests are not wanted.
pub fn account() -> Option<Installation> {
    if std::env::var_os("MSE_TEST_DOCKER").is_none() {
        eprintln!("skipped: MSE_TEST_DOCKER is not set");
        return None;
    }
    static BASE: OnceLock<()> = OnceLock::new();
    BASE.get_or_init(|| {
        let builder = Installation::with_engine();
        builder.run(&format!("base-image build --from debian:bookworm {}", build_ca()), 0);
    });
    Some(Installation::with_engine())
}

/// Runs the engine's own client; its standard output.
#[track_caller]
pub fn docker(arguments: &[&str]) -> String {
    let output = try_docker(arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {text}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The same where failure is an answer.
pub fn try_docker(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).output().unwrap()
}

/// The container of a node.
#[track_caller]
pub fn container(node: &str, app_id: &str) -> String {
    let filter = format!("label=mse.app-id={app_id}");
    let found = docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter]);
    let ids: Vec<&str> = found.split_whitespace().collect();
    assert_eq!(ids.len(), 1, "one container for {node}");
    ids[0].to_owned()
}
