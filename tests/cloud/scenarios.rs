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
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::backend::Backend;
use crate::browser;
use crate::hostile;
use crate::installation::{Installation, wait_for};
use crate::wiretap::Wiretap;

const CODE: &str = "marker-in-the-code-5d1f";
const SECRET: &str = "marker-in-the-secrets-77ab";
const SEALED: &str = "marker-in-the-sealed-secrets-c04e";
const QUERY: &str = "marker-in-a-query-91c2";
/// What the operator may read: that it is found shows that the search looks where things lie.
const OPEN: &str = "marker-in-the-tests-28ee";
const ANSWER: &str = "marker-in-an-answer-e83d";

/// Where somebody ends the TLS of whoever comes, on the router's own port.
const BETWEEN: &str = "127.0.0.4";

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
    /// What went over the line, from the second stage on.
    tap: Wiretap,
    /// The key of the code, in hex.
    code_key: String,
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
        let test = fs::read_to_string(owner.path("app/tests/test_app.py")).unwrap();
        fs::write(owner.path("app/tests/test_app.py"), format!("# {OPEN}\n{test}")).unwrap();
        // That the owner can verify shows where there is something to refuse.
        hostile::stand_between(backend.router(), BETWEEN);
        let line = format!("cloud deploy --path app --allow-simulated --resolve {BETWEEN} {options}");
        let said = owner.talk(&line, 3);
        assert!(said.contains("somebody stands between") && !said.contains("accepted its keys"), "{said}");
        wait_for("the refused app to end", || backend.apps().is_empty().then_some(()));
        let tap = Wiretap::open(TAPPED, backend.router());
        let line =
            format!("cloud deploy --path app --allow-simulated --format json --resolve {TAPPED} {options}");
        let report: serde_json::Value = serde_json::from_str(&owner.run(&line, 0)).unwrap();
        assert_eq!(report["verified"]["state"], "verified", "the owner verified at deployment");
        let url = report["url"].as_str().unwrap();
        let domain = url.strip_prefix("https://").unwrap().split(':').next().unwrap().to_owned();
        let id = report["id"].as_str().unwrap().to_owned();
        owner.run(&format!("cloud context export {id} --output whole.json"), 0);
        let context: serde_json::Value =
            serde_json::from_slice(&fs::read(owner.path("whole.json")).unwrap()).unwrap();
        let code_key = context["code_key"].as_str().unwrap().to_owned();
        let scene = Scene { backend, owner, id, domain, trusted, tap, code_key };
        scene.the_second_stage_was_for_the_enclave();
        scene
    }

    /// Asks the app something, through a line that the operator taps. The user trusts what such users trust; in zero
    /// trust that is the certificate that `verify` wrote.
    fn ask(&self) {
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
    }

    /// What went through the router to configure the enclave, as it was and as the operator's key log opens it: neither
    /// code nor secrets nor key.
    fn the_second_stage_was_for_the_enclave(&self) {
        let log = fs::read_to_string(self.backend.key_log()).unwrap_or_default();
        let (up, down) = self.tap.decrypt(&log);
        for bytes in [self.tap.bytes(), up, down] {
            for marker in [CODE, SECRET, SEALED, &self.code_key] {
                assert!(!holds(&bytes, marker.as_bytes()), "the router carried {marker}");
            }
        }
    }

    /// Neither the node's own port nor the public one takes a question in clear.
    fn nobody_speaks_in_clear(&self) {
        let log = self.owner.run(&format!("cloud logs {}", self.id), 0);
        let port = log.lines().find_map(|line| line.strip_prefix("mse: listening on 127.0.0.1:"));
        let node: u16 = port.unwrap().trim().parse().unwrap();
        for port in [node, self.backend.router()] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let question = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.domain);
            stream.write_all(question.as_bytes()).unwrap();
            let mut answer = Vec::new();
            // It may be reset, too.
            let _ = stream.read_to_end(&mut answer);
            assert!(
                !holds(&answer, b"HTTP/1.1 200") && !holds(&answer, b"Hello"),
                "port {port} speaks in clear"
            );
        }
    }

    /// What a user finds who knows what the owner published, and has no login: all is well, or the reason why not.
    fn user_verifies(&self, refusal: Option<&str>) {
        let code = if refusal.is_some() { 3 } else { 0 };
        self.owner.run(&format!("cloud context export {} --public --output public.json", self.id), 0);
        let user = self.owner.colleague();
        let line = format!(
            "cloud verify {} --context public.json --code app/mse_src --allow-simulated --output verified/",
            self.domain
        );
        let said = user.talk(&line, code);
        assert!(said.contains(refusal.unwrap_or("Wrote")), "{said}");
        assert_eq!(self.owner.path("verified/ratls.pem").exists(), code == 0);
    }

    /// Nothing that was planted is in any file or log of the operator's.
    #[track_caller]
    fn nothing_lies_about(&self) {
        let log = self.owner.run(&format!("cloud logs {}", self.id), 0);
        let mut places = self.backend.everything();
        let open = places.iter().any(|(_, content)| String::from_utf8_lossy(content).contains(OPEN));
        assert!(open, "what is no secret is found where the operator keeps packages");
        places.push(("the app's log".into(), log.into_bytes()));
        for (path, content) in places {
            // Quick in long files, and the same for markers of ASCII.
            let text = String::from_utf8_lossy(&content);
            for marker in [CODE, SECRET, SEALED, QUERY, ANSWER, &self.code_key] {
                assert!(!text.contains(marker), "{marker} lies in {}", path.display());
            }
            let key = hex::decode(&self.code_key).unwrap();
            assert!(!holds(&content, &key), "the code key lies in {}", path.display());
        }
    }

    /// What the operator reads of a tapped line with its own key log; whether the markers are in it.
    #[track_caller]
    fn the_operator_reads(&self, everything: bool) {
        let wire = self.tap.bytes();
        for marker in [CODE, QUERY, ANSWER, SECRET, SEALED] {
            assert!(!holds(&wire, marker.as_bytes()), "{marker} went over the wire in clear");
        }
        let log = fs::read_to_string(self.backend.key_log()).unwrap_or_default();
        let (queries, answers) = self.tap.decrypt(&log);
        assert_eq!(holds(&queries, QUERY.as_bytes()), everything, "the query");
        assert_eq!(holds(&answers, ANSWER.as_bytes()), everything, "the answer");
        // Not even then what only the owner and the enclave know: the code, and its key.
        for marker in [CODE, &self.code_key] {
            assert!(!holds(&queries, marker.as_bytes()) && !holds(&answers, marker.as_bytes()), "{marker}");
        }
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

fn holds(content: &[u8], marker: &[u8]) -> bool {
    content.windows(marker.len()).any(|window| window == marker)
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
    scene.user_verifies(None);
    scene.ask();
    scene.nobody_speaks_in_clear();
    scene.the_operator_reads(false);
    scene.nothing_lies_about();
    scene.in_a_browser(false);
}

#[test]
fn app_owner_trusted() {
    let scene = Scene::set("", true);
    scene.nothing_lies_about();
    scene.user_verifies(Some("owner certificate, not attested"));
    scene.ask();
    scene.nobody_speaks_in_clear();
    scene.the_operator_reads(false);
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
    scene.user_verifies(Some("TLS ends at the operator's router"));
    scene.ask();
    scene.nobody_speaks_in_clear();
    // TLS ends at the operator's router: with the keys of its own sessions it reads what users say.
    scene.the_operator_reads(true);
    scene.in_a_browser(true);
    // Between router and node nothing goes in clear either, and nothing was written down but by who chose to.
    wait_for("the node to be verified", || {
        scene.backend.log().contains("the node was verified").then_some(())
    });
    fs::remove_file(scene.backend.key_log()).unwrap();
    scene.nothing_lies_about();
}
