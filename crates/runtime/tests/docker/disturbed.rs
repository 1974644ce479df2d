//! An engine that goes away in the middle, and commands that are killed half-way.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use runtime::{DockerRuntime, Error, ProcessState, Runtime};
use rustix::process::Signal;

use crate::fixture::{OwnEngine, Proxy, World, answer, engine, free_address, name};

#[test]
fn an_engine_that_stops_hangs_and_starts_again() {
    if engine().is_none() {
        return;
    }
    let mut own = OwnEngine::start();
    let world = World::new("stops", own.engine.clone().with_patience(Duration::from_secs(2)));
    let name = name("stays");
    let node = world.ready(&name);

    // It takes requests and answers none.
    own.freeze();
    let began = Instant::now();
    let hangs = world.runtime.status(&name);
    assert!(matches!(hangs, Err(Error::EngineSilent { .. })), "{hangs:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
    let listed = world.runtime.list().unwrap();
    assert_eq!((listed[0].name.clone(), listed[0].process), (name.clone(), ProcessState::Unknown));
    own.signal(Signal::CONT);
    assert!(world.runtime.status(&name).unwrap().is_alive());

    // Whoever follows a log is told when the engine goes.
    std::thread::scope(|scope| {
        let following = scope.spawn(|| world.runtime.logs(&name, true, &mut std::io::sink()));
        own.stop();
        let _ = following.join().unwrap();
    });
    for failed in [
        world.runtime.status(&name).map(drop),
        world.runtime.stop(&name),
        world.runtime.restart(&name).map(drop),
        world.runtime.remove(&name),
        world.runtime.spawn(&world.spec(&crate::fixture::name("new"), free_address())).map(drop),
    ] {
        assert!(matches!(failed, Err(Error::EngineUnreachable { .. })), "{failed:?}");
    }
    assert_eq!(world.runtime.list().unwrap()[0].process, ProcessState::Unknown);
    assert_eq!(world.entries(), ["stays.json"]);

    own.begin();
    // Somebody asked it to stop, though nobody could be told.
    assert!(!world.runtime.status(&name).unwrap().is_alive());
    world.runtime.restart(&name).unwrap();
    world.wait_for(&name, "ready", 2);
    assert_eq!(crate::fixture::told(&world.log(&name), "starts"), ["x", "xx"]);
    assert_eq!(answer(node.listen).as_deref(), Some("hello from myapp.fr\n"));
    world.runtime.stop(&name).unwrap();
    world.runtime.remove(&name).unwrap();
    world.assert_empty();
}

#[test]
fn what_a_killed_command_made_is_removed_by_the_next() {
    let Some(engine) = engine() else { return };
    let world = World::new("killed", engine);
    let name = name("half");
    let summary = world.ready(&name);
    // As if the command had been killed before it noted the node down, and after it had made everything.
    let docker = world.state.path().join("docker");
    let record = std::fs::read(docker.join("half.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let left = docker.join("half.tmp-killed");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join(".lock"), "").unwrap();
    std::fs::write(left.join("intent.json"), record["place"].to_string()).unwrap();

    // A node that is noted down is finished.
    world.runtime.list().unwrap();
    assert_eq!(world.entries(), ["half.json"]);
    assert_eq!(answer(summary.listen).as_deref(), Some("hello from myapp.fr\n"));

    std::fs::create_dir(&left).unwrap();
    let lock = std::fs::File::create(left.join(".lock")).unwrap();
    std::fs::write(left.join("intent.json"), record["place"].to_string()).unwrap();
    std::fs::remove_file(docker.join("half.json")).unwrap();
    // As long as its maker lives, it is being made.
    lock.lock().unwrap();
    assert!(world.runtime.list().unwrap().is_empty());
    assert_eq!(world.in_engine().len(), 2);
    drop(lock);
    assert!(world.runtime.list().unwrap().is_empty());
    world.assert_empty();
}

#[test]
fn what_is_not_this_runtimes_is_left_alone() {
    let Some(engine) = engine() else { return };
    let world = World::new("foreign", engine.clone());
    let other = World::new("foreign other", engine);
    let name = name("mine");
    other.ready(&name);
    // Names of somebody else's things, in a note of ours.
    let note = std::fs::read(other.state.path().join("docker/mine.json")).unwrap();
    let note: serde_json::Value = serde_json::from_slice(&note).unwrap();
    let left = world.state.path().join("docker/mine.tmp-killed");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("intent.json"), note["place"].to_string()).unwrap();
    world.runtime.list().unwrap();
    assert_eq!(world.entries(), [""; 0]);
    assert!(other.runtime.status(&name).unwrap().is_alive());
    assert_eq!(other.in_engine().len(), 2);
    assert!(other.has_image(), "an image that a container uses stays");
}

#[test]
fn a_record_that_is_damaged_can_be_removed_with_all_that_is_its() {
    let Some(engine) = engine() else { return };
    let world = World::new("damaged", engine);
    let name = name("damaged");
    world.ready(&name);
    std::fs::write(world.state.path().join("docker/damaged.json"), "{").unwrap();
    assert!(matches!(world.runtime.status(&name), Err(Error::Record { .. })));
    world.runtime.remove(&name).unwrap();
    assert_eq!(world.in_engine(), [""; 0]);
    assert_eq!(world.entries(), [""; 0]);
}

#[test]
fn what_an_engine_has_when_it_goes_away_in_the_middle_is_removed_when_it_is_there_again() {
    if engine().is_none() {
        return;
    }
    for (index, last) in
        ["POST /containers/create", "PUT /containers/", "POST /images/load"].iter().enumerate()
    {
        let proxy = Proxy::new(last);
        let world = World::new(&format!("middle {index}"), proxy.engine.clone());
        let name = name("half");
        let failed = world.runtime.spawn(&world.spec(&name, free_address()));
        assert!(matches!(failed, Err(Error::EngineUnreachable { .. })), "{last}: {failed:?}");
        assert_eq!(world.entries().len(), 1, "what was made is noted down");
        assert!(world.runtime.list().unwrap().is_empty());
        assert_eq!(world.entries().len(), 1);
        proxy.broken.store(false, Ordering::SeqCst);
        let again = DockerRuntime::new(world.state.path()).unwrap();
        // The same connection is good again for everything else.
        assert!(again.list().unwrap().is_empty());
        world.assert_empty();
    }
}
