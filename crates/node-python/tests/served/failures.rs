//! What goes wrong is named in the log, and ends with a code other than 0; what was accepted stays.

use serde_json::json;

use crate::client::{self, get, post, run};
use crate::stage::{APP_ID, Stage};

/// Configures the node, which then fails; returns its log.
fn fails(stage: &Stage, extra: serde_json::Value) -> String {
    let mut node = stage.start();
    run(client::configure(stage.address, extra));
    assert_eq!(node.ended().code(), Some(1), "{}", stage.log());
    let log = stage.log();
    for noise in ["panicked", "mse_node/__main__.py", "importlib", "RUST_BACKTRACE"] {
        assert!(!log.contains(noise), "{log}");
    }
    log
}

#[test]
fn an_application_that_does_not_import_is_named_and_stays_configured() {
    let code = "import os\nimport no_such_module_of_mine  # the culprit\n";
    let stage = Stage::new("broken:app", &[("broken.py", code)]);
    let log = fails(&stage, json!({}));
    assert!(log.contains("the application's module `broken` failed to import"), "{log}");
    assert!(log.contains("ModuleNotFoundError: No module named 'no_such_module_of_mine'"), "{log}");
    assert!(log.contains("line 2") && log.contains("# the culprit"), "{log}");
    // Configured already, it fails again without an owner, rather than waiting for one.
    assert_eq!(stage.launch().ended().code(), Some(1));
}

#[test]
fn confidential_code_is_not_quoted_in_the_log() {
    for code in ["raise ValueError('reason')  # my secret recipe\n", "def (:  # my secret recipe\n"] {
        let mut stage = Stage::new("broken:app", &[("broken.py", code)]);
        let key = stage.encrypt();
        let log = fails(&stage, json!({ "code_secret_key": key }));
        assert!(log.contains("line 1"), "{log}");
        assert!(log.contains("ValueError: reason") || log.contains("SyntaxError"), "{log}");
        assert!(!log.contains("recipe"), "{log}");
    }
}

#[test]
fn requests_that_fail_do_not_quote_confidential_code_either() {
    let mut code = String::from("def app(environ, start_response):\n");
    code.push_str("    raise ValueError('reason')  # my secret recipe\n");
    let mut stage = Stage::new("broken:app", &[("broken.py", &code)]);
    let key = stage.encrypt();
    let node = stage.start();
    run(async {
        client::configure(stage.address, json!({ "code_secret_key": key })).await;
        assert_eq!(get(stage.address, "/").await.status, 500);
    });
    assert_eq!(node.stop().code(), Some(0));
    let log = stage.log();
    assert!(log.contains("ValueError: reason") && log.contains("broken.py"), "{log}");
    assert!(!log.contains("recipe"), "{log}");
}

#[test]
fn an_application_that_is_none_is_named() {
    for (application, code, message) in [
        ("app:missing", "app = 1\n", "has no `missing`"),
        ("app:app", "app = 'text'\n", "found a value of type `str`"),
        ("app:app", "import sys\nsys.exit(0)\n", "SystemExit"),
        ("app:create_app", "def create_app(): pass\n", "write `app:create_app()` if it is a factory"),
        ("app:make", "def make(config=None, debug=False): pass\n", "write `app:make()` if it is a factory"),
        ("app:make", "async def make(): pass\n", "write `app:make()` if it is a factory"),
        ("app:App", "class App:\n    def __call__(self, e, s): pass\n", "a class whose instances are"),
    ] {
        let stage = Stage::new(application, &[("app.py", code)]);
        let log = fails(&stage, json!({}));
        assert!(log.contains(message), "{log}");
    }
}

#[test]
fn a_lifespan_that_refuses_to_start_is_named() {
    let code = r#"
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
"#;
    let stage = Stage::new("app:app", &[("app.py", code)]);
    let log = fails(&stage, json!({}));
    assert!(log.contains("no database") && log.contains("lifespan"), "{log}");
}

#[test]
fn a_refused_configuration_leaves_the_node_waiting_also_after_a_restart() {
    let mut stage = Stage::new("app:app", &[("app.py", "")]);
    stage.encrypt();
    for _ in 0..2 {
        let node = stage.start();
        run(async {
            let body = json!({ "uuid": APP_ID, "code_secret_key": "00".repeat(32) }).to_string();
            let answer = post(stage.address, "/", body).await;
            assert_eq!(
                (answer.status, &answer.json()["type"]),
                (422, &json!("urn:mse:problem:wrong-code-key"))
            );
            assert_eq!(get(stage.address, "/").await.headers["mse-status"], "Waiting");
        });
        assert_eq!(node.stop().code(), Some(0), "a node that waits stops at once");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let stage = Stage::new("app:app", &[("app.py", "")]);
    let taken = std::net::TcpListener::bind(stage.address).unwrap();
    assert_eq!(stage.launch().ended().code(), Some(1));
    assert!(stage.log().contains(&format!("error: cannot listen on {}", stage.address)), "{}", stage.log());
    drop(taken);
}
