//! Images: made by the engine's classic builder, saved to an archive, loaded from one, found, removed.
//!
//! Builds, archives and loading take as long as they take; whoever ends the process ends them too, since the engine
//! gives up what its client no longer waits for, a build's containers included.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use bollard::body_try_stream;
use bollard::errors::Error as ApiError;
use bollard::models::BuildInfo;
use bollard::query_parameters::{
    BuildImageOptions, ImportImageOptionsBuilder, RemoveImageOptionsBuilder, TagImageOptionsBuilder,
};
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;

use crate::docker::engine::{Engine, cut, found};
use crate::docker::pipe::{Body, through};
use crate::error::Error;

/// So many lines of a build's output end up in the error.
const LAST_LINES: usize = 20;
/// The longest line that is passed on, in bytes; the rest of a longer one is dropped.
const LONGEST_LINE: usize = 4096;
/// The longest reference, in bytes.
const LONGEST_REFERENCE: usize = 255;

/// What an image is to be built from, besides the context.
#[derive(Clone, Debug, Default)]
pub struct BuildRequest<'a> {
    /// The name it gets, `name:tag`.
    pub tag: &'a str,
    /// Name of the Dockerfile in the context.
    pub dockerfile: &'a str,
    /// Values of `ARG`s. They end up in the image's history: nothing secret.
    pub build_args: &'a [(String, String)],
    /// The network of `RUN`: the engine's own unless it is named, `host` for instance.
    pub network: Option<&'a str>,
}

/// Identity of an image: the SHA-256 of its configuration, as `sha256:<64 hex>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ImageId(String);

impl ImageId {
    pub(super) fn parse(text: &str, action: &str) -> Result<ImageId, Error> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(ImageId(format!("sha256:{digits}")));
        }
        let found = format!("expected an id of 64 hexadecimal digits, found {:?}", cut(text));
        Err(Error::EngineAnswer { action: action.to_owned(), found })
    }

    /// `sha256:<64 hex>`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ImageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Engine {
    /// Builds an image from the context that `context` writes as a tar; each line of the output goes to `progress`,
    /// as it comes from the build, control characters and all.
    ///
    /// # Errors
    /// [`Error::Build`] with the last lines of the output; what `context` says; an engine that does not answer.
    pub fn build(
        &self,
        request: &BuildRequest<'_>,
        context: impl FnOnce(&mut dyn Write) -> Result<(), Error> + Send,
        progress: &mut dyn FnMut(&str),
    ) -> Result<ImageId, Error> {
        check_reference(request.tag)?;
        let action = format!("build {}", request.tag);
        let session = self.session()?;
        let options = BuildImageOptions {
            dockerfile: request.dockerfile.to_owned(),
            t: Some(request.tag.to_owned()),
            buildargs: Some(request.build_args.iter().cloned().collect::<HashMap<_, _>>()),
            networkmode: request.network.map(str::to_owned),
            rm: true,
            // A failed build's containers go as well.
            forcerm: true,
            ..BuildImageOptions::default()
        };
        let mut lines = Lines::default();
        let id = through(context, |body| {
            let answers = session.docker.build_image(options, None, Some(body_try_stream(stream_of(body))));
            session.long(build_output(answers, &mut lines, progress)).map_err(|error| match error {
                Failed::Api(ApiError::DockerResponseServerError { message, .. }) => {
                    lines.failed(request.tag, &message)
                }
                Failed::Api(ApiError::DockerStreamError { error }) | Failed::Build(error) => {
                    lines.failed(request.tag, &error)
                }
                Failed::Api(error) => session.error(&action, error),
            })
        })?;
        match id {
            Some(id) => ImageId::parse(&id, &action),
            None => self.image_id(request.tag),
        }
    }

    /// Writes the archive of an image, in the form of `docker save`.
    ///
    /// # Errors
    /// [`Error::NoImage`]; what `out` says.
    pub fn save(&self, reference: &str, out: &mut dyn Write) -> Result<(), Error> {
        // An engine that has no such image breaks the archive off instead of saying so.
        self.image_id(reference)?;
        let action = format!("save {reference}");
        let session = self.session()?;
        session.long(async {
            let mut pieces = std::pin::pin!(session.docker.export_image(reference));
            while let Some(piece) = pieces.next().await {
                let piece = piece.map_err(|error| session.error(&action, error))?;
                out.write_all(&piece).map_err(|source| Error::Stream { action: action.clone(), source })?;
            }
            out.flush().map_err(|source| Error::Stream { action: action.clone(), source })
        })
    }

    /// Loads an archive in the form of `docker save`, under the names that it brings.
    ///
    /// # Errors
    /// What the archive's reader says, and what the engine has against it.
    pub fn load(&self, mut archive: impl Read + Send) -> Result<(), Error> {
        self.load_from(|out| match io::copy(&mut archive, out) {
            Ok(_) => Ok(()),
            Err(source) => Err(Error::Stream { action: "read the archive of an image".into(), source }),
        })
    }

    /// The same for an archive that `write` writes.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn load_from(
        &self,
        write: impl FnOnce(&mut dyn Write) -> Result<(), Error> + Send,
    ) -> Result<(), Error> {
        let action = "load an image";
        let session = self.session()?;
        through(write, |body| {
            let options = ImportImageOptionsBuilder::default().quiet(true).build();
            let body = body_try_stream(stream_of(body));
            session.long(async {
                let mut answers = std::pin::pin!(session.docker.import_image(options, body, None));
                while let Some(answer) = answers.next().await {
                    answer.map_err(|error| session.error(action, error))?;
                }
                Ok(())
            })
        })
    }

    /// Whether the engine has an image of this name or id.
    ///
    /// # Errors
    /// An engine that does not answer.
    pub fn has_image(&self, reference: &str) -> Result<bool, Error> {
        match self.image_id(reference) {
            Ok(_) => Ok(true),
            Err(Error::NoImage { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The identity of the image of this name.
    ///
    /// # Errors
    /// [`Error::NoImage`]; an engine that does not answer.
    pub fn image_id(&self, reference: &str) -> Result<ImageId, Error> {
        check_reference(reference)?;
        let action = format!("look at the image {reference}");
        let session = self.session()?;
        let image = found(session.quick(&action, session.docker.inspect_image(reference)))?
            .ok_or_else(|| Error::NoImage { reference: reference.to_owned() })?;
        ImageId::parse(image.id.as_deref().unwrap_or_default(), &action)
    }

    /// Removes a name, and the image with its last one; says whether it is gone. One that a container uses stays.
    ///
    /// # Errors
    /// An engine that does not answer, or refuses.
    pub fn remove_image(&self, reference: &str) -> Result<bool, Error> {
        self.remove(reference, false)
    }

    /// The same for an image that was built here, but its steps stay: the next build goes on from them, and another one
    /// that runs meanwhile does not lose them.
    ///
    /// # Errors
    /// As [`Engine::remove_image`].
    pub fn remove_built(&self, reference: &str) -> Result<bool, Error> {
        self.remove(reference, true)
    }

    fn remove(&self, reference: &str, keep_steps: bool) -> Result<bool, Error> {
        check_reference(reference)?;
        let session = self.session()?;
        let options = RemoveImageOptionsBuilder::default().noprune(keep_steps).build();
        let removing = session.docker.remove_image(reference, Some(options), None);
        match session.patiently(&format!("remove the image {reference}"), removing) {
            Ok(_) | Err(Error::EngineRefused { status: 404, .. }) => Ok(true),
            Err(Error::EngineRefused { status: 409, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives an image one more name, `repository` and `tag`; one that other image had goes to this one.
    ///
    /// # Errors
    /// [`Error::NoImage`]; an engine that does not answer.
    pub fn tag(&self, reference: &str, repository: &str, tag: &str) -> Result<(), Error> {
        check_reference(reference)?;
        check_reference(&format!("{repository}:{tag}"))?;
        let session = self.session()?;
        let options = TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
        let tagging = session.docker.tag_image(reference, Some(options));
        found(session.quick(&format!("name the image {reference}"), tagging))?
            .ok_or_else(|| Error::NoImage { reference: reference.to_owned() })
    }
}

/// Why a build ended early.
enum Failed {
    Api(ApiError),
    Build(String),
}

/// Reads a build's output to its end; returns the id of the image where the engine tells it.
async fn build_output(
    answers: impl Stream<Item = Result<BuildInfo, ApiError>>,
    lines: &mut Lines,
    progress: &mut dyn FnMut(&str),
) -> Result<Option<String>, Failed> {
    let mut answers = std::pin::pin!(answers);
    let mut id = None;
    while let Some(answer) = answers.next().await {
        let answer = answer.map_err(Failed::Api)?;
        if let Some(detail) = answer.error_detail {
            return Err(Failed::Build(detail.message.unwrap_or_else(|| "it says no reason".into())));
        }
        if let Some(text) = answer.stream {
            lines.take(&text, progress);
        }
        if let Some(status) = answer.status {
            lines.take(&format!("{status}\n"), progress);
        }
        if let Some(said) = answer.aux.and_then(|aux| aux.id) {
            id = Some(said);
        }
    }
    lines.take("\n", progress);
    Ok(id)
}

/// The output of a build, by lines.
#[derive(Default)]
struct Lines {
    open: String,
    last: std::collections::VecDeque<String>,
}

impl Lines {
    fn take(&mut self, text: &str, progress: &mut dyn FnMut(&str)) {
        for piece in text.split_inclusive('\n') {
            let (content, ends) = match piece.strip_suffix('\n') {
                Some(content) => (content, true),
                None => (piece, false),
            };
            let mut end = content.len().min(LONGEST_LINE.saturating_sub(self.open.len()));
            while !content.is_char_boundary(end) {
                end -= 1;
            }
            self.open.push_str(&content[..end]);
            if ends && !self.open.trim().is_empty() {
                let line = std::mem::take(&mut self.open);
                progress(&line);
                if self.last.len() == LAST_LINES {
                    self.last.pop_front();
                }
                self.last.push_back(line);
            } else if ends {
                self.open.clear();
            }
        }
    }

    fn failed(&mut self, tag: &str, reason: &str) -> Error {
        if !self.open.trim().is_empty() {
            self.last.push_back(std::mem::take(&mut self.open));
        }
        let output = self.last.drain(..).map(|line| cut(&line)).collect();
        Error::Build { tag: tag.to_owned(), reason: cut(reason), output }
    }
}

/// Names and ids become parts of an address, so little is allowed in them; the engine knows the rest of the rules.
pub(super) fn check_reference(reference: &str) -> Result<(), Error> {
    let good = (1..=LONGEST_REFERENCE).contains(&reference.len())
        && reference.starts_with(|c: char| c.is_ascii_alphanumeric())
        && reference.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/:@-".contains(&b))
        && !reference.contains("..")
        && !reference.contains("//");
    if good { Ok(()) } else { Err(Error::ImageReference { found: cut(reference) }) }
}

/// The body of a request.
pub(super) fn stream_of(body: Body) -> impl Stream<Item = io::Result<bytes::Bytes>> + Send + 'static {
    stream::unfold(body, |mut body| async move { body.recv().await.map(|piece| (piece, body)) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn references_that_would_be_another_address_are_refused() {
        let id = format!("sha256:{}", "a".repeat(64));
        for good in ["debian:bookworm", "localhost:5000/a/b:1.0", "mse-node:00ff", &id, "a@sha256:00"] {
            assert!(check_reference(good).is_ok(), "{good}");
        }
        let long = "a".repeat(LONGEST_REFERENCE + 1);
        for bad in ["", "a b", "../x", "a/../b", "a?x=1", "a#b", "/a", "a//b", "a%2fb", "é", &long] {
            assert!(matches!(check_reference(bad), Err(Error::ImageReference { .. })), "{bad}");
        }
    }

    #[test]
    fn only_a_digest_is_an_identity() {
        let digits = "0123456789abcdef".repeat(4);
        assert_eq!(ImageId::parse(&digits, "build").unwrap().as_str(), format!("sha256:{digits}"));
        for bad in
            ["", "sha256:", "sha256:00", &digits.to_uppercase(), &format!("{digits}0"), "mse-base:latest"]
        {
            assert!(matches!(ImageId::parse(bad, "build"), Err(Error::EngineAnswer { .. })), "{bad}");
        }
    }

    #[test]
    fn output_comes_by_lines_and_the_last_ones_explain_a_failure() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        let mut progress = |line: &str| seen.push(line.to_owned());
        lines.take("Step 1", &mut progress);
        lines.take("/2 : RUN\n\n ---> 00\nopen", &mut progress);
        for number in 0..30 {
            lines.take(&format!("line {number}\n"), &mut progress);
        }
        lines.take(&"é".repeat(LONGEST_LINE), &mut progress);
        lines.take("more\n", &mut progress);
        lines.take("the end", &mut progress);
        let Error::Build { output, reason, .. } = lines.failed("a:b", "it broke\n") else { panic!() };
        assert_eq!(seen[..3], ["Step 1/2 : RUN", " ---> 00", "openline 0"]);
        assert_eq!(seen.last().unwrap().len(), LONGEST_LINE);
        assert_eq!(reason, "it broke");
        assert_eq!(output.len(), LAST_LINES + 1);
        assert_eq!(output.last().unwrap(), "the end");
    }
}
