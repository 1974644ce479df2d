//! Images and short-lived containers: what an engine is asked for, and what is left when that fails.

use std::io::{self, Cursor, Write};
use std::sync::{Arc, Mutex, PoisonError};

use runtime::Error;
use runtime::docker::{BuildRequest, DevContainer, DevSpec, Engine};

use crate::fixture::{BASE, Image, Random, engine, eventually, send, tar};

fn build(engine: &Engine, tag: &str, dockerfile: &str) -> (Result<String, Error>, Vec<String>) {
    let request = BuildRequest { tag, dockerfile: "Dockerfile", ..BuildRequest::default() };
    let context = tar(&[("Dockerfile", dockerfile.as_bytes()), ("hello", b"hello\n")]);
    let mut lines = Vec::new();
    let built = engine.build(
        &request,
        |out| {
            out.write_all(&context)
                .map_err(|source| Error::Stream { action: "send the context".into(), source })
        },
        &mut |line| lines.push(line.to_owned()),
    );
    (built.map(|id| id.to_string()), lines)
}

#[test]
fn an_image_is_built_saved_loaded_and_removed() {
    let Some(engine) = engine() else { return };
    let image = Image::named("round-trip");
    let (id, lines) = build(
        &engine,
        &image.0,
        "FROM debian:bookworm\nARG WORD\nRUN echo \"said $WORD\"\nCOPY hello /hello\n",
    );
    let id = id.unwrap();
    assert!(lines.iter().any(|line| line.starts_with("Step 4/4")), "{lines:?}");
    assert_eq!(engine.image_id(&image.0).unwrap().as_str(), id);

    let mut archive = Vec::new();
    engine.save(&image.0, &mut archive).unwrap();
    assert!(engine.remove_image(&image.0).unwrap());
    assert!(!engine.has_image(&image.0).unwrap());
    assert!(engine.remove_image(&image.0).unwrap(), "what is gone is removed");
    assert!(matches!(engine.save(&image.0, &mut io::sink()), Err(Error::NoImage { .. })));
    engine.load(Cursor::new(&archive)).unwrap();
    assert_eq!(engine.image_id(&image.0).unwrap().as_str(), id);

    // Half of an archive, and one whose reader fails, are no image.
    assert!(engine.remove_image(&image.0).unwrap());
    let half = engine.load(Cursor::new(&archive[..archive.len() / 2]));
    assert!(matches!(half, Err(Error::EngineRefused { .. })), "{half:?}");
    let broken = engine.load_from(|out| {
        out.write_all(&archive[..archive.len() / 2]).unwrap();
        Err(Error::Stream { action: "read it".into(), source: io::ErrorKind::Other.into() })
    });
    assert!(matches!(broken, Err(Error::Stream { .. })), "{broken:?}");
    assert!(!engine.has_image(&image.0).unwrap());
    let full = engine.save(BASE, &mut Full);
    assert!(matches!(full, Err(Error::Stream { .. })), "{full:?}");
}

/// A disk without space.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_build_that_fails_is_explained_and_leaves_no_container() {
    let Some(engine) = engine() else { return };
    let image = Image::named("fails");
    let before = containers_of_builds();
    let (failed, _) = build(&engine, &image.0, "FROM debian:bookworm\nRUN echo the reason >&2; exit 3\n");
    let Err(Error::Build { output, reason, .. }) = failed else { panic!("{failed:?}") };
    assert!(output.iter().any(|line| line.contains("the reason")), "{output:?}");
    assert!(reason.contains('3'), "{reason}");
    let (failed, _) = build(&engine, &image.0, "FROM debian:bookworm\nNONSENSE\n");
    assert!(matches!(failed, Err(Error::Build { .. })), "{failed:?}");
    assert!(!engine.has_image(&image.0).unwrap());
    eventually("no container of a build is left", || containers_of_builds() <= before);
}

/// Containers of builds that print what the tests' do.
fn containers_of_builds() -> usize {
    let listed = crate::fixture::docker(&["ps", "--all", "--no-trunc", "--format", "{{.Command}}"]);
    listed.lines().filter(|line| line.contains("the reason")).count()
}

/// Held by tests that tell this process's containers for development from others: one at a time.
static DEVELOPMENT: Mutex<()> = Mutex::new(());

#[test]
fn an_application_runs_in_a_container_that_lives_no_longer_than_its_value() {
    let Some(engine) = engine() else { return };
    let _alone = DEVELOPMENT.lock().unwrap_or_else(PoisonError::into_inner);
    let image = Image::named("dev");
    let command = |text: &str| -> Vec<String> { ["sh", "-c", text].map(str::to_owned).to_vec() };
    let (built, _) =
        build(&engine, &image.0, "FROM debian:bookworm\nUSER nobody\nENTRYPOINT [\"false\"]\nCMD [\"x\"]\n");
    built.unwrap();

    let bytes = Random::bytes(100_000);
    let files = tar(&[("code/app.bin", &bytes)]);
    let run = command("cat /code/app.bin; echo \"$WORD\" >&2; pwd; exec sleep 1000");
    let env = [("WORD".to_owned(), "warning".to_owned())];
    let spec = DevSpec {
        image: &image.0,
        command: &run,
        env: &env,
        working_dir: "/code",
        port: 8080,
        ..DevSpec::default()
    };
    let write = |out: &mut dyn Write| {
        out.write_all(&files).map_err(|source| Error::Stream { action: "send".into(), source })
    };
    let container = DevContainer::start(&engine, &spec, write).unwrap();
    assert!(container.is_running().unwrap());
    assert!(container.address().ip().is_loopback());
    let taken = DevSpec { host_port: container.address().port(), ..spec.clone() };
    let refused = DevContainer::start(&engine, &taken, write);
    assert!(matches!(refused, Err(Error::PortInUse { .. })), "{refused:?}");

    let log = Shared::default();
    let following = container.follow(log.clone());
    eventually("the log has all of it", || {
        let mut log = log.0.lock().unwrap().clone();
        // The two streams are in the order in which the engine read them.
        let Some(at) = log.windows(8).position(|window| window == b"warning\n") else { return false };
        log.drain(at..at + 8);
        [&bytes[..], b"/code\n"].iter().all(|part| log.windows(part.len()).any(|window| window == *part))
    });
    drop(container);
    // Its container is gone, and so is what followed it.
    let _ = following.join().unwrap();
    let left =
        crate::fixture::docker(&["ps", "--all", "--quiet", "--filter", &format!("ancestor={}", image.0)]);
    assert_eq!(left, "");
    let missing = DevSpec { image: "mse-test-none:none", ..spec };
    assert!(matches!(DevContainer::start(&engine, &missing, write), Err(Error::NoImage { .. })));
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_build_that_nobody_waits_for_ends_with_its_containers() {
    let Some(engine) = engine() else { return };
    let image = Image::named("given-up");
    let mark = format!("1{:07}", std::process::id());
    let running = || {
        let listed = crate::fixture::docker(&["ps", "--all", "--no-trunc", "--format", "{{.Command}}"]);
        listed.lines().filter(|line| line.contains(&mark)).count()
    };
    let request = BuildRequest { tag: &image.0, dockerfile: "Dockerfile", ..BuildRequest::default() };
    let dockerfile = format!("FROM debian:bookworm\nRUN echo begun; sleep {mark}\n");
    let context = tar(&[("Dockerfile", dockerfile.as_bytes())]);
    let given_up = std::panic::catch_unwind(|| {
        engine.build(&request, |out| send(out, &context), &mut |line| {
            if line == "begun" {
                assert_eq!(running(), 1);
                std::panic::resume_unwind(Box::new("interrupted"));
            }
        })
    });
    assert!(given_up.is_err());
    eventually("its container is gone", || running() == 0);
    assert!(!engine.has_image(&image.0).unwrap());
}

#[test]
fn a_container_whose_maker_was_killed_is_removed_by_the_next() {
    let Some(engine) = engine() else { return };
    let _alone = DEVELOPMENT.lock().unwrap_or_else(PoisonError::into_inner);
    let command = ["sleep", "1000"].map(str::to_owned);
    let spec = DevSpec { image: BASE, command: &command, port: 1, ..DevSpec::default() };
    let empty = tar(&[]);
    let mine = DevContainer::start(&engine, &spec, |out| send(out, &empty)).unwrap();
    let listed =
        crate::fixture::docker(&["ps", "--filter", "label=mse.dev", "--format", "{{.Label \"mse.dev\"}}"]);
    let pid = std::process::id();
    let label = listed.lines().find(|label| label.contains(&format!("\"pid\":{pid},"))).unwrap();
    let mut owner: serde_json::Value = serde_json::from_str(label).unwrap();
    let start = owner["process"]["start_time"].as_u64().unwrap();
    owner["process"]["start_time"] = (start - 1).into();
    let dead = format!("mse.dev={owner}");
    owner["namespace"] = "pid:[1]".into();
    let elsewhere = format!("mse.dev={owner}");
    let run =
        |label: &str| crate::fixture::docker(&["run", "--detach", "--label", label, BASE, "sleep", "1000"]);
    let (dead, elsewhere) = (run(&dead), run(&elsewhere));

    let next = DevContainer::start(&engine, &spec, |out| send(out, &empty)).unwrap();
    let left = crate::fixture::docker(&["ps", "--all", "--quiet", "--no-trunc"]);
    assert!(!left.contains(&dead));
    assert!(left.contains(&elsewhere), "nobody can tell here whether its maker lives");
    crate::fixture::docker(&["rm", "--force", &elsewhere]);
    assert!(mine.is_running().unwrap());
    // Interrupted programs drop nothing.
    let undo = next.undo();
    std::mem::forget(next);
    undo();
    mine.remove().unwrap();
    let left = crate::fixture::docker(&["ps", "--all", "--format", "{{.Label \"mse.dev\"}}"]);
    assert!(!left.contains(&format!("\"pid\":{pid},")), "{left}");
}
