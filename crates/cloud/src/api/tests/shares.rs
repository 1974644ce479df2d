//! One tenant's costly work never stops another's: orders of packages that take for ever to open, logs, uploads put
//! together, and clients that hang up meanwhile.

use std::pin::Pin;
use std::time::Duration;

use super::harness::Reply;
use super::*;

/// How long a test waits for what must come.
const LIMIT: Duration = Duration::from_secs(60);

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what}"))
}

/// A tenant with a project, a package and an app that runs.
struct Tenant {
    who: Somebody,
    project: String,
    package: String,
    app: Uuid,
}

impl Tenant {
    async fn new(api: &Api, name: &str) -> Tenant {
        let who = api.somebody(name, false).await;
        let project = project(api, &who, name).await;
        let package = package(api, &who, &project).await;
        let wanted = json!({"name": "web", "plan": "small", "package": package});
        let path = format!("/v1/projects/{project}/apps");
        let app = api.post(&who, &path, wanted).await.is(201).json();
        let app = app["id"].as_str().unwrap().parse().unwrap();
        api.run_node(app).await;
        Tenant { who, project, package, app }
    }

    fn package_file(&self, api: &Api) -> std::path::PathBuf {
        api.shared.blobs.path(self.project.parse().unwrap(), &self.package)
    }

    async fn order(&self, api: &Api, name: &str) -> Reply {
        let wanted = json!({"name": name, "plan": "small", "package": self.package});
        api.post(&self.who, &format!("/v1/projects/{}/apps", self.project), wanted).await
    }

    /// A new upload, made of the package, twice.
    async fn assemble(&self, api: &Api) -> Reply {
        let twice = [PACKAGE.as_slice(), &PACKAGE].concat();
        let part = json!({"sha256": self.package, "size": PACKAGE.len()});
        let path =
            format!("/v1/projects/{}/uploads/{}/assemble", self.project, crate::bearer::sha256(&twice));
        api.post(&self.who, &path, json!({"parts": [part, part]})).await
    }
}

type Asked<'a> = Pin<Box<dyn Future<Output = Reply> + 'a>>;

/// Polls each once more; how many are done.
async fn done(all: &mut [Asked<'_>]) -> usize {
    let mut done = 0;
    for one in all {
        if futures_util::poll!(one).is_ready() {
            done += 1;
        }
    }
    done
}

#[test]
fn packages_without_end_hold_up_nobody_but_those_who_order_them() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        let root = api.somebody("root", true).await;
        plan(&api, &root, "small", 1024).await;
        let (ada, bob) = (Tenant::new(&api, "ada").await, Tenant::new(&api, "bob").await);
        api.reader.holds(ada.package_file(&api));

        for round in 0..3 {
            let names: Vec<_> = (0..4).map(|n| format!("bad-{round}-{n}")).collect();
            let mut orders: Vec<Asked<'_>> =
                names.iter().map(|name| Box::pin(ada.order(&api, name)) as Asked<'_>).collect();
            until("nothing is read", async || {
                assert_eq!(done(&mut orders).await, 0);
                api.reader.reading().0 == 1
            })
            .await;
            // The client hangs up: what was begun goes on, and is still counted.
            drop(orders);
            assert_eq!(api.reader.reading(), (1, 1));
        }

        soon("an order waits for another tenant's", bob.order(&api, "other")).await.is(201);
        let path_of_bob = format!("/v1/apps/{}/logs", bob.app);
        let log = api.get(&bob.who, &path_of_bob);
        assert!(soon("a log waits for another tenant's", log).await.is(200).text().contains("the log of"));
        soon("an assembly waits for another tenant's", bob.assemble(&api)).await.is(201);
        // Nor do one's own other things wait.
        soon("an assembly waits for an order", ada.assemble(&api)).await.is(201);

        api.reader.goes_on();
        until("the turn is not given back", async || api.reader.reading().0 == 0).await;
        soon("the turn is not given back", ada.order(&api, "good")).await.is(201);
    });
}

#[test]
fn one_project_has_one_turn_and_so_many_wait_for_it() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        let root = api.somebody("root", true).await;
        plan(&api, &root, "small", 1024).await;
        let ada = Tenant::new(&api, "ada").await;
        api.reader.holds(ada.package_file(&api));
        let names: Vec<_> = (0..=crate::turns::ASKED).map(|n| format!("bad-{n}")).collect();
        let mut orders: Vec<Asked<'_>> =
            names.iter().map(|name| Box::pin(ada.order(&api, name)) as Asked<'_>).collect();
        // The last of them is told at once.
        let mut last = orders.pop().unwrap();
        until("they do not wait", async || {
            assert_eq!(done(&mut orders).await, 0);
            api.reader.reading().0 == 1 && api.shared.packages.asked(ada.who.id) == crate::turns::ASKED
        })
        .await;
        let reply = soon("it waits like the others", last.as_mut()).await.is(429);
        assert_eq!(
            (reply.problem(), &reply.headers["retry-after"] == "5"),
            ("too-many-requests".into(), true)
        );
        assert_eq!(api.reader.reading(), (1, 1));
        api.reader.goes_on();
        for reply in soon("they do not go on", futures_util::future::join_all(orders)).await {
            reply.is(201);
        }
        assert_eq!(api.reader.reading(), (0, 1));
    });
}

#[test]
fn logs_without_end_hold_up_nobody_else() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        let root = api.somebody("root", true).await;
        plan(&api, &root, "small", 1024).await;
        let (ada, bob) = (Tenant::new(&api, "ada").await, Tenant::new(&api, "bob").await);
        api.machine.talks_for_ever(ada.app);
        let path = format!("/v1/apps/{}/logs", ada.app);
        let mut reads: Vec<Asked<'_>> =
            (0..4).map(|_| Box::pin(api.get(&ada.who, &path)) as Asked<'_>).collect();
        until("nothing is read", async || {
            assert_eq!(done(&mut reads).await, 0);
            api.machine.talking() == 1
        })
        .await;
        let path_of_bob = format!("/v1/apps/{}/logs", bob.app);
        let log = api.get(&bob.who, &path_of_bob);
        soon("a log waits for another tenant's", log).await.is(200);
        // What nobody waits for any more ends.
        drop(reads);
        until("it is read for nobody", async || api.machine.talking() == 0).await;
    });
}
