//! Names and where they lead. The backend writes, every connection reads; a reader sees the table before a change or
//! after it, never between, and holds no lock while it connects.
//!
//! A connection keeps the route it found. Where a name is taken away, connections that run go on until their node ends
//! them.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use crate::error::Error;
use crate::metrics::{Gauge, RouteMetrics};
use crate::name::Name;
use crate::upstream::Termination;

/// Where a name leads.
#[derive(Clone, Debug)]
pub enum Route {
    /// To the node, the bytes untouched.
    PassThrough {
        /// Where the node listens.
        address: SocketAddr,
    },
    /// TLS ends here, under the operator's certificate, and another connection leads to the node.
    Terminate(Termination),
}

/// One name of one application.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name, exactly: there are no wildcards.
    pub name: Name,
    /// The application. All its names share one limit of connections.
    pub app: String,
    /// Where the name leads.
    pub route: Route,
}

/// All names there are.
#[derive(Debug, Default)]
pub struct Table {
    current: RwLock<Arc<Routes>>,
    /// Held by whoever changes the table, so that readers wait for a swap only.
    writing: Mutex<Apps>,
}

type Routes = HashMap<Name, Arc<Found>>;
type Apps = HashMap<String, Weak<App>>;

/// What a connection finds under a name.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) app: Arc<App>,
    pub(crate) route: Route,
    pub(crate) metrics: Arc<RouteMetrics>,
}

/// An application: the same one while anything leads to it, a running connection included.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) id: String,
    open: Gauge,
}

impl AsRef<Gauge> for App {
    fn as_ref(&self) -> &Gauge {
        &self.open
    }
}

impl AsRef<Gauge> for Arc<App> {
    fn as_ref(&self) -> &Gauge {
        &self.open
    }
}

impl Table {
    /// A table without names.
    pub fn new() -> Table {
        Table::default()
    }

    /// Puts a whole table in the place of this one, at once. Names that stay with their application keep their counters.
    ///
    /// # Errors
    /// A name is there twice; nothing changes then.
    pub fn replace(&self, entries: Vec<Entry>) -> Result<(), Error> {
        let mut names = HashSet::new();
        if let Some(entry) = entries.iter().find(|entry| !names.insert(&entry.name)) {
            return Err(Error::NamedTwice { name: entry.name.to_string() });
        }
        self.change(|old, apps| {
            Ok(entries.into_iter().map(|entry| (entry.name.clone(), found(entry, old, apps))).collect())
        })
    }

    /// Adds a name, or leads it elsewhere for the same application.
    ///
    /// # Errors
    /// The name is another application's; nothing changes then.
    pub fn insert(&self, entry: Entry) -> Result<(), Error> {
        self.change(|old, apps| {
            if let Some(taken) = old.get(&entry.name).filter(|taken| taken.app.id != entry.app) {
                let (name, owner) = (entry.name.to_string(), taken.app.id.clone());
                return Err(Error::Taken { name, owner, app: entry.app });
            }
            let mut routes = old.clone();
            routes.insert(entry.name.clone(), found(entry, old, apps));
            Ok(routes)
        })
    }

    /// Takes all names of an application away; says how many there were.
    pub fn remove_app(&self, app: &str) -> usize {
        let mut removed = 0;
        // It cannot fail: the closure does not.
        let _ = self.change(|old, _| {
            let routes: Routes = old
                .iter()
                .filter(|(_, found)| found.app.id != app)
                .map(|(name, found)| (name.clone(), found.clone()))
                .collect();
            removed = old.len() - routes.len();
            Ok(routes)
        });
        removed
    }

    /// How many connections an application has now.
    pub fn open(&self, app: &str) -> u64 {
        let apps = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        apps.get(app).and_then(Weak::upgrade).map_or(0, |app| app.open.get())
    }

    /// Every name with its application and its counters, in the order of names.
    pub fn metrics(&self) -> Vec<(Name, String, Arc<RouteMetrics>)> {
        let routes = self.routes();
        let mut all: Vec<_> = routes
            .iter()
            .map(|(name, found)| (name.clone(), found.app.id.clone(), found.metrics.clone()))
            .collect();
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        all
    }

    pub(crate) fn find(&self, name: &Name) -> Option<Arc<Found>> {
        self.routes().get(name).cloned()
    }

    fn routes(&self) -> Arc<Routes> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, make: impl FnOnce(&Routes, &mut Apps) -> Result<Routes, Error>) -> Result<(), Error> {
        let mut apps = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.routes();
        let new = Arc::new(make(&old, &mut apps)?);
        let replaced =
            std::mem::replace(&mut *self.current.write().unwrap_or_else(PoisonError::into_inner), new);
        // Before the applications are counted: these two would keep all of them.
        drop((old, replaced));
        apps.retain(|_, app| app.strong_count() > 0);
        Ok(())
    }
}

fn found(entry: Entry, old: &Routes, apps: &mut Apps) -> Arc<Found> {
    let known = apps.get(&entry.app).and_then(Weak::upgrade);
    let app = known.unwrap_or_else(|| {
        let app = Arc::new(App { id: entry.app.clone(), open: Gauge::default() });
        apps.insert(entry.app, Arc::downgrade(&app));
        app
    });
    let same = old.get(&entry.name).filter(|found| found.app.id == app.id);
    let metrics = same.map(|found| found.metrics.clone()).unwrap_or_default();
    Arc::new(Found { app, route: entry.route, metrics })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn entry(text: &str, app: &str, port: u16) -> Entry {
        let route = Route::PassThrough { address: ([127, 0, 0, 1], port).into() };
        Entry { name: name(text), app: app.into(), route }
    }

    fn port(table: &Table, text: &str) -> Option<u16> {
        table.find(&name(text)).map(|found| match &found.route {
            Route::PassThrough { address } => address.port(),
            Route::Terminate(_) => 0,
        })
    }

    #[test]
    fn lookups_are_exact() {
        let table = Table::new();
        table.insert(entry("a.example", "a", 1)).unwrap();
        assert_eq!(port(&table, "A.Example"), Some(1));
        for other in ["example", "b.a.example", "a.example.org", "aa.example"] {
            assert_eq!(port(&table, other), None, "{other}");
        }
    }

    #[test]
    fn a_table_is_replaced_whole_or_not_at_all() {
        let table = Table::new();
        table.replace(vec![entry("a.example", "a", 1), entry("b.example", "b", 2)]).unwrap();
        let twice = table.replace(vec![entry("c.example", "c", 3), entry("C.example", "c", 4)]);
        assert!(matches!(twice, Err(Error::NamedTwice { name }) if name == "c.example"));
        assert_eq!((port(&table, "a.example"), port(&table, "c.example")), (Some(1), None));
        table.replace(vec![entry("b.example", "b", 3)]).unwrap();
        assert_eq!((port(&table, "a.example"), port(&table, "b.example")), (None, Some(3)));
    }

    #[test]
    fn a_name_stays_with_its_application() {
        let table = Table::new();
        table.insert(entry("a.example", "a", 1)).unwrap();
        let stolen = table.insert(entry("a.example", "b", 2));
        assert!(matches!(stolen, Err(Error::Taken { owner, app, .. }) if owner == "a" && app == "b"));
        assert_eq!(port(&table, "a.example"), Some(1));
        table.insert(entry("a.example", "a", 3)).unwrap();
        assert_eq!(port(&table, "a.example"), Some(3));
        assert_eq!((table.remove_app("b"), table.remove_app("a"), table.remove_app("a")), (0, 1, 0));
        table.insert(entry("a.example", "b", 4)).unwrap();
        assert_eq!(port(&table, "a.example"), Some(4));
    }

    #[test]
    fn counters_survive_changes_but_not_another_owner() {
        let table = Table::new();
        table.insert(entry("a.example", "a", 1)).unwrap();
        table.find(&name("a.example")).unwrap().metrics.asked.add(7);
        table.insert(entry("a.example", "a", 2)).unwrap();
        table.replace(vec![entry("a.example", "a", 3), entry("b.example", "b", 3)]).unwrap();
        let asked: Vec<_> =
            table.metrics().iter().map(|(_, app, metrics)| (app.clone(), metrics.asked.get())).collect();
        assert_eq!(asked, [("a".into(), 7), ("b".into(), 0)]);
        table.replace(vec![entry("a.example", "b", 3)]).unwrap();
        assert_eq!(table.metrics()[0].2.asked.get(), 0);
    }

    #[test]
    fn an_application_is_one_while_a_connection_holds_it() {
        let table = Table::new();
        table.insert(entry("a.example", "a", 1)).unwrap();
        table.insert(entry("a.config.example", "a", 1)).unwrap();
        let held = table.find(&name("a.example")).unwrap().app.clone();
        assert!(held.open.rise_to(9));
        table.replace(Vec::new()).unwrap();
        assert_eq!(table.open("a"), 1, "its connections still count");
        table.insert(entry("other.example", "a", 2)).unwrap();
        assert!(Arc::ptr_eq(&held, &table.find(&name("other.example")).unwrap().app));
        drop(held);
        table.replace(Vec::new()).unwrap();
        assert!(table.writing.lock().unwrap().is_empty(), "an application nothing leads to is forgotten");
    }

    #[test]
    fn readers_see_a_whole_table_while_it_changes() {
        let table = Arc::new(Table::new());
        let both = |port| vec![entry("a.example", "a", port), entry("b.example", "b", port)];
        table.replace(both(1)).unwrap();
        let writer = {
            let table = table.clone();
            std::thread::spawn(move || (2..500).for_each(|port| table.replace(both(port)).unwrap()))
        };
        while !writer.is_finished() {
            let routes = table.routes();
            let ports: HashSet<_> = routes.values().map(|found| format!("{:?}", found.route)).collect();
            assert_eq!((routes.len(), ports.len()), (2, 1));
        }
        writer.join().unwrap();
    }
}
