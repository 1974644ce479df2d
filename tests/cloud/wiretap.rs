//! A line to the router that somebody listens on, and what the listener makes of it with a log of session keys.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use ring::{aead, hkdf};

/// What went each way over one connection.
#[derive(Default)]
struct Line {
    up: Vec<u8>,
    down: Vec<u8>,
}

/// A tapped line.
pub struct Wiretap {
    lines: Arc<Mutex<Vec<Arc<Mutex<Line>>>>>,
}

impl Wiretap {
    /// From a loopback address to the router, on the same port.
    pub fn open(at: &str, router: u16) -> Wiretap {
        let listener = TcpListener::bind((at, router)).unwrap();
        let lines: Arc<Mutex<Vec<Arc<Mutex<Line>>>>> = Arc::default();
        let tapped = Arc::clone(&lines);
        std::thread::spawn(move || {
            for user in listener.incoming().map_while(Result::ok) {
                let line = Arc::new(Mutex::new(Line::default()));
                tapped.lock().unwrap().push(Arc::clone(&line));
                let node = TcpStream::connect(("127.0.0.1", router)).unwrap();
                let (back, forth) = (node.try_clone().unwrap(), user.try_clone().unwrap());
                let other = Arc::clone(&line);
                std::thread::spawn(move || copy(user, node, |bytes| line.lock().unwrap().up.extend(bytes)));
                std::thread::spawn(move || {
                    copy(back, forth, |bytes| other.lock().unwrap().down.extend(bytes))
                });
            }
        });
        Wiretap { lines }
    }

    /// All that went over it.
    pub fn bytes(&self) -> Vec<u8> {
        let lines = self.lines.lock().unwrap();
        assert!(!lines.is_empty(), "nobody used the line");
        let both = |line: &Arc<Mutex<Line>>| {
            let line = line.lock().unwrap();
            [line.up.as_slice(), &line.down].concat()
        };
        lines.iter().flat_map(both).collect()
    }

    /// What is read of it with a key log (NSS format): what users said, and what they were answered. TLS 1.3 (RFC 8446,
    /// section 7.3) with AES-256-GCM, which is what both sides prefer.
    pub fn decrypt(&self, key_log: &str) -> (Vec<u8>, Vec<u8>) {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for line in self.lines.lock().unwrap().iter() {
            let line = line.lock().unwrap();
            // Record header, handshake header, version: then the client's random.
            let random = hex::encode(&line.up[11..43]);
            for (label, from, to) in [
                ("CLIENT_TRAFFIC_SECRET_0", &line.up, &mut up),
                ("SERVER_TRAFFIC_SECRET_0", &line.down, &mut down),
            ] {
                let wanted = format!("{label} {random} ");
                let secret = key_log.lines().find_map(|line| line.strip_prefix(&wanted));
                if let Some(secret) = secret {
                    to.extend(plain_text(from, &hex::decode(secret).unwrap()));
                }
            }
        }
        (up, down)
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, mut note: impl FnMut(&[u8])) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        note(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

/// The records that open under a traffic secret, in order; those of the handshake do not.
fn plain_text(stream: &[u8], secret: &[u8]) -> Vec<u8> {
    assert_eq!(secret.len(), 48, "AES-256-GCM with SHA-384");
    let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA384, secret);
    let key = aead::UnboundKey::new(&aead::AES_256_GCM, &expand(&prk, "key", 32)).unwrap();
    let (key, iv) = (aead::LessSafeKey::new(key), expand(&prk, "iv", 12));
    let (mut text, mut rest, mut sequence) = (Vec::new(), stream, 0u64);
    while let [kind, _, _, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(record) = after.get(..length) else { break };
        let header: [u8; 5] = rest[..5].try_into().unwrap();
        rest = &after[length..];
        let mut nonce: [u8; 12] = iv.clone().try_into().unwrap();
        nonce[4..].iter_mut().zip(sequence.to_be_bytes()).for_each(|(byte, n)| *byte ^= n);
        let mut record = record.to_vec();
        let opened = key.open_in_place(
            aead::Nonce::assume_unique_for_key(nonce),
            aead::Aad::from(header),
            &mut record,
        );
        if *kind == 23
            && let Ok(opened) = opened
        {
            text.extend_from_slice(opened);
            sequence += 1;
        }
    }
    text
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label without a context (RFC 8446, section 7.1).
fn expand(prk: &hkdf::Prk, label: &str, length: usize) -> Vec<u8> {
    let label = format!("tls13 {label}");
    let mut info = vec![0, u8::try_from(length).unwrap(), u8::try_from(label.len()).unwrap()];
    info.extend_from_slice(label.as_bytes());
    info.push(0);
    let mut key = vec![0; length];
    prk.expand(&[&info], Length(length)).unwrap().fill(&mut key).unwrap();
    key
}
