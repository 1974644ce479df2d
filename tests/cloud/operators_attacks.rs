//! What an operator could try between the two stages of a deployment: each is refused by `deploy`, with its reason, and
//! nothing of the second stage is sent.
//!
//! The attacks are made where an operator would make them: in the backend's own files and database, while the app waits
//! for room, and on the public port.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::backend::Backend;
use crate::hostile;
use crate::installation::{Installation, wait_for};

/// Room for one small app: the next one waits until the operator has done its work.
const TIGHT: &str = "[capacity]\nmemory_mb = 1024\ncores = 1\n";

/// An owner whose deployment waits behind another app.
struct Stage {
    backend: Backend,
    owner: Installation,
    first: String,
    deploy: Child,
    waiting: String,
}

impl Stage {
    /// One app runs, the next deployment waits for room.
    fn set() -> Stage {
        Stage::set_with("")
    }

    /// The same, the second with more options.
    fn set_with(options: &str) -> Stage {
        let backend = Backend::start(TIGHT);
        let owner = Installation::new();
        backend.login(&owner);
        owner.run("cloud scaffold first", 0);
        let first = owner.run("cloud deploy --path first --allow-simulated --format json", 0);
        let first: serde_json::Value = serde_json::from_str(&first).unwrap();
        owner.run("cloud scaffold second", 0);
        let deploy = owner
            .mse(&format!("cloud deploy --path second --allow-simulated --workspace packages {options}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let waiting = wait_for("the second app to wait for room", || {
            let apps = backend.apps();
            let app = apps.iter().find(|app| app["name"] == "second")?;
            app["message"]
                .as_str()?
                .contains("waits for room")
                .then(|| app["id"].as_str().unwrap().to_owned())
        });
        Stage { backend, owner, first: first["id"].as_str().unwrap().to_owned(), deploy, waiting }
    }

    /// The uploaded package of the app that waits.
    fn package(&self) -> PathBuf {
        let app = self.backend.api("GET", &format!("/v1/apps/{}", self.waiting), None);
        let (project, sha256) = (app["project"].as_str().unwrap(), app["package"].as_str().unwrap());
        self.backend.data().join("uploads").join(project).join(sha256)
    }

    /// Makes room, and lets the deployment come to its end.
    fn go_on(self) -> (Backend, Output) {
        self.backend.api("POST", &format!("/v1/apps/{}/stop", self.first), None);
        (self.backend, self.deploy.wait_with_output().unwrap())
    }
}

/// The deployment was refused for this reason, and its app is gone.
#[track_caller]
fn refused(backend: &Backend, waiting: &str, output: &Output, reason: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    let report = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{report}\n{said}");
    assert!(said.contains(reason) || report.contains(reason), "{reason}\n{report}\n{said}");
    assert!(!said.contains("accepted its keys"), "{said}");
    wait_for("the app to be stopped", || {
        let app = backend.api("GET", &format!("/v1/apps/{waiting}"), None);
        (app["wanted"] == "stopped").then_some(())
    });
}

/// Rewrites a package: a tar, whose members a small program may change.
fn rewrite(package: &Path, change: &str) {
    let program = format!(
        r#"
import io, os, sys, tarfile
path = sys.argv[1]
members = []
with tarfile.open(path) as tar:
    for member in tar:
        members.append((member, tar.extractfile(member).read()))
def change(name, content):
{change}
    return content
with tarfile.open(path + ".new", "w", format=tarfile.USTAR_FORMAT) as tar:
    for member, content in members:
        content = change(member.name, content)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
os.rename(path + ".new", path)
"#
    );
    let done = Command::new("python3").args(["-c", &program]).arg(package).status().unwrap();
    assert!(done.success());
}

#[test]
fn another_image_is_refused() {
    let stage = Stage::set();
    let waiting = stage.waiting.clone();
    // The image of the other app, whose code it is not: made anew with one more file in it.
    let foreign = stage.owner.path("foreign");
    fs::create_dir_all(foreign.join("mse_src")).unwrap();
    let toml = fs::read_to_string(stage.owner.path("second/mse.toml")).unwrap();
    fs::write(foreign.join("mse.toml"), toml).unwrap();
    fs::copy(stage.owner.path("second/mse_src/app.py"), foreign.join("mse_src/app.py")).unwrap();
    fs::write(foreign.join("requirements.txt"), "flask\ncryptography\nitsdangerous\nsix\n").unwrap();
    stage.owner.run("home package --project foreign --builder native --output foreign-package/", 0);
    let foreign = stage.owner.path("foreign-package");
    let foreign = fs::read_dir(foreign).unwrap().next().unwrap().unwrap().path();
    let line = format!(
        "    if name == 'image.tar':\n        with tarfile.open('{}') as other:\n            return other.extractfile('image.tar').read()",
        foreign.display()
    );
    rewrite(&stage.package(), &line);
    let (backend, output) = stage.go_on();
    refused(&backend, &waiting, &output, "quote.mrenclave");
}

#[test]
fn other_code_is_refused() {
    let stage = Stage::set();
    let waiting = stage.waiting.clone();
    rewrite(
        &stage.package(),
        "    if name == 'app.tar.enc':\n        return content[:-1] + bytes([content[-1] ^ 1])",
    );
    let (backend, output) = stage.go_on();
    refused(&backend, &waiting, &output, "quote.mrenclave");
    assert!(String::from_utf8_lossy(&output.stderr).contains("something else than this package"));
}

#[test]
fn another_size_of_enclave_is_refused() {
    let mut stage = Stage::set();
    let waiting = stage.waiting.clone();
    let program = "import sqlite3, sys\n\
                   base = sqlite3.connect(sys.argv[1], timeout=60)\n\
                   base.execute('UPDATE apps SET enclave_mb = 2048 WHERE id = ?', (sys.argv[2],))\n\
                   base.commit()";
    let database = stage.backend.data().join("mse.db");
    let done = Command::new("python3").args(["-c", program]).arg(database).arg(&waiting).status().unwrap();
    assert!(done.success());
    // The operator has more room than it told.
    stage.backend.reconfigure("[capacity]\nmemory_mb = 4096\ncores = 4\n");
    let (backend, output) = stage.go_on();
    refused(&backend, &waiting, &output, "2048 MB, not in the 1024 MB of the plan");
}

#[test]
fn another_operators_signature_is_refused() {
    let mut stage = Stage::set();
    let waiting = stage.waiting.clone();
    // The same backend in other hands: it signs with another key, and says nothing of it to who is logged in.
    stage.owner.run("sgx keygen --output other.pem", 0);
    fs::copy(stage.owner.path("other.pem"), stage.backend.data().join("signer.pem")).unwrap();
    stage.backend.reconfigure(TIGHT);
    let (backend, output) = stage.go_on();
    refused(&backend, &waiting, &output, "quote.mrsigner");
}

/// The loopback address of whoever stands between, on the router's own port.
const BETWEEN: &str = "127.0.0.2";

#[test]
fn another_node_is_refused() {
    let backend = Backend::start("");
    let owner = Installation::new();
    backend.login(&owner);
    owner.run("cloud scaffold first", 0);
    let first = owner.run("cloud deploy --path first --allow-simulated --format json", 0);
    let first: serde_json::Value = serde_json::from_str(&first).unwrap();
    // Everything that comes to the public port goes to the node of the first app: genuine, and another's.
    let domain = format!("{}.apps.localhost", first["id"].as_str().unwrap().replace('-', ""));
    hostile::lead_all_to(&domain, backend.router(), BETWEEN);
    owner.run("cloud scaffold second", 0);
    let line = format!("cloud deploy --path second --allow-simulated --resolve {BETWEEN}");
    let output = owner.mse(&line).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("quote.mrenclave"), "{said}");
    wait_for("the second app to end", || (backend.apps().len() == 1).then_some(()));
}

#[test]
fn another_app_of_the_same_package_is_refused() {
    let mut stage = Stage::set_with(&format!("--resolve {BETWEEN}"));
    let waiting = stage.waiting.clone();
    // A twin, of the very bytes that the owner uploaded: a genuine enclave, of this operator, of this fingerprint, with
    // fresh evidence over the owner's nonce, in which TLS ends.
    let app = stage.backend.api("GET", &format!("/v1/apps/{waiting}"), None);
    let order = serde_json::json!({ "name": "twin", "plan": app["plan"], "package": app["package"], "tls": app["tls"] });
    let apps = format!("/v1/projects/{}/apps", app["project"].as_str().unwrap());
    let twin = stage.backend.api("POST", &apps, Some(order));
    stage.backend.reconfigure("[capacity]\nmemory_mb = 4096\ncores = 4\n");
    let twin = twin["id"].as_str().unwrap();
    let node = wait_for("the twin's node", || {
        let app = stage.backend.api("GET", &format!("/v1/apps/{twin}"), None);
        if app["state"] != "initializing" {
            return None;
        }
        let log = stage.owner.run(&format!("cloud logs {twin}"), 0);
        log.lines().find_map(|line| line.strip_prefix("mse: listening on 127.0.0.1:")?.trim().parse().ok())
    });
    hostile::pass_all_to(node, stage.backend.router(), BETWEEN);
    let (backend, output) = stage.go_on();
    refused(&backend, &waiting, &output, &format!("expected {waiting}, found {twin}"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the node is of another app"));
}

#[test]
fn evidence_of_another_connection_is_refused() {
    let backend = Backend::start("");
    let owner = Installation::new();
    backend.login(&owner);
    // Somebody ends the TLS of owner and node, and passes on every question and answer: the evidence is genuine, and of
    // this very node.
    hostile::stand_between(backend.router(), BETWEEN);
    owner.run("cloud scaffold first", 0);
    let line = format!("cloud deploy --path first --allow-simulated --resolve {BETWEEN}");
    let output = owner.mse(&line).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("somebody stands between"), "{said}");
    assert!(!said.contains("accepted its keys"), "{said}");
}
