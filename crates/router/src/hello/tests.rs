use std::sync::Arc;

use proptest::prelude::*;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

type Extension = (u16, Vec<u8>);

fn vector8(content: &[u8]) -> Vec<u8> {
    [&[u8::try_from(content.len()).unwrap()], content].concat()
}

fn vector16(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
}

fn names(names: &[&[u8]]) -> Extension {
    let list: Vec<u8> = names.iter().flat_map(|name| [vec![0], vector16(name)].concat()).collect();
    (0, vector16(&list))
}

fn alpn(protocols: &[&str]) -> Extension {
    let list: Vec<u8> = protocols.iter().flat_map(|protocol| vector8(protocol.as_bytes())).collect();
    (16, vector16(&list))
}

fn body(extensions: &[Extension]) -> Vec<u8> {
    let list: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, content)| [kind.to_be_bytes().to_vec(), vector16(content)].concat())
        .collect();
    let head =
        [&[3, 3], &[7; 32][..], &vector8(&[9; 32]), &vector16(&[0x13, 1, 0x13, 2]), &vector8(&[0])].concat();
    [head, vector16(&list)].concat()
}

fn message(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1], &length[1..], body].concat()
}

fn record(fragment: &[u8]) -> Vec<u8> {
    [&[22, 3, 1], &vector16(fragment)[..]].concat()
}

fn hello(extensions: &[Extension]) -> Vec<u8> {
    record(&message(&body(extensions)))
}

fn read(bytes: &[u8]) -> Result<Option<ClientHello>, Refusal> {
    HelloReader::new().push(bytes)
}

fn expected(name: Option<&str>, protocols: &[&str]) -> ClientHello {
    ClientHello {
        name: name.map(|name| name.parse().unwrap()),
        protocols: protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect(),
    }
}

/// What rustls sends as a client.
fn rustls_hello(name: &str, protocols: &[&str]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let mut client = ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_real_hello_is_read() {
    let bytes = rustls_hello("App-1.apps.localhost", &["h2", "http/1.1"]);
    let found = read(&bytes).unwrap().unwrap();
    assert_eq!(found, expected(Some("app-1.apps.localhost"), &["h2", "http/1.1"]));
    // To an address, no name is sent.
    assert_eq!(read(&rustls_hello("127.0.0.1", &[])), Ok(Some(expected(None, &[]))));
}

#[test]
fn names_are_taken_as_they_must_be_or_not_at_all() {
    let reading =
        |list: &[&[u8]]| read(&hello(&[names(list)])).map(|hello| hello.unwrap().name.unwrap().to_string());
    assert_eq!(reading(&[b"A.Example"]), Ok("a.example".into()));
    for bad in [
        &b""[..],
        b"a.example.",
        b"192.0.2.1",
        b"::1",
        "bücher.example".as_bytes(),
        b"a\0b",
        b"a b",
        b"*.example",
    ] {
        assert_eq!(reading(&[bad]), Err(Refusal::BadName), "{bad:?}");
    }
    assert_eq!(reading(&[b"a.example", b"b.example"]), Err(Refusal::Repeated));
    assert_eq!(reading(&[b"a.example", b"a.example"]), Err(Refusal::Repeated));
    assert_eq!(reading(&[]), Err(Refusal::Malformed));
}

#[test]
fn extensions_are_there_once() {
    let twice = |extension: Extension| read(&hello(&[extension.clone(), (43, vec![2, 3, 4]), extension]));
    assert_eq!(twice(names(&[b"a.example"])), Err(Refusal::Repeated));
    assert_eq!(twice(alpn(&["h2"])), Err(Refusal::Repeated));
    assert_eq!(twice((0xfafa, vec![])), Err(Refusal::Repeated));
    let different = [names(&[b"a.example"]), names(&[b"b.example"])];
    assert_eq!(read(&hello(&different)), Err(Refusal::Repeated));
}

#[test]
fn a_hello_may_be_old() {
    let without_extensions = body(&[]);
    let old = &without_extensions[..without_extensions.len() - 2];
    assert_eq!(read(&record(&message(old))), Ok(Some(expected(None, &[]))));
    assert_eq!(read(&hello(&[])), Ok(Some(expected(None, &[]))));
}

#[test]
fn contradictions_are_malformed() {
    let good = body(&[names(&[b"a.example"])]);
    let other_type = [&[2], &message(&good)[1..]].concat();
    let with_tail = [&good[..], &[0]].concat();
    let second_message = [message(&good), vec![11]].concat();
    let no_suites = [&[3, 3], &[7; 32][..], &[0], &[0, 0], &[1, 0], &[0, 0]].concat();
    let odd_suites = [&[3, 3], &[7; 32][..], &[0], &[0, 1, 0], &[1, 0], &[0, 0]].concat();
    let long_session = [&[3, 3], &[7; 32][..], &vector8(&[1; 33]), &[0, 2, 19, 1], &[1, 0], &[0, 0]].concat();
    for (what, bytes) in [
        ("another message", record(&other_type)),
        ("bytes after the extensions", record(&message(&with_tail))),
        ("a message after the hello", record(&second_message)),
        ("an empty record", record(&[])),
        ("no cipher suites", record(&message(&no_suites))),
        ("half a cipher suite", record(&message(&odd_suites))),
        ("a long session id", record(&message(&long_session))),
        ("an empty protocol", hello(&[alpn(&["h2", ""])])),
        ("no protocols", hello(&[alpn(&[])])),
        ("an empty server name", hello(&[(0, vec![])])),
        ("another kind of name", hello(&[(0, vector16(&[1, 0, 1, b'a']))])),
        ("a byte after the names", hello(&[(0, [names(&[b"a.example"]).1, vec![0]].concat())])),
        ("a change of type between records", [record(&message(&good)[..9]), vec![23]].concat()),
    ] {
        assert_eq!(read(&bytes), Err(Refusal::Malformed), "{what}");
    }
    // Cut anywhere, with lengths that agree up to there, nothing is left that can be read.
    for cut in 0..good.len() {
        let whole_but_the_extensions = good[..cut].len() == body(&[]).len() - 2;
        assert_eq!(read(&record(&message(&good[..cut]))).is_ok(), whole_but_the_extensions, "{cut}");
    }
}

#[test]
fn what_is_no_tls_is_known_by_its_first_bytes() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"\x16GET", b"SSH-2.0", &[0x80, 0x2e, 1, 3, 1], &[21, 3, 3]] {
        let certain = if bytes[0] == 22 { 2 } else { 1 };
        assert_eq!(read(&bytes[..certain]), Err(Refusal::NotTls), "{bytes:?}");
    }
}

#[test]
fn sizes_end_where_they_should() {
    // The largest hello in records of the largest size.
    let padded = |length: usize| {
        let padding = |length| (0xfafa, vec![0; length]);
        let first = message(&body(&[padding(30_000), (0xfafb, vec![0; length])]));
        first.chunks(FRAGMENT_LIMIT).flat_map(record).collect::<Vec<u8>>()
    };
    // What is added begins two more records.
    let largest = padded(HELLO_LIMIT - padded(0).len() - 2 * RECORD_HEADER);
    assert_eq!(largest.len(), HELLO_LIMIT);
    assert_eq!(read(&largest), Ok(Some(expected(None, &[]))));

    // In small records the same message is too large, and the reader stops asking.
    let small: Vec<u8> = message(&body(&[(0xfafa, vec![0; 60_000])])).chunks(8).flat_map(record).collect();
    let mut reader = HelloReader::new();
    let pushed = small.chunks(1000).map(|piece| reader.push(piece)).find(|pushed| *pushed != Ok(None));
    assert_eq!(pushed, Some(Err(Refusal::TooLarge)));
    assert!(reader.received().len() < HELLO_LIMIT + 1000);

    assert_eq!(read(&[22, 3, 1, 0x40, 0x01]), Err(Refusal::TooLarge), "a record beyond TLS");
    assert_eq!(read(&record(&[1, 1, 0, 1])), Err(Refusal::TooLarge), "a message beyond the limit");
    // A record header must not make the reader wait for what will never fit.
    let mut reader = HelloReader::new();
    let endless = [record(&[1, 0, 255, 255]), record(&[0; FRAGMENT_LIMIT])].concat();
    assert_eq!(reader.push(&endless), Ok(None));
    let pushed =
        (0..9).map(|_| reader.push(&record(&[0; FRAGMENT_LIMIT]))).find(|pushed| *pushed != Ok(None));
    assert!(matches!(pushed, Some(Err(_))));
}

#[test]
fn everything_received_is_kept() {
    let (mut reader, hello) = (HelloReader::new(), rustls_hello("a.example", &[]));
    let bytes = [&hello[..], b"early data"].concat();
    assert_eq!(reader.push(&bytes[..9]), Ok(None));
    assert_eq!(reader.push(&bytes[9..]), Ok(Some(expected(Some("a.example"), &[]))));
    assert_eq!(reader.received(), bytes);
    assert_eq!(reader.into_received(), bytes);
}

fn label() -> impl Strategy<Value = String> {
    "[a-z]([a-z0-9-]{0,20}[a-z0-9])?"
}

proptest! {
    /// However a hello is cut into records and segments, and whatever else is in it, the same is read.
    #[test]
    fn cutting_changes_nothing(
        labels in proptest::collection::vec(label(), 1..5),
        protocols in proptest::collection::vec("[a-z0-9/.]{1,12}", 1..4),
        others in proptest::collection::btree_map(100u16.., proptest::collection::vec(any::<u8>(), 0..300), 0..8),
        first in any::<bool>(),
        fragment in 1usize..600,
        segment in 1usize..600,
    ) {
        let name = labels.join(".");
        let offered: Vec<&str> = protocols.iter().map(String::as_str).collect();
        let mut extensions: Vec<Extension> = others.into_iter().collect();
        let at = if first { 0 } else { extensions.len() };
        extensions.insert(at, names(&[name.as_bytes()]));
        extensions.push(alpn(&offered));
        let bytes: Vec<u8> = message(&body(&extensions)).chunks(fragment).flat_map(record).collect();
        let mut reader = HelloReader::new();
        let mut found = Ok(None);
        let mut pieces = bytes.chunks(segment).peekable();
        while let Some(piece) = pieces.next() {
            found = reader.push(piece);
            prop_assert_eq!(matches!(found, Ok(None)), pieces.peek().is_some());
        }
        prop_assert_eq!(found, Ok(Some(expected(Some(&name), &offered))));
        prop_assert_eq!(reader.received(), &bytes[..]);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = read(&bytes);
        let _ = read(&record(&bytes));
        let _ = read(&record(&message(&bytes)));
    }

    /// Broken in a few places, a hello is refused, or read as the TLS library reads it.
    #[test]
    fn a_name_is_the_one_that_the_tls_library_reads(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let mut bytes = rustls_hello("app.example", &["h2", "http/1.1"]);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(Some(ours)) = read(&bytes) {
            let mut acceptor = Acceptor::default();
            acceptor.read_tls(&mut &bytes[..]).unwrap();
            if let Ok(Some(theirs)) = acceptor.accept() {
                let theirs = theirs.client_hello();
                let name = theirs.server_name().map(str::to_ascii_lowercase);
                prop_assert_eq!(ours.name.map(|name| name.to_string()), name);
                let protocols: Vec<Vec<u8>> = theirs.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect();
                prop_assert_eq!(ours.protocols, protocols);
            }
        }
    }
}
