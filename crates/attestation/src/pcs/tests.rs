//! The client against a small server on loopback, and its readers against whatever comes.
#![allow(clippy::unwrap_used)]

use super::answer::Answer;
use super::*;
use crate::issuer::{Authority, AuthorityPlan, Machine, MachinePlan, SIMULATED};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use proptest::prelude::*;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

mod spellings;
mod tls;

const NOW: &str = "2026-03-01T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn machine(ca: PckCa) -> (Authority, Machine) {
    let window = ("2026-01-01T00:00:00Z".parse().unwrap(), "2046-01-01T00:00:00Z".parse().unwrap());
    let authority = Authority::generate(&AuthorityPlan::new(SIMULATED, window.0, window.1).unwrap()).unwrap();
    let plan = MachinePlan::new(&authority, ca, *b"MSESIM", [7; 16]).unwrap();
    let machine = authority.machine(plan).unwrap();
    (authority, machine)
}

/// Valid from [`NOW`] for ten days.
fn collateral(ca: PckCa) -> (Quote, Collateral) {
    let (authority, machine) = machine(ca);
    let collateral = authority.collateral(&machine.plan, now(), SignedDuration::from_hours(240)).unwrap();
    (machine.make_quote(&machine.report()).unwrap(), collateral)
}

/// What the server does with the requests it gets.
type Handler = dyn Fn(&str) -> Response + Send + Sync;

#[derive(Clone, Default)]
struct Response {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Close the connection instead of answering.
    hang_up: bool,
}

/// A server that answers one request for each connection, and remembers what was asked.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(handler: Box<Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(&stream).lines();
                let Some(Ok(first)) = lines.next() else { continue };
                let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
                lines.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).for_each(drop);
                seen.lock().unwrap().push(target.clone());
                let response = handler(&target);
                if !response.hang_up {
                    let _ = write_response(&stream, &response);
                }
            }
        });
        Server { address, requests }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn client(&self, change: impl FnOnce(&mut Options)) -> Client {
        let mut options = Options { back_off: Duration::ZERO, ..Options::default() };
        change(&mut options);
        Client::new(&self.url(), options).unwrap()
    }

    fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

fn write_response(mut stream: impl Write, response: &Response) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {} Whatever\r\nConnection: close\r\n", response.status)?;
    for (name, value) in &response.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    write!(stream, "Content-Length: {}\r\n\r\n", response.body.len())?;
    stream.write_all(&response.body)
}

fn status(status: u16) -> Response {
    Response { status, ..Response::default() }
}

/// How a server writes its CRLs.
#[derive(Clone, Copy, Debug)]
enum Style {
    Der,
    Hex,
    QuotedHex,
    Pem,
    /// What some server of the field makes of it.
    Other(fn(&[u8]) -> Vec<u8>),
}

/// Serves `collateral` as a PCCS does.
fn serve(collateral: &Collateral, style: Style) -> Box<Handler> {
    let collateral = collateral.clone();
    let chain = |name, pem: &str| vec![(name, percent_encode(pem.as_bytes(), NON_ALPHANUMERIC).to_string())];
    let crl = move |hex: &str| match style {
        Style::Der => hex::decode(hex).unwrap(),
        Style::Hex => hex.as_bytes().to_vec(),
        Style::QuotedHex => format!("\"{hex}\"").into_bytes(),
        Style::Pem => {
            let der = hex::decode(hex).unwrap();
            pem_rfc7468::encode_string("X509 CRL", pem_rfc7468::LineEnding::LF, &der).unwrap().into_bytes()
        }
        Style::Other(write) => write(&hex::decode(hex).unwrap()),
    };
    Box::new(move |target| {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (headers, body) = match path.strip_prefix("/sgx/certification/v4/") {
            Some("tcb") => {
                assert!(query.starts_with("fmspc=4D534553494D"), "{query}");
                let (text, signature) = (&collateral.tcb_info, &collateral.tcb_info_signature);
                let body = format!("{{\"tcbInfo\":{text},\"signature\":\"{signature}\"}}");
                (chain("TCB-Info-Issuer-Chain", &collateral.tcb_info_issuer_chain), body.into_bytes())
            }
            Some("qe/identity") => {
                let (text, signature) = (&collateral.qe_identity, &collateral.qe_identity_signature);
                let body = format!("{{ \"signature\": \"{signature}\", \"enclaveIdentity\": {text} }}");
                let name = "SGX-Enclave-Identity-Issuer-Chain";
                (chain(name, &collateral.qe_identity_issuer_chain), body.into_bytes())
            }
            Some("pckcrl") => (
                chain("SGX-PCK-CRL-Issuer-Chain", &collateral.pck_crl_issuer_chain),
                crl(&collateral.pck_crl),
            ),
            Some("rootcacrl") => (Vec::new(), crl(&collateral.root_ca_crl)),
            _ => return status(404),
        };
        Response { status: 200, headers, body, hang_up: false }
    })
}

#[test]
fn whatever_way_it_is_served_the_collateral_is_the_same() {
    for (ca, style) in [
        (PckCa::Platform, Style::Der),
        (PckCa::Platform, Style::Hex),
        (PckCa::Processor, Style::QuotedHex),
        (PckCa::Processor, Style::Pem),
    ] {
        let (quote, collateral) = collateral(ca);
        let server = Server::start(serve(&collateral, style));
        let fetched = server.client(|_| {}).collateral_for(&quote, now()).unwrap();
        assert_eq!(fetched, collateral, "{style:?}");
        let requests = server.requests.lock().unwrap();
        let asked = format!("/sgx/certification/v4/pckcrl?ca={}&encoding=der", ca.as_str());
        assert!(requests.contains(&asked), "{requests:?}");
    }
}

#[test]
fn the_early_update_is_asked_for_where_wanted() {
    let (quote, collateral) = collateral(PckCa::Platform);
    let server = Server::start(serve(&collateral, Style::Der));
    server.client(|options| options.update = Update::Early).collateral_for(&quote, now()).unwrap();
    let requests = server.requests.lock().unwrap();
    let early = requests.iter().filter(|target| target.ends_with("update=early")).count();
    assert_eq!((early, requests.len()), (2, 4), "{requests:?}");
}

#[test]
fn the_root_crl_can_come_from_elsewhere() {
    let (quote, collateral) = collateral(PckCa::Platform);
    let pccs = serve(&collateral, Style::Der);
    let pcs = Server::start(Box::new(move |target| match target {
        "/sgx/certification/v4/rootcacrl" => status(404),
        "/IntelSGXRootCA.der" => pccs("/sgx/certification/v4/rootcacrl"),
        other => pccs(other),
    }));
    assert!(pcs.client(|_| {}).collateral_for(&quote, now()).is_err());
    let elsewhere = format!("{}/IntelSGXRootCA.der", pcs.url());
    let client = pcs.client(|options| options.root_crl_url = Some(elsewhere));
    assert_eq!(client.collateral_for(&quote, now()).unwrap(), collateral);
}

#[test]
fn only_intels_own_service_has_the_root_crl_elsewhere() {
    let root_crl = |url: &str| Client::new(url, Options::default()).unwrap().root_crl.map(String::from);
    assert_eq!(root_crl(INTEL_PCS).as_deref(), Some(INTEL_ROOT_CRL));
    assert_eq!(root_crl("https://localhost:8081"), None);
}

#[test]
fn a_server_that_stumbles_is_asked_again() {
    let (quote, collateral) = collateral(PckCa::Platform);
    let good = serve(&collateral, Style::Der);
    let count = Mutex::new(0);
    let server = Server::start(Box::new(move |target| {
        let mut count = count.lock().unwrap();
        *count += 1;
        match *count {
            1 => status(500),
            2 => Response { hang_up: true, ..Response::default() },
            4 => status(429),
            _ => good(target),
        }
    }));
    assert_eq!(server.client(|_| {}).collateral_for(&quote, now()).unwrap(), collateral);
    assert_eq!(server.count(), 7);
}

#[test]
fn a_server_that_never_answers_well_is_given_up_on() {
    let (quote, _) = collateral(PckCa::Platform);
    let server = Server::start(Box::new(|_| status(503)));
    let error = server.client(|options| options.attempts = 2).collateral_for(&quote, now()).unwrap_err();
    assert!(
        matches!(&error, Error::Fetch { what: "TCB info", found, .. } if found.contains("503")),
        "{error}"
    );
    assert_eq!(server.count(), 2);
}

#[test]
fn a_refusal_is_not_asked_again() {
    for code in [400, 401, 404, 301] {
        let (quote, _) = collateral(PckCa::Platform);
        let server = Server::start(Box::new(move |_| Response {
            headers: vec![("Location", "http://127.0.0.1:1/".into())],
            ..status(code)
        }));
        let error = server.client(|_| {}).collateral_for(&quote, now()).unwrap_err();
        assert!(matches!(&error, Error::Fetch { found, .. } if found.contains(&code.to_string())), "{error}");
        assert_eq!(server.count(), 1);
    }
}

#[test]
fn a_silent_server_runs_into_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let timeout = Duration::from_millis(50);
    let client = Client::new(&url, Options { timeout, attempts: 1, ..Options::default() }).unwrap();
    let error = client.fetch(*b"MSESIM", PckCa::Platform, now()).unwrap_err();
    assert!(matches!(error, Error::Fetch { .. }), "{error}");
}

#[test]
fn an_endless_answer_is_cut_off() {
    let server =
        Server::start(Box::new(|_| Response { body: vec![b' '; MAX_ANSWER_BYTES + 1], ..status(200) }));
    let error = server.client(|_| {}).fetch(*b"MSESIM", PckCa::Platform, now()).unwrap_err();
    assert!(matches!(&error, Error::Fetch { expected, .. } if expected.contains("at most")), "{error}");
    assert_eq!(server.count(), 1);
}

#[test]
fn an_answer_that_is_no_collateral_is_malformed() {
    let (_, collateral) = collateral(PckCa::Platform);
    for (path, body) in [
        ("tcb", "<html>Welcome to the hotel</html>"),
        ("tcb", "{\"tcbInfo\":{},\"signature\":\"00\"}"),
        ("tcb", "{\"tcbInfo\":{\"nextUpdate\":\"soon\"},\"signature\":\"00\"}"),
        ("qe/identity", "{\"tcbInfo\":{\"nextUpdate\":\"2026-03-01T12:00:00Z\"},\"signature\":\"00\"}"),
        ("pckcrl", "no hex"),
        ("pckcrl", "3000"),
        ("rootcacrl", ""),
    ] {
        let good = serve(&collateral, Style::Hex);
        let server = Server::start(Box::new(move |target| {
            let mut response = good(target);
            if target.split('?').next() == Some(&format!("/sgx/certification/v4/{path}")) {
                response.body = body.into();
            }
            response
        }));
        let error = server.client(|_| {}).fetch(*b"MSESIM", PckCa::Platform, now()).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{path} {body}: {error}");
    }
}

#[test]
fn an_answer_without_an_issuer_chain_is_malformed() {
    let (_, collateral) = collateral(PckCa::Platform);
    for chain in [None, Some("%2D%2D%FF"), Some("not a chain")] {
        let good = serve(&collateral, Style::Hex);
        let server = Server::start(Box::new(move |target| {
            let mut response = good(target);
            match chain {
                Some(chain) => response.headers.iter_mut().for_each(|header| header.1 = chain.into()),
                None => response.headers.clear(),
            }
            response
        }));
        let error = server.client(|_| {}).fetch(*b"MSESIM", PckCa::Platform, now()).unwrap_err();
        assert!(matches!(error, Error::Malformed { what: "issuer chain", .. }), "{error}");
    }
}

#[test]
fn the_cache_answers_until_its_age_and_survives_an_outage_until_the_next_update() {
    let (quote, collateral) = collateral(PckCa::Platform);
    let directory = tempfile::tempdir().unwrap();
    let good = serve(&collateral, Style::Der);
    let out_of_order = Arc::new(Mutex::new(false));
    let switch = Arc::clone(&out_of_order);
    let server = Server::start(Box::new(
        move |target| if *switch.lock().unwrap() { status(502) } else { good(target) },
    ));
    let cache = directory.path().join("made/when/missing");
    let client = server.client(|options| options.cache = Some(cache.clone()));
    let (fmspc, ca) = platform_of(&quote).unwrap();
    let hours = SignedDuration::from_hours;

    assert_eq!(client.fetch(fmspc, ca, now()).unwrap().collateral, collateral);
    assert_eq!(server.count(), 4);
    assert_eq!(client.fetch(fmspc, ca, now() + hours(23)).unwrap().collateral, collateral);
    assert_eq!(server.count(), 4, "answered from the cache");
    client.fetch(fmspc, ca, now() + hours(25)).unwrap();
    assert_eq!(server.count(), 8, "asked again after a day");
    client.fetch(fmspc, ca, now()).unwrap();
    assert_eq!(server.count(), 12, "what was fetched in the future is not relied on");

    *out_of_order.lock().unwrap() = true;
    let kept = client.fetch(fmspc, ca, now() + hours(239)).unwrap();
    assert_eq!(kept.collateral, collateral);
    assert_eq!(kept.kept.len(), 4);
    assert!(kept.kept[0].contains("TCB info") && kept.kept[0].contains("502"), "{:?}", kept.kept);
    assert!(
        matches!(client.fetch(fmspc, ca, now() + hours(240)), Err(Error::Fetch { .. })),
        "past the next update"
    );

    // Another update of the same document is another document.
    let early = server.client(|options| {
        options.cache = Some(cache.clone());
        options.update = Update::Early;
    });
    assert!(early.fetch(fmspc, ca, now()).is_err());
}

#[test]
fn a_damaged_cache_is_as_good_as_none() {
    let (quote, collateral) = collateral(PckCa::Platform);
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(serve(&collateral, Style::Der));
    let client = server.client(|options| options.cache = Some(directory.path().to_owned()));
    client.collateral_for(&quote, now()).unwrap();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        std::fs::write(entry.unwrap().path(), "{}").unwrap();
    }
    assert_eq!(client.collateral_for(&quote, now()).unwrap(), collateral);
    assert_eq!(server.count(), 8);

    // A cache that cannot be written is no reason to fail.
    let file = directory.path().join("a file, not a directory");
    std::fs::write(&file, "").unwrap();
    let client = server.client(|options| options.cache = Some(file));
    assert_eq!(client.collateral_for(&quote, now()).unwrap(), collateral);
}

#[test]
fn addresses_are_understood_and_others_refused() {
    let base = |url: &str| Client::new(url, Options::default()).map(|client| client.base.to_string());
    for good in ["https://pccs:8081", "https://pccs:8081/", "https://pccs:8081/sgx/certification/v4/"] {
        assert_eq!(base(good).unwrap(), "https://pccs:8081/sgx/certification/v4");
    }
    assert_eq!(base("http://[::1]/sgx/certification/v3/").unwrap(), "http://[::1]/sgx/certification/v4");
    // Behind a proxy a PCCS may be anywhere.
    for good in ["https://host/a/pccs", "https://host/a/pccs//", "https://host/a/pccs/sgx/certification/v4/"]
    {
        assert_eq!(base(good).unwrap(), "https://host/a/pccs/sgx/certification/v4");
    }
    for bad in [
        "pccs:8081",
        "ftp://pccs",
        "file:///etc/passwd",
        "https://",
        "https://pccs/sgx/certification/v4/tcb",
        "https://pccs/sgx/certification",
        "https://pccs/tdx/certification/v4/",
        "https://pccs/?fmspc=1",
        "https://pccs/#x",
        "https://user:secret@pccs",
    ] {
        let error = base(bad).unwrap_err();
        assert!(matches!(error, Error::Fetch { .. }), "{bad}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn a_quote_without_a_pck_certificate_asks_nobody() {
    let (mut quote, _) = collateral(PckCa::Platform);
    assert_eq!(platform_of(&quote).unwrap(), (*b"MSESIM", PckCa::Platform));
    quote.signature.certification_data.push(0);
    assert_eq!(
        platform_of(&quote).unwrap(),
        (*b"MSESIM", PckCa::Platform),
        "Intel's chains may end in a NUL"
    );
    for data in [&b""[..], b"PPID and such", b"\0"] {
        quote.signature.certification_data = data.to_vec();
        assert!(matches!(platform_of(&quote), Err(Error::Malformed { .. })));
    }
    let (authority, _) = machine(PckCa::Platform);
    quote.signature.certification_data = authority.root_pem().into_bytes();
    assert!(matches!(platform_of(&quote), Err(Error::Malformed { .. })));
}

proptest! {
    #[test]
    fn no_answer_makes_the_reader_panic(body in prop::collection::vec(any::<u8>(), 0..200), chain in prop::collection::vec(any::<u8>(), 0..100)) {
        let answer = Answer { body, chain };
        for document in [Document::TcbInfo, Document::QeIdentity, Document::PckCrl, Document::RootCrl] {
            let _ = answer.read(document);
        }
    }

    #[test]
    fn the_signed_text_is_kept_to_the_byte(space in "[ \n\t]{0,5}", name in "[a-z]{1,8}", number in any::<u32>()) {
        let text = format!("{{{space}\"{name}\":{space}{number},\"nextUpdate\" : \"{NOW}\"{space}}}");
        let answer = Answer {
            body: format!("{{\"signature\":\"ab\",{space}\"tcbInfo\":{space}{text}{space}}}").into_bytes(),
            chain: b"-----BEGIN CERTIFICATE-----".to_vec(),
        };
        let part = answer.read(Document::TcbInfo).unwrap();
        prop_assert_eq!(part.text, text);
        prop_assert_eq!(part.next_update, now());
    }
}
