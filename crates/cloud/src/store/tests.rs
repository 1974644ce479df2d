//! What the database promises, on both kinds.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::*;
use crate::lifecycle::{State, Wanted};
use crate::placement::Room;
use crate::testing::{Database, on_each};
use crate::tls_mode::TlsMode;

const DIGEST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A database with a user, its project, a plan and a package.
struct World {
    store: Store,
    user: User,
    project: Project,
    plan: Plan,
}

impl World {
    async fn new(url: &str) -> World {
        let store = Store::open(url).await.unwrap();
        let user = user("ada");
        let quota = Quota { max_apps: 3, max_memory_mb: 4096, max_upload_bytes: 1000 };
        let project = project(&user, "p", quota);
        let plan = Plan {
            id: Uuid::new_v4(),
            name: "small".to_owned(),
            enclave_mb: 1024,
            cores: 1,
            price: "nothing".to_owned(),
            created_at: at(0),
        };
        let mut work = store.begin().await.unwrap();
        assert!(work.add_user(&user).await.unwrap());
        assert!(work.add_project(&project).await.unwrap());
        assert!(work.add_plan(&plan).await.unwrap());
        work.commit().await.unwrap();
        World { store, user, project, plan }
    }

    fn new_app<'a>(&'a self, name: &'a str) -> NewApp<'a> {
        NewApp {
            id: Uuid::new_v4(),
            project_id: self.project.id,
            name,
            plan: &self.plan,
            tls: TlsMode::OwnerCertificate,
            domain: None,
            package: DIGEST,
            created_by: self.user.id,
            created_at: at(1),
            expires_at: at(100),
        }
    }
}

fn user(name: &str) -> User {
    User {
        id: Uuid::new_v4(),
        name: name.to_owned(),
        is_operator: false,
        created_at: at(0),
        disabled_at: None,
    }
}

fn project(by: &User, name: &str, quota: Quota) -> Project {
    Project {
        id: Uuid::new_v4(),
        name: name.to_owned(),
        created_by: by.id,
        created_at: at(0),
        quota,
        role: Some(Role::Owner),
    }
}

fn token(of: &User, name: &str, expires_at: Option<Timestamp>) -> Token {
    Token { id: Uuid::new_v4(), user_id: of.id, name: name.to_owned(), created_at: at(0), expires_at }
}

#[test]
fn migrations_run_once_and_what_was_written_stays() {
    on_each(|url| async move {
        let world = World::new(&url).await;
        world.store.close().await;
        let store = Store::open(&url).await.unwrap();
        assert_eq!(store.user(world.user.id).await.unwrap(), Some(world.user));
        assert_eq!(store.count_users().await.unwrap(), 1);
    });
}

#[test]
fn a_newer_schema_is_refused() {
    on_each(|url| async move {
        let store = Store::open(&url).await.unwrap();
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             SELECT 99, description, success, checksum, execution_time FROM _sqlx_migrations WHERE version = 1",
        )
        .execute(&store.pool)
        .await
        .unwrap();
        store.close().await;
        assert!(matches!(Store::open(&url).await, Err(Error::Migration(_))));
    });
}

#[test]
fn a_url_of_another_kind_is_refused_without_its_password() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(Store::open("mysql://me:hunter2@db/mse")).err().unwrap();
    assert!(error.to_string().contains("'mysql'") && !error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn sqlite_is_durable_and_strict() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let database = Database::sqlite();
        let store = database.open().await;
        for (pragma, expected) in [("journal_mode", "wal"), ("foreign_keys", "1"), ("synchronous", "2")] {
            let sql = format!("SELECT CAST({pragma} AS TEXT) AS v FROM pragma_{pragma}");
            let row = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_one(&store.pool).await.unwrap();
            assert_eq!(row.text("v").unwrap(), expected, "{pragma}");
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a b#?%.db");
        Store::open_file(&path).await.unwrap();
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::fs::metadata(&path).unwrap().len() > 0 || path.with_extension("db-wal").exists());
    });
}

#[test]
fn what_is_not_committed_is_nothing() {
    on_each(|url| async move {
        let world = World::new(&url).await;
        let other = user("bob");
        let mut work = world.store.begin().await.unwrap();
        assert!(work.add_user(&other).await.unwrap());
        drop(work);
        assert_eq!(world.store.user(other.id).await.unwrap(), None);
    });
}

#[test]
fn a_token_speaks_for_its_user_until_either_ends() {
    on_each(|url| async move {
        let World { store, user, .. } = World::new(&url).await;
        let (short, long) = (token(&user, "short", Some(at(10))), token(&user, "long", None));
        let mut work = store.begin().await.unwrap();
        assert!(work.add_token(&short, "aa", 2).await.unwrap());
        assert!(work.add_token(&long, "bb", 2).await.unwrap());
        assert!(!work.add_token(&token(&user, "third", None), "cc", 2).await.unwrap());
        work.commit().await.unwrap();

        async fn store_bearer(store: &Store, digest: &str, now: Timestamp) -> Option<Uuid> {
            store.bearer(digest, now).await.unwrap().map(|bearer| bearer.token_id)
        }
        assert_eq!(store_bearer(&store, "aa", at(9)).await, Some(short.id));
        assert_eq!(store_bearer(&store, "aa", at(10)).await, None);
        assert_eq!(store_bearer(&store, "bb", at(10)).await, Some(long.id));
        assert_eq!(store_bearer(&store, "b", at(10)).await, None);

        let mut work = store.begin().await.unwrap();
        assert!(!work.remove_token(Uuid::new_v4(), long.id).await.unwrap());
        assert!(work.remove_token(user.id, short.id).await.unwrap());
        assert!(work.disable_user(user.id, at(11)).await.unwrap());
        assert!(!work.disable_user(user.id, at(12)).await.unwrap());
        assert!(!work.add_token(&token(&user, "late", None), "dd", 2).await.unwrap());
        work.commit().await.unwrap();
        assert_eq!(store_bearer(&store, "bb", at(10)).await, None);
        assert_eq!(store.user(user.id).await.unwrap().unwrap().disabled_at, Some(at(11)));
    });
}

#[test]
fn lists_come_in_pages_which_miss_and_repeat_nothing() {
    on_each(|url| async move {
        let store = Store::open(&url).await.unwrap();
        let mut expected = Vec::new();
        let mut work = store.begin().await.unwrap();
        for n in 0..7 {
            // Several at the same instant.
            let user = User { created_at: at(n / 3), ..user(&format!("user-{n}")) };
            work.add_user(&user).await.unwrap();
            expected.push((user.created_at, user.id.to_string()));
        }
        work.commit().await.unwrap();
        expected.sort();

        let mut found = Vec::new();
        let mut after = After::nothing();
        loop {
            let page = store.users(&after, 2).await.unwrap();
            let Some(last) = page.last() else { break };
            after = After { at: micros(last.created_at), id: last.id.to_string() };
            found.extend(page.iter().map(|user| (user.created_at, user.id.to_string())));
        }
        assert_eq!(found, expected);
    });
}

#[test]
fn projects_are_seen_by_their_members_and_operators() {
    on_each(|url| async move {
        let World { store, user: ada, project, .. } = World::new(&url).await;
        let bob = user("bob");
        let mut work = store.begin().await.unwrap();
        work.add_user(&bob).await.unwrap();
        // Another's name for a project says nothing of ours.
        let other = self::project(&bob, &project.name, project.quota);
        assert!(work.add_project(&other).await.unwrap());
        assert!(!work.add_project(&self::project(&bob, "p", project.quota)).await.unwrap());
        assert_eq!(work.count_projects(bob.id).await.unwrap(), 1);
        work.commit().await.unwrap();

        let sees = async |who: &User, operator| store.project(project.id, who.id, operator).await.unwrap();
        assert_eq!(sees(&ada, false).await, Some(project.clone()));
        assert_eq!(sees(&bob, false).await, None);
        assert_eq!(sees(&bob, true).await.unwrap().role, None);
        assert_eq!(store.projects(bob.id, false, &After::nothing(), 9).await.unwrap(), [other]);
        assert_eq!(store.projects(bob.id, true, &After::nothing(), 9).await.unwrap().len(), 2);

        let mut work = store.begin().await.unwrap();
        assert!(work.set_member(project.id, bob.id, Role::Member, at(2)).await.unwrap());
        assert!(!work.set_member(project.id, Uuid::new_v4(), Role::Member, at(2)).await.unwrap());
        assert!(work.set_member(project.id, bob.id, Role::Owner, at(3)).await.unwrap());
        assert_eq!(work.count_owners(project.id).await.unwrap(), 2);
        work.commit().await.unwrap();
        assert_eq!(sees(&bob, false).await.unwrap().role, Some(Role::Owner));
        assert_eq!(store.members(project.id, &After::nothing(), 9).await.unwrap().len(), 2);

        let mut work = store.begin().await.unwrap();
        assert!(work.remove_member(project.id, bob.id).await.unwrap());
        assert!(!work.remove_member(project.id, bob.id).await.unwrap());
        assert!(work.remove_project(project.id).await.unwrap());
        work.commit().await.unwrap();
        assert_eq!(sees(&ada, false).await, None);
    });
}

#[test]
fn plans_are_retired_and_apps_keep_theirs() {
    on_each(|url| async move {
        let world = World::new(&url).await;
        let app = world.new_app("web");
        let mut work = world.store.begin().await.unwrap();
        assert!(work.add_app(&app).await.unwrap());
        assert!(!work.add_plan(&Plan { id: Uuid::new_v4(), ..world.plan.clone() }).await.unwrap());
        assert!(work.retire_plan(world.plan.id, at(5)).await.unwrap());
        assert!(!work.retire_plan(world.plan.id, at(6)).await.unwrap());
        assert_eq!(work.plan_named("small").await.unwrap(), None);
        let bigger = Plan { id: Uuid::new_v4(), enclave_mb: 2048, ..world.plan.clone() };
        assert!(work.add_plan(&bigger).await.unwrap());
        work.commit().await.unwrap();
        assert_eq!(world.store.plans(&After::nothing(), 9).await.unwrap(), [bigger]);
        let app = world.store.app(app.id, world.user.id, false).await.unwrap().unwrap();
        assert_eq!((app.plan.as_str(), app.enclave_mb), ("small", 1024));
    });
}

#[test]
fn an_app_is_seen_by_its_project_alone_and_ends_once() {
    on_each(|url| async move {
        let world = World::new(&url).await;
        let store = &world.store;
        let bob = user("bob");
        let new = world.new_app("web");
        let mut work = store.begin().await.unwrap();
        work.add_user(&bob).await.unwrap();
        assert!(work.add_app(&new).await.unwrap());
        assert!(!work.add_app(&world.new_app("web")).await.unwrap());
        assert_eq!(work.wanted_of_project(world.project.id).await.unwrap(), (1, 1024));
        work.commit().await.unwrap();

        let app = store.app(new.id, world.user.id, false).await.unwrap().unwrap();
        assert_eq!((app.wanted, app.actual, app.port), (Wanted::Running, State::Spawning, None));
        assert_eq!((app.tls, app.package.as_str()), (TlsMode::OwnerCertificate, DIGEST));
        assert_eq!(store.app(new.id, bob.id, false).await.unwrap(), None);
        assert!(store.app(new.id, bob.id, true).await.unwrap().is_some());

        let place = Placement { app_id: app.id, room: Room { memory_mb: 1024, cores: 1 }, port: 2000 };
        let change = AppChange {
            actual: State::Running,
            message: "m".to_owned(),
            failures: 2,
            retry_at: Some(at(8)),
            node: Some("n".to_owned()),
            address: Some("127.0.0.1:2000".parse().unwrap()),
            fingerprint: Some("f".to_owned()),
        };
        let mut work = store.begin().await.unwrap();
        assert!(work.occupy(&place, at(2)).await.unwrap());
        assert!(!work.occupy(&place, at(2)).await.unwrap());
        assert!(work.change_app(app.id, &change, at(3)).await.unwrap());
        work.commit().await.unwrap();
        let changed = store.living_apps().await.unwrap().remove(0);
        assert_eq!(AppChange::of(&changed), change);
        assert_eq!((changed.port, changed.changed_at), (Some(2000), at(3)));
        let taken = Taken { room: place.room, ports: BTreeSet::from([2000]) };
        assert_eq!(store.taken().await.unwrap(), taken);
        assert_eq!(store.count_apps().await.unwrap(), [(State::Running, 1)]);

        let mut work = store.begin().await.unwrap();
        assert!(work.want_stopped(app.id).await.unwrap());
        assert!(!work.want_stopped(app.id).await.unwrap());
        assert!(work.finish_app(app.id, "stopped", at(9)).await.unwrap());
        assert!(!work.finish_app(app.id, "stopped", at(10)).await.unwrap());
        assert!(!work.free(app.id, at(10)).await.unwrap());
        assert!(!work.occupy(&place, at(11)).await.unwrap(), "an app is placed once in its life");
        assert!(!work.change_app(app.id, &change, at(12)).await.unwrap());
        // Its name and its port are free again.
        let next = world.new_app("web");
        assert!(work.add_app(&next).await.unwrap());
        assert!(work.occupy(&Placement { app_id: next.id, ..place }, at(12)).await.unwrap());
        work.commit().await.unwrap();
        let ended = store.app(app.id, world.user.id, false).await.unwrap().unwrap();
        assert_eq!((ended.actual, ended.stopped_at, ended.port), (State::Stopped, Some(at(9)), None));
        let project = world.project.id;
        assert_eq!(store.apps(project, false, &After::nothing(), 9).await.unwrap().len(), 1);
        assert_eq!(store.apps(project, true, &After::nothing(), 9).await.unwrap().len(), 2);
        assert!(!store.begin().await.unwrap().remove_project(project).await.unwrap());
    });
}

#[test]
fn two_never_hold_one_port() {
    on_each(|url| async move {
        let world = World::new(&url).await;
        let (a, b) = (world.new_app("a"), world.new_app("b"));
        let room = Room { memory_mb: 1024, cores: 1 };
        let mut work = world.store.begin().await.unwrap();
        for app in [&a, &b] {
            assert!(work.add_app(app).await.unwrap());
        }
        assert!(work.occupy(&Placement { app_id: a.id, room, port: 7 }, at(2)).await.unwrap());
        assert!(!work.occupy(&Placement { app_id: b.id, room, port: 7 }, at(2)).await.unwrap());
        assert!(work.occupy(&Placement { app_id: b.id, room, port: 8 }, at(2)).await.unwrap());
        assert!(work.move_to_port(b.id, 9).await.unwrap());
        work.commit().await.unwrap();
        assert_eq!(world.store.taken().await.unwrap().ports, BTreeSet::from([7, 9]));
    });
}

#[test]
fn uploads_advance_from_where_they_are() {
    on_each(|url| async move {
        let World { store, user, project, .. } = World::new(&url).await;
        let upload = Upload {
            project_id: project.id,
            sha256: DIGEST.to_owned(),
            size: 10,
            received: 0,
            created_by: user.id,
            created_at: at(1),
            completed_at: None,
        };
        let mut work = store.begin().await.unwrap();
        assert!(work.add_upload(&upload).await.unwrap());
        assert!(!work.add_upload(&upload).await.unwrap());
        assert_eq!(work.uploaded_bytes(project.id).await.unwrap(), 10);
        assert!(work.advance_upload(&upload, 4, None).await.unwrap());
        assert!(!work.advance_upload(&upload, 5, None).await.unwrap());
        let further = Upload { received: 4, ..upload.clone() };
        let another = Upload { created_at: at(3), ..further.clone() };
        assert!(!work.advance_upload(&another, 5, None).await.unwrap());
        assert!(work.advance_upload(&further, 10, Some(at(2))).await.unwrap());
        assert!(!work.advance_upload(&Upload { received: 10, ..upload }, 10, None).await.unwrap());
        assert!(!work.upload_in_use(project.id, DIGEST).await.unwrap());
        work.commit().await.unwrap();
        let found = store.upload(project.id, DIGEST).await.unwrap().unwrap();
        assert_eq!((found.received, found.completed_at), (10, Some(at(2))));
        assert_eq!(store.upload(Uuid::new_v4(), DIGEST).await.unwrap(), None);
        assert_eq!(store.uploads(project.id, &After::nothing(), 9).await.unwrap(), [found]);
    });
}

#[test]
fn a_quota_counted_by_many_at_once_is_never_exceeded() {
    on_each(|url| async move {
        let world = World::new(&url).await;
        let add = async |n: usize| {
            let name = format!("app-{n}");
            let mut work = world.store.begin().await.unwrap();
            let quota = work.take_turn(world.project.id).await.unwrap().unwrap();
            let (apps, _) = work.wanted_of_project(world.project.id).await.unwrap();
            if apps < quota.max_apps {
                work.add_app(&world.new_app(&name)).await.unwrap();
                work.commit().await.unwrap();
            }
        };
        futures_util::future::join_all((0..12).map(add)).await;
        assert_eq!(world.store.living_apps().await.unwrap().len(), 3);
    });
}

/// Until another transaction waits for one that is under way. (On SQLite they begin one after the other.)
async fn another_waits(store: &Store) {
    if store.kind() == Kind::Sqlite {
        return;
    }
    let waiting = "SELECT COUNT(*) AS n FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while sqlx::query(waiting).fetch_one(&store.pool).await.unwrap().natural("n").unwrap() == 0 {
        assert!(std::time::Instant::now() < deadline, "it does not wait");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[test]
fn tokens_made_at_once_are_never_too_many() {
    on_each(|url| async move {
        let World { store, user, .. } = World::new(&url).await;
        let mut first = store.begin().await.unwrap();
        assert!(first.add_token(&token(&user, "t", None), "aa", 1).await.unwrap());
        let (other, second) = (store.clone(), token(&user, "u", None));
        let adding = tokio::spawn(async move {
            let mut work = other.begin().await.unwrap();
            work.add_token(&second, "bb", 1).await
        });
        another_waits(&store).await;
        first.commit().await.unwrap();
        assert!(!adding.await.unwrap().unwrap(), "there is one already");
    });
}

#[test]
fn a_project_is_not_removed_under_an_app_that_is_being_made() {
    on_each(|url| async move {
        let world = World::new(&url).await;
        let mut making = world.store.begin().await.unwrap();
        making.take_turn(world.project.id).await.unwrap().unwrap();
        assert!(making.add_app(&world.new_app("web")).await.unwrap());
        let (store, project) = (world.store.clone(), world.project.id);
        let removing = tokio::spawn(async move {
            let mut work = store.begin().await.unwrap();
            work.remove_project(project).await
        });
        another_waits(&world.store).await;
        making.commit().await.unwrap();
        assert!(!removing.await.unwrap().unwrap(), "there is an app in it");
    });
}

#[test]
fn of_many_with_one_key_one_does_the_work() {
    on_each(|url| async move {
        let World { store, user, .. } = World::new(&url).await;
        let token = token(&user, "t", None);
        let mut work = store.begin().await.unwrap();
        work.add_token(&token, "aa", 9).await.unwrap();
        work.commit().await.unwrap();
        let ask = async |n: usize| {
            let mut work = store.begin().await.unwrap();
            match work.take_key(token.id, "key", "request", at(1)).await.unwrap() {
                Some(found) => found.answer,
                None => {
                    work.keep_answer(token.id, "key", &n.to_string()).await.unwrap();
                    work.commit().await.unwrap();
                    n.to_string()
                }
            }
        };
        let answers = futures_util::future::join_all((0..8).map(ask)).await;
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");

        let mut work = store.begin().await.unwrap();
        work.forget_answers(at(1) + SignedDuration::from_secs(1)).await.unwrap();
        assert_eq!(work.take_key(token.id, "key", "request", at(1)).await.unwrap(), None);
    });
}

#[test]
fn the_audit_log_is_in_order_and_by_project() {
    on_each(|url| async move {
        let World { store, user, project, .. } = World::new(&url).await;
        let mut work = store.begin().await.unwrap();
        work.note(at(2), Some(user.id), Some(project.id), "b", "o", "d").await.unwrap();
        work.note(at(1), None, None, "a", "o", "d").await.unwrap();
        work.commit().await.unwrap();
        let actions = |entries: Vec<Entry>| entries.into_iter().map(|entry| entry.action).collect::<Vec<_>>();
        assert_eq!(actions(store.audit(None, &After::nothing(), 9).await.unwrap()), ["a", "b"]);
        assert_eq!(actions(store.audit(Some(project.id), &After::nothing(), 9).await.unwrap()), ["b"]);
    });
}

#[test]
fn a_postgres_database_has_one_backend() {
    on_each(|url| async move {
        let (first, second) = (Store::open(&url).await.unwrap(), Store::open(&url).await.unwrap());
        let claim = first.claim().await.unwrap();
        if first.kind() == Kind::Postgres {
            assert!(claim.is_some());
            assert!(matches!(second.claim().await, Err(Error::InUse { .. })));
            let mut lost = Box::pin(claim.unwrap().lost());
            tokio::select! {
                () = &mut lost => panic!("it is held"),
                () = tokio::time::sleep(CLAIM_LOOK * 2) => {}
            }
            // The server ends its connection.
            sqlx::query(
                "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_locks \
                 WHERE locktype = 'advisory' AND granted AND database = \
                 (SELECT oid FROM pg_database WHERE datname = current_database())",
            )
            .execute(&second.pool)
            .await
            .unwrap();
            tokio::time::timeout(std::time::Duration::from_secs(30), lost).await.expect("it is lost");
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while second.claim().await.is_err() {
                assert!(std::time::Instant::now() < deadline, "still locked");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    });
}
