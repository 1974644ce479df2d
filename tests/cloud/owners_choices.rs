//! What an owner may choose, break off, or be warned of.

use std::fs;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::backend::Backend;
use crate::installation::{Installation, wait_for};

#[test]
fn an_interrupted_deployment_leaves_nothing() {
    let backend = Backend::start("[capacity]\nmemory_mb = 1024\ncores = 1\n");
    let owner = Installation::new();
    backend.login(&owner);
    owner.run("cloud scaffold first", 0);
    let first = owner.run("cloud deploy --path first --allow-simulated --format json", 0);
    let first: serde_json::Value = serde_json::from_str(&first).unwrap();
    owner.run("cloud scaffold second", 0);
    // It waits for room, and its owner for it.
    let mut deploy = owner
        .mse("cloud deploy --path second --allow-simulated")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the second app", || (backend.apps().len() == 2).then_some(()));
    kill_process(Pid::from_child(&deploy), Signal::INT).unwrap();
    let status = deploy.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    wait_for("the second app to be gone", || (backend.apps().len() == 1).then_some(()));
    let contexts = owner.run("cloud context list --format json", 0);
    let contexts: serde_json::Value = serde_json::from_str(&contexts).unwrap();
    assert_eq!(contexts.as_array().unwrap().len(), 1, "{contexts}");
    assert_eq!(contexts[0]["id"], first["id"]);

    // With a deadline of its own it gives up by itself, and says what it waited for.
    let said = owner.talk("cloud deploy --path second --allow-simulated --timeout 1", 1);
    assert!(said.contains("waits for room"), "{said}");
    wait_for("the second app to be gone", || (backend.apps().len() == 1).then_some(()));
}

#[test]
fn going_without_verification_is_said_and_remembered() {
    let backend = Backend::start("");
    let owner = Installation::new();
    backend.login(&owner);
    owner.run("cloud scaffold app", 0);
    let said = owner.talk("cloud deploy --path app --no-verify", 0);
    assert!(said.contains("whoever answers"), "{said}");
    let status = owner.run("cloud status app", 0);
    assert!(status.contains("Verified: NO: --no-verify"), "{status}");
    let said = owner.talk("cloud test --path app app", 0);
    assert!(said.contains("whoever answers may be anybody"), "{said}");
    // A later verification of something else than was deployed does not count for it.
    let contexts = owner.home().join(".local/state/mse/cloud/contexts");
    let context = fs::read_dir(contexts).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read_to_string(&context).unwrap();
    let mut other: serde_json::Value = serde_json::from_str(&whole).unwrap();
    let fingerprint = other["fingerprint"].as_str().unwrap().to_owned();
    other["fingerprint"] = "00".repeat(32).into();
    fs::write(&context, other.to_string()).unwrap();
    owner.run(&format!("cloud verify app --fingerprint {fingerprint} --allow-simulated --output other/"), 0);
    let status = owner.run("cloud status app", 0);
    assert!(status.contains("Verified: NO: --no-verify"), "{status}");
    fs::write(&context, whole).unwrap();

    // One of the deployment does, and what comes after rests on it.
    owner.run("cloud verify app --allow-simulated --output verified/", 0);
    let status = owner.run("cloud status app", 0);
    assert!(status.contains("Verified: yes") && status.contains("--no-verify"), "{status}");
    let said = owner.talk("cloud test --path app app", 0);
    assert!(!said.contains("may be anybody"), "{said}");
}

#[test]
fn a_wrong_word_begins_nothing_and_ends_nothing() {
    let backend = Backend::start("");
    let owner = Installation::new();
    backend.login(&owner);
    owner.run("cloud scaffold app", 0);
    let report = owner.run("cloud deploy --path app --allow-simulated --format json", 0);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    for (more, code) in [
        ("--allow-simulated --policy no-such.toml", 1),
        ("--simulated-root no-such.pem", 1),
        ("--allow-simulated --timeout 18446744073709551615", 2),
    ] {
        owner.run(&format!("cloud deploy --path app -y {more}"), code);
    }
    owner.run("cloud stop app --timeout 18446744073709551615", 2);

    // A certificate that ends before the application does, which has no date of its own.
    let key = rcgen::KeyPair::generate().unwrap();
    let mut short = rcgen::CertificateParams::new(vec!["app.owner.localhost".to_owned()]).unwrap();
    short.not_before = rcgen::date_time_ymd(2020, 1, 1);
    short.not_after = (std::time::SystemTime::now() + std::time::Duration::from_secs(3 * 86_400)).into();
    fs::write(owner.path("app/chain.pem"), short.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(owner.path("app/key.pem"), key.serialize_pem()).unwrap();
    let toml = fs::read_to_string(owner.path("app/mse.toml")).unwrap();
    let ssl = "[cloud.ssl]\ndomain_name = \"app.owner.localhost\"\nprivate_key = \"key.pem\"\ncertificate = \"chain.pem\"\n";
    fs::write(owner.path("app/mse.toml"), format!("{toml}\n{ssl}")).unwrap();
    let said = owner.talk("cloud deploy --path app -y --allow-simulated", 1);
    assert!(said.contains("outlives the application"), "{said}");

    let apps = backend.apps();
    assert_eq!(apps.len(), 1);
    assert_eq!((&apps[0]["id"], &apps[0]["wanted"]), (&report["id"], &"running".into()));
}

#[test]
fn what_this_home_knows_is_not_lost_to_others() {
    let backend = Backend::start("");
    let owner = Installation::new();
    backend.login(&owner);
    owner.run("cloud scaffold app", 0);
    owner.run("cloud deploy --path app --allow-simulated", 0);
    owner.run("cloud context export app --output whole.json", 0);
    owner.run("cloud context export app --public --output public.json", 0);
    let whole: serde_json::Value =
        serde_json::from_slice(&fs::read(owner.path("whole.json")).unwrap()).unwrap();
    let kept = || {
        let contexts = owner.home().join(".local/state/mse/cloud/contexts");
        let path = contexts.join(format!("{}.json", whole["id"].as_str().unwrap()));
        fs::read_to_string(path).unwrap()
    };
    // A file says what it likes: here, that there is no code key.
    let said = owner.talk("cloud context import public.json", 1);
    assert!(said.contains("known here already"), "{said}");
    assert!(kept().contains(whole["code_key"].as_str().unwrap()));

    // An app of the same name on another backend, of which this one knows nothing.
    let id = uuid::Uuid::new_v4();
    let mut other = whole.clone();
    other["id"] = id.to_string().into();
    other["backend"] = "https://127.0.0.1:1".into();
    other["domain"] = format!("{}.apps.example", id.simple()).into();
    other["config_domain"] = format!("{}.config.apps.example", id.simple()).into();
    fs::write(owner.path("other.json"), other.to_string()).unwrap();
    owner.run("cloud context import other.json", 0);
    let said = owner.talk("cloud verify app --allow-simulated --output no/", 2);
    assert!(said.contains("2 apps are called"), "{said}");
    assert!(!owner.path("no").exists());
    let stopped = whole["id"].as_str().unwrap();
    backend.api("POST", &format!("/v1/apps/{stopped}/stop"), None);
    wait_for("the app to end", || backend.apps().is_empty().then_some(()));
    owner.run("cloud context purge", 0);
    let contexts = owner.run("cloud context list --format json", 0);
    let contexts: serde_json::Value = serde_json::from_str(&contexts).unwrap();
    assert_eq!(contexts.as_array().unwrap().len(), 1, "{contexts}");
    assert_eq!(contexts[0]["id"], id.to_string(), "the other backend's stays");
}

#[test]
fn another_operator_is_refused_from_the_login_on() {
    let mut backend = Backend::start("");
    let owner = Installation::new();
    let login = |signer: &str| {
        format!(
            "cloud login https://127.0.0.1:{} --ca {} --token-file {} {signer}",
            backend.api_port(),
            backend.data().join("ca.pem").display(),
            backend.data().join("first-token").display()
        )
    };
    let operator = backend.api("GET", "/v1/operator", None);
    let signer = operator["mrsigner"].as_str().unwrap();
    owner.run(&login(&format!("--signer {}", "00".repeat(32))), 3);
    owner.run("cloud list", 1);
    let said = owner.run(&login(&format!("--signer {signer}")), 0);
    assert!(said.contains("(confirmed)"), "{said}");
    let (again, other) = (login(""), Installation::new());
    other.run("sgx keygen --output other.pem", 0);
    fs::copy(other.path("other.pem"), backend.data().join("signer.pem")).unwrap();
    backend.reconfigure("");
    // The same address, and somebody else's enclaves.
    let said = owner.talk("cloud list", 3);
    assert!(said.contains("another"), "{said}");
    owner.run(&again, 3);
    // Nor does it help to have logged out.
    owner.run("cloud logout", 0);
    owner.run(&again, 3);
    let now = backend.api("GET", "/v1/operator", None);
    let now = now["mrsigner"].as_str().unwrap();
    assert_ne!(now, signer);
    owner.run(&format!("{again} --signer {now}"), 0);
    owner.run("cloud list", 0);
}

#[test]
fn a_project_of_ones_own_gets_its_configuration_by_answers() {
    let owner = Installation::new();
    fs::create_dir(owner.path("mse_src")).unwrap();
    fs::write(
        owner.path("mse_src/web.py"),
        "def app(environ, start):\n    start('200 OK', [])\n    return [b'']\n",
    )
    .unwrap();
    // Nobody answers.
    let said = owner.talk("cloud init --name shop", 2);
    assert!(said.contains("no answer"), "{said}");
    assert!(!owner.path("mse.toml").exists());
    owner.run("cloud init --name a/b -y", 1);
    assert!(!owner.path("mse.toml").exists(), "a wrong answer writes nothing");
    owner.run(
        "cloud init --name shop --application web:app --healthcheck / --tests-cmd true --hardware small -y",
        0,
    );
    let toml = fs::read_to_string(owner.path("mse.toml")).unwrap();
    assert!(
        toml.contains("python_application = \"web:app\"") && toml.contains("hardware = \"small\""),
        "{toml}"
    );
    owner.run("cloud init --name other -y", 2);
    assert_eq!(fs::read_to_string(owner.path("mse.toml")).unwrap(), toml, "what is there stays");
    fs::create_dir(owner.path("tests")).unwrap();
    owner.run("cloud localtest", 0);
}
