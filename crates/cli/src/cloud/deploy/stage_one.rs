//! The first stage, with the untrusted backend: a package whose code is encrypted, its upload, resources, a node.

use std::path::PathBuf;
use std::time::Duration;

use client::backend::{
    App, AppOrder, Context, Login, Operator, Plan, ProblemKind, Project, Session, State, TlsMode,
    Verification,
};
use jiff::Timestamp;
use package::config::TlsMode as Measured;
use package::{Built, Package};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::cloud::deploy::stage_two::Secrets;
use crate::cloud::deploy::{Args, Deadline};
use crate::cloud::project::CloudProject;
use crate::exit::{Advice, Failure};
use crate::files;
use crate::home::package::{self as packaging, BuilderChoice, ImageSource};
use crate::interrupt::Scratch;
use crate::output::{self, printable, say};

/// A package whose code is encrypted, and what never leaves its owner.
pub struct Sealed {
    /// What was built.
    pub built: Built,
    /// The same, opened: fingerprints are computed from it.
    pub package: Package,
    /// The code key, 64 hexadecimal digits.
    pub code_key: Zeroizing<String>,
    /// Keeps the directory.
    _scratch: Option<Scratch>,
}

/// Where the app goes on the backend.
pub struct Place {
    /// The backend's name for it.
    pub name: String,
    /// The project.
    pub project: Project,
    /// The hardware.
    pub plan: Plan,
    /// An app of the same name that has not ended.
    pub earlier: Option<App>,
}

/// What makes an image that the backend can run: it says itself what starts its nodes.
pub fn builder(
    chosen: BuilderChoice,
    operator: &Operator,
    project: &CloudProject,
) -> anyhow::Result<BuilderChoice> {
    match (chosen, operator.runtime.as_str()) {
        (BuilderChoice::Docker, "process") => {}
        (_, "process") if project.cloud.docker.is_some() => {}
        (BuilderChoice::Native, "docker") => {
            return Err(Failure::failed("this backend runs container images, and no natively built ones")
                .hint("leave out --builder native")
                .into());
        }
        (BuilderChoice::Auto, "process") => return Ok(BuilderChoice::Native),
        (BuilderChoice::Auto, "docker") => return Ok(BuilderChoice::Docker),
        _ => return Ok(chosen),
    }
    Err(Failure::failed("this backend runs natively built images, and no containers")
        .hint("leave out --builder docker, and `docker` in [cloud]")
        .into())
}

/// Builds the package, its code encrypted under a fresh key.
pub fn build(
    args: &Args,
    project: &CloudProject,
    builder: BuilderChoice,
    tls: TlsMode,
) -> anyhow::Result<Sealed> {
    let (scratch, output): (Option<Scratch>, PathBuf) = match &args.workspace {
        Some(folder) => (None, folder.clone()),
        None => {
            let scratch = Scratch::new()?;
            let path = scratch.path().to_owned();
            (Some(scratch), path)
        }
    };
    let mut parts = project.parts.clone();
    parts.tls_mode = Some(match tls {
        TlsMode::ZeroTrust => Measured::RaTls,
        TlsMode::OwnerCertificate => Measured::OwnerCertificate,
        TlsMode::UntrustedSsl => Measured::OperatorCertificate,
    });
    let source = ImageSource {
        folder: &project.folder,
        dockerfile: &project.folder.join("Dockerfile"),
        builder,
        build: &args.build,
        ready: project.cloud.docker.as_deref(),
    };
    let built = packaging::make(&parts, &source, true, &output)?;
    let key =
        built.key.as_deref().ok_or_else(|| Failure::failed("the package was built without a code key"))?;
    let code_key = Zeroizing::new(Zeroizing::new(files::read_text(key)?).trim().to_owned());
    let package = Package::open(&built.package)?;
    Ok(Sealed { built, package, code_key, _scratch: scratch })
}

/// Finds or makes the project, chooses the plan, and looks for an app of the same name.
pub fn place(session: &Session, project: &CloudProject, package: &Sealed) -> anyhow::Result<Place> {
    let plan = plan(session.plans()?, project.cloud.hardware.as_deref(), package.built.smallest_size)?;
    let (name, project_name) = (project.app_name(), project.project_name());
    let project = match session.project(&project_name)? {
        Some(project) => project,
        None => {
            say!("Making the project {project_name}");
            match session.create_project(&project_name) {
                // Somebody was faster: another deployment of one's own, most of all.
                Err(error) if error.problem() == Some(ProblemKind::Conflict) => {
                    session.project(&project_name)?.ok_or(error)?
                }
                made => made?,
            }
        }
    };
    let earlier = session.apps(project.id, false)?.into_iter().find(|app| app.name == name);
    Ok(Place { name, project, plan, earlier })
}

/// The plan that the owner named, or the smallest that holds the package.
fn plan(plans: Vec<Plan>, named: Option<&str>, smallest_mb: u64) -> anyhow::Result<Plan> {
    let names = plans
        .iter()
        .map(|plan| format!("{} ({} MB)", printable(&plan.name, ""), plan.enclave_mb))
        .collect::<Vec<_>>()
        .join(", ");
    let chosen = match named {
        Some(name) => plans.into_iter().find(|plan| plan.name == name),
        None => plans
            .into_iter()
            .filter(|plan| plan.enclave_mb >= smallest_mb)
            .min_by_key(|plan| (plan.enclave_mb, plan.cores)),
    };
    let Some(plan) = chosen else {
        let wanted =
            named.map_or_else(|| format!("of {smallest_mb} MB or more"), |name| format!("called {name:?}"));
        return Err(Failure::failed(format!("the backend has no plan {wanted}"))
            .hint(format!("it has: {names}; choose with `hardware` in [cloud]"))
            .into());
    };
    // The enclave size is the operator's word until here; from here on the fingerprint fixes it.
    package::fingerprint::check_size(plan.enclave_mb)
        .hint("the backend's plan has a size that no enclave can have")?;
    if plan.enclave_mb < smallest_mb {
        return Err(Failure::failed(format!(
            "the plan {} has {} MB, and the package needs {smallest_mb}",
            printable(&plan.name, ""),
            plan.enclave_mb
        ))
        .hint(format!("the backend has: {names}"))
        .into());
    }
    Ok(plan)
}

/// Uploads what the backend lacks of the package.
pub fn upload(session: &Session, place: &Place, package: &Sealed) -> anyhow::Result<()> {
    let bar = output::progress();
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let uploaded = session.upload(
        place.project.id,
        &package.built.package,
        &package.package.cuts(),
        package.built.sha256,
        &mut |done, total| {
            bar.set_message(format!("uploading: {:.1} of {:.1} MB", megabytes(done), megabytes(total)));
        },
    );
    bar.finish_and_clear();
    let uploaded = uploaded?;
    say!(
        "Uploaded {:.1} of {:.1} MB; the backend had the rest",
        megabytes(uploaded.sent),
        megabytes(uploaded.total)
    );
    Ok(())
}

/// Asks for the app.
pub fn create(
    session: &Session,
    place: &Place,
    package: &Sealed,
    secrets: &Secrets,
    tls: TlsMode,
    expires_at: Option<Timestamp>,
) -> anyhow::Result<App> {
    let order = AppOrder {
        name: place.name.clone(),
        plan: place.plan.name.clone(),
        package: package.built.sha256,
        tls,
        expires_at,
        domain: secrets.certificate.as_ref().map(|own| own.domain.clone()),
    };
    // The session compares the answer with the order, and the names with those that apps have there.
    Ok(session.create_app(place.project.id, &order, Uuid::new_v4())?)
}

/// What this home keeps of the deployment, from its beginning.
pub fn context(
    login: &Login,
    session: &Session,
    place: &Place,
    package: &Sealed,
    app: &App,
) -> anyhow::Result<Context> {
    // What was compared with the login stays; where things are may have changed since.
    let operator = session.operator();
    let router_port = operator.router_port();
    let fingerprint = package.package.fingerprint(place.plan.enclave_mb)?;
    Ok(Context {
        version: Context::VERSION,
        id: app.id,
        name: place.name.clone(),
        project: place.project.name.clone(),
        project_id: place.project.id,
        backend: login.url.clone(),
        plan: place.plan.name.clone(),
        size_mb: place.plan.enclave_mb,
        package_sha256: package.built.sha256,
        fingerprint: *fingerprint.as_bytes(),
        code_sha256: package.built.code_sha256,
        tls: app.tls,
        domain: app.domain.clone(),
        config_domain: app.config_domain.clone(),
        router_port,
        code_key: Some(package.code_key.clone()),
        mrsigner: login.operator.mrsigner,
        signer_confirmed: login.signer_confirmed,
        simulated_root: login.operator.simulated_root.clone(),
        pccs: operator.pccs.clone(),
        created_at: Timestamp::now(),
        expires_at: app.expires_at,
        verified: Verification::NotYet,
        configured_at: None,
    })
}

/// Waits until the node waits for its configuration, by the backend's word.
pub fn wait_for_node(session: &Session, app: &App, deadline: Deadline) -> anyhow::Result<()> {
    let bar = output::progress();
    let mut said = String::new();
    loop {
        let now = session.app(app.id)?;
        match now.state {
            State::Initializing | State::Running => break,
            State::Stopped => {
                return Err(
                    Failure::failed(format!("the app was stopped: {}", printable(&now.message, ""))).into()
                );
            }
            _ => {}
        }
        if deadline.is_over() {
            return Err(Failure::failed(format!(
                "the node is {} after {} seconds: {}",
                now.state,
                deadline.seconds,
                printable(&now.message, "")
            ))
            .hint(format!("`mse cloud logs {}` may tell more; --timeout gives it more time", app.id))
            .into());
        }
        if now.message != said {
            bar.set_message(printable(&now.message, ""));
            said = now.message;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    bar.finish_and_clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans() -> Vec<Plan> {
        [("large", 16384, 4), ("small", 1024, 1), ("medium", 4096, 2), ("odd", 3000, 1)]
            .map(|(name, enclave_mb, cores)| Plan {
                id: Uuid::nil(),
                name: name.to_owned(),
                enclave_mb,
                cores,
                price: String::new(),
            })
            .into()
    }

    #[test]
    fn the_plan_is_the_owners_or_the_smallest_that_holds_the_package() {
        let chosen = |named, smallest| plan(plans(), named, smallest).map(|plan| plan.name).ok();
        assert_eq!(chosen(None, 1024).as_deref(), Some("small"));
        assert_eq!(chosen(None, 4096).as_deref(), Some("medium"));
        assert_eq!(chosen(Some("large"), 1024).as_deref(), Some("large"));
        assert_eq!(chosen(Some("small"), 4096), None, "too small");
        assert_eq!(chosen(Some("huge"), 1024), None);
        assert_eq!(chosen(None, 1 << 20), None);
        assert_eq!(chosen(Some("odd"), 1024), None, "no enclave has such a size");
    }
}
