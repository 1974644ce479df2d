//! Nodes: made, listed, stopped, started again, removed, and what is left when any of that is disturbed.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use gramine::manifest::Manifest;
use package::Package;
use runtime::docker::Engine;
use runtime::{DockerRuntime, Error, Kind, NodeSpec, ProcessRuntime, ProcessState, Runtime, Runtimes};

use crate::fixture::{
    BASE, Image, Random, WITH_GRAMINE, World, answer, docker, engine, eventually, far, free_address, name,
    package_of, tar, told,
};

#[test]
fn a_node_lives_from_spawn_to_removal_and_keeps_its_state_in_between() {
    let Some(engine) = engine() else { return };
    let world = World::new("life", engine);
    let name = name("app_name");
    let summary = world.ready(&name);
    assert_eq!(summary.runtime, "docker");
    assert_eq!(summary.fingerprint, hex::encode(world.package.fingerprint(1024).unwrap().as_bytes()));
    assert!(summary.process.is_alive());
    assert_eq!(world.entries(), ["app_name.json"]);
    assert_eq!(world.in_engine().len(), 2);
    assert!(world.has_image());
    assert_eq!(answer(summary.listen).as_deref(), Some("hello from myapp.fr\n"));

    // As any later command sees it.
    let later = DockerRuntime::new(world.state.path()).unwrap();
    let listed = later.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0], world.runtime.summary(&name).unwrap());
    assert!(matches!(later.remove(&name), Err(Error::StillRunning { .. })));
    let first = world.pid(&name);

    later.stop(&name).unwrap();
    assert_eq!(later.status(&name).unwrap(), ProcessState::Stopped);
    assert!(world.log(&name).contains("asked to end"));
    later.stop(&name).unwrap();

    let again = later.restart(&name).unwrap();
    assert!(matches!(again.process, ProcessState::Alive { pid, .. } if pid != first));
    world.wait_for(&name, "ready", 2);
    // One that runs is stopped first.
    world.runtime.restart(&name).unwrap();
    world.wait_for(&name, "ready", 3);
    assert_eq!(told(&world.log(&name), "starts"), ["x", "xx", "xxx"]);
    assert_eq!(answer(summary.listen).as_deref(), Some("hello from myapp.fr\n"));

    world.runtime.stop(&name).unwrap();
    world.runtime.remove(&name).unwrap();
    world.assert_empty();
    for gone in [later.stop(&name), later.remove(&name), later.restart(&name).map(drop)] {
        assert!(matches!(gone, Err(Error::NoSuchNode { .. })));
    }
}

#[test]
fn a_container_gets_what_the_manifest_says_and_may_do_nothing_else() {
    let Some(engine) = engine() else { return };
    let world = World::new("limits", engine);
    let name = name("a");
    let summary = world.ready(&name);
    let log = world.log(&name);

    // What the node itself sees.
    assert_eq!(told(&log, "argument"), ["-m", "mse_node"]);
    assert_eq!(told(&log, "in"), ["/opt/mse/python"]);
    let manifest = Manifest::parse(&world.package.manifest(1024).unwrap()).unwrap();
    let variables = told(&log, "variable");
    for (variable, value) in &manifest.env {
        assert!(variables.contains(&format!("{variable}={value}").as_str()), "{variable}: {log}");
    }
    let measured = |variable: &&&str| {
        let name = variable.split_once('=').unwrap().0;
        !manifest.env.contains_key(name) && !["HOSTNAME", "HOME"].contains(&name)
    };
    assert_eq!(variables.iter().filter(measured).count(), 0, "{variables:?}");
    assert!(variables.contains(&"HOSTNAME=node") && variables.contains(&"HOME=/root"), "{variables:?}");
    for capabilities in ["CapPrm", "CapEff", "CapBnd", "CapAmb", "CapInh"] {
        assert!(log.contains(&format!("status {capabilities}:\t0000000000000000")), "{log}");
    }
    assert!(log.contains("status NoNewPrivs:\t1") && log.contains("status Seccomp:\t2"), "{log}");
    for path in ["/mark", "/usr/bin/mark"] {
        assert!(log.contains(&format!("refused {path}: Read-only")), "{log}");
    }
    for place in ["/mse/state", "/tmp", "/dev/shm", "/root", "/key", "/mse-app"] {
        assert!(log.contains(&format!("wrote {place}/mark")), "{place}: {log}");
    }
    // Simulation keys are the node's own copy, which it may change.
    assert!(log.contains("wrote /mse/state/simulation/installation/inner/key"), "{log}");
    assert_eq!(std::fs::read_to_string(world.simulator.path().join("inner/key")).unwrap(), "key");
    for place in package::enclave::IN_MEMORY {
        let mount = told(&log, "mount").into_iter().find(|mount| mount.split(' ').nth(1) == Some(place));
        let mount = mount.unwrap_or_else(|| panic!("{place}: {log}"));
        assert!(mount.starts_with("tmpfs ") && mount.contains("size=1048576k"), "{mount}");
        assert!(!mount.contains("noexec"), "packages are loaded from there: {mount}");
    }
    assert!(!log.contains("from the image"), "the volume holds nothing of the image's");

    // What the engine says of it.
    let container = world.in_engine()[0].strip_prefix("container ").unwrap().to_owned();
    let inspect = |format: &str| docker(&["inspect", "--format", format, &container]);
    assert_eq!(container, format!("mse-a-{}", &summary.app_id.simple().to_string()[..8]));
    assert_eq!(inspect("{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Privileged}}"), "true false");
    assert_eq!(inspect("{{.HostConfig.CapDrop}} {{.HostConfig.CapAdd}}"), "[ALL] []");
    assert_eq!(inspect("{{.HostConfig.SecurityOpt}}"), "[no-new-privileges]");
    assert_eq!(
        inspect("{{.HostConfig.PidsLimit}} {{.HostConfig.Memory}}"),
        format!("1024 {}", 1536_u64 << 20)
    );
    assert_eq!(inspect("{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.AutoRemove}}"), "no false");
    let mounts = inspect("{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}};{{end}}");
    assert_eq!(mounts, format!("volume {container} /mse;"));
    let ports = inspect("{{range $port, $at := .HostConfig.PortBindings}}{{$port}} {{$at}}{{end}}");
    assert_eq!(ports, format!("{port}/tcp [{{127.0.0.1 {port}}}]", port = summary.listen.port()));
    assert_eq!(inspect("{{index .Config.Labels \"mse\"}} {{index .Config.Labels \"mse.name\"}}"), "node a");
    assert_eq!(inspect("{{.Config.User}} {{.Config.Volumes}} {{.Config.Healthcheck}}"), "0:0 map[] <nil>");

    // Nobody but root reads what is in the volume.
    let volume = docker(&["volume", "inspect", "--format", "{{.Mountpoint}}", &container]);
    for file in ["app.tar", "instance.toml", "node.sig", "state/simulation/installation/inner/key"] {
        let mode = std::fs::metadata(Path::new(&volume).join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let read = |file: &str| std::fs::read(Path::new(&volume).join(file)).unwrap();
    assert_eq!(read("node.manifest.sgx"), world.package.manifest(1024).unwrap());
    assert_eq!(read("node.manifest"), read("node.manifest.sgx"));
    assert_eq!(read("state/simulation/libpal.so"), world.package.libpal().unwrap());
    assert!(Path::new(&volume).join("sealed").is_dir());
}

#[test]
fn an_image_with_gramine_is_started_by_its_loader_over_the_measured_manifest() {
    let Some(engine) = engine() else { return };
    let world = World::of(package_of("gramine", &WITH_GRAMINE), engine);
    let name = name("direct");
    let spec = NodeSpec { debug: true, ..world.spec(&name, free_address()) };
    let summary = world.runtime.spawn(&spec).unwrap();
    world.wait_for(&name, "ready", 1);
    let log = world.log(&name);
    assert_eq!(told(&log, "program"), ["/gramine/direct/loader"]);
    assert_eq!(told(&log, "argument"), ["/gramine/direct/libpal.so", "init", "node"]);
    assert_eq!(told(&log, "in"), ["/mse"]);
    assert!(!log.contains("PYTHON") && !log.contains("manifests differ"), "{log}");
    // What it needs of the kernel, and what nobody in a container does.
    assert_eq!(told(&log, "personality"), ["0"]);
    for refused in ["unshare", "ptrace", "mount"] {
        assert_eq!(told(&log, refused), ["-1"], "{refused}");
    }
    assert_eq!(told(&log, "clone3"), ["-1 38"], "threads are made in the older way");
    // A debug enclave is another enclave.
    assert_ne!(summary.fingerprint, hex::encode(world.package.fingerprint(1024).unwrap().as_bytes()));
    world.runtime.stop(&name).unwrap();
    world.runtime.remove(&name).unwrap();
    world.assert_empty();

    // With SGX it takes the devices, which few machines have.
    if !Path::new("/dev/sgx_enclave").exists() {
        let spec = NodeSpec { simulator: None, ..world.spec(&name, free_address()) };
        let refused = world.runtime.spawn(&spec);
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("/dev/sgx_enclave"), "{message}");
        world.assert_empty();
    }
}

#[test]
fn a_name_or_a_port_in_use_is_refused_and_nothing_is_left_of_the_attempt() {
    let Some(engine) = engine() else { return };
    let world = World::new("taken", engine);
    let (taken, other) = (name("taken"), name("other"));
    let first = world.ready(&taken);
    let before = world.in_engine();

    let twice = world.runtime.spawn(&world.spec(&taken, free_address()));
    assert!(matches!(twice, Err(Error::NameInUse { ref name }) if name == "taken"), "{twice:?}");
    let own = world.runtime.spawn(&world.spec(&other, first.listen));
    assert!(matches!(own, Err(Error::PortInUse { by: Some(ref by), .. }) if by == "taken"), "{own:?}");
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = world.runtime.spawn(&world.spec(&other, foreign.local_addr().unwrap()));
    assert!(matches!(refused, Err(Error::PortInUse { by: None, .. })), "{refused:?}");
    // Of an engine elsewhere only itself knows: it says so when it starts the container.
    let far = DockerRuntime::with_engine(world.state.path(), far(&world.engine)).unwrap();
    for taken in [first.listen, foreign.local_addr().unwrap()] {
        let refused = far.spawn(&world.spec(&other, taken));
        assert!(matches!(refused, Err(Error::PortInUse { .. })), "{refused:?}");
    }
    let elsewhere = world.runtime.spawn(&world.spec(&other, "192.0.2.1:22222".parse().unwrap()));
    assert!(matches!(elsewhere, Err(Error::Listen { .. })), "{elsewhere:?}");

    assert_eq!(world.entries(), ["taken.json"]);
    assert_eq!(world.in_engine(), before);
    assert!(world.runtime.status(&taken).unwrap().is_alive());
}

#[test]
fn two_nodes_of_one_package_share_its_image_and_the_last_takes_it_along() {
    let Some(engine) = engine() else { return };
    let world = World::new("two", engine);
    let names = [name("one"), name("two")];
    let nodes = std::thread::scope(|scope| {
        let spawning = [0, 1].map(|index| {
            let (world, name) = (&world, &names[index]);
            scope.spawn(move || world.ready(name))
        });
        spawning.map(|thread| thread.join().unwrap())
    });
    for node in &nodes {
        assert_eq!(answer(node.listen).as_deref(), Some("hello from myapp.fr\n"));
    }
    assert_eq!(world.runtime.list().unwrap().len(), 2);
    for (index, name) in names.iter().enumerate() {
        assert!(world.has_image());
        world.runtime.stop(name).unwrap();
        world.runtime.remove(name).unwrap();
        assert_eq!(world.runtime.list().unwrap().len(), 1 - index);
    }
    world.assert_empty();
}

#[test]
fn a_node_that_is_killed_died_and_one_that_is_stubborn_is_killed() {
    let Some(engine) = engine() else { return };
    let world = World::new("dies", engine);
    let (killed, dies, stubborn) = (name("killed"), name("dies"), name("stubborn"));
    world.ready(&killed);
    docker(&["kill", world.in_engine()[0].strip_prefix("container ").unwrap()]);
    eventually("it is known to have died", || world.runtime.status(&killed).unwrap() == ProcessState::Died);
    world.runtime.restart(&killed).unwrap();
    world.wait_for(&killed, "ready", 2);

    let spec = NodeSpec { host: "dies.example", ..world.spec(&dies, free_address()) };
    world.runtime.spawn(&spec).unwrap();
    let mut log = Vec::new();
    world.runtime.logs(&dies, true, &mut log).unwrap();
    assert!(String::from_utf8(log).unwrap().contains("something went wrong"));
    assert_eq!(world.runtime.status(&dies).unwrap(), ProcessState::Died);

    let spec = NodeSpec { host: "stubborn.example", ..world.spec(&stubborn, free_address()) };
    world.runtime.spawn(&spec).unwrap();
    world.wait_for(&stubborn, "ready", 1);
    world.runtime.stop(&stubborn).unwrap();
    assert_eq!(world.runtime.status(&stubborn).unwrap(), ProcessState::Stopped);
    assert!(world.log(&stubborn).matches("asked to end").count() > 1, "it is asked more than once");
}

#[test]
fn a_container_that_somebody_removed_is_missed() {
    let Some(engine) = engine() else { return };
    let world = World::new("gone", engine);
    let name = name("gone");
    world.ready(&name);
    docker(&["rm", "--force", world.in_engine()[0].strip_prefix("container ").unwrap()]);
    assert_eq!(world.runtime.status(&name).unwrap(), ProcessState::Died);
    assert!(matches!(world.runtime.restart(&name), Err(Error::ContainerGone { .. })));
    assert!(matches!(
        world.runtime.logs(&name, true, &mut std::io::sink()),
        Err(Error::ContainerGone { .. })
    ));
    world.runtime.stop(&name).unwrap();
    world.runtime.remove(&name).unwrap();
    world.assert_empty();
}

#[test]
fn every_byte_that_a_node_writes_can_be_read() {
    let Some(engine) = engine() else { return };
    let world = World::new("binary", engine);
    let name = name("binary");
    let spec = NodeSpec { host: "binary.example", ..world.spec(&name, free_address()) };
    world.runtime.spawn(&spec).unwrap();
    world.wait_for(&name, "ready", 1);
    let log = world.bytes(&name);
    let bytes = Random::bytes(200_000);
    // What went to the other stream may be anywhere.
    let at = log.windows(10).position(|window| window == b"a warning\n").unwrap();
    let log = [&log[..at], &log[at + 10..]].concat();
    assert!(log.windows(bytes.len()).any(|window| window == bytes));

    // Followed, it ends with the node; what does not take it ends it too.
    std::thread::scope(|scope| {
        let following = scope.spawn(|| {
            let mut log = Vec::new();
            world.runtime.logs(&name, true, &mut log).map(|()| log)
        });
        world.runtime.stop(&name).unwrap();
        let log = following.join().unwrap().unwrap();
        assert!(String::from_utf8_lossy(&log).contains("asked to end"));
    });
    let mut full = [0_u8; 16];
    let refused = world.runtime.logs(&name, true, &mut &mut full[..]);
    assert!(matches!(refused, Err(Error::Output(_))), "{refused:?}");
}

#[test]
fn an_image_in_a_package_replaces_no_name_of_the_engine() {
    let Some(engine) = engine() else { return };
    let before = engine.image_id(BASE).unwrap();
    let world = World::new("claims", engine);
    // The same image, which now says that it is another.
    let mine = Image::named("claims");
    let root = archive();
    let id = docker(&["import", "--change", "CMD x", &root, &mine.0]);
    std::fs::remove_file(root).unwrap();
    let mut saved = Vec::new();
    world.engine.save(&mine.0, &mut saved).unwrap();
    drop(mine);
    let claimed = claim(&saved, BASE);
    assert!(!id.is_empty() && String::from_utf8_lossy(&claimed).contains(BASE));
    let package = package_of("claims it", &claimed);
    let name = name("claims");
    let spec = NodeSpec { package: &package, ..world.spec(&name, free_address()) };
    world.runtime.spawn(&spec).unwrap();
    assert_eq!(world.engine.image_id(BASE).unwrap(), before);
    let _ = world.runtime.stop(&name);
    world.runtime.remove(&name).unwrap();
    assert_eq!(world.engine.image_id(BASE).unwrap(), before);
}

/// A root directory with just what a package needs.
fn archive() -> String {
    let vector =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../gramine/tests/vectors/01-defaults-256m-t4/libpal.so");
    let library = std::fs::read(vector).unwrap();
    let root = tar(&[
        ("opt/mse/python/mse_node/_node.abi3.so", &library),
        // Nothing that could run: it dies at once, and that is no matter here.
        ("usr/bin/python3", &library),
    ]);
    let path = std::env::temp_dir().join(format!("mse-test-claims-{}.tar", std::process::id()));
    std::fs::write(&path, root).unwrap();
    path.display().to_string()
}

/// A saved image with another name in its manifest.
fn claim(saved: &[u8], reference: &str) -> Vec<u8> {
    let mut archive = tar::Archive::new(saved);
    let mut out = tar::Builder::new(Vec::new());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let mut content = Vec::new();
        std::io::copy(&mut entry, &mut content).unwrap();
        if path == Path::new("repositories") {
            continue;
        }
        if path == Path::new("manifest.json") {
            let mut manifest: serde_json::Value = serde_json::from_slice(&content).unwrap();
            manifest[0]["RepoTags"] = serde_json::json!([reference]);
            content = serde_json::to_vec(&manifest).unwrap();
        }
        let mut header = entry.header().clone();
        header.set_size(content.len() as u64);
        out.append_data(&mut header, &path, &content[..]).unwrap();
    }
    out.into_inner().unwrap()
}

#[test]
fn both_runtimes_share_names_and_ports_and_each_node_is_where_it_was_spawned() {
    let Some(engine) = engine() else { return };
    let world = World::new("both", engine.clone());
    let (container, process) = (name("container"), name("process"));
    let summary = world.ready(&container);
    let all = Runtimes::new(world.state.path()).unwrap();
    assert_eq!(all.kind_of(&container).unwrap(), Kind::Docker);
    assert!(matches!(all.kind_of(&process), Err(Error::NoSuchNode { .. })));
    assert_eq!(all.list().unwrap(), [world.runtime.summary(&container).unwrap()]);

    let twice = all.spawn_with(Kind::Docker, &world.spec(&container, free_address()));
    assert!(matches!(twice, Err(Error::NameInUse { .. })), "{twice:?}");
    let native = native();
    let spec = NodeSpec { package: &native, ..world.spec(&container, free_address()) };
    let twice = all.spawn(&spec);
    assert!(matches!(twice, Err(Error::NameInUse { .. })), "{twice:?}");
    let spec = NodeSpec { package: &native, ..world.spec(&process, summary.listen) };
    assert!(matches!(all.spawn(&spec), Err(Error::PortInUse { .. })));
    let refused = all.spawn_with(Kind::Docker, &spec);
    assert!(matches!(refused, Err(Error::NotForContainers { .. })), "{refused:?}");
    let spec = world.spec(&process, free_address());
    let refused = all.spawn_with(Kind::Process, &spec);
    assert!(matches!(refused, Err(Error::NotForProcesses { .. })), "{refused:?}");
    let no_gramine = NodeSpec { simulator: None, ..spec };
    let refused = all.spawn(&no_gramine);
    assert!(matches!(refused, Err(Error::NotForContainers { .. })), "{refused:?}");
    all.stop(&container).unwrap();
    all.remove(&container).unwrap();
    assert!(all.list().unwrap().is_empty());
}

/// A package for this machine's own Python.
fn native() -> Package {
    let record = package::python::Interpreter::discover().unwrap().record().clone();
    let vector =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../gramine/tests/vectors/01-defaults-256m-t4/libpal.so");
    let root = tar(&[
        ("opt/mse/python/interpreter.json", &serde_json::to_vec(&record).unwrap()),
        ("opt/mse/python/mse_node/__main__.py", b"import time\ntime.sleep(1000)\n"),
        ("opt/mse/python/mse_node/_node.abi3.so", &std::fs::read(vector).unwrap()),
    ]);
    let path = std::env::temp_dir().join(format!("mse-test-native-{}.tar", std::process::id()));
    std::fs::write(&path, root).unwrap();
    let mine = Image::named("native");
    docker(&["import", &path.display().to_string(), &mine.0]);
    let mut saved = Vec::new();
    Engine::connect().unwrap().save(&mine.0, &mut saved).unwrap();
    std::fs::remove_file(path).unwrap();
    package_of("native", &saved)
}

#[test]
fn no_engine_is_asked_as_long_as_no_node_needs_one() {
    let state = tempfile::tempdir().unwrap();
    let nowhere = Engine::at("unix:///nonexistent/engine.sock").unwrap();
    let docker = DockerRuntime::with_engine(state.path(), nowhere).unwrap();
    let all = Runtimes::of(ProcessRuntime::new(state.path()).unwrap(), docker);
    assert!(all.list().unwrap().is_empty());
    assert!(matches!(all.stop(&name("none")), Err(Error::NoSuchNode { .. })));
}
