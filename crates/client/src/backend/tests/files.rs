use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;
use crate::backend::{Context, Contexts, Logins, Operator, TlsMode, Verification};

const CODE_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn context(n: u128) -> Context {
    let id = Uuid::from_u128(n);
    Context {
        version: Context::VERSION,
        id,
        name: "web".to_owned(),
        project: "shop".to_owned(),
        project_id: Uuid::max(),
        backend: "https://backend.localhost:7443".to_owned(),
        plan: "small".to_owned(),
        size_mb: 1024,
        package_sha256: [1; 32],
        fingerprint: [2; 32],
        code_sha256: [3; 32],
        tls: TlsMode::ZeroTrust,
        domain: format!("{}.apps.localhost", id.simple()),
        config_domain: format!("{}.config.apps.localhost", id.simple()),
        router_port: 8443,
        code_key: Some(Zeroizing::new(CODE_KEY.to_owned())),
        mrsigner: SIGNER,
        signer_confirmed: true,
        simulated_root: Some(root("one")),
        pccs: Some("http://127.0.0.1:8081".to_owned()),
        created_at: now(),
        expires_at: now(),
        verified: Verification::NotYet,
        configured_at: None,
    }
}

fn login() -> Login {
    Login {
        url: "https://backend.localhost:7443".to_owned(),
        token: Zeroizing::new(TOKEN.to_owned()),
        ca_pem: Some(root("ca")),
        operator: serde_json::from_value::<Operator>(operator()).unwrap(),
        signer_confirmed: true,
        logged_in_at: now(),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Changes the JSON in a file; its mode stays.
fn change(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result.unwrap_err() {
        error @ Error::BackendFile { .. } => error.to_string(),
        other => panic!("{other}"),
    }
}

#[test]
fn whom_a_login_met_outlives_it() {
    let state = tempfile::tempdir().unwrap();
    let logins = Logins::new(state.path());
    let elsewhere = Login {
        url: "https://elsewhere.localhost".to_owned(),
        signer_confirmed: false,
        operator: Operator { mrsigner: [9; 32], ..login().operator },
        ..login()
    };
    assert!(logins.met(&login().url).unwrap().is_none());
    logins.save(&login()).unwrap();
    logins.save(&elsewhere).unwrap();
    assert!(logins.remove().unwrap());
    for known in [login(), elsewhere] {
        // However the address is written.
        let met = logins.met(&format!("{}/", known.url)).unwrap().unwrap();
        assert_eq!(format!("{met:?}"), format!("{:?}", known.met()));
    }
    // What cannot be read is not taken for nothing.
    let records = fs::read_dir(state.path().join("operators")).unwrap();
    for record in records.map(|entry| entry.unwrap().path()) {
        assert_eq!(mode(&record), 0o600);
        fs::write(record, "{}").unwrap();
    }
    refused(logins.met(&login().url));
}

#[test]
fn a_login_is_kept_for_its_user_alone() {
    let state = tempfile::tempdir().unwrap();
    let directory = state.path().join("state/cloud");
    let logins = Logins::new(&directory);
    assert!(logins.load().unwrap().is_none() && !logins.remove().unwrap());
    logins.save(&login()).unwrap();
    let path = directory.join("login.json");
    assert_eq!((mode(&directory), mode(&path)), (0o700, 0o600));
    let loaded = logins.load().unwrap().unwrap();
    assert_eq!((loaded.token.as_str(), &loaded.operator), (TOKEN, &login().operator));
    assert_eq!((&loaded.url, &loaded.ca_pem, loaded.logged_in_at), (&login().url, &login().ca_pem, now()));
    // Another replaces it, and nothing else is left.
    logins.save(&Login { signer_confirmed: false, ..login() }).unwrap();
    assert!(!logins.load().unwrap().unwrap().signer_confirmed);
    let mut left: Vec<_> =
        fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["login.json", "operators"]);
    assert!(logins.remove().unwrap() && logins.load().unwrap().is_none());
}

#[test]
fn a_login_that_is_none_is_refused_and_its_token_not_shown() {
    let state = tempfile::tempdir().unwrap();
    let logins = Logins::new(state.path());
    let path = state.path().join("login.json");
    let changes: [fn(&mut Value); 7] = [
        |login| login["version"] = json!(2),
        |login| login["url"] = json!("http://backend.localhost"),
        |login| login["url"] = json!("https://user@backend.localhost"),
        |login| login["token"] = json!("two words"),
        |login| login["operator"]["mrsigner"] = json!("07"),
        |login| login["more"] = json!(1),
        |login| login["signer_confirmed"] = json!("mse_0123456789012345678901234567890123456789012"),
    ];
    for (n, spoil) in changes.into_iter().enumerate() {
        logins.save(&login()).unwrap();
        change(&path, spoil);
        let message = refused(logins.load());
        assert!(!message.contains(TOKEN), "{n}: {message}");
    }
    for content in [vec![], b"{".to_vec(), vec![b' '; 300_000]] {
        fs::write(&path, content).unwrap();
        refused(logins.load());
    }
    logins.save(&login()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(refused(logins.load()).contains("0640"));
    // Where the file is a link, it is not followed; where it is a directory, it is not one.
    fs::rename(&path, state.path().join("other")).unwrap();
    symlink(state.path().join("other"), &path).unwrap();
    assert!(logins.load().is_err());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused(logins.load());
}

#[test]
fn contexts_are_kept_listed_and_removed() {
    let state = tempfile::tempdir().unwrap();
    let directory = state.path().join("cloud/contexts");
    let contexts = Contexts::new(&directory);
    assert_eq!(contexts.list().unwrap(), []);
    let mut second = context(1);
    second.created_at = now() + jiff::SignedDuration::from_secs(1);
    contexts.save(&second).unwrap();
    contexts.save(&context(2)).unwrap();
    assert_eq!((mode(&directory), mode(&directory.join(format!("{}.json", second.id)))), (0o700, 0o600));
    // What others put there is not a context by its name.
    for name in ["notes.txt", "x.json", &format!("{}.json", Uuid::nil().simple()), ".tmp123"] {
        fs::write(directory.join(name), "").unwrap();
    }
    assert_eq!(contexts.list().unwrap(), [context(2), second.clone()], "oldest first");
    second.verified = Verification::Verified { at: now(), simulated: true, skipped: None };
    second.configured_at = Some(now());
    contexts.save(&second).unwrap();
    assert_eq!(contexts.load(second.id).unwrap(), Some(second.clone()));
    assert!(contexts.remove(second.id).unwrap() && !contexts.remove(second.id).unwrap());
    assert_eq!(contexts.load(second.id).unwrap(), None);
    // One that cannot be read stops a list, by name, and can be purged.
    let broken = directory.join(format!("{}.json", Uuid::from_u128(2)));
    change(&broken, |context| context["version"] = json!(9));
    assert!(refused(contexts.list()).contains(&Uuid::from_u128(2).to_string()));
    assert_eq!(contexts.purge().unwrap(), 1);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 4, "what is not ours stays");
}

#[test]
fn a_context_that_is_none_is_refused_and_its_key_not_shown() {
    let state = tempfile::tempdir().unwrap();
    let contexts = Contexts::new(state.path());
    let path = state.path().join(format!("{}.json", Uuid::from_u128(1)));
    for (field, value) in [
        ("version", json!(2)),
        ("id", json!(Uuid::from_u128(2))),
        ("id", json!("../../etc/passwd")),
        ("name", json!("../web")),
        ("project", json!("a b")),
        ("plan", json!("")),
        ("backend", json!("http://backend.localhost")),
        ("backend", json!("https://backend.localhost:7443/")),
        ("size_mb", json!(0)),
        ("fingerprint", json!("00")),
        ("domain", json!("\u{1b}[2J")),
        ("config_domain", json!("127.0.0.1")),
        ("router_port", json!(0)),
        ("router_port", json!(70_000)),
        ("code_key", json!("0011")),
        ("code_key", json!([CODE_KEY])),
        ("simulated_root", json!("none")),
        ("pccs", json!("gopher://x")),
        ("verified", json!({ "state": "verified" })),
        ("verified", json!("verified")),
        ("more", json!(1)),
    ] {
        contexts.save(&context(1)).unwrap();
        change(&path, |context| context[field] = value.clone());
        let message = refused(contexts.load(Uuid::from_u128(1)));
        assert!(!message.contains(CODE_KEY) && !message.contains('\u{1b}'), "{field}: {message}");
        assert_eq!(refused(contexts.list()), message);
    }
    contexts.save(&context(1)).unwrap();
    let twice = fs::read_to_string(&path).unwrap().replacen('{', "{\"tls\": \"untrusted-ssl\",", 1);
    fs::write(&path, twice).unwrap();
    refused(contexts.load(Uuid::from_u128(1)));
    // Nor is one saved that could not be loaded.
    refused(contexts.save(&Context { name: "a/b".to_owned(), ..context(1) }));
    assert!(!format!("{:?}", context(1)).contains(CODE_KEY));
}

#[test]
fn a_context_is_exported_once_and_imported_from_anywhere() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("exported.json");
    context(1).export(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(Context::import(&path).unwrap(), context(1));
    assert!(matches!(context(2).export(&path).unwrap_err(), Error::File { .. }), "nothing is replaced");
    assert_eq!(Context::import(&path).unwrap(), context(1));
    fs::write(&path, vec![b'['; 1_000_000]).unwrap();
    refused(Context::import(&path));
    assert!(matches!(Context::import(&state.path().join("none")).unwrap_err(), Error::File { .. }));
    refused(Context::import(state.path()));
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1);
}

#[test]
fn addresses_of_an_app() {
    let mut context = context(1);
    assert_eq!(context.config_origin(), format!("https://{}:8443", context.config_domain));
    assert_eq!(context.origin(), format!("https://{}:8443", context.domain));
    context.router_port = 443;
    assert_eq!(context.origin(), format!("https://{}", context.domain));
}
