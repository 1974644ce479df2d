//! Where this home is logged in, and what it has deployed.

use client::backend::{Contexts, Login, Logins, Session};

use crate::exit::Failure;
use crate::output::{self, CARE, Styled, out};
use crate::places;

/// The login of this home.
pub fn logins() -> anyhow::Result<Logins> {
    Ok(Logins::new(places::cloud()?))
}

/// What this home has deployed.
pub fn contexts() -> anyhow::Result<Contexts> {
    Ok(Contexts::new(places::cloud()?.join("contexts")))
}

/// Where this home is logged in; an error says how to.
pub fn login() -> anyhow::Result<Login> {
    logins()?.load()?.ok_or_else(|| {
        Failure::failed("this home is not logged in to a backend")
            .hint("`mse cloud login URL --token-file FILE`, with what the backend's operator gave you")
            .into()
    })
}

/// Opens the session of this home's login. Another operator than the one recorded is refused.
pub fn open() -> anyhow::Result<(Login, Session)> {
    let login = login()?;
    let session = Session::open(&login)?;
    Ok((login, session))
}

/// Says whose enclaves are accepted, and how that is known.
pub fn describe_signer(mrsigner: [u8; 32], is_confirmed: bool) -> anyhow::Result<()> {
    let mrsigner = hex::encode(mrsigner);
    match is_confirmed {
        true => out!("Operator's signer: {mrsigner} (confirmed)")?,
        false => {
            out!("Operator's signer: {mrsigner} ({})", Styled(CARE, "first use, unconfirmed"))?;
            output::talk(format_args!(
                "Ask the operator for this value by another way, and log in again with --signer to confirm it."
            ));
        }
    }
    Ok(())
}
