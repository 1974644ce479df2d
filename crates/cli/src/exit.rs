//! How a command ends: its exit code, and errors that carry advice.

use std::fmt;

/// What a command that ran to its end says to the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// What was asked for is done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line asks for something impossible.
    Usage = 2,
    /// Verification refused what it was shown.
    Refused = 3,
    /// The application's own tests failed.
    TestsFailed = 4,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error with the exit code it deserves and, where there is one, a hint on its own line.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// The command line asks for something that cannot be (exit code 2).
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, message: message.to_string(), hint: None }
    }

    /// Something did not work (exit code 1).
    pub fn failed(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Failed, message: message.to_string(), hint: None }
    }

    /// What was shown is not what it must be (exit code 3).
    pub fn refused(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Refused, message: message.to_string(), hint: None }
    }

    /// Any error, with the exit code and the advice it carries.
    pub fn from_error(error: &anyhow::Error) -> Self {
        Self { exit: exit_of(error), message: chain(error), hint: hint_of(error).map(str::to_owned) }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Adds advice to any error.
pub trait Advice<T> {
    /// Turns the error into a [`Failure`] that keeps its message and exit code and says what to do about it.
    fn hint(self, hint: impl fmt::Display) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Advice<T> for Result<T, E> {
    fn hint(self, hint: impl fmt::Display) -> anyhow::Result<T> {
        self.map_err(|error| {
            let error = error.into();
            let exit = exit_of(&error);
            Failure { exit, message: chain(&error), hint: Some(hint.to_string()) }.into()
        })
    }
}

/// Which exit code an error that reached `main` deserves.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.exit;
    }
    let refused = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<client::Error>().is_some_and(client::Error::is_refusal)
    };
    if error.chain().any(refused) { Exit::Refused } else { Exit::Failed }
}

/// The advice an error carries, or what there is to say about one of its kind.
pub fn hint_of(error: &anyhow::Error) -> Option<&str> {
    let carried = error.downcast_ref::<Failure>().and_then(|failure| failure.hint.as_deref());
    carried.or_else(|| error.chain().find_map(general_hint))
}

/// Advice that is the same whichever command fails.
fn general_hint(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    use client::Error as Client;
    use client::backend::ProblemKind;
    use runtime::Error as Runtime;
    match cause.downcast_ref() {
        Some(Runtime::NameInUse { .. }) => {
            return Some("choose another name, or remove that node with `mse home stop --remove NAME`");
        }
        Some(Runtime::PortInUse { .. }) => {
            return Some("choose another port with --port, or end what uses it");
        }
        Some(Runtime::Listen { .. }) => return Some("choose another --port or --bind address"),
        Some(Runtime::NoSuchNode { .. }) => return Some("`mse home list` shows the nodes of this machine"),
        _ => {}
    }
    match cause.downcast_ref() {
        Some(Client::Unreachable { address, .. }) if address.starts_with("https://") => {
            Some("check the backend's address, or ask its operator; `mse cloud login` names another")
        }
        Some(Client::Backend { kind: ProblemKind::Unauthorized, .. }) => {
            Some("log in again with `mse cloud login`: the token has ended, or is another backend's")
        }
        Some(Client::Backend { kind: ProblemKind::Quota, .. }) => {
            Some("stop what is not needed (`mse cloud list`), or ask the operator for more")
        }
        Some(Client::AnotherOperator { .. }) => Some(
            "ask the operator by another way than the backend; `mse cloud login --signer HEX` accepts another",
        ),
        Some(Client::Unreachable { .. }) => Some(
            "`mse home status NAME` says how a node of this machine is; elsewhere, check address and port",
        ),
        Some(Client::Unresolved { .. }) => Some("name the address with --resolve IP"),
        Some(Client::WrongKey { .. }) => {
            Some("a node that was spawned anew is another enclave: verify that one")
        }
        Some(Client::Expired { .. }) => Some("verify again, with fresh evidence"),
        Some(Client::Configured { .. }) => Some("`mse home status NAME` says how its application is"),
        _ => None,
    }
}

/// An error and its causes on one line, without repeating what a cause already said.
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn advice_keeps_the_exit_code_and_the_causes() {
        let error = Err::<(), _>(Failure::usage("port 0")).hint("choose another").unwrap_err();
        assert_eq!(exit_of(&error), Exit::Usage);
        assert_eq!(hint_of(&error), Some("choose another"));
        let error = Err::<(), _>(anyhow::anyhow!("no such file")).context("reading x").unwrap_err();
        assert_eq!(chain(&error), "reading x: no such file");
        assert_eq!(exit_of(&error), Exit::Failed);
    }
}
