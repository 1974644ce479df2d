//! The API as its clients see it. Every answer in these tests is held against the API's own description.

mod harness;
mod shares;
mod tenants;
mod uploads;

use http::header;
use serde_json::{Value, json};
use uuid::Uuid;

use self::harness::{Api, Somebody, operations};
use super::*;
use crate::testing::on_each;
use crate::testing::packages::PACKAGE;

/// A project of somebody's.
async fn project(api: &Api, of: &Somebody, name: &str) -> String {
    let made = api.post(of, "/v1/projects", json!({"name": name})).await.is(201).json();
    made["id"].as_str().unwrap().to_owned()
}

/// The package, uploaded into a project.
async fn package(api: &Api, of: &Somebody, project: &str) -> String {
    let digest = crate::bearer::sha256(&PACKAGE);
    let path = format!("/v1/projects/{project}/uploads/{digest}");
    api.put(of, &path, json!({"size": PACKAGE.len()})).await.is(201);
    uploads::append(api, of, &path, 0, &PACKAGE).await.is(200);
    digest
}

async fn plan(api: &Api, operator: &Somebody, name: &str, enclave_mb: u64) {
    let plan = json!({"name": name, "enclave_mb": enclave_mb, "cores": 1, "price": "2 EUR a month"});
    api.post(operator, "/v1/plans", plan).await.is(201);
}

#[test]
fn every_operation_asks_for_a_token_but_for_three() {
    on_each(|url| async move {
        let api =
            Api::new(&url, Limits { stranger: Rate { per_second: 1e6, burst: 1e6 }, ..Limits::default() })
                .await;
        let mut open = Vec::new();
        for (method, template) in operations(&api.document) {
            let path = template
                .replace("{sha256}", &"0".repeat(64))
                .replace("{project}", &Uuid::new_v4().to_string())
                .replace("{user}", &Uuid::new_v4().to_string());
            let path = path.replace("{app}", &Uuid::new_v4().to_string());
            let path = path.replace("{token}", &Uuid::new_v4().to_string());
            let path = path.replace("{plan}", &Uuid::new_v4().to_string());
            assert!(!path.contains('{'), "{path}");
            let reply = api.raw(method.as_str(), &path, "{", &[]).await;
            match reply.status.as_u16() {
                401 => assert_eq!(reply.headers["www-authenticate"], "Bearer"),
                200 => open.push(path),
                other => panic!("{method} {path}: {other} {}", reply.text()),
            }
        }
        open.sort();
        assert_eq!(open, ["/healthz", "/readyz", "/v1/openapi.json"]);
        for bad in ["", "Bearer", "Bearer mse_x", "Basic eA==", "Bearer  "] {
            api.raw("GET", "/v1/me", "", &[("authorization", bad)]).await.is(401);
        }
        let ada = api.somebody("ada", false).await;
        let good = format!("bearer {}", ada.token);
        api.raw("GET", "/v1/me", "", &[("authorization", &good)]).await.is(200);
        let twice = [("authorization", good.as_str()), ("authorization", good.as_str())];
        api.raw("GET", "/v1/me", "", &twice).await.is(401);
    });
}

#[test]
fn the_document_is_complete_in_itself() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        assert_eq!(api.document["openapi"], "3.1.0");
        assert!(operations(&api.document).len() >= 30);
        let text = api.raw("GET", "/v1/openapi.json", "", &[]).await.is(200).text();
        for part in text.split("\"$ref\":\"#").skip(1) {
            let pointer = part.split('"').next().unwrap();
            assert!(api.document.pointer(pointer).is_some(), "{pointer}");
        }
        let mut ids = Vec::new();
        for item in api.document["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                ids.push(operation["operationId"].as_str().unwrap());
                assert!(operation["summary"].is_string(), "{operation}");
                assert!(operation["responses"]["default"].is_object(), "{operation}");
            }
        }
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
    });
}

#[test]
fn every_refusal_is_a_problem() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        let ada = api.somebody("ada", false).await;
        let bearer = format!("Bearer {}", ada.token);
        let auth = ("authorization", bearer.as_str());
        let json = ("content-type", "application/json");

        assert_eq!(api.raw("GET", "/nowhere", "", &[]).await.is(404).problem(), "not-found");
        assert_eq!(
            api.raw("GET", "/v1/projects/not-a-uuid", "", &[auth]).await.is(404).problem(),
            "not-found"
        );
        let reply = api.raw("PATCH", "/v1/projects", "", &[auth]).await.is(405);
        assert_eq!(reply.problem(), "method");
        assert!(reply.headers.contains_key(header::ALLOW));
        let large = format!("{{\"name\": \"{}\"}}", "x".repeat(extract::BODY_LIMIT));
        assert_eq!(
            api.raw("POST", "/v1/projects", large, &[auth, json]).await.is(413).problem(),
            "too-large"
        );
        let text = [auth, ("content-type", "text/plain")];
        assert_eq!(api.raw("POST", "/v1/projects", "{}", &text).await.is(415).problem(), "media-type");
        assert_eq!(api.raw("POST", "/v1/projects", "{}", &[auth]).await.is(415).problem(), "media-type");
        for (body, status) in [
            ("", 400),
            ("{", 400),
            ("{\"name\": \"\\ud800\"}", 400),
            ("[\"p\"]", 422),
            ("{}", 422),
            ("{\"name\": 1}", 422),
            ("{\"name\": \"p\", \"other\": 1}", 422),
            ("{\"name\": \"p\", \"name\": \"q\"}", 422),
            ("{\"name\": \"\"}", 422),
            ("{\"name\": \"A\"}", 422),
            ("{\"name\": \"a\\u0000\"}", 422),
            ("{\"name\": \"-a\"}", 422),
        ] {
            api.raw("POST", "/v1/projects", body, &[auth, json]).await.is(status);
        }
        for query in
            ["limit=0", "limit=101", "limit=x", "limit=1&limit=2", "cursor=%00", "cursor=", "other=1"]
        {
            let reply = api.get(&ada, &format!("/v1/projects?{query}")).await.is(400);
            assert_eq!(reply.problem(), "malformed", "{query}");
        }
        for cursor in ["YQ", "0", "____", "LTEgLi4vLi4"] {
            let reply = api.get(&ada, &format!("/v1/projects?cursor={cursor}")).await.is(422);
            assert!(reply.text().contains("an earlier page gave"), "{cursor}: {}", reply.text());
        }
        assert!(api.get(&ada, "/v1/projects").await.is(200).json()["items"].as_array().unwrap().is_empty());
    });
}

#[test]
fn who_asks_too_often_waits() {
    on_each(|url| async move {
        let slow = Rate { per_second: 0.001, burst: 3.0 };
        let api = Api::new(&url, Limits { caller: slow, stranger: slow, ..Limits::default() }).await;
        let (ada, bob) = (api.somebody("ada", false).await, api.somebody("bob", false).await);
        // More tokens are not more requests.
        let more = api.post(&ada, "/v1/tokens", json!({"name": "more"})).await.is(201).json();
        let again = Somebody { id: ada.id, token: more["token"].as_str().unwrap().to_owned() };
        for who in [&ada, &again] {
            api.get(who, "/v1/me").await.is(200);
        }
        api.get(&again, "/v1/me").await.is(429);
        let reply = api.get(&ada, "/v1/me").await.is(429);
        assert_eq!(reply.problem(), "too-many-requests");
        assert!(reply.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 900);
        api.get(&bob, "/v1/me").await.is(200);
        for _ in 0..3 {
            api.raw("GET", "/v1/me", "", &[]).await.is(401);
        }
        api.raw("GET", "/v1/me", "", &[]).await.is(429);
        api.raw("GET", "/healthz", "", &[]).await.is(200);
    });
}

#[test]
fn the_same_request_with_the_same_key_is_done_once() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        let (ada, bob) = (api.somebody("ada", false).await, api.somebody("bob", false).await);
        let ask = async |who: &Somebody, path: &str, body: Value, key: &str| {
            api.ask(who, "POST", path, Some(body), &[("idempotency-key", key)]).await
        };
        let first = ask(&ada, "/v1/projects", json!({"name": "p"}), "k").await.is(201);
        let again = ask(&ada, "/v1/projects", json!({"name": "p"}), "k").await.is(201);
        assert_eq!((first.json(), &first.headers["location"]), (again.json(), &again.headers["location"]));
        let other = ask(&ada, "/v1/projects", json!({"name": "q"}), "k").await.is(422);
        assert_eq!(other.problem(), "invalid");
        ask(&ada, "/v1/tokens", json!({"name": "p"}), "k").await.is(422);
        // Another's key is another key, and what failed was not done.
        let theirs = ask(&bob, "/v1/projects", json!({"name": "p"}), "k").await.is(201);
        assert_ne!(theirs.json()["id"], first.json()["id"]);
        ask(&ada, "/v1/projects", json!({"name": "p"}), "l").await.is(409);
        ask(&ada, "/v1/projects", json!({"name": "r"}), "l").await.is(201);
        for bad in ["", "a b", &"x".repeat(256)] {
            ask(&ada, "/v1/projects", json!({"name": "s"}), bad).await.is(400);
        }

        // A token is answered again, and is nowhere in the database.
        let one = ask(&ada, "/v1/tokens", json!({"name": "t", "days": 3}), "t").await.is(201).json();
        let same = ask(&ada, "/v1/tokens", json!({"name": "t", "days": 3}), "t").await.is(201).json();
        assert_eq!(one, same);
        let mut work = api.shared.store.begin().await.unwrap();
        let bearer = Secret::parse(&ada.token).unwrap();
        let bearer =
            api.shared.store.bearer(&bearer.sha256(), jiff::Timestamp::now()).await.unwrap().unwrap();
        let key = crate::bearer::sha256(b"t");
        let kept = work.take_key(bearer.token_id, &key, "", jiff::Timestamp::now()).await.unwrap().unwrap();
        let shown = one["token"].as_str().unwrap();
        use base64::Engine;
        let bytes = base64::engine::general_purpose::STANDARD.decode(kept.answer).unwrap();
        assert!(bytes.len() > shown.len() && !String::from_utf8_lossy(&bytes).contains(&shown[4..12]));
    });
}

#[test]
fn an_app_that_was_made_is_answered_again_whatever_became_of_its_package() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        let (root, ada) = (api.somebody("root", true).await, api.somebody("ada", false).await);
        plan(&api, &root, "small", 1024).await;
        let project = project(&api, &ada, "p").await;
        let package = package(&api, &ada, &project).await;
        let path = format!("/v1/projects/{project}/apps");
        let wanted = json!({"name": "web", "plan": "small", "package": package});
        let key = [("idempotency-key", "k")];
        let ask = || api.ask(&ada, "POST", &path, Some(wanted.clone()), &key);
        let first = ask().await.is(201).json();
        let mut work = api.shared.store.begin().await.unwrap();
        assert!(work.remove_upload(project.parse().unwrap(), &package).await.unwrap());
        work.commit().await.unwrap();
        assert_eq!(ask().await.is(201).json(), first);
        let other = json!({"name": "other", "plan": "small", "package": package});
        api.ask(&ada, "POST", &path, Some(other), &key).await.is(422);
    });
}

#[test]
fn one_user_does_not_follow_all_logs_that_can_be_followed() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        let (root, ada) = (api.somebody("root", true).await, api.somebody("ada", false).await);
        plan(&api, &root, "small", 1024).await;
        let project = project(&api, &ada, "p").await;
        let package = package(&api, &ada, &project).await;
        let wanted = json!({"name": "web", "plan": "small", "package": package});
        let app = api.post(&ada, &format!("/v1/projects/{project}/apps"), wanted).await.is(201).json();
        let id: Uuid = app["id"].as_str().unwrap().parse().unwrap();
        api.run_node(id).await;
        let path = format!("/v1/apps/{id}/logs?follow=true");
        let mut followed = Vec::new();
        for _ in 0..FOLLOWERS_OF_ONE {
            followed.push(api.open(&ada, &path).await);
            assert_eq!(followed.last().unwrap().status(), 200);
        }
        assert_eq!(api.get(&ada, &path).await.is(422).problem(), "quota");
        api.get(&ada, &format!("/v1/apps/{id}/logs")).await.is(200);
        assert_eq!(api.open(&root, &path).await.status(), 200, "others follow");
        drop(followed);
        let deadline = Instant::now() + std::time::Duration::from_secs(20);
        while api.open(&ada, &path).await.status() != 200 {
            assert!(Instant::now() < deadline, "the places are not given back");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn of_the_same_request_at_once_one_is_done() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        let ada = api.somebody("ada", false).await;
        let key = [("idempotency-key", "k")];
        let ask = || api.ask(&ada, "POST", "/v1/projects", Some(json!({"name": "p"})), &key);
        let replies = futures_util::future::join_all((0..8).map(|_| ask())).await;
        let ids: Vec<_> = replies.into_iter().map(|reply| reply.is(201).json()["id"].clone()).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        let listed = api.get(&ada, "/v1/projects").await.is(200).json();
        assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn users_tokens_and_what_only_operators_may() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        let root = api.somebody("root", true).await;
        let made = api.post(&root, "/v1/users", json!({"name": "ada"})).await.is(201);
        let id = made.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(made.headers["location"], format!("/v1/users/{id}"));
        api.post(&root, "/v1/users", json!({"name": "ada"})).await.is(409);
        let token =
            api.post(&root, &format!("/v1/users/{id}/tokens"), json!({"name": "t"})).await.is(201).json();
        let ada = Somebody { id: id.parse().unwrap(), token: token["token"].as_str().unwrap().to_owned() };
        assert_eq!(api.get(&ada, "/v1/me").await.is(200).json()["name"], "ada");

        let listed = api.get(&ada, "/v1/tokens").await.is(200);
        assert!(!listed.text().contains("mse_"));
        let second = api.post(&ada, "/v1/tokens", json!({"name": "u", "days": 1})).await.is(201).json();
        assert!(second["expires_at"].is_string());
        api.post(&ada, "/v1/tokens", json!({"name": "u", "days": 0})).await.is(422);
        let second_id = second["id"].as_str().unwrap();
        api.delete(&ada, &format!("/v1/tokens/{second_id}")).await.is(204);
        api.delete(&ada, &format!("/v1/tokens/{second_id}")).await.is(404);
        let ended = Somebody { id: ada.id, token: second["token"].as_str().unwrap().to_owned() };
        api.get(&ended, "/v1/me").await.is(401);

        for (method, path, body) in [
            ("GET", "/v1/users".to_owned(), None),
            ("POST", "/v1/users".to_owned(), Some(json!({"name": "x"}))),
            ("DELETE", format!("/v1/users/{}", root.id), None),
            ("POST", format!("/v1/users/{}/tokens", root.id), Some(json!({"name": "x"}))),
            (
                "POST",
                "/v1/plans".to_owned(),
                Some(json!({"name": "x", "enclave_mb": 1024, "cores": 1, "price": ""})),
            ),
            ("DELETE", format!("/v1/plans/{}", Uuid::new_v4()), None),
            ("GET", "/v1/audit".to_owned(), None),
            ("GET", "/metrics".to_owned(), None),
        ] {
            let reply = api.ask(&ada, method, &path, body, &[]).await.is(403);
            assert_eq!(reply.problem(), "forbidden");
        }

        api.delete(&root, &format!("/v1/users/{}", root.id)).await.is(409);
        api.delete(&root, &format!("/v1/users/{id}")).await.is(204);
        api.delete(&root, &format!("/v1/users/{id}")).await.is(404);
        api.get(&ada, "/v1/me").await.is(401);
        api.post(&root, &format!("/v1/users/{id}/tokens"), json!({"name": "t"})).await.is(404);
        let log = api.get(&root, "/v1/audit").await.is(200);
        let actions: Vec<_> =
            log.json()["items"].as_array().unwrap().iter().map(|deed| deed["action"].clone()).collect();
        assert_eq!(actions, ["user.create", "token.create", "token.create", "token.end", "user.disable"]);
        assert!(!log.text().contains("mse_"));
    });
}

#[test]
fn lists_are_read_page_by_page() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        let ada = api.somebody("ada", false).await;
        for name in ["a", "b", "c", "d", "e"] {
            project(&api, &ada, name).await;
        }
        let mut names = Vec::new();
        let mut path = "/v1/projects?limit=2".to_owned();
        loop {
            let page = api.get(&ada, &path).await.is(200).json();
            names.extend(
                page["items"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap().to_owned()),
            );
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/v1/projects?limit=2&cursor={next}");
        }
        assert_eq!(names, ["a", "b", "c", "d", "e"]);
    });
}

#[test]
fn an_app_is_made_shown_and_stopped() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        let (root, ada) = (api.somebody("root", true).await, api.somebody("ada", false).await);
        plan(&api, &root, "small", 1024).await;
        plan(&api, &root, "huge", 65536).await;
        let project = project(&api, &ada, "p").await;
        let package = package(&api, &ada, &project).await;
        let apps = format!("/v1/projects/{project}/apps");

        let wanted = json!({"name": "web", "plan": "small", "package": package});
        let with = |key: &str, value: Value| {
            let mut wanted = wanted.clone();
            wanted[key] = value;
            wanted
        };
        for (wrong, word) in [
            (with("plan", json!("none")), "no plan named 'none'"),
            (with("plan", json!("huge")), "larger than all there is"),
            (with("package", json!("0".repeat(64))), "a complete upload"),
            (with("package", json!("../../etc/passwd")), "64 lower-case"),
            (with("expires_at", json!("2020-01-01T00:00:00Z")), "a time to come"),
            (with("expires_at", json!("9000-01-01T00:00:00Z")), "within ten years"),
            (with("tls", json!("none")), "zero-trust"),
            (with("tls", json!("untrusted-ssl")), "the mode is measured"),
            (with("tls", json!("owner-certificate")), "the name of the owner's certificate"),
            (with("domain", json!("app.example")), "none but with 'owner-certificate'"),
        ] {
            let reply = api.post(&ada, &apps, wrong).await.is(422);
            assert!(reply.text().contains(word), "{word}: {}", reply.text());
        }
        let other = "no package at all".as_bytes();
        let digest = crate::bearer::sha256(other);
        let path = format!("/v1/projects/{project}/uploads/{digest}");
        api.put(&ada, &path, json!({"size": other.len()})).await.is(201);
        uploads::append(&api, &ada, &path, 0, other).await.is(200);
        let reply = api.post(&ada, &apps, with("package", json!(digest))).await.is(422);
        assert!(reply.text().contains("package:"), "{}", reply.text());

        let app = api.post(&ada, &apps, wanted.clone()).await.is(201).json();
        let id = app["id"].as_str().unwrap();
        assert_eq!((&app["state"], &app["wanted"]), (&json!("spawning"), &json!("running")));
        let label = id.replace('-', "");
        assert_eq!(app["domain"], format!("{label}.apps.localhost"));
        assert_eq!(app["config_domain"], format!("{label}.config.apps.localhost"));
        let reply = api.post(&ada, &apps, wanted).await.is(409);
        assert!(reply.text().contains("'web'"));
        assert_eq!(api.get(&ada, &format!("/v1/apps/{id}")).await.is(200).json(), app);
        assert_eq!(api.get(&ada, &format!("/v1/apps/{id}/logs")).await.is(200).text(), "");
        // What it was made of stays as long as it lives.
        api.delete(&ada, &format!("/v1/projects/{project}/uploads/{package}")).await.is(409);
        api.delete(&ada, &format!("/v1/projects/{project}")).await.is(409);

        let stopped = api.ask(&ada, "POST", &format!("/v1/apps/{id}/stop"), None, &[]).await.is(202).json();
        assert_eq!(stopped["wanted"], "stopped");
        api.ask(&ada, "POST", &format!("/v1/apps/{id}/stop"), None, &[]).await.is(202);
        let log = api.get(&ada, &format!("/v1/projects/{project}/audit?limit=100")).await.is(200).json();
        let of = |action: &str| {
            log["items"].as_array().unwrap().iter().filter(|deed| deed["action"] == action).count()
        };
        assert_eq!((of("app.create"), of("app.stop")), (1, 1));
        assert_eq!(api.get(&ada, &apps).await.is(200).json()["items"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn a_project_has_its_quota() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits { projects_per_user: 1, ..Limits::default() }).await;
        let (root, ada) = (api.somebody("root", true).await, api.somebody("ada", false).await);
        plan(&api, &root, "small", 1024).await;
        let project = project(&api, &ada, "p").await;
        let reply = api.post(&ada, "/v1/projects", json!({"name": "q"})).await.is(422);
        assert_eq!(reply.problem(), "quota");
        let package = package(&api, &ada, &project).await;

        let quota = format!("/v1/projects/{project}/quota");
        let tight = json!({"max_apps": 5, "max_memory_mb": 2048, "max_upload_bytes": PACKAGE.len() + 10});
        api.put(&ada, &quota, tight.clone()).await.is(403);
        assert_eq!(api.put(&root, &quota, tight.clone()).await.is(200).json()["quota"], tight);
        api.put(&root, &format!("/v1/projects/{}/quota", Uuid::new_v4()), tight).await.is(404);
        let apps = format!("/v1/projects/{project}/apps");
        for (name, status) in [("a", 201), ("b", 201), ("c", 422)] {
            let wanted = json!({"name": name, "plan": "small", "package": package});
            api.post(&ada, &apps, wanted).await.is(status);
        }
        let path = format!("/v1/projects/{project}/uploads/{}", "0".repeat(64));
        assert_eq!(api.put(&ada, &path, json!({"size": 11})).await.is(422).problem(), "quota");
        api.put(&ada, &path, json!({"size": 10})).await.is(201);
    });
}

#[test]
fn operators_see_figures_and_readiness() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        let root = api.somebody("root", true).await;
        api.get(&root, &format!("/v1/apps/{}", Uuid::new_v4())).await.is(404);
        let figures = api.get(&root, "/metrics").await.is(200).text();
        assert!(figures.contains("route=\"/v1/apps/{app}\",status=\"404\""), "{figures}");
        assert!(figures.contains("mse_cloud_memory_megabytes 8192"), "{figures}");
        api.raw("GET", "/readyz", "", &[]).await.is(200);
        drop(crate::pulse::Ended(api.shared.pulse()));
        api.raw("GET", "/readyz", "", &[]).await.is(503);
    });
}

#[test]
fn who_is_about_to_end_is_not_ready() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        api.raw("GET", "/readyz", "", &[]).await.is(200);
        api.shared.end();
        api.raw("GET", "/readyz", "", &[]).await.is(503);
        api.raw("GET", "/healthz", "", &[]).await.is(200);
    });
}

use crate::bearer::Secret;

#[test]
fn an_owner_brings_a_name_of_their_own_and_no_other() {
    on_each(|url| async move {
        let api = Api::new(&url, Limits::default()).await;
        let ada = api.somebody("ada", false).await;
        let project = api.post(&ada, "/v1/projects", json!({"name": "p"})).await.is(201).json();
        let apps = format!("/v1/projects/{}/apps", project["id"].as_str().unwrap());
        for domain in [
            "",
            "localhost",
            "App.example",
            "app.example.",
            "127.0.0.1",
            "a b.example",
            "apps.localhost",
            "x.apps.localhost",
            "x.config.apps.localhost",
            "*.example",
        ] {
            let order = json!({
                "name": "web", "plan": "small", "package": "0".repeat(64),
                "tls": "owner-certificate", "domain": domain,
            });
            let reply = api.post(&ada, &apps, order).await.is(422);
            assert!(reply.text().contains("domain: expected"), "{domain}: {}", reply.text());
        }
    });
}
