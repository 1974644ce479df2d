//! Nodes as processes, with a node of a few lines: what is written, what is started, what is cleaned up.
#![allow(clippy::unwrap_used, missing_docs)]

mod fixture;

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use gramine::manifest::Manifest;
use gramine::sigstruct::SigStruct;
use package::instance::Instance;
use package::python::Interpreter;
use runtime::process::ISOLATED;
use runtime::{Error, NodeSpec, ProcessRuntime, ProcessState, Runtime};
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest, Sha256};

use fixture::{PACKAGE, World, eventually, free_address, name, names, package, spec};

fn kill(pid: u32) {
    let pid = i32::try_from(pid).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_node_gets_all_of_its_files_and_none_is_left_half_made() {
    let world = World::new();
    let name = name("app_name");
    let summary = world.spawn(&name).unwrap();
    assert_eq!(world.entries(), ["app_name"]);
    let root = world.runtime.directory(&name);
    assert_eq!(mode(&root), 0o700);

    let manifest_bytes = fs::read(root.join("node.manifest.sgx")).unwrap();
    assert_eq!(manifest_bytes, PACKAGE.manifest(1024).unwrap());
    let signed = SigStruct::parse(&fs::read(root.join("node.sig")).unwrap()).unwrap();
    signed.verify().unwrap();
    assert_eq!(signed.mrenclave, *PACKAGE.fingerprint(1024).unwrap().as_bytes());
    assert_eq!(summary.fingerprint, hex::encode(signed.mrenclave));
    assert_eq!((signed.date.year, signed.date.month, signed.date.day), (2026, 5, 6));

    // Every file that the enclave trusts is where the node will look for it.
    let trusted = Manifest::parse(&manifest_bytes).unwrap().trusted_files;
    assert!(trusted.len() >= 3);
    for file in &trusted {
        let path = file.uri.strip_prefix("file:/").unwrap();
        let content = fs::read(root.join("image").join(path)).unwrap();
        assert_eq!(Sha256::digest(content)[..], file.sha256, "{path}");
    }
    assert!(root.join("app.tar").is_file());

    let instance = Instance::from_toml(&fs::read_to_string(root.join("instance.toml")).unwrap()).unwrap();
    assert_eq!((instance.host.as_str(), instance.listen), ("myapp.fr", summary.listen));
    assert_eq!(instance.app_id, summary.app_id);
    assert_eq!(instance.not_before, "2026-05-06T07:08:09Z".parse().unwrap());
    assert_eq!(instance.not_after, "2026-06-05T07:08:09Z".parse().unwrap());
    assert_eq!(instance.simulation.unwrap().installation, Path::new("/simulator"));
}

#[test]
fn a_node_runs_in_a_session_of_its_own_with_the_measured_environment_and_no_other() {
    let world = World::new();
    let name = name("app_name");
    world.ready(&name);
    let told = world.told(&name);
    let root = world.runtime.directory(&name).canonicalize().unwrap();
    let site = root.join("image/opt/mse/python");

    assert_eq!(told["pid"], world.pid(&name), "the recorded process is the node itself");
    assert_eq!(told["session"], told["pid"]);
    assert_eq!(told["cwd"], site.to_str().unwrap());
    let arguments: Vec<&str> =
        told["argv"].as_array().unwrap().iter().filter_map(serde_json::Value::as_str).collect();
    let expected: Vec<&str> = ISOLATED.into_iter().chain([site.to_str().unwrap(), "--"]).collect();
    assert_eq!(arguments, expected);

    let manifest = Manifest::parse(&PACKAGE.manifest(1024).unwrap()).unwrap();
    let env = told["env"].as_object().unwrap();
    assert_eq!(env["PYTHONPATH"], site.to_str().unwrap());
    assert_eq!(env["MSE_NODE_CONFIG"], PACKAGE.node_config().to_json());
    assert_eq!(env["MSE_ROOT"], root.to_str().unwrap());
    let extra: Vec<_> = env.keys().filter(|key| !manifest.env.contains_key(*key)).collect();
    // The interpreter itself sets the last one where the locale is C.
    let known = |key: &String| ["MSE_ROOT", "MSE_MEMORY", "LC_CTYPE"].contains(&key.as_str());
    assert!(extra.into_iter().all(known), "{env:?}");

    let memory = Path::new(env["MSE_MEMORY"].as_str().unwrap()).to_owned();
    assert!(memory.starts_with(world.memory.path()));
    assert_eq!(mode(&memory), 0o700);
    assert_eq!(mode(memory.parent().unwrap()), 0o700);
}

#[test]
fn a_node_is_listed_stopped_restarted_and_removed() {
    let world = World::new();
    let (one, two) = (name("b"), name("a"));
    world.ready(&one);
    world.ready(&two);
    let listed: Vec<_> =
        world.runtime.list().unwrap().into_iter().map(|node| node.name.to_string()).collect();
    assert_eq!(listed, ["a", "b"]);
    assert_eq!(world.memory_entries().len(), 2);

    let first_pid = world.pid(&one);
    world.runtime.stop(&one).unwrap();
    assert_eq!(world.again().status(&one).unwrap(), ProcessState::Stopped);
    assert!(world.log(&one).contains("asked to end"));
    assert_eq!(world.memory_entries().len(), 1, "decrypted code goes with the process");
    world.runtime.stop(&one).unwrap();

    // The same files, sealed state included, and a new process.
    let summary = world.runtime.restart(&one).unwrap();
    world.wait_for(&one, "ready", 2);
    assert!(matches!(summary.process, ProcessState::Alive { pid, .. } if pid != first_pid));
    let starts = world.runtime.directory(&one).join("state/starts");
    assert_eq!(fs::read_to_string(&starts).unwrap(), "xx");
    // One that runs is stopped first.
    world.runtime.restart(&one).unwrap();
    world.wait_for(&one, "ready", 3);
    assert_eq!(fs::read_to_string(&starts).unwrap(), "xxx");

    assert!(matches!(world.runtime.remove(&one), Err(Error::StillRunning { .. })));
    world.runtime.stop(&one).unwrap();
    world.runtime.remove(&one).unwrap();
    assert_eq!(world.entries(), ["a"]);
    for gone in [world.runtime.stop(&one), world.runtime.remove(&one), world.runtime.restart(&one).map(drop)]
    {
        assert!(matches!(gone, Err(Error::NoSuchNode { .. })));
    }
    assert!(world.runtime.status(&two).unwrap().is_alive());
}

#[test]
fn a_name_or_a_port_in_use_is_refused() {
    let world = World::new();
    let (taken, other) = (name("taken"), name("other"));
    let first = world.ready(&taken);
    assert!(matches!(world.spawn(&taken), Err(Error::NameInUse { name }) if name == "taken"));
    // By a node, which may not listen yet.
    let refused = world.runtime.spawn(&spec(&other, first.listen));
    assert!(matches!(refused, Err(Error::PortInUse { by: Some(by), .. }) if by == "taken"));
    // By anybody else.
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = world.runtime.spawn(&spec(&other, foreign.local_addr().unwrap()));
    assert!(matches!(refused, Err(Error::PortInUse { by: None, .. })));
    assert_eq!(world.entries(), ["taken"]);

    // A stopped node leaves its port to others, and does not get it back by force.
    world.runtime.stop(&taken).unwrap();
    world.runtime.spawn(&spec(&other, first.listen)).unwrap();
    assert!(matches!(world.runtime.restart(&taken), Err(Error::PortInUse { .. })));
    assert_eq!(world.runtime.status(&taken).unwrap(), ProcessState::Stopped);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let world = World::new();
    let name = name("app_name");
    let good = spec(&name, free_address());
    let container = package(None);
    let interpreter = Interpreter::discover().unwrap();
    let mut other_python = interpreter.record().clone();
    other_python.version = "3.99".into();
    let other_python = package(Some(&other_python));
    let zero = "127.0.0.1:0".parse().unwrap();
    for (what, spec) in [
        ("size", NodeSpec { size_mb: 1000, ..good }),
        ("size", NodeSpec { size_mb: 512, ..good }),
        ("days", NodeSpec { days: 0, ..good }),
        ("days", NodeSpec { days: 100_000, ..good }),
        ("host", NodeSpec { host: "my app", ..good }),
        ("port", NodeSpec { listen: zero, ..good }),
        ("address", NodeSpec { listen: "192.0.2.1:7777".parse().unwrap(), ..good }),
        ("subject", NodeSpec { subject: "", ..good }),
        ("simulator", NodeSpec { simulator: None, ..good }),
        ("simulator", NodeSpec { simulator: Some(Path::new("relative")), ..good }),
        ("container image", NodeSpec { package: &container, ..good }),
        ("interpreter", NodeSpec { package: &other_python, ..good }),
    ] {
        let refused = world.runtime.spawn(&spec);
        assert!(refused.is_err(), "{what}");
        assert_eq!(world.entries(), [""; 0], "{what}");
        assert!(world.memory_entries().is_empty(), "{what}");
    }
}

#[test]
fn without_memory_backed_storage_nothing_is_started_and_nothing_left() {
    let state = tempfile::tempdir().unwrap();
    // A file system that is neither tmpfs nor ramfs everywhere.
    let runtime = ProcessRuntime::with_memory(state.path(), &["/proc/mse".into()]).unwrap();
    let name = name("app_name");
    let error = runtime.spawn(&spec(&name, free_address())).unwrap_err();
    assert!(matches!(error, Error::NoMemory { .. }), "{error}");
    assert!(error.to_string().contains("/proc/mse"), "{error}");
    assert_eq!(names(&state.path().join("nodes")), [".lock"]);
}

#[test]
fn a_memory_directory_that_others_can_enter_is_refused() {
    let world = World::new();
    let base = world.memory.path().join("mse");
    fs::create_dir(&base).unwrap();
    fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).unwrap();
    let refused = world.spawn(&name("app_name"));
    assert!(matches!(refused, Err(Error::NotPrivate { found, .. }) if found.contains("0755")));
    fs::remove_dir(&base).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), &base).unwrap();
    assert!(world.spawn(&name("app_name")).is_err());
    assert_eq!(world.entries(), [""; 0]);
}

#[test]
fn a_killed_node_has_died_and_the_next_command_removes_what_it_left() {
    let world = World::new();
    let (killed, other) = (name("killed"), name("other"));
    world.ready(&killed);
    world.ready(&other);
    kill(world.pid(&killed));
    eventually("death", || world.again().status(&killed).unwrap() == ProcessState::Died);
    assert_eq!(world.memory_entries().len(), 1, "decrypted code of the killed node is gone");
    assert!(world.memory_entries()[0].starts_with("other."));
    // Somebody else's directory is not touched.
    let foreign = world.memory.path().join("mse/killed.0123456789ab");
    fs::create_dir(&foreign).unwrap();
    world.runtime.list().unwrap();
    assert!(foreign.exists());

    world.runtime.stop(&killed).unwrap();
    assert_eq!(world.runtime.status(&killed).unwrap(), ProcessState::Stopped);
}

#[test]
fn a_node_that_ends_by_itself_has_died_and_its_last_words_are_kept() {
    let world = World::new();
    let name = name("app_name");
    world.runtime.spawn(&NodeSpec { host: "dies.example", ..spec(&name, free_address()) }).unwrap();
    eventually("death", || world.runtime.status(&name).unwrap() == ProcessState::Died);
    let log = world.log(&name);
    assert!(log.contains("ready") && log.contains("something went wrong"), "{log}");
}

#[test]
fn a_node_is_not_mistaken_for_another_process_of_the_same_id() {
    let world = World::new();
    let name = name("app_name");
    world.ready(&name);
    world.runtime.stop(&name).unwrap();
    // The record as it would be if the id of the node had gone to this test.
    let path = world.runtime.directory(&name).join("node.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["process"]["pid"] = std::process::id().into();
    record["stopped"] = false.into();
    fs::write(&path, record.to_string()).unwrap();
    assert_eq!(world.runtime.status(&name).unwrap(), ProcessState::Died);
    world.runtime.stop(&name).unwrap();
    world.runtime.remove(&name).unwrap();
}

#[test]
fn directories_that_a_killed_command_left_are_removed_and_those_in_the_making_are_not() {
    let world = World::new();
    let (left, busy) = (world.nodes().join("a.tmp-left"), world.nodes().join("b.tmp-busy"));
    for path in [&left, &busy] {
        fs::create_dir_all(path.join("image/opt")).unwrap();
        fs::write(path.join(".lock"), "").unwrap();
    }
    let lock = fs::File::open(busy.join(".lock")).unwrap();
    lock.lock().unwrap();
    assert!(world.runtime.list().unwrap().is_empty());
    assert_eq!(world.entries(), ["b.tmp-busy"]);
    drop(lock);
    world.runtime.list().unwrap();
    assert_eq!(world.entries(), [""; 0]);
}

#[test]
fn of_spawns_at_once_under_one_name_one_succeeds() {
    let world = World::new();
    let name = name("app_name");
    let results: Vec<_> = std::thread::scope(|scope| {
        let spawns: Vec<_> =
            (0..4).map(|_| scope.spawn(|| world.again().spawn(&spec(&name, free_address())))).collect();
        spawns.into_iter().map(|spawn| spawn.join().unwrap()).collect()
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    let refused = results.iter().filter(|result| matches!(result, Err(Error::NameInUse { .. })));
    assert_eq!(refused.count(), 3, "{results:?}");
    assert_eq!(world.entries(), ["app_name"]);
}

#[test]
fn logs_are_followed_until_the_node_ends() {
    let world = World::new();
    let name = name("app_name");
    world.ready(&name);
    let log = std::thread::scope(|scope| {
        let follower = scope.spawn(|| {
            let mut log = Vec::new();
            world.again().logs(&name, true, &mut log).unwrap();
            String::from_utf8(log).unwrap()
        });
        world.runtime.stop(&name).unwrap();
        follower.join().unwrap()
    });
    for words in ["started", "ready", "a warning", "asked to end"] {
        assert!(log.contains(words), "{words}: {log}");
    }
    assert_eq!(mode(&world.runtime.directory(&name).join("log")), 0o600);
}

#[test]
fn following_ends_when_nobody_reads_any_more() {
    struct Gone;
    impl io::Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let world = World::new();
    let name = name("app_name");
    world.ready(&name);
    let error = world.runtime.logs(&name, true, &mut Gone).unwrap_err();
    assert!(matches!(error, Error::Output(error) if error.kind() == io::ErrorKind::BrokenPipe));
}

#[test]
fn a_record_that_was_damaged_is_named() {
    let world = World::new();
    let name = name("app_name");
    world.ready(&name);
    world.runtime.stop(&name).unwrap();
    let path = world.runtime.directory(&name).join("node.json");
    let good = fs::read_to_string(&path).unwrap();
    for bad in
        ["", "{}", &good.replace("\"version\": 1", "\"version\": 2"), &good.replace("app_name", "other")]
    {
        fs::write(&path, bad).unwrap();
        let error = world.runtime.status(&name).unwrap_err();
        assert!(error.to_string().contains("node.json"), "{error}");
    }
}

#[test]
fn a_damaged_record_stops_no_work_on_other_nodes_and_can_be_removed() {
    let world = World::new();
    let (damaged, other) = (name("damaged"), name("other"));
    world.ready(&damaged);
    world.runtime.stop(&damaged).unwrap();
    fs::write(world.runtime.directory(&damaged).join("node.json"), "{}").unwrap();
    world.ready(&other);
    world.runtime.stop(&other).unwrap();
    world.runtime.remove(&other).unwrap();
    world.runtime.remove(&damaged).unwrap();
    assert_eq!(world.entries(), [""; 0]);
}

#[test]
fn decrypted_code_is_removed_from_where_the_node_was_started_with_it() {
    let world = World::new();
    let name = name("app_name");
    world.ready(&name);
    assert_eq!(world.memory_entries().len(), 1);
    // A command with another idea of where memory-backed directories are: another login, say.
    let elsewhere = tempfile::Builder::new().tempdir_in("/dev/shm").unwrap();
    let nodes = world.runtime.directory(&name);
    let state = nodes.parent().and_then(Path::parent).unwrap();
    let runtime = ProcessRuntime::with_memory(state, &[elsewhere.path().join("mse")]).unwrap();
    runtime.stop(&name).unwrap();
    assert_eq!(world.memory_entries().len(), 0);
}
