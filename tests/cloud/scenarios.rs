//! The three security scenarios, each row of their table by observation: markers are planted in the code, in the secrets
//! and in a request, and looked for in everything that the operator has.
//!
//! | | zero trust | app owner trusted | `--untrusted-ssl` |
//! |---|---|---|---|
//! | code encrypted at deployment | yes | yes | yes |
//! | code and data encrypted while running | yes | yes | yes |
//! | owner can verify at deployment | yes | yes | yes |
//! | user can verify before use | yes | no | no |
//! | queries and data protected from the operator | yes | yes | no |
//! | callable from a browser | no | yes | yes |
//!
//! What lies in the memory of a node is protected by the processor, and by nothing where it is simulated: of what runs,
//! files, database, logs and network are looked at.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::backend::Backend;
use crate::browser;
use crate::installation::{Installation, wait_for};
use crate::wiretap::Wiretap;

const CODE: &str = "marker-in-the-code-5d1f";
const SECRET: &str = "marker-in-the-secrets-77ab";
const SEALED: &str = "marker-in-the-sealed-secrets-c04e";
const QUERY: &str = "marker-in-a-query-91c2";
const ANSWER: &str = "marker-in-an-answer-e83d";

/// Where a tapped line to the router begins, on the router's own port.
const TAPPED: &str = "127.0.0.3";

/// A deployed app, and everybody around it.
struct Scene {
    backend: Backend,
    owner: Installation,
    id: String,
    domain: String,
    /// The certificate or authority that a user without any knowledge of enclaves trusts, if there is one.
    trusted: Option<PathBuf>,
}

impl Scene {
    /// Deploys with these options; `own` brings a certificate.
    fn set(options: &str, own: bool) -> Scene {
        let backend = Backend::start_with_key_log();
        let owner = Installation::new();
        backend.login(&owner);
        owner.run("cloud scaffold app", 0);
        fs::write(owner.path("app/mse_src/app.py"), application()).unwrap();
        fs::write(owner.path("app/secrets.json"), format!("{{\"word\": \"{SECRET}\"}}")).unwrap();
        fs::write(owner.path("app/secrets_to_seal.json"), format!("{{\"word\": \"{SEALED}\"}}")).unwrap();
        let mut trusted = None;
        if own {
            trusted = Some(bring_a_certificate(&owner));
        } else if options.contains("--untrusted-ssl") {
            trusted = Some(backend.data().join("ca.pem"));
        }
        let line = format!("cloud deploy --path app --allow-simulated --format json {options}");
        let report: serde_json::Value = serde_json::from_str(&owner.run(&line, 0)).unwrap();
        assert_eq!(report["verified"]["state"], "verified", "the owner verified at deployment");
        let url = report["url"].as_str().unwrap();
        let domain = url.strip_prefix("https://").unwrap().split(':').next().unwrap().to_owned();
        Scene { backend, owner, id: report["id"].as_str().unwrap().to_owned(), domain, trusted }
    }

    /// Asks the app something, through a line that the operator taps. The user trusts what such users trust; in zero
    /// trust that is the certificate that `verify` wrote.
    fn ask(&self) -> Wiretap {
        let tap = Wiretap::open(TAPPED, self.backend.router());
        let certificate = self.trusted.clone().unwrap_or_else(|| self.owner.path("verified/ratls.pem"));
        let output = Command::new("python3")
            .args(["-c", POST])
            .arg(certificate)
            .args([&self.domain, TAPPED, &self.backend.router().to_string(), QUERY])
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        let answer = String::from_utf8(output.stdout).unwrap();
        assert_eq!(answer.trim(), format!("{ANSWER} {QUERY} {SECRET} {SEALED}"));
        tap
    }

    /// What a user finds who knows what the owner published, and has no login.
    fn user_verifies(&self, code: i32) {
        self.owner.run(&format!("cloud context export {} --public --output public.json", self.id), 0);
        let user = self.owner.colleague();
        let line = format!(
            "cloud verify {} --context public.json --code app/mse_src --allow-simulated --output verified/",
            self.domain
        );
        user.run(&line, code);
        assert_eq!(self.owner.path("verified/ratls.pem").exists(), code == 0);
    }

    /// Nothing that was planted is in any file or log of the operator's.
    #[track_caller]
    fn nothing_lies_about(&self) {
        let log = self.owner.run(&format!("cloud logs {}", self.id), 0);
        let mut places = self.backend.everything();
        assert!(places.len() > 20, "there is something to look at");
        places.push(("the app's log".into(), log.into_bytes()));
        for (path, content) in places {
            for marker in [CODE, SECRET, SEALED, QUERY, ANSWER] {
                let found = content.windows(marker.len()).any(|window| window == marker.as_bytes());
                assert!(!found, "{marker} lies in {}", path.display());
            }
        }
    }

    /// What the operator reads of a tapped line with its own key log; whether the markers are in it.
    #[track_caller]
    fn the_operator_reads(&self, tap: &Wiretap, everything: bool) {
        let wire = tap.bytes();
        for marker in [QUERY, ANSWER, SECRET] {
            let found = wire.windows(marker.len()).any(|window| window == marker.as_bytes());
            assert!(!found, "{marker} went over the wire in clear");
        }
        let log = fs::read_to_string(self.backend.key_log()).unwrap_or_default();
        let (queries, answers) = tap.decrypt(&log);
        let holds = |text: &[u8], marker: &str| text.windows(marker.len()).any(|w| w == marker.as_bytes());
        assert_eq!(holds(&queries, QUERY), everything, "the query");
        assert_eq!(holds(&answers, ANSWER), everything, "the answer");
    }

    /// A browser that trusts the operator's authority and the owner's: it shows the page, or refuses.
    fn in_a_browser(&self, loads: bool) {
        let Some(browser) = browser::of_somebody() else { return };
        browser.trust(&self.backend.data().join("ca.pem"), "operator");
        if let Some(trusted) = &self.trusted {
            browser.trust(trusted, "owner");
        }
        let page = browser.open(&format!("https://{}:{}/", self.domain, self.backend.router()));
        assert_eq!(page.contains("Hello from the enclave"), loads, "{page}");
        assert_eq!(page.contains("ERR_CERT_AUTHORITY_INVALID"), !loads, "{page}");
    }
}

/// The application: it answers with everything it was given.
fn application() -> String {
    format!(
        r#"
import json, os
from flask import Flask, request

app = Flask(__name__)
NOTE = "{CODE}"

def word(variable):
    with open(os.environ[variable], encoding="utf-8") as file:
        return json.load(file)["word"]

@app.get("/health")
def health():
    return ""

@app.get("/")
def hello():
    return "<h1>Hello from the enclave</h1>"

@app.post("/ask")
def ask():
    query = request.get_data(as_text=True)
    return " ".join(["{ANSWER}", query, word("SECRETS_PATH"), word("SEALED_SECRETS_PATH")])
"#
    )
}

/// Trusted certificate, name, address, port, body.
const POST: &str = r#"
import http.client, socket, ssl, sys
certificate, host, address, port, body = sys.argv[1:]
context = ssl.create_default_context(cafile=certificate)
context.minimum_version = ssl.TLSVersion.TLSv1_3
connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=60)
connection._create_connection = lambda _, *more: socket.create_connection((address, int(port)), *more)
connection.request("POST", "/ask", body=body)
answer = connection.getresponse()
assert answer.status == 200, answer.status
print(answer.read().decode())
"#;

/// A certificate of the owner's, by an authority that users trust; its file.
fn bring_a_certificate(owner: &Installation) -> PathBuf {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "Users' authority");
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(vec!["app.owner.localhost".to_owned()]).unwrap();
    leaf.not_before = rcgen::date_time_ymd(2020, 1, 1);
    // Browsers refuse leaves that are valid for longer than 398 days, but for authorities of the user's own.
    leaf.not_after = rcgen::date_time_ymd(2099, 1, 1);
    let issuer = Issuer::from_params(&authority, &authority_key);
    let certificate = leaf.signed_by(&key, &issuer).unwrap();
    fs::write(owner.path("app/key.pem"), key.serialize_pem()).unwrap();
    fs::write(owner.path("app/chain.pem"), certificate.pem()).unwrap();
    let toml = fs::read_to_string(owner.path("app/mse.toml")).unwrap();
    let ssl = "[cloud.ssl]\ndomain_name = \"app.owner.localhost\"\nprivate_key = \"key.pem\"\ncertificate = \"chain.pem\"\n";
    fs::write(owner.path("app/mse.toml"), format!("{toml}\n{ssl}")).unwrap();
    let path = owner.path("authority.pem");
    fs::write(&path, authority_certificate.pem()).unwrap();
    path
}

#[test]
fn zero_trust() {
    let scene = Scene::set("", false);
    scene.nothing_lies_about();
    scene.user_verifies(0);
    let tap = scene.ask();
    scene.the_operator_reads(&tap, false);
    scene.nothing_lies_about();
    scene.in_a_browser(false);
}

#[test]
fn app_owner_trusted() {
    let scene = Scene::set("", true);
    scene.nothing_lies_about();
    scene.user_verifies(3);
    let tap = scene.ask();
    scene.the_operator_reads(&tap, false);
    scene.nothing_lies_about();
    scene.in_a_browser(true);
    // The name is the owner's, and leads to one app at a time, whoever asks for it.
    let other = Installation::new();
    let token = scene.backend.tenant("other");
    scene.backend.login_with(&other, &token);
    other.run("cloud scaffold app", 0);
    bring_a_certificate(&other);
    let said = other.talk("cloud deploy --path app --allow-simulated", 1);
    assert!(said.contains("leads to an app already"), "{said}");
}

#[test]
fn untrusted_ssl() {
    let scene = Scene::set("--untrusted-ssl", false);
    scene.nothing_lies_about();
    scene.user_verifies(3);
    let tap = scene.ask();
    // TLS ends at the operator's router: with the keys of its own sessions it reads what users say.
    scene.the_operator_reads(&tap, true);
    scene.in_a_browser(true);
    // Between router and node nothing goes in clear either, and nothing was written down but by who chose to.
    wait_for("the node to be verified", || {
        scene.backend.log().contains("the node was verified").then_some(())
    });
    fs::remove_file(scene.backend.key_log()).unwrap();
    scene.nothing_lies_about();
}
