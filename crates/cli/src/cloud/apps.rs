//! Which app a command line means: an id, or the name of one that was deployed from here.

use client::backend::{Context, Contexts};
use uuid::Uuid;

use crate::exit::Failure;

/// The id that `text` means.
pub fn id_of(contexts: &Contexts, text: &str) -> anyhow::Result<Uuid> {
    match text.parse() {
        Ok(id) => Ok(id),
        Err(_) => Ok(named(contexts, text)?.id),
    }
}

/// The context of an app: by its id, its name, or one of its domains.
pub fn context_of(contexts: &Contexts, text: &str) -> anyhow::Result<Context> {
    if let Ok(id) = text.parse::<Uuid>() {
        return contexts.load(id)?.ok_or_else(|| {
            Failure::failed(format!("{id} was not deployed from here"))
                .hint("`mse cloud context list` shows what was; `mse cloud context import FILE` takes another's")
                .into()
        });
    }
    named(contexts, text)
}

fn named(contexts: &Contexts, text: &str) -> anyhow::Result<Context> {
    let is_meant =
        |context: &Context| context.name == text || context.domain == text || context.config_domain == text;
    let mut found: Vec<Context> = contexts.list()?.into_iter().filter(is_meant).collect();
    match (found.pop(), found.len()) {
        (Some(context), 0) => Ok(context),
        (None, _) => Err(Failure::failed(format!("nothing called {text:?} was deployed from here"))
            .hint("name an app by its id: `mse cloud list` shows them")
            .into()),
        (Some(_), more) => Err(Failure::usage(format!("{} apps are called {text:?}", more + 1))
            .hint("name the one by its id: `mse cloud context list` shows them")
            .into()),
    }
}
