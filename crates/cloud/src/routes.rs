//! What the router leads where: made anew of the living apps after every look of the reconciler.
//!
//! | name | zero trust | owner's certificate | `--untrusted-ssl` |
//! |---|---|---|---|
//! | `<id>.<domain>` | to the node, untouched | - | TLS ends here; on over an attested channel |
//! | the owner's | - | to the node, untouched | - |
//! | `<id>.config.<domain>` | to the node, untouched | to the node, untouched | to the node, untouched |
//!
//! Only an app's own words make a name: identifiers are this backend's, and an owner's name leads to one app at a time.

use std::collections::HashSet;
use std::sync::Arc;

use router::{Entry, Name, Route, Table, Termination};

use crate::api::Operator;
use crate::error::Result;
use crate::lifecycle::Wanted;
use crate::store::App;
use crate::tls_mode::TlsMode;
use crate::upstream::Attested;

/// Keeps a router's table.
pub struct Routes {
    table: Arc<Table>,
    termination: Termination,
    upstream: Arc<Attested>,
    identity: Operator,
}

impl Routes {
    /// For this table; where TLS ends here it ends in `termination`, which goes on through `upstream`.
    pub fn new(
        table: Arc<Table>,
        termination: Termination,
        upstream: Arc<Attested>,
        identity: Operator,
    ) -> Routes {
        Routes { table, termination, upstream, identity }
    }

    /// Leads to these apps, and to no others.
    ///
    /// # Errors
    /// The table refuses it; then it stays as it was.
    pub fn lead_to(&self, apps: &[App]) -> Result<()> {
        self.upstream.keep(apps);
        // The database lets no name lead to two apps; were it otherwise, the older one keeps it and all others are led to.
        let mut names = HashSet::new();
        let entries = apps.iter().flat_map(|app| self.entries(app));
        let entries = entries.filter(|entry| names.insert(entry.name.clone())).collect();
        Ok(self.table.replace(entries)?)
    }

    fn entries(&self, app: &App) -> Vec<Entry> {
        let Some(address) = app.address.filter(|_| app.wanted == Wanted::Running) else { return Vec::new() };
        let untouched = Route::PassThrough { address };
        let users = match app.tls {
            TlsMode::ZeroTrust => (Some(self.identity.domain_of(app.id)), untouched.clone()),
            TlsMode::OwnerCertificate => (app.domain.clone(), untouched.clone()),
            TlsMode::UntrustedSsl => {
                (Some(self.identity.domain_of(app.id)), Route::Terminate(self.termination.clone()))
            }
        };
        let owners = (Some(self.identity.config_domain_of(app.id)), untouched);
        let entry = |(name, route): (Option<String>, Route)| {
            // What is no name cannot be asked for.
            let name: Name = name?.parse().ok()?;
            Some(Entry { name, app: app.id.to_string(), route })
        };
        [users, owners].into_iter().filter_map(entry).collect()
    }
}
