//! The second stage, straight to the verified enclave: code key, secrets, the owner's certificate; then the wait for the
//! application.
//!
//! What can wait for a quantum computer is sealed besides (HPKE with a hybrid KEM): the operator's router carries the
//! bytes of this channel and may keep them.

use std::time::Duration;

use attestation::ratls::RatlsCertificate;
use client::backend::{Context, Session, State};
use client::channel::Channel;
use client::configure::{self, Configuration};
use client::health::{self, Probe};
use client::records::Origin;
use jiff::Timestamp;
use secrets::code::CodeKey;
use secrets::seal::Payload;
use zeroize::Zeroizing;

use crate::cloud::deploy::Deadline;
use crate::cloud::deploy::stage_one::Sealed;
use crate::cloud::deploy::verification::{Found, patiently};
use crate::cloud::project::{CloudProject, OwnCertificate};
use crate::exit::{Advice, Failure};
use crate::home::nodes;
use crate::output::{self, printable, say};

/// What only the enclave may have, besides the code key.
pub struct Secrets {
    /// `secrets` of the `[cloud]` table.
    pub plain: Option<Zeroizing<Vec<u8>>>,
    /// `sealed_secrets` of the `[cloud]` table.
    pub sealed: Option<Zeroizing<Vec<u8>>>,
    /// The owner's certificate.
    pub certificate: Option<OwnCertificate>,
}

/// Sends it all, over the channel that ends in this enclave.
pub fn configure(
    found: &Found,
    package: &Sealed,
    secrets: &Secrets,
    deadline: Deadline,
) -> anyhow::Result<()> {
    let code_key = CodeKey::from_hex(&package.code_key)?;
    let payload = Payload { secrets: secrets.sealed.clone(), code_key: Some(code_key) };
    let sealed = match found.record.origin() {
        Origin::Unverified => {
            let certificate = RatlsCertificate::parse(found.record.certificate())?;
            client::seal::seal_unverified(&certificate, &payload)?
        }
        _ => client::seal::seal(&found.record, &payload, Timestamp::now())?,
    };
    let own = secrets.certificate.as_ref();
    let configuration = Configuration {
        secrets: secrets.plain.clone(),
        sealed_secrets: Some(sealed),
        code_key: None,
        private_key: own.map(|own| own.key.clone()),
        certificate: own.map(|own| own.chain.clone()),
    };
    // Where an answer was lost the enclave may have accepted: nobody else has the code key that it wants.
    let mut was_sent = false;
    patiently(deadline, || match configure::configure(&found.record, &found.target, &configuration) {
        Err(client::Error::Configured { .. }) if was_sent => Ok(()),
        done => {
            was_sent = true;
            Ok(done?)
        }
    })?;
    say!("The enclave accepted its keys and secrets.");
    if let Some(own) = own {
        // From now on the application shows the owner's certificate.
        nodes::records()?.save(&found.record.clone().serving(&own.chain)?)?;
    }
    Ok(())
}

/// Waits until the application passes its health check.
pub fn wait_for_application(
    session: &Session,
    found: &Found,
    context: &Context,
    project: &CloudProject,
    deadline: Deadline,
) -> anyhow::Result<()> {
    let record = nodes::records()?.by_deployment(context.id)?.unwrap_or_else(|| found.record.clone());
    let channel = Channel::attested(&record, &found.target);
    let bar = output::progress();
    bar.set_message("waiting for the application");
    let limit = Duration::from_secs(deadline.seconds);
    let mut ended = None;
    let probe = health::wait(&channel, &project.app.healthcheck_endpoint, limit, |probe| {
        if matches!(probe, Probe::Healthy { .. }) {
            return true;
        }
        // The operator's word, good enough to stop waiting.
        ended = session.app(context.id).ok().filter(|app| app.state == State::Stopped);
        ended.is_some()
    });
    bar.finish_and_clear();
    let advice =
        format!("`mse cloud logs {id}` shows what it said; `mse cloud stop {id}` ends it", id = context.id);
    match (probe, ended) {
        (_, Some(app)) => {
            Err(Failure::failed(format!("the app was stopped: {}", printable(&app.message, ""))).into())
        }
        (Ok(_), None) => {
            let_the_backend_see_it(session, context);
            Ok(())
        }
        (Err(error), None) => Err(error).hint(advice),
    }
}

/// The backend looks every few seconds. Its list should say what is so when this command has ended; it need not.
fn let_the_backend_see_it(session: &Session, context: &Context) {
    let until = Deadline::after(10);
    while !until.is_over() {
        match session.app(context.id) {
            Ok(app) if app.state != State::Running => std::thread::sleep(Duration::from_millis(200)),
            _ => return,
        }
    }
}
