//! Which backend, with which token, and whose signer: what `login` records and every later session compares.
//!
//! Format of `login.json`, mode 0600: a JSON object `{version: 1, url, token, ca_pem, operator, signer_confirmed,
//! logged_in_at}`, `operator` as `/v1/operator` has it. Beside it `operators/SHA256-OF-URL.json`, `{version: 1, url,
//! operator, signer_confirmed}`: whom this home has met at an address, which no logout forgets.

use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::api::{Operator, User};
use super::private::{self, From, secret};
use super::session::Session;
use super::wire;
use crate::error::Error;

const VERSION: u32 = 1;
const FILE: &str = "login.json";
const WHAT: &str = "login";
const OPERATORS: &str = "operators";
const WHAT_OPERATOR: &str = "record of a backend's operator";

/// A login at a backend.
#[derive(Clone)]
pub struct Login {
    /// The backend's address, `https://host[:port]`.
    pub url: String,
    /// The bearer token.
    pub token: Zeroizing<String>,
    /// The CA whose certificates are trusted (PEM), and no other; without one, those that the system trusts.
    pub ca_pem: Option<String>,
    /// Who runs the backend, in its own words at that time.
    pub operator: Operator,
    /// Whether the user compared the signer's key; otherwise it is what the backend said at the first use.
    pub signer_confirmed: bool,
    /// When.
    pub logged_in_at: Timestamp,
}

impl Login {
    /// Logs in at the backend at `url`: asks who its operator is and whether the token holds.
    ///
    /// # Errors
    /// [`Error::AnotherOperator`], a refusal: where the signer is not `signer`, or, without one, where signer or simulator's
    /// root are not those of whom this home has `met` at the same address.
    pub fn first_use(
        url: &str,
        token: Zeroizing<String>,
        ca_pem: Option<String>,
        signer: Option<[u8; 32]>,
        met: Option<&Met>,
        now: Timestamp,
    ) -> Result<Login, Error> {
        let session = Session::begin(url, &token, ca_pem.as_deref())?;
        let operator = session.operator().clone();
        let url = session.url().to_owned();
        let met = met.filter(|met| met.url == url);
        match (signer, met) {
            (Some(signer), _) => compare_signer(&url, signer, operator.mrsigner)?,
            (None, Some(met)) => compare(&url, &met.operator, &operator)?,
            (None, None) => {}
        }
        let _: User = session.me()?;
        let signer_confirmed = signer.is_some() || met.is_some_and(|met| met.signer_confirmed);
        Ok(Login { url, token, ca_pem, operator, signer_confirmed, logged_in_at: now })
    }

    /// Whom this login has met.
    pub fn met(&self) -> Met {
        Met {
            version: VERSION,
            url: self.url.clone(),
            operator: self.operator.clone(),
            signer_confirmed: self.signer_confirmed,
        }
    }
}

/// Whom this home has met at an address, whether it is logged in there or not.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Met {
    version: u32,
    url: String,
    operator: Operator,
    signer_confirmed: bool,
}

/// Refuses an operator that is not the recorded one.
pub(super) fn compare(backend: &str, recorded: &Operator, found: &Operator) -> Result<(), Error> {
    compare_signer(backend, recorded.mrsigner, found.mrsigner)?;
    let roots =
        [&recorded.simulated_root, &found.simulated_root].map(|root| root.as_deref().map(str::trim_end));
    if roots[0] != roots[1] {
        let words = |root: Option<&str>| match root {
            Some(root) => format!("one with the SHA-256 {}", digest(root)),
            None => "none".to_owned(),
        };
        return Err(Error::AnotherOperator {
            backend: backend.to_owned(),
            what: "root of simulated enclaves",
            expected: words(roots[0]),
            found: words(roots[1]),
        });
    }
    Ok(())
}

fn digest(text: &str) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(text))
}

fn compare_signer(backend: &str, expected: [u8; 32], found: [u8; 32]) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    Err(Error::AnotherOperator {
        backend: backend.to_owned(),
        what: "signer of enclaves (MRSIGNER)",
        expected: hex::encode(expected),
        found: hex::encode(found),
    })
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("url", &self.url)
            .field("operator", &self.operator)
            .field("signer_confirmed", &self.signer_confirmed)
            .field("logged_in_at", &self.logged_in_at)
            .finish_non_exhaustive()
    }
}

/// Where the login is kept.
#[derive(Clone, Debug)]
pub struct Logins(PathBuf);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    url: String,
    #[serde(with = "secret")]
    token: Zeroizing<String>,
    ca_pem: Option<String>,
    operator: Operator,
    signer_confirmed: bool,
    logged_in_at: Timestamp,
}

impl Logins {
    /// Those in a directory of this user's, which is made when it is first needed.
    pub fn new(directory: impl Into<PathBuf>) -> Logins {
        Logins(directory.into())
    }

    /// The login, if there is one.
    pub fn load(&self) -> Result<Option<Login>, Error> {
        let path = self.0.join(FILE);
        let Some(kept) = private::read::<Kept>(&path, WHAT, From::Private)? else { return Ok(None) };
        let refuse = |reason: String| Error::BackendFile { what: WHAT, path: path.clone(), reason };
        if kept.version != VERSION {
            return Err(refuse(format!("expected version {VERSION}, found {}", kept.version)));
        }
        let origin = wire::origin(&kept.url).map_err(|error| refuse(error.to_string()))?.origin();
        if origin != kept.url {
            return Err(refuse(format!("expected the address {origin}, found {}", kept.url)));
        }
        wire::check_token(&kept.token).map_err(|error| refuse(error.to_string()))?;
        let Kept { version: _, url, token, ca_pem, operator, signer_confirmed, logged_in_at } = kept;
        Ok(Some(Login { url, token, ca_pem, operator, signer_confirmed, logged_in_at }))
    }

    /// Whom this home has met at the backend at `url`.
    ///
    /// # Errors
    /// [`Error::BackendFile`] for a damaged record: what it said is not known, so nothing is taken for unchanged.
    pub fn met(&self, url: &str) -> Result<Option<Met>, Error> {
        let url = wire::origin(url)?.origin();
        let path = self.path_of_operator(&url);
        let Some(met) = private::read::<Met>(&path, WHAT_OPERATOR, From::Private)? else { return Ok(None) };
        if met.version != VERSION || met.url != url {
            let reason = format!("expected version {VERSION} of {url}, found {} of {}", met.version, met.url);
            return Err(Error::BackendFile { what: WHAT_OPERATOR, path, reason });
        }
        Ok(Some(met))
    }

    fn path_of_operator(&self, url: &str) -> PathBuf {
        self.0.join(OPERATORS).join(format!("{}.json", digest(url)))
    }

    /// Keeps a login; an earlier one is replaced, and whom it met stays known.
    pub fn save(&self, login: &Login) -> Result<(), Error> {
        private::make_directory(&self.0.join(OPERATORS))?;
        private::write(&self.path_of_operator(&login.url), &login.met(), true)?;
        let Login { url, token, ca_pem, operator, signer_confirmed, logged_in_at } = login.clone();
        let kept = Kept { version: VERSION, url, token, ca_pem, operator, signer_confirmed, logged_in_at };
        private::write(&self.0.join(FILE), &kept, true)
    }

    /// Forgets the login, and not whom it met; whether there was one.
    pub fn remove(&self) -> Result<bool, Error> {
        private::remove(&self.0.join(FILE))
    }
}
