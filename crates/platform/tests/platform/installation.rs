//! The simulated machine's directory: made once, kept private, never half there, and honest about damage.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Barrier, LazyLock};
use std::thread;

use jiff::{SignedDuration, Timestamp};
use platform::simulated::Installation;
use platform::{Error, Platform};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::fixture::{Inputs, now};

const FILES: [&str; 4] = ["authority.pem", "cpu-secret", "machine.pem", "machine.toml"];

fn installed() -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("state/mse/simulator");
    Installation::open_or_create(&directory, now()).unwrap();
    (home, directory)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn only_the_owner_reads_it() {
    let (_home, directory) = installed();
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(directory.parent().unwrap()), 0o700);
    assert_eq!(names(&directory), FILES.map(str::to_owned).into());
    for file in FILES {
        assert_eq!(mode(&directory.join(file)), 0o600, "{file}");
    }
    assert_eq!(names(directory.parent().unwrap()), BTreeSet::from(["simulator".to_owned()]));
}

#[test]
fn it_stays_the_same_and_differs_from_all_others() {
    let (_home, directory) = installed();
    let once = Installation::open_or_create(&directory, now()).unwrap();
    let twice = Installation::open(&directory).unwrap();
    assert_eq!(once.root_pem(), twice.root_pem());
    assert_eq!(once.fmspc(), twice.fmspc());
    let (_home, elsewhere) = installed();
    let other = Installation::open(&elsewhere).unwrap();
    assert_ne!(once.root_pem(), other.root_pem());
    assert_ne!(once.fmspc(), other.fmspc());
}

#[test]
fn an_empty_directory_becomes_one() {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    let directory = home.path().join("simulator");
    fs::create_dir(&directory).unwrap();
    Installation::open_or_create(&directory, now()).unwrap();
    assert_eq!(mode(&directory), 0o700);
}

#[test]
fn a_relative_path_will_do() {
    // Relative to the crate's own directory, where tests run: as a path, it has no parent to name.
    let name = format!(".test-simulator-{}", std::process::id());
    let made = Installation::open_or_create(Path::new(&name), now()).map(|made| made.root_pem().to_owned());
    let removed = fs::remove_dir_all(&name);
    assert!(made.unwrap().contains("BEGIN CERTIFICATE"));
    removed.unwrap();
}

#[test]
fn of_many_that_make_it_at_once_one_wins() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("simulator");
    let start = Barrier::new(8);
    let roots: BTreeSet<String> = thread::scope(|scope| {
        let make = || {
            start.wait();
            Installation::open_or_create(&directory, now()).unwrap().root_pem().to_owned()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(roots.len(), 1);
    assert_eq!(names(home.path()), BTreeSet::from(["simulator".to_owned()]));
}

#[test]
fn opening_does_not_make_one() {
    let home = tempfile::tempdir().unwrap();
    let error = Installation::open(&home.path().join("none")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(names(home.path()).is_empty());
}

#[test]
fn a_file_in_its_place_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("simulator");
    fs::write(&path, "mine").unwrap();
    assert!(matches!(Installation::open_or_create(&path, now()), Err(Error::Io { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"mine");
}

#[test]
fn a_missing_file_is_named() {
    for file in FILES {
        let (_home, directory) = installed();
        fs::remove_file(directory.join(file)).unwrap();
        let error = damaged(&directory);
        assert!(error.contains(file) && error.contains("move the directory away"), "{error}");
    }
}

#[test]
fn another_directory_with_files_in_it_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("mine"), "").unwrap();
    fs::set_permissions(home.path(), Permissions::from_mode(0o700)).unwrap();
    damaged(home.path());
    assert_eq!(names(home.path()), BTreeSet::from(["mine".to_owned()]));
}

#[test]
fn files_of_two_installations_do_not_mix() {
    let (_home, other) = installed();
    for file in ["authority.pem", "machine.pem", "machine.toml"] {
        let (_home, directory) = installed();
        fs::copy(other.join(file), directory.join(file)).unwrap();
        let error = damaged(&directory);
        assert!(error.contains("files that were made together"), "{file}: {error}");
    }
}

#[test]
fn a_root_that_is_no_longer_the_one_that_was_signed_is_refused() {
    let (_home, directory) = installed();
    let root = Installation::open(&directory).unwrap().root_pem().to_owned();
    // Another object identifier in the issuer's name: still a well-formed certificate of the same key.
    let changed = root.replacen("A1UEAw", "A1/EAw", 1);
    assert_ne!(changed, root);
    let path = directory.join("authority.pem");
    let authority = fs::read_to_string(&path).unwrap();
    assert!(authority.contains(&root));
    fs::write(&path, authority.replace(&root, &changed)).unwrap();
    assert!(damaged(&directory).contains("root certificate"));
}

#[test]
fn another_version_is_refused() {
    let (_home, directory) = installed();
    let description = fs::read_to_string(directory.join("machine.toml")).unwrap();
    fs::write(directory.join("machine.toml"), description.replace("version = 1", "version = 2")).unwrap();
    assert!(damaged(&directory).contains("version 2"));
}

#[test]
fn an_endless_file_is_not_read_to_its_end() {
    let (_home, directory) = installed();
    fs::write(directory.join("cpu-secret"), vec![b'0'; 100_000]).unwrap();
    assert!(damaged(&directory).contains("at most 65536 bytes"));
}

#[test]
fn keys_that_others_can_read_are_refused() {
    for path in [".", "authority.pem", "machine.pem", "cpu-secret"] {
        let (_home, directory) = installed();
        let path = directory.join(path);
        let open = mode(&path) | 0o040;
        fs::set_permissions(&path, Permissions::from_mode(open)).unwrap();
        let error = Installation::open_or_create(&directory, now()).unwrap_err();
        assert!(matches!(error, Error::Exposed { mode, .. } if mode == open), "{error}");
        assert!(error.to_string().contains("chmod -R go= "), "{error}");
    }
}

#[test]
fn a_clock_outside_its_years_is_told() {
    let (_home, directory) = installed();
    let days = |days: i64| SignedDuration::from_hours(24 * days);
    for now in [now() - days(2), now() + days(3660)] {
        let error = Installation::open_or_create(&directory, now).unwrap_err();
        assert!(matches!(error, Error::NotValidNow { .. }), "{error}");
    }
    Installation::open_or_create(&directory, now() + days(3650)).unwrap();
}

#[test]
fn times_that_certificates_cannot_say_are_refused() {
    let home = tempfile::tempdir().unwrap();
    assert!(Installation::open_or_create(&home.path().join("simulator"), Timestamp::MIN).is_err());
    assert!(names(home.path()).is_empty());
    let (_home, directory) = installed();
    assert!(Installation::open(&directory).unwrap().collateral(Timestamp::MIN).is_err());
}

#[test]
fn collateral_is_for_its_own_quotes() {
    let inputs = Inputs::new();
    let quote = inputs.load().unwrap().quote(&[0; 64]).unwrap();
    let collateral = inputs.installation.collateral_for(&quote, now()).unwrap();
    assert!(collateral.tcb_info.contains(&hex::encode_upper(inputs.installation.fmspc())));

    let (_home, directory) = installed();
    let stranger = Installation::open(&directory).unwrap();
    assert!(matches!(stranger.collateral_for(&quote, now()), Err(Error::ForeignQuote)));
    assert!(matches!(stranger.collateral_for(b"no quote", now()), Err(Error::Attestation(_))));
}

#[test]
fn debug_output_holds_no_keys() {
    let (_home, directory) = installed();
    let shown = format!("{:?}", Installation::open(&directory).unwrap());
    let secret = fs::read_to_string(directory.join("cpu-secret")).unwrap();
    assert!(shown.len() < 100 && !shown.contains(secret.trim()), "{shown}");
}

/// The message of the refusal, which never holds what is in the files.
fn damaged(directory: &Path) -> String {
    let error = Installation::open_or_create(directory, now()).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    let message = error.to_string();
    assert!(!message.contains("BEGIN"), "{message}");
    message
}

/// Made once: keys take time.
static ORIGINAL: LazyLock<(TempDir, PathBuf)> = LazyLock::new(installed);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Cut short anywhere, or with any byte replaced, a file gives a refusal or the same installation; never a panic.
    #[test]
    fn damage_anywhere_is_noticed(file in 0..FILES.len(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut: bool) {
        let (_, original) = &*ORIGINAL;
        let copy = tempfile::tempdir().unwrap();
        let directory = copy.path().to_owned();
        fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
        for file in FILES {
            fs::copy(original.join(file), directory.join(file)).unwrap();
        }
        let before = Installation::open(&directory).unwrap();
        let path = directory.join(FILES[file]);
        let mut content = fs::read(&path).unwrap();
        let at = at.index(content.len());
        if cut { content.truncate(at) } else { content[at] = byte }
        fs::write(&path, content).unwrap();
        match Installation::open(&directory) {
            Ok(after) => {
                prop_assert_eq!(after.root_pem(), before.root_pem());
                prop_assert_eq!(after.fmspc(), before.fmspc());
            }
            Err(error) => prop_assert!(matches!(error, Error::Damaged { .. }), "{}", error),
        }
    }
}
