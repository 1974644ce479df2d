use super::*;
use crate::backend::ProblemKind;

#[test]
fn the_first_use_records_the_operator_and_later_ones_compare() {
    let fake = Fake::start(|seen| known(seen, || problem(404, "not-found", "")));
    let login = fake.first_use(None, None).unwrap();
    assert_eq!(login.url, fake.url());
    assert_eq!((login.operator.mrsigner, login.signer_confirmed), (SIGNER, false));
    assert_eq!(login.operator.router_port(), 8443);
    assert!(login.operator.is_simulated());
    assert_eq!(fake.calls(), ["GET /v1/me"], "the token is tried");
    let session = Session::open(&login).unwrap();
    assert_eq!(session.operator(), &login.operator);
    assert_eq!(session.me().unwrap().name, "somebody");
    // Again, at the same address: what was confirmed stays so.
    assert!(!fake.first_use(None, Some(&login)).unwrap().signer_confirmed);
    let confirmed = fake.first_use(Some(SIGNER), None).unwrap();
    assert!(confirmed.signer_confirmed);
    assert!(fake.first_use(None, Some(&confirmed)).unwrap().signer_confirmed);
}

#[test]
fn another_signer_than_stated_is_refused_before_the_token_is_tried() {
    let fake = Fake::start(|seen| known(seen, || problem(404, "not-found", "")));
    let error = fake.first_use(Some([8; 32]), None).unwrap_err();
    let Error::AnotherOperator { expected, found, .. } = &error else { panic!("{error}") };
    assert_eq!((expected, found), (&hex::encode([8; 32]), &hex::encode(SIGNER)));
    assert!(error.is_refusal());
    assert_eq!(fake.calls(), [""; 0]);
}

#[test]
fn a_change_of_signer_or_root_is_refused_until_the_user_states_the_signer() {
    let fake = Fake::start(|seen| known(seen, || problem(404, "not-found", "")));
    let login = fake.first_use(None, None).unwrap();
    let mut other_signer = login.clone();
    other_signer.operator.mrsigner = [9; 32];
    let mut other_root = login.clone();
    other_root.operator.simulated_root = Some(root("two"));
    let mut no_root = login.clone();
    no_root.operator.simulated_root = None;
    for changed in [other_signer, other_root, no_root] {
        for error in [Session::open(&changed).unwrap_err(), fake.first_use(None, Some(&changed)).unwrap_err()]
        {
            assert!(matches!(error, Error::AnotherOperator { .. }) && error.is_refusal(), "{error}");
        }
        assert!(fake.first_use(Some(SIGNER), Some(&changed)).unwrap().signer_confirmed);
        // What was recorded of another backend says nothing of this one.
        let elsewhere = Login { url: "https://elsewhere.localhost".to_owned(), ..changed };
        assert!(!fake.first_use(None, Some(&elsewhere)).unwrap().signer_confirmed);
    }
}

#[test]
fn a_token_that_does_not_hold_is_told_from_other_failures() {
    let fake = Fake::start(|seen| known(seen, || problem(404, "not-found", "")));
    let token = Zeroizing::new("mse_another".to_owned());
    let error =
        Login::first_use(&fake.url(), token, Some(fake.ca_pem.clone()), None, None, now()).unwrap_err();
    assert_eq!(error.problem(), Some(ProblemKind::Unauthorized), "{error}");
    for bad in ["", "two words", "line\nbreak", "caf\u{e9}"] {
        let token = Zeroizing::new(bad.to_owned());
        let error = Login::first_use(&fake.url(), token, None, None, None, now()).unwrap_err();
        assert!(matches!(error, Error::BackendCredential { what: "token", .. }), "{bad}: {error}");
    }
}

#[test]
fn only_the_ca_of_the_login_is_trusted() {
    let fake = Fake::start(|seen| known(seen, || problem(404, "not-found", "")));
    let other = Authority::new();
    // Another CA, and without one the system's.
    for ca in [Some(other.pem.as_str()), None] {
        let error = Session::begin(&fake.url(), TOKEN, ca).unwrap_err();
        assert!(matches!(error, Error::Handshake { .. }), "{error}");
    }
    // The right CA, and a certificate for another name.
    let elsewhere = Authority::for_name("elsewhere.localhost");
    let fake = Fake::of(&elsewhere, |_| say(200, &operator()));
    let error = Session::begin(&fake.url(), TOKEN, Some(&elsewhere.pem)).unwrap_err();
    assert!(matches!(error, Error::Handshake { .. }), "{error}");
    assert_eq!(fake.server.connections(), 0);
    for bad in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let error = Session::begin(&fake.url(), TOKEN, Some(bad)).unwrap_err();
        assert!(matches!(error, Error::BackendCredential { what: "CA certificate", .. }), "{bad}: {error}");
    }
}

#[test]
fn an_address_that_is_none_is_refused() {
    for bad in [
        "http://backend.localhost",
        "backend.localhost:7443",
        "https://user:password@backend.localhost",
        "https://backend.localhost/v1",
        "https://backend.localhost?x",
        "https://",
    ] {
        let error = Session::begin(bad, TOKEN, None).unwrap_err();
        assert!(matches!(error, Error::BackendAddress { .. }), "{bad}: {error}");
    }
}

#[test]
fn an_operator_whose_words_have_no_form_is_refused() {
    for (field, value) in [
        ("mrsigner", json!("07")),
        ("mrsigner", json!(hex::encode([0xab; 32]).to_uppercase())),
        ("domain", json!("apps localhost")),
        ("domain", json!("127.0.0.1")),
        ("domain", json!("apps.localhost/x")),
        ("router", json!("127.0.0.1")),
        ("router", json!("127.0.0.1:0")),
        ("pccs", json!("file:///etc/passwd")),
        ("simulated_root", json!("\u{1b}[2J")),
        ("simulated_root", json!(root(&"A".repeat(20_000)))),
        ("version", json!(1)),
    ] {
        let fake = Fake::start(move |_| {
            let mut operator = operator();
            operator[field] = value.clone();
            say(200, &operator)
        });
        let error = fake.first_use(None, None).unwrap_err();
        assert!(matches!(error, Error::BackendAnswer { .. }), "{field}: {error}");
    }
}

#[test]
fn an_address_for_collateral_is_not_asked_at_login() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let offered = url.clone();
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        "/v1/operator" => {
            let mut operator = operator();
            operator["pccs"] = json!(offered);
            say(200, &operator)
        }
        _ => known(seen, || problem(404, "not-found", "")),
    });
    let login = fake.first_use(None, None).unwrap();
    assert_eq!(login.operator.pccs, Some(url));
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn nobody_there_is_said_so() {
    let port = crate::testing::nowhere().port();
    let error = Session::begin(&format!("https://{NAME}:{port}"), TOKEN, None).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}
