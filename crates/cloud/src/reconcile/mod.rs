//! Makes what is so what is wanted: compares the database with the runtime, does one thing at a time
//! ([`crate::lifecycle`] says which), and looks again.
//!
//! It remembers nothing between two looks, so that it may end at any point and another goes on: a node is known by
//! its name, which follows from its app, and is adopted with what the runtime says of it. Nothing is done twice,
//! for the names are unique in the runtime and places are freed in the transaction that ends an app.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use gramine::sigstruct::SignerKey;
use jiff::{SignedDuration, Timestamp};
use package::Package;
use runtime::{NodeName, NodeSpec, NodeSummary, Runtime};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use uuid::Uuid;

use crate::api::{Operator, REMEMBERED};
use crate::blobs::Blobs;
use crate::error::{Error, Result};
use crate::lifecycle::{Answer, Facts, LONGEST_WAIT, Node, Retry, State, Step, Wanted, back_off, decide};
use crate::placement::{Place, Room, place};
use crate::probe::Probe;
use crate::pulse::{Ended, Pulse};
use crate::reader::PackageReader;
use crate::routes::Routes;
use crate::store::{App, AppChange, Placement, Store, now};
use crate::turns::Turns;

/// What nodes of apps are called: this and the app's identifier.
const PREFIX: &str = "app-";

/// Apps cared for at once.
const AT_ONCE: usize = 8;

/// How long a look waits for one app. What takes longer goes on beside it, and holds up nobody else's.
const PATIENCE: Duration = Duration::from_secs(2);

/// Packages opened at once to make nodes of; of one user, and of one project, one each.
const SPAWNS: usize = 2;

/// Things done for one app before the next look at all.
const STEPS: usize = 8;

/// An app that has run so long has recovered: its failures are forgotten.
const RECOVERED: SignedDuration = SignedDuration::from_mins(10);

/// What the reconciler works with.
pub struct Site {
    /// The database.
    pub store: Store,
    /// What starts and stops nodes.
    pub nodes: Arc<dyn Runtime>,
    /// Where packages are.
    pub blobs: Blobs,
    /// What opens packages first.
    pub reader: Arc<dyn PackageReader>,
    /// What looks at nodes' ports.
    pub probe: Arc<dyn Probe>,
    /// Who runs this, and the names of apps.
    pub identity: Operator,
    /// Signs enclaves.
    pub signer: SignerKey,
    /// The simulator's installation; `None` where there is SGX.
    pub simulator: Option<PathBuf>,
    /// What apps may occupy.
    pub capacity: Room,
    /// The ports of nodes, on loopback.
    pub ports: RangeInclusive<u16>,
    /// What the public port leads where.
    pub routes: Routes,
    /// What it does at present.
    pub work: UnderWay,
}

/// What the reconciler does at present, so that it does nothing twice at once.
pub struct UnderWay {
    /// Apps that are cared for.
    apps: Mutex<HashMap<Uuid, AbortHandle>>,
    spawns: Turns,
}

impl Default for UnderWay {
    fn default() -> UnderWay {
        UnderWay { apps: Mutex::default(), spawns: Turns::new(SPAWNS) }
    }
}

impl UnderWay {
    /// The apps that are cared for.
    fn apps(&self) -> HashSet<Uuid> {
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        apps.retain(|_, task| !task.is_finished());
        apps.keys().copied().collect()
    }

    fn note(&self, app: Uuid, task: AbortHandle) {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner).insert(app, task);
    }

    /// Ends all of it, between two of its steps.
    fn end(&self) {
        for (_, task) in self.apps.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            task.abort();
        }
    }
}

/// Dropped with the reconciler, however that ends.
struct End(Arc<Site>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.work.end();
    }
}

/// Looks whenever it is woken, and every `every`, until it is dropped.
pub async fn run(site: Arc<Site>, wake: Arc<Notify>, every: Duration, pulse: Arc<Pulse>) {
    // Also where a look panics.
    let _ended = Ended(pulse.clone());
    let _end = End(site.clone());
    loop {
        match site.look().await {
            Ok(()) => pulse.beat(),
            Err(error) => tracing::error!(%error, "the reconciler could not finish a look"),
        }
        let _ = tokio::time::timeout(every, wake.notified()).await;
    }
}

impl Site {
    /// One look at everything.
    pub async fn look(self: &Arc<Site>) -> Result<()> {
        // Asked first: what is known of an app from before its care ended is old.
        let busy = self.work.apps();
        let mut nodes = self.nodes().await?;
        let apps = self.store.living_apps().await?;
        // Before anything else: what was adopted can be called at once.
        self.routes.lead_to(&apps)?;
        self.place(&apps).await?;
        futures_util::stream::iter(apps)
            .filter_map(|app| {
                let node = nodes.remove(&app.id);
                // Neither there nor gone: nothing of such an app is freed, started or ended before its record is mended.
                let is_damaged = matches!(node, Some(None));
                if is_damaged {
                    tracing::error!(app = %app.id, "the runtime's record of its node is damaged: it is left as it is");
                }
                let free = !is_damaged && !busy.contains(&app.id);
                std::future::ready(free.then_some((app, node.flatten())))
            })
            .map(|(app, node)| {
                let (site, id) = (self.clone(), app.id);
                async move {
                    let task = tokio::spawn(async move {
                        if let Err(error) = site.care(id, node).await {
                            tracing::error!(app = %id, %error, "the reconciler could not care for an app");
                        }
                    });
                    self.work.note(id, task.abort_handle());
                    let _ = tokio::time::timeout(PATIENCE, task).await;
                }
            })
            .buffer_unordered(AT_ONCE)
            .collect::<()>()
            .await;
        for (id, node) in nodes {
            let Some(node) = node else { continue };
            // Its app ended, or is not in this database: nobody could ever stop it.
            tracing::warn!(app = %id, "a node without an app is removed");
            self.remove(&node.name).await?;
        }
        self.routes.lead_to(&self.store.living_apps().await?)?;
        let mut work = self.store.begin().await?;
        work.forget_answers(now() - REMEMBERED).await?;
        work.commit().await
    }

    /// The nodes of apps that the runtime knows; without a summary where it cannot read its own record. Others are
    /// somebody else's, and left alone.
    async fn nodes(&self) -> Result<HashMap<Uuid, Option<NodeSummary>>> {
        let nodes = self.blocking(known_nodes).await??;
        let own = nodes.into_iter().filter_map(|(name, node)| {
            let id = Uuid::try_parse(name.as_str().strip_prefix(PREFIX)?).ok()?;
            Some((id, node))
        });
        Ok(own.collect())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&dyn Runtime) -> T + Send + 'static,
    ) -> Result<T> {
        let nodes = self.nodes.clone();
        Ok(tokio::task::spawn_blocking(move || act(nodes.as_ref())).await?)
    }

    /// Gives places to those that wait, in their order, and tells the others.
    async fn place(&self, apps: &[App]) -> Result<()> {
        let now = now();
        let waits = |app: &&App| app.wanted == Wanted::Running && app.port.is_none() && app.expires_at > now;
        let waiting: Vec<&App> = apps.iter().filter(waits).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let queue: Vec<Room> = waiting.iter().map(|app| room(app)).collect();
        let mut work = self.store.begin().await?;
        let taken = work.taken().await?;
        let free = Room {
            memory_mb: self.capacity.memory_mb.saturating_sub(taken.room.memory_mb),
            cores: self.capacity.cores.saturating_sub(taken.room.cores),
        };
        let places = place(self.capacity, free, self.ports.clone(), &taken.ports, &queue);
        for (app, place) in waiting.into_iter().zip(places) {
            let mut change = AppChange::of(app);
            let room = room(app);
            let asks = format!("{} MB and {} cores", room.memory_mb, room.cores);
            (change.actual, change.message) = match place {
                Place::Here(port) => {
                    work.occupy(&Placement { app_id: app.id, room, port }, now).await?;
                    (State::Spawning, "its node is being made".to_owned())
                }
                Place::Behind(0) => {
                    (State::Spawning, format!("waits for room: needs {asks}, and is the next in order"))
                }
                Place::Behind(n) => (State::Spawning, format!("waits for room: needs {asks}; {n} before it")),
                Place::Never => (State::OnError, format!("needs {asks}: more than all there is here")),
            };
            if change != AppChange::of(app) {
                work.change_app(app.id, &change, now).await?;
            }
        }
        work.commit().await
    }

    /// Does for one app what is to be done. `node` is what the runtime said of it a moment ago.
    async fn care(self: &Arc<Site>, id: Uuid, node: Option<NodeSummary>) -> Result<()> {
        let mut node = node;
        for _ in 0..STEPS {
            let mut work = self.store.begin().await?;
            let Some(app) = work.app(id).await? else { return Ok(()) };
            drop(work);
            let now = now();
            let seen = self.see(&app, node.as_ref()).await;
            let facts = Facts {
                wanted: app.wanted,
                state: app.actual,
                expired: app.expires_at <= now,
                placed: app.port.is_some(),
                known: app.node.is_some(),
                node: seen,
                retry: match app.retry_at {
                    None => Retry::None,
                    Some(at) if at <= now => Retry::Due,
                    // Later than anything is put off: the clock was set back meanwhile.
                    Some(at) if at > now + LONGEST_WAIT => Retry::Due,
                    Some(_) => Retry::Later,
                },
            };
            let mut change = AppChange::of(&app);
            let name = name_of(id)?;
            match decide(&facts) {
                Step::Place => return Ok(()),
                Step::Rest => return self.rest(&app, now).await,
                Step::Expire => {
                    let mut work = self.store.begin().await?;
                    work.want_stopped(id).await?;
                    let project = Some(app.project_id);
                    work.note(now, None, project, "app.expire", &id.to_string(), &app.name).await?;
                    work.commit().await?;
                }
                Step::Finish => {
                    let message = if facts.expired { "its time was over" } else { "stopped" };
                    let mut work = self.store.begin().await?;
                    if work.finish_app(id, message, now).await? {
                        let project = Some(app.project_id);
                        work.note(now, None, project, "app.end", &id.to_string(), message).await?;
                    }
                    return work.commit().await;
                }
                Step::Remove => {
                    self.remove(&name).await?;
                    node = None;
                }
                Step::Spawn => match self.spawn(&app, now).await {
                    Ok(made) => node = Some(made),
                    Err(Error::Runtime(runtime::Error::NameInUse { .. })) => {
                        node = Some(self.blocking(move |nodes| nodes.summary(&name)).await??);
                    }
                    Err(Error::Runtime(runtime::Error::PortInUse { by: None, .. })) => {
                        // Somebody outside has it: nobody knows for how long.
                        return self.move_away(&app, now).await;
                    }
                    Err(error) => return self.failed(&app, &error, now).await,
                },
                Step::Restart => {
                    let again = self.blocking(move |nodes| nodes.restart(&name)).await?;
                    match again {
                        Ok(made) => node = Some(made),
                        Err(error) => return self.failed(&app, &error.into(), now).await,
                    }
                    // The attempt is noted at once: should the node end before the next look, that is another failure.
                    change.retry_at = None;
                    change.actual = State::Spawning;
                    change.message = "its node was started again".to_owned();
                    self.change(id, &change, now).await?;
                }
                Step::NoteFailure => {
                    change.failures = change.failures.saturating_add(1);
                    change.actual = State::OnError;
                    change.retry_at = later(now, change.failures);
                    change.message = "its node ended; it is started again".to_owned();
                    return self.change(id, &change, now).await;
                }
                Step::Become(state) => {
                    change.actual = state;
                    change.retry_at = None;
                    change.message = words(state, seen).to_owned();
                    if let Some(node) = &node {
                        change.node = Some(node.name.to_string());
                        change.address = Some(node.listen);
                        change.fingerprint = Some(node.fingerprint.clone());
                    }
                    return self.change(id, &change, now).await;
                }
            }
        }
        Ok(())
    }

    /// What there is to see of an app's node.
    async fn see(&self, app: &App, node: Option<&NodeSummary>) -> Node {
        let Some(node) = node else { return Node::Missing };
        if node.app_id != app.id || app.port.is_some_and(|port| port != node.listen.port()) {
            return Node::Foreign;
        }
        if !node.process.is_alive() {
            return Node::Ended;
        }
        // Who is to be stopped need not be asked.
        if app.wanted == Wanted::Stopped {
            return Node::Alive(Answer::Silent);
        }
        Node::Alive(self.probe.look(node.listen, &node.host, &node.healthcheck).await)
    }

    async fn spawn(self: &Arc<Site>, app: &App, now: Timestamp) -> Result<NodeSummary> {
        let turn = self.work.spawns.take_patiently(app.created_by, app.project_id).await;
        let (site, app) = (self.clone(), app.clone());
        let made = tokio::task::spawn_blocking(move || -> Result<NodeSummary> {
            let _turn = turn;
            let Some(port) = app.port else {
                return Err(Error::Row { what: "port", expected: "a port", found: "none".to_owned() });
            };
            let path = site.blobs.path(app.project_id, &app.package);
            // First where it can do no harm. The bytes are named by their digest and do not change: what opened there,
            // with this program, opens here with as much memory and time.
            site.reader.read(&path, app.enclave_mb, &|| false)?;
            let package = Package::open(&path)?;
            let name = name_of(app.id)?;
            let host = site.identity.domain_of(app.id);
            let other_hosts = [site.identity.config_domain_of(app.id)];
            let subject = format!("CN={}", app.id.simple());
            let hours = app.expires_at.duration_since(now).as_hours();
            let spec = NodeSpec {
                name: &name,
                package: &package,
                size_mb: app.enclave_mb,
                host: &host,
                other_hosts: &other_hosts,
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                days: u32::try_from(hours / 24 + 1).unwrap_or(1).clamp(1, 3650),
                subject: &subject,
                app_id: app.id,
                signer: &site.signer,
                simulator: site.simulator.as_deref(),
                debug: false,
                now,
            };
            Ok(site.nodes.spawn(&spec)?)
        });
        made.await?
    }

    /// Ends and removes a node; one that is gone already is no error.
    async fn remove(&self, name: &NodeName) -> Result<()> {
        let name = name.clone();
        let done = self.blocking(move |nodes| match nodes.stop(&name) {
            // Removal is the way out of a damaged record.
            Ok(()) | Err(runtime::Error::Record { .. }) => nodes.remove(&name),
            Err(error) => Err(error),
        });
        match done.await? {
            Ok(()) | Err(runtime::Error::NoSuchNode { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes that an attempt failed, and when to try again. The reason may name the operator's files: owners are told
    /// what is wrong with their package, and no more.
    async fn failed(&self, app: &App, error: &Error, now: Timestamp) -> Result<()> {
        tracing::warn!(app = %app.id, %error, "a node could not be started");
        let mut change = AppChange::of(app);
        change.failures = change.failures.saturating_add(1);
        change.actual = State::OnError;
        change.retry_at = later(now, change.failures);
        change.message = match error {
            Error::Runtime(runtime::Error::NotForProcesses { reason }) => {
                format!("this package cannot run here: {reason}; it is tried again")
            }
            Error::Reader(refused) if refused.is_of_package() => {
                format!("its package cannot be opened: {refused}; it is tried again")
            }
            _ => "its node could not be started; it is tried again".to_owned(),
        };
        self.change(app.id, &change, now).await
    }

    /// Gives an app the next port that nobody here holds, and tries again a little later.
    async fn move_away(&self, app: &App, now: Timestamp) -> Result<()> {
        let mut work = self.store.begin().await?;
        let taken: HashSet<u16> = work.taken().await?.ports.into_iter().collect();
        let from = app.port.unwrap_or(*self.ports.start());
        let after = self.ports.clone().filter(|port| *port > from);
        let before = self.ports.clone().filter(|port| *port < from);
        if let Some(port) = after.chain(before).find(|port| !taken.contains(port)) {
            work.move_to_port(app.id, port).await?;
        }
        let mut change = AppChange::of(app);
        change.failures = change.failures.saturating_add(1);
        change.retry_at = Some(now);
        change.message = "its port was taken; it gets another".to_owned();
        work.change_app(app.id, &change, now).await?;
        work.commit().await
    }

    /// Nothing is to be done: what is old is forgotten.
    async fn rest(&self, app: &App, now: Timestamp) -> Result<()> {
        let recovered = app.actual == State::Running && now.duration_since(app.changed_at) > RECOVERED;
        if app.failures == 0 || !recovered {
            return Ok(());
        }
        let mut change = AppChange::of(app);
        change.failures = 0;
        self.change(app.id, &change, now).await
    }

    async fn change(&self, id: Uuid, change: &AppChange, now: Timestamp) -> Result<()> {
        let mut work = self.store.begin().await?;
        work.change_app(id, change, now).await?;
        work.commit().await
    }
}

/// All nodes by name. One damaged record must not keep the others from being cared for.
fn known_nodes(
    nodes: &dyn Runtime,
) -> std::result::Result<Vec<(NodeName, Option<NodeSummary>)>, runtime::Error> {
    match nodes.list() {
        Ok(nodes) => return Ok(nodes.into_iter().map(|node| (node.name.clone(), Some(node))).collect()),
        Err(runtime::Error::Record { .. }) => {}
        Err(error) => return Err(error),
    }
    let mut known = Vec::new();
    for name in nodes.names()? {
        match nodes.summary(&name) {
            Ok(node) => known.push((name, Some(node))),
            Err(runtime::Error::NoSuchNode { .. }) => {}
            Err(runtime::Error::Record { .. }) => known.push((name, None)),
            Err(error) => return Err(error),
        }
    }
    Ok(known)
}

fn room(app: &App) -> Room {
    Room { memory_mb: app.enclave_mb, cores: app.cores }
}

fn name_of(id: Uuid) -> Result<NodeName> {
    Ok(format!("{PREFIX}{}", id.simple()).parse()?)
}

fn later(now: Timestamp, failures: u32) -> Option<Timestamp> {
    let wait = SignedDuration::try_from(back_off(failures)).unwrap_or(SignedDuration::from_secs(1));
    now.checked_add(wait).ok()
}

fn words(state: State, seen: Node) -> &'static str {
    match (state, seen) {
        (State::Spawning, _) => "its node starts",
        (State::Initializing, Node::Alive(Answer::Waiting)) => "its node waits for its configuration",
        (State::Initializing, _) => "its application starts",
        (State::Running, _) => "its health check passes",
        (State::OnError, Node::Alive(Answer::Silent)) => "its node runs and does not answer",
        (State::OnError, _) => "its health check fails",
        (State::Stopped, _) => "stopped",
    }
}
