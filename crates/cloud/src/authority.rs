//! The API's own certificate authority, and the server's certificate.
//!
//! ```text
//! <data>/ca-key.pem    the authority's key, 0600: everything else follows from it
//! <data>/ca.pem        its certificate, for clients to trust
//! ```
//!
//! The server's key and certificate are in memory alone: made at every start and renewed every day, valid for a
//! month. The authority may sign nothing but servers' certificates, and is trusted by this backend's clients alone.
//! It has no part in what makes an enclave believable.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::bearer::sha256;
use crate::config::CertificateFiles;
use crate::error::{Error, Result};
use crate::store;

/// The authority's certificate, for clients.
pub const CERTIFICATE: &str = "ca.pem";

/// The authority's key.
pub const KEY: &str = "ca-key.pem";

/// The largest of either, in bytes.
const LIMIT: u64 = 64 * 1024;

/// How long a server's certificate is valid, and how long it is used.
const VALID: SignedDuration = SignedDuration::from_hours(24 * 30);
const USED: SignedDuration = SignedDuration::from_hours(24);

/// The authority.
pub struct Authority {
    key: KeyPair,
    pem: String,
    der: CertificateDer<'static>,
}

impl Authority {
    /// The one in `data`; made where there is none.
    pub fn open_or_create(data: &Path, now: Timestamp) -> Result<Authority> {
        let key_path = data.join(KEY);
        let key = match read(&key_path)? {
            Some(pem) => KeyPair::from_pem(&pem).map_err(|error| Error::Content {
                path: key_path,
                expected: "a private key (PEM, PKCS #8)",
                found: error.to_string(),
            })?,
            None => {
                let key = KeyPair::generate()?;
                write(&key_path, Zeroizing::new(key.serialize_pem()).as_bytes(), 0o600)?;
                key
            }
        };
        let path = data.join(CERTIFICATE);
        let pem = match read(&path)? {
            Some(pem) => pem,
            None => {
                let pem = parameters(&key, now)?.self_signed(&key)?.pem();
                write(&path, pem.as_bytes(), 0o644)?;
                Zeroizing::new(pem)
            }
        };
        let content = |found: String| Error::Content {
            path: path.clone(),
            expected: "the certificate of the key beside it",
            found,
        };
        let (label, der) =
            pem_rfc7468::decode_vec(pem.as_bytes()).map_err(|error| content(error.to_string()))?;
        let certificate = <x509_cert::Certificate as der::Decode>::from_der(&der)
            .map_err(|error| content(error.to_string()))?;
        let spki = certificate.tbs_certificate().subject_public_key_info();
        if label != "CERTIFICATE" || spki.subject_public_key.raw_bytes() != key.public_key_raw() {
            return Err(content("another".to_owned()));
        }
        Ok(Authority { key, pem: pem.to_string(), der: der.into() })
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A fresh key and a certificate for a server of these names.
    pub fn issue(&self, names: &[SanType], now: Timestamp) -> Result<CertifiedKey> {
        let issuer_parameters = parameters(&self.key, now)?;
        let issuer = Issuer::from_params(&issuer_parameters, &self.key);
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        params.distinguished_name = name("mse-cloud");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        set_window(&mut params, now - SignedDuration::from_hours(24), now + VALID);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing = rustls::crypto::ring::sign::any_supported_type(&private)?;
        Ok(CertifiedKey::new(vec![certificate.der().clone(), self.der.clone()], signing))
    }
}

fn parameters(key: &KeyPair, now: Timestamp) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    // Of the key alone: what was signed before stays below it.
    let digest = sha256(key.public_key_raw());
    params.distinguished_name = name(&format!("mse-cloud API CA {}", &digest[..16]));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_window(
        &mut params,
        now - SignedDuration::from_hours(24),
        now + SignedDuration::from_hours(24 * 3650),
    );
    Ok(params)
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// Sets the days, from midnight to midnight, between which a certificate is valid.
fn set_window(params: &mut CertificateParams, from: Timestamp, until: Timestamp) {
    let day = |at: Timestamp| {
        let date = at.to_zoned(TimeZone::UTC).date();
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    (params.not_before, params.not_after) = (day(from), day(until));
}

fn read(path: &Path) -> Result<Option<Zeroizing<String>>> {
    match outside::files::read_text(path, LIMIT) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(error) => match error.kind() {
            ErrorKind::NotFound => Ok(None),
            ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::FileTooLarge => {
                Err(Error::Content {
                    path: path.to_owned(),
                    expected: "a file of text, of at most 64 KiB",
                    found: error.to_string(),
                })
            }
            _ => Err(Error::file("read", path)(error)),
        },
    }
}

/// Writes a file as a whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file =
        tempfile::NamedTempFile::new_in(directory).map_err(Error::file("write into", directory))?;
    file.write_all(bytes).map_err(Error::file("write", path))?;
    file.as_file().sync_all().map_err(Error::file("write", path))?;
    let permissions = fs::Permissions::from_mode(mode);
    file.as_file().set_permissions(permissions).map_err(Error::file("protect", path))?;
    file.persist(path).map_err(|error| Error::file("write", path)(error.error))?;
    Ok(())
}

/// A server's certificate of the day.
pub struct Certificates {
    authority: Arc<Authority>,
    names: Vec<SanType>,
    current: RwLock<(Arc<CertifiedKey>, Timestamp)>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Certificates {
    /// The first, for the API: a server that listens on `address` and is called by `names` besides.
    pub fn of_api(
        authority: Arc<Authority>,
        address: IpAddr,
        names: &[String],
        now: Timestamp,
    ) -> Result<Certificates> {
        let mut all = vec![
            SanType::DnsName("localhost".try_into()?),
            SanType::IpAddress(IpAddr::from([127, 0, 0, 1])),
            SanType::IpAddress("::1".parse().unwrap_or(address)),
        ];
        if !address.is_unspecified() && !address.is_loopback() {
            all.push(SanType::IpAddress(address));
        }
        for name in names {
            all.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into()?),
            });
        }
        Certificates::first(authority, all, now)
    }

    fn first(authority: Arc<Authority>, names: Vec<SanType>, now: Timestamp) -> Result<Certificates> {
        let first = Arc::new(authority.issue(&names, now)?);
        Ok(Certificates { authority, names, current: RwLock::new((first, now)) })
    }

    /// Makes the next one where the present one is a day old.
    pub fn renew(&self, now: Timestamp) -> Result<bool> {
        let since = self.current.read().unwrap_or_else(PoisonError::into_inner).1;
        if now.duration_since(since).abs() < USED {
            return Ok(false);
        }
        let next = Arc::new(self.authority.issue(&self.names, now)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = (next, now);
        Ok(true)
    }

    /// TLS for a server with these certificates: 1.3 and 1.2, HTTP/2 and HTTP/1.1.
    pub fn server(self: &Arc<Certificates>) -> Result<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).0.clone())
    }
}

/// The certificates of apps, made when they are first asked for: one for each name, and never one for two.
///
/// Browsers send what is for one name over a connection to another where its certificate covers both (HTTP/2: RFC 9113,
/// section 9.1.1). Two apps under one certificate would so be told each other's requests.
pub struct AppCertificates {
    authority: Arc<Authority>,
    /// What names end with, the dot included.
    below: String,
    issued: Mutex<HashMap<String, (Arc<CertifiedKey>, Timestamp)>>,
}

impl AppCertificates {
    /// For the names one level below `domain`; none is made yet.
    pub fn new(authority: Arc<Authority>, domain: &str) -> AppCertificates {
        AppCertificates { authority, below: format!(".{domain}"), issued: Mutex::default() }
    }

    /// The certificate of the day for this name alone; `None` where no app is called so.
    pub fn for_name(&self, name: &str, now: Timestamp) -> Result<Option<Arc<CertifiedKey>>> {
        let label = name.strip_suffix(&self.below).unwrap_or_default();
        if label.is_empty() || label.contains('.') {
            return Ok(None);
        }
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |(_, since): &(Arc<CertifiedKey>, Timestamp)| now.duration_since(*since).abs() < USED;
        if let Some((key, _)) = issued.get(name).filter(|held| fresh(held)) {
            return Ok(Some(key.clone()));
        }
        // The router asks for names of living apps only; those of ended ones go within a day.
        issued.retain(|_, held| fresh(held));
        let names = [SanType::DnsName(name.try_into()?)];
        let key = Arc::new(self.authority.issue(&names, now)?);
        issued.insert(name.to_owned(), (key.clone(), now));
        Ok(Some(key))
    }
}

impl std::fmt::Debug for AppCertificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppCertificates").field("below", &self.below).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for AppCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_ascii_lowercase();
        self.for_name(&name, store::now())
            .inspect_err(|error| tracing::error!(%error, "an app's certificate could not be made"))
            .ok()
            .flatten()
    }
}

/// A certificate that the operator brought, in files.
pub struct Given {
    files: CertificateFiles,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Given {
    /// Reads both files.
    pub fn read(files: &CertificateFiles) -> Result<Given> {
        let current = RwLock::new(Arc::new(Given::load(files)?));
        Ok(Given { files: files.clone(), current })
    }

    /// Reads them again; whether another certificate is shown from now on. Where that fails the present one stays.
    pub fn renew(&self) -> Result<bool> {
        let new = Given::load(&self.files)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if new.cert == current.cert {
            return Ok(false);
        }
        *current = Arc::new(new);
        Ok(true)
    }

    fn load(files: &CertificateFiles) -> Result<CertifiedKey> {
        let text = |path: &Path| {
            read(path)?.ok_or_else(|| Error::file("read", path)(std::io::ErrorKind::NotFound.into()))
        };
        let (chain, key) = (text(&files.chain)?, text(&files.private_key)?);
        let content =
            |path: &Path, expected, found: String| Error::Content { path: path.into(), expected, found };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<std::result::Result<_, _>>()
            .map_err(|error| content(&files.chain, "certificates (PEM)", error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| content(&files.private_key, "a private key (PEM)", error.to_string()))?;
        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(chain, key, &provider)
            .map_err(|error| content(&files.chain, "the certificate of the key beside it", error.to_string()))
    }
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Given {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls_pki_types::{ServerName, UnixTime};

    use super::*;

    fn check(
        ca: &str,
        key: &CertifiedKey,
        name: &str,
        at: Timestamp,
    ) -> std::result::Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        let (_, der) = pem_rfc7468::decode_vec(ca.as_bytes()).unwrap();
        roots.add(der.into()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = std::time::Duration::from_secs(at.as_second().try_into().unwrap());
        verifier
            .verify_server_cert(&key.cert[0], &key.cert[1..], &name, &[], UnixTime::since_unix_epoch(now))
            .map(drop)
    }

    fn now() -> Timestamp {
        "2026-05-06T07:08:09Z".parse().unwrap()
    }

    #[test]
    fn clients_that_trust_the_authority_trust_the_server_under_its_names_alone() {
        let data = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(data.path(), now()).unwrap();
        let pem = fs::read_to_string(data.path().join(CERTIFICATE)).unwrap();
        assert_eq!(pem, authority.pem());
        let mode = fs::metadata(data.path().join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let address = "192.0.2.7".parse().unwrap();
        let names = ["cloud.example".to_owned(), "192.0.2.8".to_owned()];
        let certificates = Certificates::of_api(Arc::new(authority), address, &names, now()).unwrap();
        let key = certificates.current.read().unwrap().0.clone();
        for name in ["localhost", "127.0.0.1", "::1", "192.0.2.7", "192.0.2.8", "cloud.example"] {
            assert_eq!(check(&pem, &key, name, now()), Ok(()), "{name}");
        }
        assert!(check(&pem, &key, "other.example", now()).is_err());
        let later = now() + SignedDuration::from_hours(24 * 31);
        assert!(check(&pem, &key, "localhost", later).is_err());

        let elsewhere = tempfile::tempdir().unwrap();
        let other = Authority::open_or_create(elsewhere.path(), now()).unwrap();
        assert!(check(other.pem(), &key, "localhost", now()).is_err());
    }

    /// Browsers would send one app's requests over a connection to the other.
    #[test]
    fn no_certificate_covers_two_apps() {
        let data = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(data.path(), now()).unwrap();
        let pem = authority.pem().to_owned();
        let apps = AppCertificates::new(Arc::new(authority), "apps.example");
        let of = |name: &str, at| apps.for_name(name, at).unwrap();
        let (a, b) = (of("a.apps.example", now()).unwrap(), of("b.apps.example", now()).unwrap());
        assert_eq!(check(&pem, &a, "a.apps.example", now()), Ok(()));
        assert_eq!(check(&pem, &b, "b.apps.example", now()), Ok(()));
        assert!(check(&pem, &a, "b.apps.example", now()).is_err());
        assert!(check(&pem, &b, "a.apps.example", now()).is_err());
        for name in ["apps.example", ".apps.example", "a.config.apps.example", "localhost", ""] {
            assert!(of(name, now()).is_none(), "{name}");
        }

        assert_eq!(of("a.apps.example", now()).unwrap().cert, a.cert, "one a day is enough");
        let later = now() + SignedDuration::from_hours(24);
        assert_ne!(of("a.apps.example", later).unwrap().cert, a.cert);
        assert_eq!(apps.issued.lock().unwrap().len(), 1, "old ones are forgotten");
    }

    #[test]
    fn a_certificate_that_was_replaced_is_read_again() {
        let data = tempfile::tempdir().unwrap();
        let files = CertificateFiles {
            chain: data.path().join("chain.pem"),
            private_key: data.path().join("key.pem"),
        };
        let bring = || {
            let key = KeyPair::generate().unwrap();
            let own = CertificateParams::new(vec!["*.apps.example".to_owned()]).unwrap();
            fs::write(&files.chain, own.self_signed(&key).unwrap().pem()).unwrap();
            key.serialize_pem()
        };
        let key = bring();
        fs::write(&files.private_key, key).unwrap();
        let given = Given::read(&files).unwrap();
        let shown = || given.current.read().unwrap().cert.clone();
        let first = shown();
        assert!(!given.renew().unwrap());

        // Half of it: the key of the new certificate is not there yet.
        let key = bring();
        assert!(given.renew().is_err());
        assert_eq!(shown(), first);
        fs::write(&files.private_key, key).unwrap();
        assert!(given.renew().unwrap());
        assert_ne!(shown(), first);
    }

    #[test]
    fn the_authority_stays_and_the_certificate_is_renewed() {
        let data = tempfile::tempdir().unwrap();
        let pem = Authority::open_or_create(data.path(), now()).unwrap().pem().to_owned();
        let later = now() + SignedDuration::from_hours(24 * 365);
        let again = Authority::open_or_create(data.path(), later).unwrap();
        assert_eq!(again.pem(), pem);
        let certificates = Certificates::of_api(Arc::new(again), [127, 0, 0, 1].into(), &[], later).unwrap();
        let first = certificates.current.read().unwrap().0.clone();
        assert!(!certificates.renew(later + SignedDuration::from_hours(23)).unwrap());
        let next_day = later + SignedDuration::from_hours(24);
        assert!(certificates.renew(next_day).unwrap());
        let second = certificates.current.read().unwrap().0.clone();
        assert_ne!(first.cert, second.cert);
        assert_eq!(check(&pem, &second, "localhost", next_day + SignedDuration::from_hours(24 * 29)), Ok(()));
    }

    #[test]
    fn a_lost_certificate_is_made_again_of_the_same_key() {
        let data = tempfile::tempdir().unwrap();
        let first = Authority::open_or_create(data.path(), now()).unwrap();
        let key = first.issue(&[SanType::DnsName("localhost".try_into().unwrap())], now()).unwrap();
        fs::remove_file(data.path().join(CERTIFICATE)).unwrap();
        let again = Authority::open_or_create(data.path(), now()).unwrap();
        assert_eq!(check(again.pem(), &key, "localhost", now()), Ok(()));
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for directory in [&data, &other] {
            Authority::open_or_create(directory.path(), now()).unwrap();
        }
        fs::copy(other.path().join(CERTIFICATE), data.path().join(CERTIFICATE)).unwrap();
        let refused = Authority::open_or_create(data.path(), now());
        assert!(matches!(refused, Err(Error::Content { .. })));
        for (file, content) in [(CERTIFICATE, "no PEM"), (KEY, "no PEM"), (KEY, &" ".repeat(70_000))] {
            fs::write(other.path().join(file), content).unwrap();
            assert!(matches!(Authority::open_or_create(other.path(), now()), Err(Error::Content { .. })));
        }
    }
}
