//! The calls of the API that a client makes, over one login.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::api::{self, App, AppOrder, Listed, Operator, Plan, Project, User};
use super::login::{Login, compare};
use super::upload::{self, Uploaded};
use super::wire::{Ask, Wire};
use crate::error::Error;

/// How many things a page of a list has.
const PAGE: usize = 100;

/// Most pages of a list.
const MOST_PAGES: usize = 200;

/// All pages of a list together, in bytes.
const LONGEST_LIST: u64 = 32 * 1024 * 1024;

/// How long the making of an app may take: the backend reads the whole package first.
const READING: Duration = Duration::from_secs(600);

/// The longest log that is read where it is not followed, in bytes.
const LONGEST_LOG: u64 = 16 * 1024 * 1024;

/// A login in use. Calls block.
#[derive(Clone, Debug)]
pub struct Session {
    wire: Wire,
    operator: Operator,
}

impl Session {
    /// Begins to use a login, and asks the backend who runs it: another signer or another simulator's root than the
    /// login recorded is a refusal.
    pub fn open(login: &Login) -> Result<Session, Error> {
        let session = Session::begin(&login.url, &login.token, login.ca_pem.as_deref())?;
        compare(session.url(), &login.operator, &session.operator)?;
        Ok(session)
    }

    /// The same, where nothing was recorded yet.
    pub(super) fn begin(url: &str, token: &str, ca_pem: Option<&str>) -> Result<Session, Error> {
        let mut wire = Wire::new(url, token, ca_pem)?;
        let operator = wire.json(&Ask::get("say who its operator is", "/v1/operator"))?;
        wire.has_answered = true;
        Ok(Session { wire, operator })
    }

    #[cfg(test)]
    pub(super) fn wire_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// The backend's address, `https://host[:port]`.
    pub fn url(&self) -> &str {
        self.wire.origin()
    }

    /// Who runs the backend, as it said at the beginning.
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// Whom the backend takes the bearer of the token for.
    pub fn me(&self) -> Result<User, Error> {
        self.wire.json(&Ask::get("say whose the token is", "/v1/me"))
    }

    /// The plans on offer.
    pub fn plans(&self) -> Result<Vec<Plan>, Error> {
        self.list("list its plans", "/v1/plans", None, |_: &[Plan]| false)
    }

    /// All projects that the bearer of the token may see.
    pub fn projects(&self) -> Result<Vec<Project>, Error> {
        self.list("list the projects", "/v1/projects", None, |_: &[Project]| false)
    }

    /// The project of this name, if the bearer of the token may see one.
    pub fn project(&self, name: &str) -> Result<Option<Project>, Error> {
        let named = |project: &Project| project.name == name;
        let found =
            self.list("list the projects", "/v1/projects", None, |page: &[Project]| page.iter().any(named));
        Ok(found?.into_iter().find(named))
    }

    /// Makes a project.
    pub fn create_project(&self, name: &str) -> Result<Project, Error> {
        #[derive(Serialize)]
        struct NewProject<'a> {
            name: &'a str,
        }
        let body = json(&NewProject { name });
        let ask = Ask::new(Method::POST, "make the project", "/v1/projects").json(&body);
        let made: Project = self.wire.json(&ask.header("idempotency-key", Uuid::new_v4()))?;
        if made.name != name {
            return Err(self.wire.odd(format!("the project '{name}'"), format!("'{}'", made.name)));
        }
        Ok(made)
    }

    /// The apps of a project: those that live, or with `all` those too that have ended.
    pub fn apps(&self, project: Uuid, all: bool) -> Result<Vec<App>, Error> {
        let path = format!("/v1/projects/{project}/apps");
        let which = all.then_some("all=true");
        let apps = self.list("list the apps", &path, which, |_: &[App]| false)?;
        apps.into_iter().map(|app| self.plausible(app, None)).collect()
    }

    /// One app.
    pub fn app(&self, id: Uuid) -> Result<App, Error> {
        let app = self.wire.json(&Ask::get("show the app", format!("/v1/apps/{id}")))?;
        self.plausible(app, Some(id))
    }

    /// Makes an app of a package that was uploaded. The same key and order give the same app, however often they are
    /// sent.
    pub fn create_app(&self, project: Uuid, order: &AppOrder, idempotency_key: Uuid) -> Result<App, Error> {
        let body = json(order);
        let path = format!("/v1/projects/{project}/apps");
        let ask = Ask::new(Method::POST, "make the app", path).json(&body).within(READING);
        let app: App = self.wire.json(&ask.header("idempotency-key", idempotency_key))?;
        let app = self.plausible(app, None)?;
        let kept = app.project == project
            && app.name == order.name
            && app.plan == order.plan
            && app.package == order.package
            && app.tls == order.tls
            && order.domain.as_ref().is_none_or(|domain| *domain == app.domain);
        if !kept {
            let found = format!("'{}' with other properties than ordered", app.name);
            return Err(self.wire.odd(format!("the app '{}' as it was ordered", order.name), found));
        }
        Ok(app)
    }

    /// Stops an app, for good; one that is stopped stays so. Its node ends a little later: see [`Session::app`].
    pub fn stop_app(&self, id: Uuid) -> Result<App, Error> {
        let app = self.wire.json(&Ask::new(Method::POST, "stop the app", format!("/v1/apps/{id}/stop")))?;
        self.plausible(app, Some(id))
    }

    /// Writes what the operator sees of an app's log to `out`; with `follow`, as it grows, until the node ends or the
    /// connection does. The bytes are whatever the node and the operator made them, control characters included.
    pub fn logs(&self, id: Uuid, follow: bool, out: &mut dyn Write) -> Result<(), Error> {
        let path = format!("/v1/apps/{id}/logs{}", if follow { "?follow=true" } else { "" });
        let mut ask = Ask::get("show the log", path);
        if follow {
            ask.limit = None;
        }
        let (_, mut body) = self.wire.ask(&ask)?;
        let limit = if follow { u64::MAX } else { LONGEST_LOG };
        let mut log = body.with_config().limit(limit).reader();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let found = match log.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(found) => found,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.wire.failed(&ask, ureq::Error::from(error))),
            };
            let written = out.write_all(&buffer[..found]).and_then(|()| out.flush());
            written
                .map_err(|error| Error::System { what: "a place for the log", reason: error.to_string() })?;
        }
    }

    /// Uploads the package at `path`, whose SHA-256 is `sha256`, in parts that begin at `cuts` (sorted, the first one 0).
    /// Parts that the project has are not sent; one that was begun goes on where it ended; a connection that breaks is
    /// made anew a few times. `progress` is told the bytes that are there and all there are.
    pub fn upload(
        &self,
        project: Uuid,
        path: &Path,
        cuts: &[u64],
        sha256: [u8; 32],
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Uploaded, Error> {
        upload::upload(&self.wire, project, path, cuts, sha256, progress)
    }

    /// Whether an answer about an app is about the one that was asked for, under the names that apps have here.
    fn plausible(&self, app: App, id: Option<Uuid>) -> Result<App, Error> {
        let wrong = |expected: String, found: &str| Err(self.wire.odd(expected, found));
        if let Some(id) = id.filter(|id| *id != app.id) {
            return wrong(format!("the app {id}"), &app.id.to_string());
        }
        let config_domain = self.operator.config_domain_of(app.id);
        if app.config_domain != config_domain {
            return wrong(format!("the configuration name {config_domain}"), &app.config_domain);
        }
        let domain = self.operator.domain_of(app.id);
        if app.tls != api::TlsMode::OwnerCertificate && app.domain != domain {
            return wrong(format!("the name {domain}"), &app.domain);
        }
        Ok(app)
    }

    /// All pages of a list, or those up to the first that satisfies `enough`.
    fn list<T: DeserializeOwned>(
        &self,
        what: &'static str,
        path: &str,
        which: Option<&str>,
        enough: impl Fn(&[T]) -> bool,
    ) -> Result<Vec<T>, Error> {
        let (mut all, mut left) = (Vec::new(), LONGEST_LIST);
        let mut cursors: Vec<String> = Vec::new();
        for _ in 0..MOST_PAGES {
            let mut address = format!("{path}?limit={PAGE}");
            for more in
                which.into_iter().map(str::to_owned).chain(cursors.last().map(|c| format!("cursor={c}")))
            {
                address.push('&');
                address.push_str(&more);
            }
            let page: Listed<T> = self.wire.json_within(&Ask::get(what, address), &mut left)?;
            if page.items.len() > PAGE {
                let found = format!("{}", page.items.len());
                return Err(self.wire.odd(format!("pages of at most {PAGE} things"), found));
            }
            let last = enough(&page.items);
            all.extend(page.items);
            match page.next {
                Some(next) if !last => {
                    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
                    let good = (1..=128).contains(&next.len()) && next.bytes().all(plain);
                    if !good || cursors.contains(&next) {
                        return Err(self.wire.odd("a cursor that leads on", format!("'{next}'")));
                    }
                    cursors.push(next);
                }
                _ => return Ok(all),
            }
        }
        Err(self.wire.odd(format!("lists of at most {} things", MOST_PAGES * PAGE), "more"))
    }
}

/// The JSON of something that has one.
pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|error| unreachable!("strings and numbers: {error}"))
}
