//! `localtest` with an image, and what is said where there is none to build.

use std::fs;

use crate::engine::{account, build_ca, docker};
use crate::installation::wait_for;
use crate::nodes::project;

#[test]
fn the_tests_run_against_the_app_in_its_image() {
    let Some(person) = account() else { return };
    project(&person, "inside", "FROM mse-base\nRUN echo 42 > /opt/answer\n");
    let app = r#"
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [open("/opt/answer", "rb").read()]
"#;
    fs::write(person.path("inside/mse_src/app.py"), app).unwrap();
    let test = "import os, urllib.request\n\
                assert urllib.request.urlopen(os.environ['TEST_REMOTE_URL']).read() == b'42\\n'\n";
    fs::write(person.path("inside/tests/check.py"), test).unwrap();
    let config = fs::read_to_string(person.path("inside/mse.toml")).unwrap();
    let config = config.replace("tests_cmd = \"true\"", "tests_cmd = \"python3 check.py\"");
    fs::write(person.path("inside/mse.toml"), config).unwrap();
    person.run(&format!("home localtest --project inside {}", build_ca()), 0);
    person.run(&format!("home localtest --project inside --dockerfile inside/Dockerfile {}", build_ca()), 0);

    // Another answer fails the application's tests, and leaves nothing in the engine.
    fs::write(person.path("inside/Dockerfile"), "FROM mse-base\nRUN echo 41 > /opt/answer\n").unwrap();
    person.run(&format!("home localtest --project inside {}", build_ca()), 4);
    // Other tests build and serve meanwhile: what they have goes again, what this one had left would stay.
    wait_for("no container of a localtest", || {
        docker(&["ps", "--all", "--quiet", "--filter", "label=mse.dev"]).is_empty().then_some(())
    });
    wait_for("no image of a build", || {
        docker(&["image", "ls", "--quiet", "mse-build"]).is_empty().then_some(())
    });
}

#[test]
fn a_dockerfile_that_fails_says_why() {
    let Some(person) = account() else { return };
    project(&person, "broken", "FROM mse-base\nRUN echo the-reason >&2; exit 3\n");
    let said = person.talk("home package --project broken --builder docker --output out", 1);
    assert!(said.contains("the-reason"), "{said}");
    assert!(!person.path("out").exists() || fs::read_dir(person.path("out")).unwrap().next().is_none());
    // A base image that is not there is named, with the way to get it.
    project(&person, "baseless", "FROM mse-base:never\n");
    let said = person.talk("home package --project baseless --builder docker --output out", 1);
    assert!(said.contains("mse-base:never") && said.contains("base-image build"), "{said}");
}

#[test]
fn a_base_that_the_engine_does_not_have_is_named() {
    let Some(person) = account() else { return };
    let said = person.talk("base-image build --from mse-nobody-has-this:1 --tag mse-nobody-has-this:2", 1);
    assert!(said.contains("no image mse-nobody-has-this:1") && said.contains("--from"), "{said}");
    assert_eq!(docker(&["image", "ls", "--quiet", "mse-nobody-has-this"]), "");
}
