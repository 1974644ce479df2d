//! What the store must refuse, and what it must find again.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use attestation::ratls::TlsMode;
use jiff::Timestamp;
use tempfile::TempDir;

use super::{Origin, Record, Store};
use crate::error::Error;
use crate::testing::{APP_ID, Identity};

struct Fixture {
    directory: TempDir,
    store: Store,
    identity: Identity,
    record: Record,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let identity = Identity::generate();
    let record = identity
        .record()
        .with_tls_mode(TlsMode::OwnerCertificate)
        .with_valid_until("2030-01-02T03:04:05.6789Z".parse().unwrap());
    store.save(&record).unwrap();
    Fixture { directory, store, identity, record }
}

fn spawned(identity: &Identity, node: &str) -> Record {
    Record::sample(Origin::SpawnedHere, &identity.certificate, APP_ID).named(node)
}

/// The one file of this kind.
fn file(directory: &Path, prefix: &str) -> PathBuf {
    let mut found = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix));
    let path = found.next().unwrap();
    assert!(found.next().is_none());
    path
}

#[test]
fn a_record_is_read_back_as_it_was() {
    let Fixture { directory, store, identity, record } = fixture();
    assert_eq!(store.by_certificate(&identity.certificate).unwrap(), Some(record.clone()));
    // So does another command, later.
    let again = Store::open(directory.path()).unwrap();
    assert_eq!(again.by_certificate(&identity.certificate).unwrap(), Some(record));
    assert_eq!(again.by_certificate(&Identity::generate().certificate).unwrap(), None);
}

#[test]
fn a_record_with_one_bit_changed_is_refused() {
    let Fixture { directory, store, identity, record } = fixture();
    let path = file(directory.path(), "verify-");
    let good = fs::read(&path).unwrap();
    let mut refused = 0;
    // Every seventh byte, and every bit of it in turn: thousands of places, each signature a few microseconds.
    for position in (0..good.len() - 1).step_by(7) {
        let mut bad = good.clone();
        bad[position] ^= 1 << (position % 8);
        fs::write(&path, &bad).unwrap();
        match store.by_certificate(&identity.certificate) {
            Err(Error::NotARecord { .. }) => refused += 1,
            // The case of a hex digit of the signature says nothing.
            Ok(Some(same)) => assert!(same == record && position < 80, "position {position}"),
            other => panic!("position {position}: {other:?}"),
        }
    }
    assert!(refused > 300, "{refused}");
    fs::write(&path, &good).unwrap();
    assert!(store.by_certificate(&identity.certificate).unwrap().is_some());
}

#[test]
fn a_record_of_another_store_is_refused() {
    let Fixture { directory, identity, .. } = fixture();
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Store::open(elsewhere.path()).unwrap();
    let path = file(directory.path(), "verify-");
    fs::copy(&path, elsewhere.path().join(path.file_name().unwrap())).unwrap();
    let error = other.by_certificate(&identity.certificate).unwrap_err();
    assert!(matches!(&error, Error::NotARecord { .. }), "{error}");
    assert!(error.is_refusal());
}

#[test]
fn a_record_under_another_name_is_refused() {
    let Fixture { directory, store, .. } = fixture();
    let victim = Identity::generate();
    let wanted =
        format!("verify-{}.json", hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&victim.certificate)));
    fs::copy(file(directory.path(), "verify-"), directory.path().join(wanted)).unwrap();
    assert!(matches!(store.by_certificate(&victim.certificate), Err(Error::NotARecord { .. })));

    store.save(&spawned(&victim, "one")).unwrap();
    fs::copy(directory.path().join("spawned-one.json"), directory.path().join("spawned-two.json")).unwrap();
    assert!(matches!(store.by_node("two"), Err(Error::NotARecord { .. })));
    assert!(store.by_node("one").unwrap().is_some());
}

#[test]
fn files_that_were_dropped_there_are_refused() {
    let Fixture { directory, store, identity, .. } = fixture();
    let path = file(directory.path(), "verify-");
    for bad in ["", "{}", "null", "{\"mac\":\"\",\"record\":{}}", "{\"mac\":\"00\",\"record\":{},\"more\":1}"]
    {
        fs::write(&path, bad).unwrap();
        assert!(
            matches!(store.by_certificate(&identity.certificate), Err(Error::NotARecord { .. })),
            "{bad}"
        );
    }
    fs::write(&path, vec![b' '; 300_000]).unwrap();
    assert!(matches!(store.by_certificate(&identity.certificate), Err(Error::NotARecord { .. })));
}

#[test]
fn what_verify_found_goes_before_what_was_spawned_here() {
    let Fixture { directory: _directory, store, identity, record, .. } = fixture();
    store.save(&spawned(&identity, "app_name")).unwrap();
    assert_eq!(store.by_certificate(&identity.certificate).unwrap().unwrap().origin(), Origin::Verify);
    assert_eq!(store.by_node("app_name").unwrap().unwrap().origin(), Origin::SpawnedHere);

    let own = Identity::generate();
    store.save(&spawned(&own, "other")).unwrap();
    let found = store.by_certificate(&own.certificate).unwrap().unwrap();
    assert_eq!((found.origin(), found.node()), (Origin::SpawnedHere, Some("other")));
    assert_eq!(record.node(), None);
}

#[test]
fn what_is_refused_later_loses_its_record() {
    let Fixture { directory: _directory, store, identity, .. } = fixture();
    store.withdraw(&Identity::generate().certificate).unwrap();
    assert!(store.by_certificate(&identity.certificate).unwrap().is_some());
    store.withdraw(&identity.certificate).unwrap();
    assert_eq!(store.by_certificate(&identity.certificate).unwrap(), None);
}

#[test]
fn a_node_spawned_again_replaces_its_record_and_a_removed_one_loses_it() {
    let Fixture { directory: _directory, store, .. } = fixture();
    let (first, second) = (Identity::generate(), Identity::generate());
    store.save(&spawned(&first, "app_name")).unwrap();
    store.save(&spawned(&second, "app_name")).unwrap();
    assert_eq!(store.by_node("app_name").unwrap().unwrap().certificate(), second.certificate);
    store.forget_node("app_name").unwrap();
    assert_eq!(store.by_node("app_name").unwrap(), None);
    store.forget_node("app_name").unwrap();
}

#[test]
fn names_that_leave_the_directory_are_refused() {
    let Fixture { directory: _directory, store, identity, .. } = fixture();
    for bad in ["", "../x", "a/b", ".", "a.json", "a\0"] {
        assert!(store.by_node(bad).is_err(), "{bad:?}");
        assert!(store.forget_node(bad).is_err(), "{bad:?}");
        assert!(store.save(&spawned(&identity, bad)).is_err(), "{bad:?}");
    }
    let nameless = Record::sample(Origin::SpawnedHere, &identity.certificate, APP_ID);
    assert!(store.save(&nameless).is_err());
}

#[test]
fn everything_in_the_store_is_for_its_user_only() {
    let Fixture { directory, store, .. } = fixture();
    store.issue_nonce(Timestamp::now()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for entry in fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    let fresh = directory.path().join("a/b");
    Store::open(&fresh).unwrap();
    assert_eq!(mode(&fresh), 0o700);
}

#[test]
fn a_key_that_others_may_know_or_that_is_no_key_is_refused() {
    let Fixture { directory, .. } = fixture();
    let key = directory.path().join("key");
    let bytes = fs::read(&key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(error.to_string().contains("0640"), "{error}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&key, &bytes[..31]).unwrap();
    assert!(matches!(Store::open(directory.path()), Err(Error::RecordKey { .. })));
    let elsewhere = directory.path().join("elsewhere");
    fs::write(&elsewhere, &bytes).unwrap();
    fs::remove_file(&key).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &key).unwrap();
    assert!(matches!(Store::open(directory.path()), Err(Error::RecordKey { .. })));
}

#[test]
fn commands_that_start_together_agree_on_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let identity = Identity::generate();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (path, identity) = (directory.path(), &identity);
            scope.spawn(move || {
                let store = Store::open(path).unwrap();
                store.save(&spawned(identity, &format!("node{number}"))).unwrap();
            });
        }
    });
    let store = Store::open(directory.path()).unwrap();
    for number in 0..8 {
        assert!(store.by_node(&format!("node{number}")).unwrap().is_some());
    }
}

#[test]
fn only_nonces_of_this_store_have_a_date_and_the_first_one_counts() {
    let Fixture { directory: _directory, store, .. } = fixture();
    let (first, later) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
    let nonce = store.issue_nonce(first).unwrap();
    assert_eq!(store.nonce_issued_at(&nonce).unwrap(), Some(first));
    store.note_nonce(&nonce, later).unwrap();
    assert_eq!(store.nonce_issued_at(&nonce).unwrap(), Some(first));
    assert_eq!(store.nonce_issued_at(&[1; 32]).unwrap(), None);
    assert_eq!(store.nonce_issued_at(b"short").unwrap(), None);
    assert!(store.note_nonce(&[0; 15], first).is_err());
    assert!(store.note_nonce(&[0; 65], first).is_err());
    assert_ne!(store.issue_nonce(first).unwrap(), nonce);
}

#[test]
fn a_verification_ends_with_what_intel_signed_and_a_spawned_node_with_its_certificate() {
    let identity = Identity::valid_until("2030-01-01T00:00:00Z");
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let collateral_ends = at("2026-01-01T00:00:00Z");
    let verified = identity.record().with_valid_until(collateral_ends);
    assert_eq!(verified.valid_until(), collateral_ends);
    verified.check_current(collateral_ends).unwrap();
    let error = verified.check_current(at("2026-01-01T00:00:01Z")).unwrap_err();
    assert!(matches!(error, Error::Expired { .. }), "{error}");

    // An owner entrusts a deployment with as much as any enclave that was verified.
    let deployed =
        Record::sample(Origin::Deployed, &identity.certificate, APP_ID).with_valid_until(collateral_ends);
    assert!(deployed.check_current(at("2026-01-01T00:00:01Z")).is_err());

    let spawned = spawned(&identity, "node").with_valid_until(collateral_ends);
    spawned.check_current(at("2029-12-31T00:00:00Z")).unwrap();
    assert!(spawned.check_current(at("2030-01-01T00:00:01Z")).is_err());
    let long = identity.record().with_valid_until(at("2040-01-01T00:00:00Z"));
    assert!(long.check_current(at("2030-01-01T00:00:01Z")).is_err(), "the certificate ends first");
}

#[test]
fn what_was_deployed_is_found_by_its_id_and_rested_on_only_where_it_was_verified() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let identity = Identity::generate();
    let app = uuid::Uuid::from_bytes(APP_ID);
    let record = |origin| Record::sample(origin, &identity.certificate, APP_ID).named(&app.to_string());

    store.save(&record(Origin::Unverified)).unwrap();
    assert_eq!(store.by_deployment(app).unwrap().unwrap().origin(), Origin::Unverified);
    assert!(store.by_certificate(&identity.certificate).unwrap().is_none(), "nobody checked it");

    store.save(&record(Origin::Deployed)).unwrap();
    assert_eq!(store.by_deployment(app).unwrap().unwrap().origin(), Origin::Deployed);
    assert_eq!(store.by_certificate(&identity.certificate).unwrap().unwrap().origin(), Origin::Deployed);
    assert!(store.by_node(&app.to_string()).unwrap().is_none());

    store.forget_deployment(app).unwrap();
    assert!(store.by_deployment(app).unwrap().is_none());
}
