use std::collections::BTreeMap;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::backend::upload::PIECE;
use crate::backend::{ProblemKind, Uploaded};

/// The uploads of the one project, by digest: announced size and what has come.
#[derive(Default)]
struct Store {
    uploads: BTreeMap<String, (u64, Vec<u8>)>,
    pieces: usize,
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl Store {
    fn show(&self, status: u16, sha256: &str) -> Answer {
        let Some((size, bytes)) = self.uploads.get(sha256) else { return problem(404, "not-found", "") };
        let complete = *size == bytes.len() as u64;
        let shown = json!({ "sha256": sha256, "size": size, "received": bytes.len(), "complete": complete });
        say(status, &shown)
    }

    /// As the API has it.
    fn answer(&mut self, seen: &Seen) -> Answer {
        let mut path = seen.path.split('/').skip(5);
        let sha256 = path.next().unwrap().to_owned();
        match (seen.method.as_str(), path.next()) {
            ("GET", None) => self.show(200, &sha256),
            ("PUT", None) => {
                let size = seen.json()["size"].as_u64().unwrap();
                self.uploads.entry(sha256.clone()).or_insert((size, Vec::new()));
                self.show(201, &sha256)
            }
            ("PATCH", None) => {
                let Some((_, bytes)) = self.uploads.get_mut(&sha256) else {
                    return problem(404, "not-found", "");
                };
                if seen.offset != Some(bytes.len() as u64) {
                    return problem(409, "conflict", "another offset");
                }
                self.pieces += 1;
                bytes.extend_from_slice(&seen.body);
                self.show(200, &sha256)
            }
            ("POST", Some("assemble")) => {
                let mut whole = Vec::new();
                for part in seen.json()["parts"].as_array().unwrap() {
                    match self.uploads.get(part["sha256"].as_str().unwrap()) {
                        Some((size, bytes)) if *size == bytes.len() as u64 => whole.extend(bytes),
                        _ => return problem(409, "conflict", "a part is missing"),
                    }
                }
                assert_eq!(digest(&whole), sha256);
                self.uploads.insert(sha256.clone(), (whole.len() as u64, whole));
                self.show(201, &sha256)
            }
            _ => problem(404, "not-found", ""),
        }
    }
}

/// A package on disk.
struct Package {
    _directory: TempDir,
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Package {
    fn of(length: usize) -> Package {
        let bytes: Vec<u8> = (0..length as u64).map(|n| (n * n / 251) as u8).collect();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("package.tar");
        std::fs::write(&path, &bytes).unwrap();
        Package { _directory: directory, path, bytes }
    }

    fn upload(&self, session: &Session, cuts: &[u64]) -> Result<Uploaded, Error> {
        let mut last = (0, 0);
        let sha256 = Sha256::digest(&self.bytes).into();
        let done =
            session.upload(Uuid::nil(), &self.path, cuts, sha256, &mut |done, total| last = (done, total))?;
        assert_eq!(last.1, self.bytes.len() as u64);
        Ok(done)
    }

    fn is_in(&self, store: &Mutex<Store>) -> bool {
        // A connection that breaks off here is a handler that panics.
        let store = store.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        store.uploads.get(&digest(&self.bytes)).is_some_and(|(_, bytes)| *bytes == self.bytes)
    }
}

/// A backend that answers as the API has it, unless the test has another answer.
fn storing(
    instead: impl Fn(&Seen, &mut Store) -> Option<Answer> + Send + Sync + 'static,
) -> (Fake, Arc<Mutex<Store>>) {
    let store = Arc::new(Mutex::new(Store::default()));
    let kept = store.clone();
    let fake = Fake::start(move |seen| {
        known(seen, || {
            let mut store = kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            instead(seen, &mut store).unwrap_or_else(|| store.answer(seen))
        })
    });
    (fake, store)
}

const MIB: usize = 1024 * 1024;

#[test]
fn a_package_goes_up_in_parts_and_pieces_and_what_is_there_stays() {
    let (fake, store) = storing(|_, _| None);
    let session = fake.session();
    let package = Package::of(11 * MIB);
    let cuts = [0, 1000, 10 * MIB as u64];
    let total = package.bytes.len() as u64;
    assert_eq!(package.upload(&session, &cuts).unwrap(), Uploaded { sent: total, total });
    assert!(package.is_in(&store));
    assert_eq!(store.lock().unwrap().pieces, 1 + 3 + 1);
    // Once more: nothing is sent, nothing announced.
    let before = fake.calls().len();
    assert_eq!(package.upload(&session, &cuts).unwrap(), Uploaded { sent: 0, total });
    assert_eq!(fake.calls().len(), before + 1);
    // Another package with the same large part.
    let mut other = Package::of(11 * MIB);
    other.bytes[..1000].fill(7);
    std::fs::write(&other.path, &other.bytes).unwrap();
    assert_eq!(other.upload(&session, &cuts).unwrap(), Uploaded { sent: 1000, total });
    assert!(other.is_in(&store));
}

#[test]
fn a_part_that_occurs_twice_is_sent_once() {
    let (fake, store) = storing(|_, _| None);
    let mut package = Package::of(3000);
    package.bytes = [[1; 1000], [2; 1000], [1; 1000]].concat();
    std::fs::write(&package.path, &package.bytes).unwrap();
    let uploaded = package.upload(&fake.session(), &[0, 1000, 2000]).unwrap();
    assert_eq!(uploaded, Uploaded { sent: 2000, total: 3000 });
    assert!(package.is_in(&store));
}

#[test]
fn a_package_of_one_part_needs_no_assembly() {
    let (fake, store) = storing(|_, _| None);
    let package = Package::of(5000);
    package.upload(&fake.session(), &[0]).unwrap();
    assert!(package.is_in(&store));
    assert!(!fake.calls().iter().any(|call| call.contains("assemble")));
}

#[test]
fn a_broken_connection_goes_on_where_the_backend_says() {
    // The first two pieces break off: of one nothing was kept, of the other a half.
    let broken = Mutex::new(0);
    let (fake, store) = storing(move |seen, store| {
        let mut broken = broken.lock().unwrap();
        if seen.method == "PATCH" && *broken < 2 {
            *broken += 1;
            if *broken == 2 {
                let sha256 = seen.path.split('/').nth(5).unwrap();
                let (_, bytes) = store.uploads.get_mut(sha256).unwrap();
                bytes.extend_from_slice(&seen.body[..seen.body.len() / 2]);
            }
            drop(broken);
            break_off();
        }
        None
    });
    let package = Package::of(9 * MIB);
    package.upload(&fake.session(), &[0]).unwrap();
    assert!(package.is_in(&store));
    let offsets: Vec<_> = fake.seen.lock().unwrap().iter().filter_map(|seen| seen.offset).collect();
    assert_eq!(offsets, [0, 0, PIECE / 2, PIECE / 2 + PIECE]);
}

#[test]
fn what_was_begun_by_another_command_goes_on() {
    let (fake, store) = storing(|_, _| None);
    let package = Package::of(3 * MIB);
    let begun = (package.bytes.len() as u64, package.bytes[..MIB].to_vec());
    store.lock().unwrap().uploads.insert(digest(&package.bytes), begun);
    let uploaded = package.upload(&fake.session(), &[0]).unwrap();
    assert_eq!(uploaded.sent, 2 * MIB as u64);
    assert!(package.is_in(&store));
}

#[test]
fn failures_that_pass_are_endured_and_others_are_not() {
    for (status, word, endured) in [
        (503, "unavailable", true),
        (409, "conflict", true),
        (422, "invalid", false),
        (403, "forbidden", false),
        (401, "unauthorized", false),
    ] {
        let failed = Mutex::new(false);
        let (fake, store) = storing(move |seen, _| {
            let first = seen.method == "PATCH" && !std::mem::replace(&mut *failed.lock().unwrap(), true);
            first.then(|| problem(status, word, "not this time"))
        });
        let package = Package::of(5000);
        let result = package.upload(&fake.session(), &[0, 100]);
        assert_eq!((result.is_ok(), package.is_in(&store)), (endured, endured), "{status}: {result:?}");
    }
}

#[test]
fn a_part_that_is_removed_meanwhile_is_sent_again() {
    let removed = Mutex::new(false);
    let (fake, store) = storing(move |seen, store| {
        let now = seen.path.ends_with("assemble") && !std::mem::replace(&mut *removed.lock().unwrap(), true);
        if now {
            store.uploads.pop_first();
        }
        None
    });
    let package = Package::of(5000);
    package.upload(&fake.session(), &[0, 100, 3000]).unwrap();
    assert!(package.is_in(&store));
}

#[test]
fn an_assembly_whose_answer_is_lost_is_found() {
    let (fake, store) = storing(|seen, store| {
        if seen.path.ends_with("assemble") {
            store.answer(seen);
            break_off();
        }
        None
    });
    let package = Package::of(5000);
    package.upload(&fake.session(), &[0, 100]).unwrap();
    assert!(package.is_in(&store));
    assert_eq!(fake.calls().iter().filter(|call| call.contains("assemble")).count(), 1);
}

/// What a backend can say that is not so. Each has to end, and soon.
#[test]
fn a_backend_that_lies_fails_the_upload_and_no_more() {
    type Lie = fn(&Seen, &mut Store) -> Option<Answer>;
    fn shown(seen: &Seen, received: u64, size: u64, complete: bool) -> Option<Answer> {
        let sha256 = seen.path.split('/').nth(5).unwrap();
        let shown = json!({ "sha256": sha256, "size": size, "received": received, "complete": complete });
        Some(say(200, &shown))
    }
    let lies: [(&str, Lie); 11] = [
        ("never receives", |seen, _| shown(seen, 0, 5000, false)),
        ("has it all and is not complete", |seen, _| shown(seen, 5000, 5000, false)),
        ("complete without having it", |seen, _| shown(seen, 10, 5000, true)),
        ("has more than there is", |seen, _| shown(seen, 6000, 5000, false)),
        ("another size", |seen, _| shown(seen, 0, 9000, false)),
        ("goes back", |seen, _| (seen.method == "PATCH").then(|| shown(seen, 1, 5000, false)).flatten()),
        ("another digest", |_, _| {
            let other = hex::encode([0; 32]);
            Some(say(200, &json!({ "sha256": other, "size": 5000, "received": 0, "complete": false })))
        }),
        ("breaks off every time", |seen, _| if seen.method == "PATCH" { break_off() } else { None }),
        ("a conflict every time", |seen, _| {
            (seen.method == "PATCH").then(|| problem(409, "conflict", "another offset"))
        }),
        ("never there", |seen, _| (seen.method == "PATCH").then(|| problem(404, "not-found", ""))),
        ("fails every time", |seen, _| (seen.method != "GET").then(|| problem(500, "internal", ""))),
    ];
    for (name, lie) in lies {
        let (fake, _) = storing(move |seen, store| match seen.method.as_str() {
            "GET" => Some(problem(404, "not-found", "")),
            _ => lie(seen, store),
        });
        let package = Package::of(5000);
        let error = package.upload(&fake.session(), &[0]).expect_err(name);
        assert!(!error.is_refusal() && fake.calls().len() < 20, "{name}: {error}");
    }
    // Of the assembly.
    for (name, lie) in lies_of_assembly() {
        let (fake, _) =
            storing(move |seen, _| if seen.path.ends_with("assemble") { Some(lie(seen)) } else { None });
        let package = Package::of(5000);
        let error = package.upload(&fake.session(), &[0, 10]).expect_err(name);
        assert!(fake.calls().len() < 40, "{name}: {error}");
    }
}

type Lie = (&'static str, fn(&Seen) -> Answer);

fn lies_of_assembly() -> [Lie; 4] {
    [
        ("always missing", |_| problem(409, "conflict", "a part is missing")),
        ("never complete", |seen| {
            let sha256 = seen.path.split('/').nth(5).unwrap();
            say(200, &json!({ "sha256": sha256, "size": 5000, "received": 0, "complete": false }))
        }),
        ("another upload", |_| {
            let other = hex::encode([0; 32]);
            say(200, &json!({ "sha256": other, "size": 5000, "received": 5000, "complete": true }))
        }),
        ("fails", |_| problem(500, "internal", "")),
    ]
}

#[test]
fn what_the_caller_says_of_the_package_has_to_be_so() {
    let (fake, store) = storing(|_, _| None);
    let session = fake.session();
    let package = Package::of(5000);
    for cuts in [&[][..], &[1], &[0, 0], &[0, 20, 10], &[0, 5000], &[0, 6000]] {
        let error = package.upload(&session, cuts).unwrap_err();
        assert!(matches!(error, Error::Upload { .. }), "{cuts:?}: {error}");
    }
    let many: Vec<u64> = (0..1001).collect();
    assert!(matches!(package.upload(&session, &many).unwrap_err(), Error::Upload { .. }));
    let error = session
        .upload(Uuid::nil(), &package.path, &[0], [9; 32], &mut |_, _| {})
        .expect_err("another digest");
    assert!(matches!(error, Error::Upload { .. }), "{error}");
    assert!(store.lock().unwrap().uploads.is_empty(), "nothing was sent");
    let (fake, _) = storing(|_, _| Some(problem(422, "quota", "no room")));
    let error = package.upload(&fake.session(), &[0]).unwrap_err();
    assert_eq!(error.problem(), Some(ProblemKind::Quota));
}
