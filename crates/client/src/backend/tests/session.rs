use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::backend::{AppOrder, ProblemKind, State, TlsMode};

fn order(name: &str) -> AppOrder {
    AppOrder {
        name: name.to_owned(),
        plan: "small".to_owned(),
        package: [1; 32],
        tls: TlsMode::ZeroTrust,
        expires_at: None,
        domain: None,
    }
}

#[test]
fn an_app_is_ordered_shown_and_stopped() {
    let id = Uuid::from_u128(5);
    let fake = Fake::start(move |seen| {
        known(seen, || match (seen.method.as_str(), seen.path.split('/').next_back().unwrap()) {
            ("POST", "apps") => say(201, &app(id, "web")),
            ("POST", "stop") => {
                let mut app = app(id, "web");
                app["wanted"] = json!("stopped");
                say(202, &app)
            }
            _ => {
                let mut app = app(id, "web");
                app["state"] = json!("on-error");
                app["message"] = json!("it ended:\n\u{1b}[2Jgone");
                app["fingerprint"] = json!(hex::encode([3; 32]));
                say(200, &app)
            }
        })
    });
    let session = fake.session();
    let key = Uuid::from_u128(9);
    let made = session.create_app(Uuid::max(), &order("web"), key).unwrap();
    assert_eq!((made.id, made.state, made.fingerprint), (id, State::Spawning, None));
    let shown = session.app(id).unwrap();
    assert_eq!((shown.state, shown.fingerprint), (State::OnError, Some([3; 32])));
    assert_eq!(shown.message, "it ended:  [2Jgone", "nothing in it can move the cursor");
    session.stop_app(id).unwrap();
    let project = Uuid::max();
    let calls = [
        format!("POST /v1/projects/{project}/apps"),
        format!("GET /v1/apps/{id}"),
        format!("POST /v1/apps/{id}/stop"),
    ];
    assert_eq!(fake.calls(), calls);
    let seen = fake.seen.lock().unwrap().clone();
    assert_eq!(seen[1].key, Some(key.to_string()));
    let ordered =
        json!({ "name": "web", "plan": "small", "package": hex::encode([1; 32]), "tls": "zero-trust" });
    assert_eq!(seen[1].json(), ordered);
}

#[test]
fn an_answer_about_another_app_or_another_name_is_refused() {
    let id = Uuid::from_u128(5);
    for (field, value) in [
        ("id", json!(Uuid::from_u128(6))),
        ("config_domain", json!("elsewhere.config.apps.localhost")),
        ("domain", json!("elsewhere.fr")),
        ("name", json!("another")),
        ("name", json!("../../etc")),
        ("package", json!(hex::encode([2; 32]))),
        ("plan", json!("smaller")),
        ("tls", json!("untrusted-ssl")),
        ("tls", json!("something")),
        ("project", json!(Uuid::nil())),
        ("expires_at", json!("tomorrow")),
    ] {
        let fake = Fake::start(move |seen| {
            known(seen, || {
                let mut app = app(id, "web");
                app[field] = value.clone();
                say(200, &app)
            })
        });
        let session = fake.session();
        let made = session.create_app(Uuid::max(), &order("web"), Uuid::nil()).and_then(|_| session.app(id));
        let error = made.unwrap_err();
        assert!(matches!(error, Error::BackendAnswer { .. }), "{field}: {error}");
    }
}

#[test]
fn problems_keep_their_kind_and_lose_their_control_characters() {
    for (status, word, kind) in [
        (401, "unauthorized", ProblemKind::Unauthorized),
        (403, "forbidden", ProblemKind::Forbidden),
        (404, "not-found", ProblemKind::NotFound),
        (409, "conflict", ProblemKind::Conflict),
        (422, "invalid", ProblemKind::Invalid),
        (422, "quota", ProblemKind::Quota),
        (500, "internal", ProblemKind::Failed),
        (503, "unavailable", ProblemKind::Failed),
        (418, "teapot", ProblemKind::Other),
    ] {
        let fake = Fake::start(move |seen| known(seen, || problem(status, word, "a\u{1b}[31m\nreason")));
        let error = fake.session().plans().unwrap_err();
        let Error::Backend { status: found, title, detail, .. } = &error else { panic!("{error}") };
        assert_eq!((*found, title.as_str(), detail.as_str()), (status, "A title", "a [31m reason"));
        assert_eq!(error.problem(), Some(kind));
        assert!(!error.is_refusal());
    }
    // Without a problem, the status speaks.
    for (content, length) in [("<html>", 1), ("{\"title\": 5}", 1), ("x", 100_000)] {
        let content = content.repeat(length);
        let fake = Fake::start(move |seen| {
            known(seen, || {
                let mut answer = say(404, &Value::Null);
                *answer.body_mut() = body(content.clone());
                answer
            })
        });
        let error = fake.session().plans().unwrap_err();
        assert!(error.to_string().ends_with("(HTTP 404): Not Found"), "{error}");
    }
}

#[test]
fn who_asks_too_often_waits_twice_and_then_says_so() {
    let refusals = Arc::new(AtomicUsize::new(2));
    let left = refusals.clone();
    let fake = Fake::start(move |seen| {
        known(seen, || match left.load(Ordering::SeqCst) {
            0 => say(200, &json!({ "items": [], "next": null })),
            n => {
                left.store(n - 1, Ordering::SeqCst);
                let mut answer = problem(429, "too-many-requests", "");
                answer.headers_mut().insert("retry-after", "3600".parse().unwrap());
                answer
            }
        })
    });
    let session = fake.session();
    assert_eq!(session.plans().unwrap(), []);
    assert_eq!(fake.calls().len(), 3);
    refusals.store(100, Ordering::SeqCst);
    assert_eq!(session.plans().unwrap_err().problem(), Some(ProblemKind::TooOften));
    assert_eq!(fake.calls().len(), 6);
}

#[test]
fn a_redirect_takes_the_token_nowhere() {
    let elsewhere = Fake::start(|seen| known(seen, || say(200, &Value::Null)));
    let place = elsewhere.url();
    for status in [301, 302, 307, 308, 304] {
        let place = place.clone();
        let fake = Fake::start(move |seen| {
            known(seen, || {
                let mut answer = say(status, &Value::Null);
                answer.headers_mut().insert("location", place.parse().unwrap());
                answer
            })
        });
        let session = fake.session();
        for error in [session.plans().unwrap_err(), session.stop_app(Uuid::nil()).unwrap_err()] {
            assert!(matches!(error, Error::BackendAnswer { .. }), "{status}: {error}");
        }
    }
    assert_eq!(elsewhere.server.connections(), 0);
}

#[test]
fn answers_that_are_too_long_or_no_json_are_refused() {
    let answers: [fn() -> Answer; 6] = [
        || endless(b" "),
        || endless(b"{\"items\":[],\"x\":\"endless"),
        || say(200, &json!("x".repeat(5_000_000))),
        || say(200, &json!([1, 2])),
        || say(200, &json!({ "items": [{}], "next": null })),
        || Response::new(body("[".repeat(100_000))),
    ];
    for (n, answer) in answers.into_iter().enumerate() {
        let fake = Fake::start(move |seen| known(seen, answer));
        let error = fake.session().plans().unwrap_err();
        assert!(matches!(error, Error::BackendAnswer { .. }), "{n}: {error}");
    }
    let fake = Fake::start(|seen| {
        known(seen, || {
            let mut answer = say(200, &json!({ "items": [] }));
            for n in 0..80 {
                let name = http::HeaderName::from_bytes(format!("x-{n}").as_bytes()).unwrap();
                answer.headers_mut().insert(name, "y".repeat(1000).parse().unwrap());
            }
            answer
        })
    });
    assert!(fake.session().plans().is_err());
}

fn project(n: u128) -> Value {
    let quota = json!({ "max_apps": 1 });
    json!({ "id": Uuid::from_u128(n), "name": format!("p{n}"), "created_at": now(), "quota": quota, "role": null })
}

#[test]
fn lists_are_read_page_by_page() {
    let fake = Fake::start(|seen| {
        known(seen, || {
            let from = seen.query.split("cursor=").nth(1).map_or(0, |text| text.parse().unwrap());
            let items: Vec<_> = (from..from + 100).map(project).collect();
            let next = (from < 200).then(|| (from + 100).to_string());
            say(200, &json!({ "items": items, "next": next }))
        })
    });
    let session = fake.session();
    let all = session.projects().unwrap();
    assert_eq!(all.len(), 300);
    assert_eq!(fake.calls()[2], "GET /v1/projects?limit=100&cursor=200");
    assert_eq!(session.project("p150").unwrap(), Some(all[150].clone()));
    assert_eq!(fake.calls().len(), 5, "no page is asked for that is not needed");
    assert_eq!(session.project("none").unwrap(), None);
    let apps = session.apps(Uuid::nil(), true).unwrap_err();
    assert!(matches!(apps, Error::BackendAnswer { .. }), "projects are no apps");
    assert!(fake.calls().last().unwrap().ends_with("/apps?limit=100&all=true"));
}

#[test]
fn lists_without_end_come_to_one() {
    // In a circle; ever on; to an address of the backend's choosing; more at once than asked for.
    let next: [fn(usize) -> (usize, Value); 5] = [
        |n| (0, json!(format!("c{}", n % 3))),
        |n| (0, json!(format!("c{n}"))),
        |_| (0, json!("x&all=true HTTP/1.1\r\n")),
        |_| (0, json!("x".repeat(200))),
        |_| (101, Value::Null),
    ];
    for (which, next) in next.into_iter().enumerate() {
        let count = AtomicUsize::new(0);
        let fake = Fake::start(move |seen| {
            known(seen, || {
                let (items, next) = next(count.fetch_add(1, Ordering::SeqCst));
                let items: Vec<_> = (0..items as u128).map(project).collect();
                say(200, &json!({ "items": items, "next": next }))
            })
        });
        let error = fake.session().projects().unwrap_err();
        assert!(matches!(error, Error::BackendAnswer { .. }), "{which}: {error}");
        assert!(fake.calls().len() <= 200);
    }
}

#[test]
fn a_project_is_made_under_the_name_that_was_asked_for() {
    let fake = Fake::start(|seen| known(seen, || say(201, &project(3))));
    let session = fake.session();
    assert_eq!(session.create_project("p3").unwrap().id, Uuid::from_u128(3));
    assert!(fake.seen.lock().unwrap()[1].key.is_some(), "so that it is made once");
    assert!(matches!(session.create_project("p4").unwrap_err(), Error::BackendAnswer { .. }));
}

#[test]
fn a_connection_that_breaks_off_is_made_anew_and_a_backend_that_was_there_is_waited_for() {
    let breaks = Arc::new(AtomicUsize::new(1));
    let left = breaks.clone();
    let fake = Fake::start(move |seen| {
        known(seen, || {
            if left.load(Ordering::SeqCst) > 0 {
                left.fetch_sub(1, Ordering::SeqCst);
                break_off();
            }
            say(200, &json!({ "items": [], "next": null }))
        })
    });
    let session = fake.session();
    session.plans().unwrap();
    assert_eq!(fake.calls().len(), 2);
    breaks.store(10, Ordering::SeqCst);
    let error = session.plans().unwrap_err();
    assert!(matches!(error, Error::Conversation { .. }) && error.is_passing(), "{error}");
    assert_eq!(fake.calls().len(), 2 + 2 + 4, "once at once, then with waits");
}

#[test]
fn logs_come_whole_or_as_they_grow() {
    let fake = Fake::start(|seen| {
        known(seen, || match seen.query.as_str() {
            "" => Response::new(body("one\ntwo\n")),
            _ => endless(b"more\n"),
        })
    });
    let session = fake.session();
    let mut log = Vec::new();
    session.logs(Uuid::nil(), false, &mut log).unwrap();
    assert_eq!(log, b"one\ntwo\n");
    // Until whoever listens has had enough.
    struct Enough(usize);
    impl Write for Enough {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            assert!(bytes.len() <= 1 << 16, "nothing is collected");
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let error = session.logs(Uuid::nil(), true, &mut Enough(30_000_000)).unwrap_err();
    assert!(error.to_string().contains("broken pipe"), "{error}");
    assert!(fake.calls()[1].ends_with("/logs?follow=true"));
    // Where it is not followed, it has an end.
    let fake = Fake::start(|seen| known(seen, || endless(b"more\n")));
    let error = fake.session().logs(Uuid::nil(), false, &mut std::io::sink()).unwrap_err();
    assert!(matches!(error, Error::BackendAnswer { .. }), "{error}");
    let fake = Fake::start(|seen| known(seen, || problem(404, "not-found", "")));
    let error = fake.session().logs(Uuid::nil(), true, &mut std::io::sink()).unwrap_err();
    assert_eq!(error.problem(), Some(ProblemKind::NotFound));
}

#[test]
fn nothing_printed_for_developers_holds_the_token() {
    let fake = Fake::start(|seen| known(seen, || problem(404, "not-found", "")));
    let login = fake.first_use(None, None).unwrap();
    let session = Session::open(&login).unwrap();
    for text in [format!("{login:?}"), format!("{session:?}")] {
        assert!(!text.contains(TOKEN) && text.contains(&fake.url()), "{text}");
    }
}
