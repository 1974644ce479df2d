//! Twenty deployments at once by four tenants, while the backend is killed and comes back: twenty running apps or clear
//! errors, and every node once. Takes minutes, and is skipped unless `MSE_TEST_STORM` is set.

use std::collections::HashSet;
use std::fs;
use std::process::{Command, Output, Stdio};

use crate::backend::{self, Backend, Database};
use crate::installation::{Installation, wait_for};

const TENANTS: usize = 4;
const EACH: usize = 5;

/// Room for all of them.
const ROOMY: &str =
    "[capacity]\nmemory_mb = 65536\ncores = 64\n[limits]\nrequests_per_second = 1000\nburst = 2000\n";

#[test]
fn nothing_is_lost_or_doubled() {
    if std::env::var_os("MSE_TEST_STORM").is_none() {
        eprintln!("skipped: MSE_TEST_STORM is not set");
        return;
    }
    backend::on_each_database(storm);
}

fn storm(database: &Database) {
    let mut backend = Backend::start_with(database, ROOMY, 40);
    let people: Vec<Installation> = (0..TENANTS)
        .map(|n| {
            let person = Installation::new();
            let token = backend.tenant(&format!("tenant-{n}"));
            backend.login_with(&person, &token);
            person
        })
        .collect();
    for person in &people {
        for n in 0..EACH {
            let name = format!("app{n}");
            person.run(&format!("cloud scaffold {name}"), 0);
            // As small as can be: what is tested is everything around it.
            fs::write(person.path(&format!("{name}/mse_src/app.py")), APP).unwrap();
            fs::write(person.path(&format!("{name}/requirements.txt")), "").unwrap();
        }
    }
    let deployments: Vec<(usize, usize, std::process::Child)> = (0..TENANTS * EACH)
        .map(|n| {
            let (tenant, app) = (n % TENANTS, n / TENANTS);
            let line = format!("cloud deploy --path app{app} --allow-simulated --timeout 500 --format json");
            let mut command: Command = people[tenant].mse(&line);
            let child =
                command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            (tenant, app, child)
        })
        .collect();
    for apps in [2, 8] {
        wait_for("some apps to be there", || (backend.apps().len() >= apps).then_some(()));
        backend.kill();
        backend.run();
    }
    let ended: Vec<(usize, usize, Output)> = deployments
        .into_iter()
        .map(|(tenant, app, child)| (tenant, app, child.wait_with_output().unwrap()))
        .collect();

    let mut running = HashSet::new();
    for (tenant, app, output) in &ended {
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => {
                let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
                assert!(running.insert(report["id"].as_str().unwrap().to_owned()));
            }
            Some(1) => {
                assert!(said.contains("error:"), "tenant {tenant}, app {app}: {said}");
                eprintln!("tenant {tenant}, app {app}: {said}");
            }
            other => panic!("tenant {tenant}, app {app}: {other:?}\n{said}"),
        }
    }
    // Who was told of an error has nothing left behind, and who was not has an app that runs, with one node.
    wait_for("exactly the reported apps", || {
        let apps = backend.apps();
        let ids: HashSet<String> = apps.iter().map(|app| app["id"].as_str().unwrap().to_owned()).collect();
        (ids == running && apps.iter().all(|app| app["state"] == "running")).then_some(())
    });
    let nodes = backend.nodes();
    assert_eq!(nodes.len(), running.len(), "a node for each app, and no other");
    // Records have one name each, of whatever was started twice: processes are counted.
    let names = |mut names: Vec<String>| {
        names.sort();
        names
    };
    wait_for("each node to be one process, and no other to be there", || {
        (names(backend.processes()) == names(backend.nodes())).then_some(())
    });
    eprintln!("{} of {} deployments run", running.len(), ended.len());
    assert!(running.len() * 2 > ended.len(), "a restart is no reason to fail for most of them");
}

const APP: &str = r#"
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"here"]
"#;
