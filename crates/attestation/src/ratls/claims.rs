//! The claims: what the enclave says beside its quote, bound to it by hash.
//!
//! A CBOR map (RFC 8949) with `"pubkey-hash"`: a byte string holding CBOR `[1, SHA-256 of the SubjectPublicKeyInfo]` (1 is
//! SHA-256 in IANA's registry of named information hash algorithms); `"nonce"`: a byte string, when one was asked for; and
//! `"mse"`: a byte string holding the CBOR map of [`AppClaims`]. Claims are believed only when a verified quote's report
//! data equals [`report_data`] of their bytes as carried.

use super::cbor::{Reader, malformed};
use super::{MAX_CLAIMS_BYTES, NONCE_BYTES};
use crate::Error;
use minicbor::Encoder;
use sha2::{Digest, Sha256};

/// SHA-256 in IANA's "Named Information Hash Algorithm Registry".
const SHA_256: u64 = 1;
/// The version of [`AppClaims`] that is written and read.
const APP_CLAIMS_VERSION: u32 = 1;
/// The longest sealing public key, in bytes.
const MAX_SEALING_KEY_BYTES: usize = 8_192;

/// What the enclave claims, besides what its quote says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// SHA-256 of the DER SubjectPublicKeyInfo of the RA-TLS certificate.
    pub pubkey_hash: [u8; 32],
    /// The verifier's nonce, 16 to 64 bytes, if it sent one.
    pub nonce: Option<Vec<u8>>,
    /// What this project adds; other makers of RA-TLS certificates leave it out.
    pub app: Option<AppClaims>,
}

/// The claims of an MSE node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppClaims {
    /// The version of this map: 1.
    pub version: u32,
    /// The instance's UUID.
    pub app_id: [u8; 16],
    /// The public key for which secrets are sealed (X-Wing, 1216 bytes).
    pub sealing_key: Vec<u8>,
    /// Whose certificate the started application serves.
    pub tls_mode: TlsMode,
    /// SHA-256 of the SubjectPublicKeyInfo that the application serves, where that is not the RA-TLS key.
    pub served_spki: Option<[u8; 32]>,
}

impl AppClaims {
    /// Claims of the current version, without a served key of another.
    pub fn new(app_id: [u8; 16], sealing_key: Vec<u8>, tls_mode: TlsMode) -> Self {
        AppClaims { version: APP_CLAIMS_VERSION, app_id, sealing_key, tls_mode, served_spki: None }
    }
}

/// Whose certificate the started application serves: fixed when the package is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// The RA-TLS certificate itself.
    RaTls,
    /// A certificate whose key the owner sends with the configuration.
    OwnerCertificate,
    /// The operator's proxy ends TLS.
    OperatorCertificate,
}

impl TlsMode {
    /// The name in claims and in files.
    pub fn as_str(self) -> &'static str {
        match self {
            TlsMode::RaTls => "ra-tls",
            TlsMode::OwnerCertificate => "owner-certificate",
            TlsMode::OperatorCertificate => "operator-certificate",
        }
    }
}

impl std::fmt::Display for TlsMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for TlsMode {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        [TlsMode::RaTls, TlsMode::OwnerCertificate, TlsMode::OperatorCertificate]
            .into_iter()
            .find(|mode| mode.as_str() == name)
            .ok_or_else(|| {
                malformed("ra-tls, owner-certificate or operator-certificate", format!("TLS mode {name:?}"))
            })
    }
}

/// The report data that binds `claims` (as carried, never re-encoded) to a quote: SHA-256, then 32 zero bytes.
pub fn report_data(claims: &[u8]) -> [u8; 64] {
    let mut data = [0; 64];
    data[..32].copy_from_slice(&Sha256::digest(claims));
    data
}

impl Claims {
    /// The claims as deterministic CBOR (RFC 8949, 4.2.1): equal claims give equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut pubkey_hash = Encoder::new(Vec::new());
        infallible(
            pubkey_hash.array(2).and_then(|e| e.u64(SHA_256)).and_then(|e| e.bytes(&self.pubkey_hash)),
        );
        let pubkey_hash = pubkey_hash.into_writer();

        // Keys in the order of their encodings: shorter ones first.
        let mut map = Encoder::new(Vec::new());
        infallible(map.map(1 + u64::from(self.nonce.is_some()) + u64::from(self.app.is_some())));
        if let Some(app) = &self.app {
            infallible(map.str("mse").and_then(|e| e.bytes(&app.encode())));
        }
        if let Some(nonce) = &self.nonce {
            infallible(map.str("nonce").and_then(|e| e.bytes(nonce)));
        }
        infallible(map.str("pubkey-hash").and_then(|e| e.bytes(&pubkey_hash)));
        map.into_writer()
    }

    /// Reads claims strictly: definite lengths, shortest form, no duplicate keys, no trailing bytes, at most
    /// [`MAX_CLAIMS_BYTES`]. Top-level claims of other makers are stepped over; inside `"mse"` nothing is.
    ///
    /// # Errors
    /// [`Error::TooLarge`], or [`Error::Malformed`] for anything else and without a `"pubkey-hash"`.
    pub fn decode(claims: &[u8]) -> Result<Self, Error> {
        Error::check_size(super::CLAIMS, claims, MAX_CLAIMS_BYTES)?;
        let (mut pubkey_hash, mut nonce, mut app) = (None, None, None);
        read_map(claims, "the claims", |key, reader| {
            match key {
                "pubkey-hash" => pubkey_hash = Some(decode_pubkey_hash(reader.bytes("\"pubkey-hash\"")?)?),
                "nonce" => nonce = Some(checked_nonce(reader.bytes("\"nonce\"")?)?.to_vec()),
                "mse" => app = Some(AppClaims::decode(reader.bytes("\"mse\"")?)?),
                other => reader.skip(&format!("claim {other:?}"))?,
            }
            Ok(())
        })?;
        let pubkey_hash = pubkey_hash.ok_or_else(|| malformed("a \"pubkey-hash\"", "none"))?;
        Ok(Claims { pubkey_hash, nonce, app })
    }
}

impl AppClaims {
    fn encode(&self) -> Vec<u8> {
        let mut map = Encoder::new(Vec::new());
        infallible(map.map(4 + u64::from(self.served_spki.is_some())));
        infallible(map.str("app-id").and_then(|e| e.bytes(&self.app_id)));
        infallible(map.str("version").and_then(|e| e.u32(self.version)));
        infallible(map.str("tls-mode").and_then(|e| e.str(self.tls_mode.as_str())));
        infallible(map.str("sealing-key").and_then(|e| e.bytes(&self.sealing_key)));
        if let Some(served_spki) = &self.served_spki {
            infallible(map.str("served-spki").and_then(|e| e.bytes(served_spki)));
        }
        map.into_writer()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let (mut version, mut app_id, mut sealing_key, mut tls_mode, mut served_spki) =
            (None, None, None, None, None);
        read_map(bytes, "\"mse\"", |key, reader| {
            match key {
                "version" => version = Some(reader.unsigned("\"version\"")?),
                "app-id" => app_id = Some(exactly::<16>(reader.bytes("\"app-id\"")?, "\"app-id\"")?),
                "sealing-key" => sealing_key = Some(reader.bytes("\"sealing-key\"")?.to_vec()),
                "tls-mode" => tls_mode = Some(reader.text("\"tls-mode\"")?.parse()?),
                "served-spki" => {
                    served_spki = Some(exactly::<32>(reader.bytes("\"served-spki\"")?, "\"served-spki\"")?)
                }
                other => return Err(malformed("only known keys in \"mse\"", format!("{other:?}"))),
            }
            Ok(())
        })?;
        let missing = |key: &str| malformed(format!("{key:?} in \"mse\""), "none");
        let version = version.ok_or_else(|| missing("version"))?;
        if version != u64::from(APP_CLAIMS_VERSION) {
            return Err(malformed(
                format!("\"mse\" of version {APP_CLAIMS_VERSION}"),
                format!("version {version}"),
            ));
        }
        let sealing_key = sealing_key.ok_or_else(|| missing("sealing-key"))?;
        if sealing_key.is_empty() || sealing_key.len() > MAX_SEALING_KEY_BYTES {
            return Err(malformed(
                format!("1 to {MAX_SEALING_KEY_BYTES} bytes of \"sealing-key\""),
                format!("{} bytes", sealing_key.len()),
            ));
        }
        Ok(AppClaims {
            version: APP_CLAIMS_VERSION,
            app_id: app_id.ok_or_else(|| missing("app-id"))?,
            sealing_key,
            tls_mode: tls_mode.ok_or_else(|| missing("tls-mode"))?,
            served_spki,
        })
    }
}

fn decode_pubkey_hash(bytes: &[u8]) -> Result<[u8; 32], Error> {
    let mut reader = Reader::new(bytes);
    let elements = reader.array("\"pubkey-hash\"")?;
    if elements != 2 {
        return Err(malformed("[algorithm, hash] in \"pubkey-hash\"", format!("{elements} elements")));
    }
    let algorithm = reader.unsigned("the algorithm of \"pubkey-hash\"")?;
    if algorithm != SHA_256 {
        return Err(malformed(
            format!("a \"pubkey-hash\" of algorithm {SHA_256} (SHA-256)"),
            format!("algorithm {algorithm}"),
        ));
    }
    let hash = exactly(reader.bytes("the hash in \"pubkey-hash\"")?, "the hash in \"pubkey-hash\"")?;
    reader.finish("\"pubkey-hash\"")?;
    Ok(hash)
}

/// Reads one map with text keys, none of them twice, and nothing after it; `entry` reads the value of each key.
fn read_map<'b>(
    bytes: &'b [u8],
    what: &str,
    mut entry: impl FnMut(&'b str, &mut Reader<'b>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut reader = Reader::new(bytes);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..reader.map(what)? {
        let key = reader.text(&format!("a key of {what}"))?;
        if !seen.insert(key) {
            return Err(malformed(format!("each key of {what} once"), format!("{key:?} twice")));
        }
        entry(key, &mut reader)?;
    }
    reader.finish(what)
}

fn checked_nonce(nonce: &[u8]) -> Result<&[u8], Error> {
    match NONCE_BYTES.contains(&nonce.len()) {
        true => Ok(nonce),
        false => Err(malformed("16 to 64 bytes of \"nonce\"", format!("{} bytes", nonce.len()))),
    }
}

fn exactly<const N: usize>(bytes: &[u8], what: &str) -> Result<[u8; N], Error> {
    bytes.try_into().map_err(|_| malformed(format!("{N} bytes of {what}"), format!("{} bytes", bytes.len())))
}

/// Writing CBOR to a vector cannot fail: its error type has no values.
fn infallible<T>(result: Result<T, minicbor::encode::Error<std::convert::Infallible>>) {
    debug_assert!(result.is_ok());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sealing_keys_are_limited() {
        let read = |length| {
            let app = AppClaims::new([1; 16], vec![2; length], TlsMode::OwnerCertificate);
            Claims::decode(&Claims { pubkey_hash: [3; 32], nonce: None, app: Some(app) }.encode())
        };
        for (length, fine) in
            [(0, false), (1, true), (MAX_SEALING_KEY_BYTES, true), (MAX_SEALING_KEY_BYTES + 1, false)]
        {
            assert_eq!(read(length).is_ok(), fine, "{length}");
        }
        assert_eq!(TlsMode::OwnerCertificate.to_string(), "owner-certificate");
    }
}
