//! The reconciler against a runtime that pretends: what becomes of apps, and of those whose backend ends in the midst.

use std::collections::{BTreeMap, BTreeSet};

use router::Termination;

use super::*;
use crate::authority::{AppCertificates, Authority};
use crate::store::{self, NewApp, Plan, Project, Quota, Role, Upload, User};
use crate::testing::nodes::{Machine, Nodes};
use crate::testing::on_each;
use crate::testing::packages::{PACKAGE, signer};
use crate::testing::reader::Here;
use crate::tls_mode::TlsMode;
use crate::upstream::{Attested, Terms};

/// One backend over a machine and a database that outlive it.
struct World {
    site: Arc<Site>,
    /// The database as others see and change it, whatever becomes of the backend.
    store: Store,
    machine: Arc<Machine>,
    project: Uuid,
    user: Uuid,
    plan: Plan,
    package: String,
    data: Arc<tempfile::TempDir>,
    url: String,
    reader: Arc<Here>,
}

impl World {
    async fn new(url: &str) -> World {
        let data = Arc::new(tempfile::tempdir().unwrap());
        let machine = Arc::new(Machine::default());
        let reader = Arc::new(Here::default());
        let site = site(url, &machine, &reader, data.path()).await;
        let store = Store::open(url).await.unwrap();
        let plan = Plan {
            id: Uuid::new_v4(),
            name: "small".to_owned(),
            enclave_mb: 1024,
            cores: 1,
            price: String::new(),
            created_at: Timestamp::now(),
        };
        let mut work = store.begin().await.unwrap();
        work.add_plan(&plan).await.unwrap();
        work.commit().await.unwrap();
        let (nobody, package) = (Uuid::nil(), crate::bearer::sha256(&PACKAGE));
        let url = url.to_owned();
        let world =
            World { site, store, machine, project: nobody, user: nobody, plan, package, data, url, reader };
        world.beside("ada").await
    }

    /// The same world as another tenant sees it.
    async fn beside(&self, name: &str) -> World {
        let (site, store) = (self.site.clone(), self.store.clone());
        let (plan, package) = (self.plan.clone(), self.package.clone());
        let now = Timestamp::now();
        let user = User {
            id: Uuid::new_v4(),
            name: name.to_owned(),
            is_operator: false,
            created_at: now,
            disabled_at: None,
        };
        let project = Project {
            id: Uuid::new_v4(),
            name: "p".to_owned(),
            created_by: user.id,
            created_at: now,
            quota: Quota { max_apps: 99, max_memory_mb: 999_999, max_upload_bytes: 1 << 40 },
            role: Some(Role::Owner),
        };
        let upload = Upload {
            project_id: project.id,
            sha256: package.clone(),
            size: PACKAGE.len() as u64,
            received: 0,
            created_by: user.id,
            created_at: now,
            completed_at: None,
        };
        let mut work = store.begin().await.unwrap();
        work.add_user(&user).await.unwrap();
        work.add_project(&project).await.unwrap();
        work.add_upload(&upload).await.unwrap();
        work.advance_upload(&upload, upload.size, Some(now)).await.unwrap();
        work.commit().await.unwrap();
        site.blobs.lock(project.id, &package).unwrap().unwrap().write(&PACKAGE).unwrap();
        World {
            site,
            store,
            machine: self.machine.clone(),
            project: project.id,
            user: user.id,
            plan,
            package,
            data: self.data.clone(),
            url: self.url.clone(),
            reader: self.reader.clone(),
        }
    }

    /// The next backend: nothing of the one before but the database, the files and the machine.
    async fn again(&mut self) {
        self.site.store.close().await;
        self.site = site(&self.url, &self.machine, &self.reader, self.data.path()).await;
    }

    async fn app(&self, name: &str, seconds: i64) -> Uuid {
        let now = Timestamp::now();
        let id = Uuid::new_v4();
        let app = NewApp {
            id,
            project_id: self.project,
            name,
            plan: &self.plan,
            tls: TlsMode::ZeroTrust,
            domain: None,
            package: &self.package,
            created_by: self.user,
            created_at: now,
            expires_at: now + SignedDuration::from_secs(seconds),
        };
        let mut work = self.store.begin().await.unwrap();
        assert!(work.add_app(&app).await.unwrap());
        work.commit().await.unwrap();
        id
    }

    async fn stop(&self, id: Uuid) {
        let mut work = self.store.begin().await.unwrap();
        assert!(work.want_stopped(id).await.unwrap());
        work.commit().await.unwrap();
    }

    async fn look(&self) {
        self.site.look().await.unwrap();
    }

    async fn see(&self, id: Uuid) -> store::App {
        self.store.app(id, self.user, false).await.unwrap().unwrap()
    }

    async fn state(&self, id: Uuid) -> State {
        self.see(id).await.actual
    }

    /// Makes the next attempt due.
    async fn hurry(&self, id: Uuid) {
        let mut change = AppChange::of(&self.see(id).await);
        assert!(change.retry_at.is_some());
        change.retry_at = Some(Timestamp::UNIX_EPOCH);
        let mut work = self.store.begin().await.unwrap();
        assert!(work.change_app(id, &change, Timestamp::now()).await.unwrap());
        work.commit().await.unwrap();
    }

    async fn deeds(&self, of: Uuid, action: &str) -> usize {
        let log = self.store.audit(None, &store::After::nothing(), 1000).await.unwrap();
        log.iter().filter(|entry| entry.object == of.to_string() && entry.action == action).count()
    }
}

async fn site(url: &str, machine: &Arc<Machine>, reader: &Arc<Here>, data: &std::path::Path) -> Arc<Site> {
    let store = Store::open(url).await.unwrap();
    let fuse = store.fuse();
    let identity = Operator {
        version: "0".to_owned(),
        domain: "apps.localhost".to_owned(),
        router: "127.0.0.1:8443".to_owned(),
        mrsigner: String::new(),
        platform: "simulated".to_owned(),
        runtime: "process".to_owned(),
        pccs: None,
        simulated_root: None,
    };
    Arc::new(Site {
        store,
        nodes: Arc::new(Nodes { machine: machine.clone(), fuse }),
        blobs: Blobs::open(data).unwrap(),
        reader: reader.clone(),
        probe: Arc::new(machine.clone()),
        routes: routes(data, &identity),
        identity,
        signer: signer(),
        simulator: None,
        capacity: Room { memory_mb: 3 * 1024, cores: 99 },
        ports: 100..=199,
        work: UnderWay::default(),
    })
}

/// Routes that nobody asks.
fn routes(data: &std::path::Path, identity: &Operator) -> Routes {
    let authority = Arc::new(Authority::open_or_create(data, Timestamp::now()).unwrap());
    let certificates = AppCertificates::new(authority, &identity.domain);
    let upstream = Arc::new(Attested::new(Terms { simulator: None, pccs: None }));
    let termination = Termination::new(Arc::new(certificates), upstream.clone()).unwrap();
    Routes::new(Arc::default(), termination, upstream, identity.clone())
}

#[test]
fn an_app_lives_and_ends() {
    on_each(|url| async move {
        let world = World::new(&url).await;
        let id = world.app("web", 1000).await;
        world.look().await;
        let app = world.see(id).await;
        assert_eq!(
            (app.actual, app.message.as_str()),
            (State::Initializing, "its node waits for its configuration")
        );
        assert_eq!((app.port, app.address), (Some(100), Some("127.0.0.1:100".parse().unwrap())));
        assert_eq!(
            (app.node, app.fingerprint),
            (Some(format!("app-{}", id.simple())), Some("ab".repeat(32)))
        );
        let node = world.machine.nodes.lock().unwrap().values().next().unwrap().clone();
        assert_eq!((node.app_id, node.host), (id, format!("{}.apps.localhost", id.simple())));

        for (answer, state) in [
            (Answer::Silent, State::Initializing),
            (Answer::Healthy, State::Running),
            (Answer::Unhealthy, State::OnError),
            (Answer::Healthy, State::Running),
        ] {
            world.machine.says(id, answer);
            world.look().await;
            assert_eq!(world.state(id).await, state);
        }

        world.stop(id).await;
        world.look().await;
        let app = world.see(id).await;
        assert_eq!((app.actual, app.port, app.address), (State::Stopped, None, None));
        assert!(world.machine.names().is_empty());
        assert_eq!(world.store.taken().await.unwrap(), store::Taken::default());
        world.look().await;
        assert_eq!(world.deeds(id, "app.end").await, 1);
        assert_eq!(world.machine.made(id), 1);
    });
}

#[test]
fn what_does_not_fit_waits_in_order_and_says_so() {
    on_each(|url| async move {
        let world = World::new(&url).await;
        let mut ids = Vec::new();
        for name in ["a", "b", "c", "d", "e"] {
            ids.push(world.app(name, 1000).await);
        }
        world.look().await;
        assert_eq!(world.machine.names().len(), 3);
        let message = async |id| world.see(id).await.message;
        assert_eq!(
            message(ids[3]).await,
            "waits for room: needs 1024 MB and 1 cores, and is the next in order"
        );
        assert_eq!(message(ids[4]).await, "waits for room: needs 1024 MB and 1 cores; 1 before it");
        assert_eq!(world.state(ids[4]).await, State::Spawning);

        world.stop(ids[1]).await;
        world.look().await;
        world.look().await;
        assert_eq!(world.state(ids[3]).await, State::Initializing);
        assert_eq!(world.see(ids[3]).await.port, Some(101));
        assert!(message(ids[4]).await.ends_with("the next in order"));
        // One that waits can be stopped too.
        world.stop(ids[4]).await;
        world.look().await;
        assert_eq!(world.state(ids[4]).await, State::Stopped);
        assert_eq!(world.machine.made(ids[4]), 0);
    });
}

#[test]
fn a_crashed_node_is_started_again_later_each_time() {
    on_each(|url| async move {
        let world = World::new(&url).await;
        let id = world.app("web", 1000).await;
        world.look().await;
        for failures in 1..=3 {
            world.machine.crash(id);
            world.look().await;
            let app = world.see(id).await;
            assert_eq!((app.actual, app.failures), (State::OnError, failures));
            let wait = app.retry_at.unwrap().duration_since(Timestamp::now());
            let expected = SignedDuration::try_from(back_off(failures)).unwrap();
            assert!(wait <= expected && wait > expected - SignedDuration::from_secs(1), "{wait:?}");
            // Nothing happens before its time, and one crash is one failure.
            world.look().await;
            if failures > 1 {
                assert_eq!(world.see(id).await.failures, failures);
            }
            world.hurry(id).await;
            world.look().await;
            let app = world.see(id).await;
            assert_eq!((app.actual, app.retry_at), (State::Initializing, None));
        }
        assert_eq!(world.machine.made(id), 1, "the same node, with its sealed state");
    });
}

#[test]
fn a_clock_that_is_set_back_puts_nothing_off() {
    on_each(|url| async move {
        let world = World::new(&url).await;
        let id = world.app("web", 1000).await;
        world.look().await;
        world.machine.crash(id);
        world.look().await;
        // Noted while the clock was a day ahead.
        let mut change = AppChange::of(&world.see(id).await);
        change.retry_at = Some(Timestamp::now() + SignedDuration::from_hours(24));
        let mut work = world.store.begin().await.unwrap();
        assert!(work.change_app(id, &change, Timestamp::now()).await.unwrap());
        work.commit().await.unwrap();
        world.look().await;
        assert_eq!(world.state(id).await, State::Initializing);
    });
}

#[test]
fn what_cannot_start_says_so_without_the_operators_secrets() {
    on_each(|url| async move {
        let world = World::new(&url).await;
        *world.machine.broken.lock().unwrap() = true;
        let id = world.app("web", 1000).await;
        world.look().await;
        let app = world.see(id).await;
        assert_eq!((app.actual, app.failures), (State::OnError, 1));
        assert_eq!(app.message, "its node could not be started; it is tried again");
        assert_eq!(app.port, Some(100), "it keeps its place");
        *world.machine.broken.lock().unwrap() = false;
        world.hurry(id).await;
        world.look().await;
        assert_eq!(world.state(id).await, State::Initializing);
    });
}

#[test]
fn a_port_that_somebody_else_has_is_given_up() {
    on_each(|url| async move {
        let world = World::new(&url).await;
        *world.machine.foreign_ports.lock().unwrap() = vec![100, 101];
        let id = world.app("web", 1000).await;
        for _ in 0..3 {
            world.look().await;
        }
        let app = world.see(id).await;
        assert_eq!((app.actual, app.port), (State::Initializing, Some(102)));
    });
}

#[test]
fn an_app_ends_when_its_time_is_over() {
    on_each(|url| async move {
        let world = World::new(&url).await;
        let id = world.app("web", 1000).await;
        let late = world.app("late", -1).await;
        world.look().await;
        assert_eq!(world.state(id).await, State::Initializing);
        let ended = world.see(late).await;
        assert_eq!((ended.actual, ended.message.as_str()), (State::Stopped, "its time was over"));
        assert_eq!((world.deeds(late, "app.expire").await, world.deeds(late, "app.end").await), (1, 1));
        assert_eq!(world.machine.made(late), 0);
    });
}

#[test]
fn the_next_backend_adopts_what_runs_and_removes_what_nobody_wants() {
    on_each(|url| async move {
        let mut world = World::new(&url).await;
        let id = world.app("web", 1000).await;
        world.look().await;
        world.machine.says(id, Answer::Healthy);
        // Somebody's own node is left alone; one of an app that is not in the database is not.
        let node = world.machine.nodes.lock().unwrap().values().next().unwrap().clone();
        for (name, port) in [("mine", 1), (&*format!("app-{}", Uuid::new_v4().simple()), 2)] {
            let name: NodeName = name.parse().unwrap();
            let listen = ([127, 0, 0, 1], port).into();
            let app_id = Uuid::new_v4();
            let node = NodeSummary { name: name.clone(), listen, app_id, ..node.clone() };
            world.machine.nodes.lock().unwrap().insert(name, node);
        }
        world.again().await;
        world.look().await;
        assert_eq!(world.state(id).await, State::Running);
        assert_eq!(world.machine.made(id), 1);
        assert_eq!(world.machine.names(), [format!("app-{}", id.simple()), "mine".to_owned()]);
    });
}

/// Runs a life with many turns, the backend ending at its `n`th effect; then another goes on. True where the first
/// never came so far.
async fn life_with_an_end_at(url: &str, n: i64) -> bool {
    let mut world = World::new(url).await;
    let mut apps = Vec::new();
    for name in ["kept", "stopped", "crashed", "waiting"] {
        apps.push(world.app(name, 1000).await);
    }
    let expired = world.app("expired", -1).await;
    let [kept, stopped, crashed, waiting] = apps[..] else { unreachable!() };

    let fuse = world.site.store.fuse();
    fuse.blow_at(n);
    // After its end a look is an error and nothing more.
    let _ = world.site.look().await;
    world.machine.crash(crashed);
    world.stop(stopped).await;
    for _ in 0..3 {
        let _ = world.site.look().await;
    }
    let survived = !fuse.is_blown();

    world.again().await;
    world.machine.says(kept, Answer::Healthy);
    let expected = BTreeMap::from([
        (kept, State::Running),
        (stopped, State::Stopped),
        (crashed, State::Initializing),
        (waiting, State::Initializing),
        (expired, State::Stopped),
    ]);
    for looks in 0.. {
        world.look().await;
        if world.see(crashed).await.retry_at.is_some() {
            world.hurry(crashed).await;
        }
        let mut found = BTreeMap::new();
        for id in expected.keys() {
            found.insert(*id, world.state(*id).await);
        }
        if found == expected {
            break;
        }
        assert!(looks < 20, "an end at {n} leads to {found:?}, not {expected:?}");
    }
    // Each node once, each place once, each end once.
    let nodes: BTreeSet<String> =
        [kept, crashed, waiting].iter().map(|id| format!("app-{}", id.simple())).collect();
    assert_eq!(BTreeSet::from_iter(world.machine.names()), nodes, "an end at {n}");
    for id in [kept, crashed, waiting] {
        assert_eq!(world.machine.made(id), 1, "an end at {n}");
    }
    assert!(world.machine.made(stopped) <= 1, "an end at {n}");
    let taken = world.store.taken().await.unwrap();
    assert_eq!(taken.room, Room { memory_mb: 3 * 1024, cores: 3 }, "an end at {n}");
    for id in [stopped, expired] {
        assert_eq!(world.deeds(id, "app.end").await, 1, "an end at {n}");
    }
    let app = world.see(kept).await;
    assert!(app.address.is_some() && app.fingerprint.is_some() && app.node.is_some(), "an end at {n}");
    world.site.store.close().await;
    world.store.close().await;
    survived
}

#[test]
fn wherever_a_backend_ends_the_next_loses_nothing_and_doubles_nothing() {
    for n in 0.. {
        let survived = Arc::new(std::sync::atomic::AtomicBool::new(false));
        on_each(|url| {
            let survived = survived.clone();
            async move {
                let done = life_with_an_end_at(&url, n).await;
                survived.store(done, std::sync::atomic::Ordering::SeqCst);
            }
        });
        if survived.load(std::sync::atomic::Ordering::SeqCst) {
            assert!(n > 30, "only {n} effects");
            break;
        }
        assert!(n < 500, "the life never ends");
    }
}

#[test]
fn a_damaged_record_holds_up_nobody_else_and_frees_nothing() {
    on_each(|url| async move {
        let world = World::new(&url).await;
        let (first, second) = (world.app("first", 1000).await, world.app("second", 1000).await);
        world.look().await;
        *world.machine.damaged.lock().unwrap() = Some(first);
        world.machine.says(second, Answer::Healthy);
        world.stop(first).await;
        world.look().await;
        assert_eq!(world.state(second).await, State::Running, "the others are cared for");
        assert!(world.see(first).await.port.is_some(), "its node may run: nothing of it is free");
        assert_eq!((world.machine.made(first), world.machine.names().len()), (1, 2));
        *world.machine.damaged.lock().unwrap() = None;
        world.look().await;
        assert_eq!(world.state(first).await, State::Stopped);
        assert_eq!(world.machine.names().len(), 1);
    });
}

/// A package that takes for ever to open, made into a node.
#[test]
fn a_node_that_takes_for_ever_to_make_holds_up_no_other() {
    on_each(|url| async move {
        let world = World::new(&url).await;
        let slow = world.app("slow", 1000).await;
        world.reader.holds(world.site.blobs.path(world.project, &world.package));
        world.look().await;
        assert_eq!((world.reader.reading(), world.state(slow).await), ((1, 1), State::Spawning));

        // Another tenant's.
        let other = world.beside("bob").await;
        let id = other.app("web", 1000).await;
        world.look().await;
        assert_eq!(other.state(id).await, State::Initializing);
        other.stop(id).await;
        world.look().await;
        assert_eq!(other.state(id).await, State::Stopped);
        assert_eq!((world.reader.reading(), world.machine.made(slow)), ((1, 2), 0), "and is made once");

        world.reader.goes_on();
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while world.state(slow).await != State::Initializing {
            assert!(std::time::Instant::now() < deadline, "{}", world.see(slow).await.message);
            world.look().await;
        }
        assert_eq!(world.machine.made(slow), 1);
    });
}
