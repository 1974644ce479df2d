//! The client of a backend: login, projects, uploads, apps, and what an owner keeps of each deployment.
//!
//! The backend is its operator's and is not trusted. Its certificate is checked against exactly the CA that was given at
//! login (or the system's roots), so that nobody else reads the token; but whatever it answers is a claim: bounded in
//! size and number, checked in form before it is used or printed, and never a reason to send a secret. What an app
//! is, its own evidence says (see [`crate::live`]). Only one answer is remembered to be compared: who the operator
//! claims to be ([`Login`]), so that a change of signer is a refusal and not a surprise.
//!
//! Formats: the API's own document (`/v1/openapi.json` of a backend), errors as RFC 9457; files are JSON, described
//! with [`Login`] and [`Context`].
//!
//! ```text
//! api       what the API says and is told, as types
//! wire      one request and its answer: TLS, time, size, errors
//! session   the calls
//! upload    a package, in parts and pieces
//! login     which backend, which token, whose signer
//! context   what was deployed, with what an owner needs to verify and to configure it again
//! private   files that only their user reads
//! ```

mod api;
mod context;
mod login;
mod private;
mod session;
mod upload;
mod wire;

#[cfg(test)]
mod tests;

/// Parsers that fuzzing reaches in no other way.
#[doc(hidden)]
pub mod fuzzing {
    use super::api::{App, Listed, Operator, Plan, Problem, Project, User};

    /// Reads an answer as every one of those there are; says whether one took it.
    pub fn answer(json: &[u8]) -> bool {
        serde_json::from_slice::<Operator>(json).is_ok()
            | serde_json::from_slice::<User>(json).is_ok()
            | serde_json::from_slice::<App>(json).is_ok()
            | serde_json::from_slice::<Listed<Project>>(json).is_ok()
            | serde_json::from_slice::<Listed<Plan>>(json).is_ok()
    }

    /// Reads a problem; says whether it was one.
    pub fn problem(json: &[u8]) -> bool {
        serde_json::from_slice::<Problem>(json).is_ok()
    }
}

pub use self::api::{App, AppOrder, Operator, Plan, Project, State, TlsMode, User, Wanted};
pub use self::context::{Context, Contexts, Verification};
pub use self::login::{Login, Logins, Met};
pub use self::session::Session;
pub use self::upload::Uploaded;
pub use self::wire::ProblemKind;
