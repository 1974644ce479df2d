//! A node as Gramine would run it, without Gramine: `gramine/loader.py` says what is imitated.
//!
//! The container is the one that the runtime makes, and its command is a loader's. What Gramine enforces from inside is
//! enforced here by the kernel: a file that is not measured cannot be read, a variable that is not in the manifest is not
//! there, a system call that Gramine lacks fails. So this fails where the node comes to need one of those.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;

use package::Package;
use serde_json::{Value, json};

use crate::engine::{account, build_ca, container, docker};
use crate::installation::{Installation, free_port};
use crate::nodes::only_package;

const BASE: &str = "mse-base-direct";

const LOADER: &str = include_str!("gramine/loader.py");
const SYSTEM_CALLS: &str = include_str!("gramine/system_calls");
const SEAL: &str = include_str!("gramine/seal.py");

/// What takes the place of Gramine's C library: the base image's own, file by file, as Gramine installs its one.
const LIBC: [&str; 8] = [
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libm.so.6",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libutil.so.1",
];

/// Both kinds of application, which say what they can do that an enclave does not let them.
const APP: &str = r#"
import errno, json, os, threading

def probe(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

def write():
    with open(os.path.join(os.environ["TMP_PATH"], "kept"), "w") as file:
        file.write("kept")
        file.flush()
        os.fsync(file.fileno())
    os.rename(file.name, file.name + ".2")
    os.remove(file.name + ".2")

def report():
    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    with open(os.environ["SEALED_SECRETS_PATH"]) as file:
        sealed = json.load(file)
    return json.dumps({
        "unmeasured": probe(lambda: open("/etc/debian_version")),
        "fork": probe(os.fork),
        "memfd": probe(lambda: os.memfd_create("x")),
        "symlink": probe(lambda: os.symlink("a", "/tmp/b")),
        "write": probe(write),
        "variables": sorted(os.environ),
        "sealed": sealed,
    }).encode()

def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [report()]

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": report()})
"#;

#[test]
fn a_wsgi_application_needs_no_more_than_the_manifest_gives() {
    serves("wsgi");
}

#[test]
fn an_asgi_application_needs_no_more_than_the_manifest_gives() {
    serves("asgi");
}

/// The whole life of a node: it comes up, is configured, serves, gives evidence, stops when asked, and comes back.
fn serves(name: &str) {
    let Some(person) = account() else { return };
    prepare_base();
    let package = package(&person, name);
    let port = free_port();
    person.run(
        &format!("home spawn --runtime docker --host direct.test --port {port} --size 1024 --package {package} --output at {name}"),
        0,
    );
    person.run(&format!("home evidence --output at {name}"), 0);
    person.run(
        &format!(
            "home verify --package {package} --evidence at/evidence.json --output seen --allow-simulated"
        ),
        0,
    );
    fs::write(person.path("secrets.json"), r#"{"word": "sealed"}"#).unwrap();
    let key = package.replace(".tar", ".key");
    person.run(
        &format!("home seal --secrets secrets.json --code-key {key} --cert seen/ratls.pem --output seen"),
        0,
    );
    person.run(&format!("home run --sealed-secrets seen/secrets.json.sealed {name}"), 0);
    check_report(&person.fetch("seen/ratls.pem", "direct.test", port, "/"));
    person.run(&format!("home evidence --output later {name}"), 0);

    let status: Value =
        serde_json::from_str(&person.run(&format!("home status {name} --format json"), 0)).unwrap();
    let id = container(name, status["app_id"].as_str().unwrap());
    assert!(docker(&["inspect", "--format", "{{.Path}}", &id]).contains("direct/loader"));
    person.run(&format!("home stop {name}"), 0);
    let log = person.run(&format!("home logs {name}"), 0);
    assert_eq!(docker(&["inspect", "--format", "{{.State.ExitCode}}", &id]).trim(), "0", "{log}");
    person.run(&format!("home restart {name}"), 0);
    check_report(&person.fetch("seen/ratls.pem", "direct.test", port, "/"));
    person.run(&format!("home stop --remove {name}"), 0);
}

#[track_caller]
fn check_report(report: &[u8]) {
    let report: Value = serde_json::from_slice(report).unwrap();
    for (what, answer) in [
        ("unmeasured", "EACCES"),
        ("fork", "EAGAIN"),
        ("memfd", "ENOSYS"),
        ("symlink", "ENOSYS"),
        ("write", "done"),
    ] {
        assert_eq!(report[what], answer, "{what}: {report}");
    }
    assert_eq!(report["sealed"], json!({ "word": "sealed" }));
    let variables = report["variables"].to_string();
    assert!(variables.contains("LD_LIBRARY_PATH") && !variables.contains("HOSTNAME"), "{variables}");
}

/// The base image with stand-ins for Gramine, built once.
fn prepare_base() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let builder = Installation::with_engine();
        let gramine = builder.path("gramine");
        let libc = gramine.join("runtime/glibc");
        fs::create_dir_all(&libc).unwrap();
        fs::create_dir_all(gramine.join("direct")).unwrap();
        fs::write(gramine.join("libsysdb.so"), "a stand-in").unwrap();
        fs::write(gramine.join("direct/libpal.so"), "a stand-in").unwrap();
        fs::write(gramine.join("direct/system_calls"), SYSTEM_CALLS).unwrap();
        let loader = gramine.join("direct/loader");
        fs::write(&loader, LOADER).unwrap();
        fs::set_permissions(&loader, fs::Permissions::from_mode(0o755)).unwrap();
        let source = docker(&["create", "debian:bookworm", "true"]);
        for library in LIBC {
            let from = format!("{}:/lib/x86_64-linux-gnu/{library}", source.trim());
            docker(&["cp", "--follow-link", &from, libc.join(library).to_str().unwrap()]);
        }
        docker(&["rm", source.trim()]);
        builder.run(
            &format!(
                "base-image build --from debian:bookworm --tag {BASE} --gramine {} {}",
                gramine.display(),
                build_ca()
            ),
            0,
        );
    });
}

/// A package whose image lets nobody read what its manifest does not list.
fn package(person: &Installation, name: &str) -> String {
    let build = |output: &str, dockerfile: &str| {
        let folder = person.path(name);
        for (file, content) in [
            ("Dockerfile", dockerfile),
            ("mse_src/app.py", APP),
            ("seal.py", SEAL),
            (
                "mse.toml",
                &format!(
                    "name = \"{name}\"\npython_application = \"app:{name}\"\nhealthcheck_endpoint = \"/\"\ntests_cmd = \"true\"\n"
                ),
            ),
        ] {
            write(&folder.join(file), content);
        }
        fs::create_dir_all(folder.join("tests")).unwrap();
        person.run(
            &format!(
                "home package --project {name} --builder docker --encrypt --output {output} {}",
                build_ca()
            ),
            0,
        );
        only_package(person, output)
    };
    let dockerfile = format!("FROM {BASE}\n");
    // The list depends on the image alone, so it is the same once the image is prepared by it.
    static LISTED: OnceLock<String> = OnceLock::new();
    let listed = LISTED.get_or_init(|| list(&person.path(&build("open", &dockerfile))));
    write(&person.path(name).join("listed"), listed);
    let sealed = build(
        "sealed",
        &format!("{dockerfile}COPY seal.py listed /seal/\nRUN python3 /seal/seal.py /seal/listed\n"),
    );
    assert_eq!(&list(&person.path(&sealed)), listed, "sealing changes what is measured");
    sealed
}

/// The absolute paths of a package's measured files.
fn list(package: &Path) -> String {
    Package::open(package).unwrap().trusted_files().iter().fold(String::new(), |mut list, file| {
        writeln!(list, "{}", file.uri.strip_prefix("file:").unwrap()).unwrap();
        list
    })
}

fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}
