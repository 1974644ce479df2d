//! What servers of the field do differently, and what they say when they say no.

use super::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_crl_is_read_in_every_spelling() {
    type Spelling = fn(&[u8]) -> Vec<u8>;
    let spellings: [Spelling; 6] = [
        |der| hex::encode_upper(der).into_bytes(),
        |der| format!("{}\r\n", hex::encode(der)).into_bytes(),
        |der| STANDARD.encode(der).into_bytes(),
        |der| format!("\"{}\"", STANDARD.encode(der)).into_bytes(),
        |der| {
            let base64 = STANDARD.encode(der);
            serde_json::to_vec(&format!("-----BEGIN X509 CRL-----\n{base64}\n-----END X509 CRL-----\n"))
                .unwrap()
        },
        |der| {
            let pem = pem_rfc7468::encode_string("X509 CRL", pem_rfc7468::LineEnding::CRLF, der).unwrap();
            pem.into_bytes()
        },
    ];
    for (number, spelling) in spellings.into_iter().enumerate() {
        let (quote, collateral) = collateral(PckCa::Platform);
        let server = Server::start(serve(&collateral, Style::Other(spelling)));
        let fetched = server.client(|_| {}).collateral_for(&quote, now()).unwrap();
        assert_eq!(fetched, collateral, "spelling {number}");
    }
}

#[test]
fn answers_are_read_whatever_they_are_wrapped_in() {
    type Change = fn(&mut Response);
    let changes: [Change; 5] = [
        // Form encoding: a space is a plus, and a plus of base64 is not.
        |response| response.headers.iter_mut().for_each(|header| header.1 = header.1.replace("%20", "+")),
        // Only what has to be encoded is.
        |response| {
            for header in &mut response.headers {
                header.1 = header.1.replace("%2B", "+").replace("%2D", "-").replace("%3D", "=");
            }
        },
        |response| response.headers.iter_mut().for_each(|header| header.0 = header.0.to_lowercase().leak()),
        |response| {
            response.headers.push(("Content-Encoding", "gzip".to_owned()));
            response.body = gzip(&response.body);
        },
        |response| {
            if response.body.starts_with(b"{") {
                response.body.splice(0..0, *b"\xef\xbb\xbf");
            }
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let (quote, collateral) = collateral(PckCa::Platform);
        assert!(number != 1 || collateral.tcb_info_issuer_chain.contains('+'), "base64 with a plus");
        let good = serve(&collateral, Style::Der);
        let server = Server::start(Box::new(move |target| {
            let mut response = good(target);
            change(&mut response);
            response
        }));
        let fetched = server.client(|_| {}).collateral_for(&quote, now()).unwrap();
        assert_eq!(fetched, collateral, "change {number}");
    }
}

#[test]
fn other_names_of_the_chains_header_and_signatures_in_capitals_are_read() {
    let (quote, collateral) = collateral(PckCa::Platform);
    let good = serve(&collateral, Style::Der);
    let signatures = [collateral.tcb_info_signature.clone(), collateral.qe_identity_signature.clone()];
    let server = Server::start(Box::new(move |target| {
        let mut response = good(target);
        for header in &mut response.headers {
            header.0 = match header.0 {
                "TCB-Info-Issuer-Chain" => "SGX-TCB-Info-Issuer-Chain",
                other => other.strip_prefix("SGX-").unwrap(),
            };
        }
        if let Ok(text) = std::str::from_utf8(&response.body) {
            let text = text.to_owned();
            let capital =
                |text: String, signature: &String| text.replace(signature, &signature.to_uppercase());
            response.body = signatures.iter().fold(text, capital).into_bytes();
        }
        response
    }));
    assert_eq!(server.client(|_| {}).collateral_for(&quote, now()).unwrap(), collateral);
}

#[test]
fn a_packed_answer_is_bounded_by_what_it_unpacks_to() {
    let bomb = gzip(&vec![b' '; 64 * MAX_ANSWER_BYTES]);
    assert!(bomb.len() < MAX_ANSWER_BYTES);
    for (encoding, body, reason) in [
        ("gzip", bomb, "at most"),
        ("gzip", b"not packed at all".to_vec(), "in gzip"),
        ("br", Vec::new(), "found br"),
    ] {
        let server = Server::start(Box::new(move |_| Response {
            headers: vec![("Content-Encoding", encoding.to_owned())],
            body: body.clone(),
            ..status(200)
        }));
        let error = server.client(|_| {}).fetch(*b"MSESIM", PckCa::Platform, now()).unwrap_err();
        assert!(matches!(error, Error::Fetch { .. }) && error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn a_pccs_under_a_prefix_is_found() {
    let (quote, collateral) = collateral(PckCa::Platform);
    let pccs = serve(&collateral, Style::Hex);
    let server =
        Server::start(Box::new(move |target| target.strip_prefix("/our/pccs").map_or(status(404), &pccs)));
    for path in ["/our/pccs", "/our/pccs/sgx/certification/v4/", "/our/pccs/sgx/certification/v3/"] {
        let options = Options { back_off: Duration::ZERO, ..Options::default() };
        let client = Client::new(&format!("{}{path}", server.url()), options).unwrap();
        assert_eq!(client.collateral_for(&quote, now()).unwrap(), collateral, "{path}");
    }
}

#[test]
fn the_root_crl_is_also_found_as_newer_pccss_serve_it() {
    let (quote, collateral) = collateral(PckCa::Platform);
    let older = serve(&collateral, Style::Der);
    let server = Server::start(Box::new(move |target| match target {
        "/sgx/certification/v4/rootcacrl" => status(404),
        "/sgx/certification/v4/crl?uri=https%3A%2F%2Fcertificates.trustedservices.intel.com%2FIntelSGXRootCA.der" => {
            older("/sgx/certification/v4/rootcacrl")
        }
        other => older(other),
    }));
    assert_eq!(server.client(|_| {}).collateral_for(&quote, now()).unwrap(), collateral);
}

/// What is told of a refusal.
fn told(response: Response) -> String {
    let server = Server::start(Box::new(move |_| response.clone()));
    let options = |options: &mut Options| options.attempts = 1;
    server.client(options).fetch(*b"MSESIM", PckCa::Platform, now()).unwrap_err().to_string()
}

#[test]
fn a_servers_own_reason_is_told() {
    let said = |code, body: &str| told(Response { body: body.into(), ..status(code) });
    let unknown = said(461, "The platform was not found in the cache.\n");
    assert!(unknown.ends_with("found status 461: The platform was not found in the cache."), "{unknown}");
    assert!(said(462, "").ends_with("found status 462 (certificates are not available for certain TCBs)"));
    assert!(said(502, "Unable to retrieve the collateral from the Intel SGX PCS.").contains("Intel SGX PCS"));
    assert!(said(599, "").ends_with("found status 599"));
    let pcs = Response { headers: vec![("Error-Message", "Invalid fmspc".to_owned())], ..status(400) };
    assert!(told(pcs).ends_with("status 400: Invalid fmspc"));
    let packed = Response {
        headers: vec![("Content-Encoding", "gzip".to_owned())],
        body: gzip(b"No cache data for this platform."),
        ..status(404)
    };
    assert!(told(packed).ends_with("status 404: No cache data for this platform."));
}

#[test]
fn a_reason_cannot_act_on_a_terminal_and_is_short() {
    let hostile = "a\u{1b}[2J\r\n\tb\u{202e}c\u{61c}d\u{200b} e";
    let shown = told(Response { body: hostile.into(), ..status(404) });
    assert!(shown.ends_with("status 404: a\\u{1b}[2J b\\u{202e}c\\u{61c}d\\u{200b} e"), "{shown}");
    let long = told(Response { body: vec![b'x'; 1 << 20], ..status(404) });
    assert!(long.len() < 500 && long.ends_with('…'), "{long}");
    let not_text = told(Response { body: vec![0xff, 0, 1], ..status(404) });
    assert!(not_text.ends_with("\u{fffd}\\u{0}\\u{1}"), "{not_text}");
}

#[test]
fn a_redirect_is_named_and_not_followed() {
    let shown = told(Response { headers: vec![("Location", "/real/\u{9b}".into())], ..status(301) });
    assert!(shown.contains("status 301, a redirect to /real/\\u{9b}, which is not followed"), "{shown}");
}

#[test]
fn a_quote_with_an_identifier_instead_of_a_certificate_blames_the_quoting_machine() {
    let (mut quote, _) = collateral(PckCa::Platform);
    for kind in [1, 2, 3] {
        quote.signature.certification_data_type = kind;
        let error = platform_of(&quote).unwrap_err().to_string();
        assert!(
            error.contains(&format!("type {kind}")) && error.contains("found no PCK certificate"),
            "{error}"
        );
    }
    for kind in [0, 4, 6, 7, u16::MAX] {
        quote.signature.certification_data_type = kind;
        assert!(platform_of(&quote).is_err(), "{kind}");
    }
}

proptest! {
    #[test]
    fn whatever_is_said_is_shown_on_one_short_line(said in prop::collection::vec(any::<u8>(), 0..600)) {
        let shown = reason::shown(&said);
        prop_assert!(shown.chars().all(|c| !c.is_control()));
        prop_assert!(shown.chars().count() <= 200 * 10 + 1);
    }

    #[test]
    fn unpacking_undoes_packing(body in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert_eq!(answer::unpack(gzip(&body), Some(b"GZIP")).unwrap(), body);
    }

    #[test]
    fn nothing_packed_makes_the_reader_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = answer::unpack([&b"\x1f\x8b\x08\x00"[..], &body].concat(), Some(b"gzip"));
    }
}
