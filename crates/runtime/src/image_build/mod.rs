//! From a directory with a Dockerfile to what an engine's classic builder takes: a tar with the build's context.
//!
//! * [`dockerfile`]: which images a Dockerfile starts from, and the lines that make a build trust one more CA;
//! * [`ignore_file`]: `.dockerignore`, which clients apply before they send anything;
//! * [`context`]: the tar.
//!
//! A CA that a build trusts is copied to a directory of its own right after every `FROM`, and that copy is one layer
//! which [`package::image::Image::without_layers_below`] takes out of the finished image again, together with the
//! variables that point there. Nothing here is trusted by anybody: what an image is worth its fingerprint says.

pub mod context;
pub mod dockerfile;
pub mod ignore_file;

/// Where a build finds the CA that it trusts besides its own; no layer of the finished image has it.
pub const CA_DIRECTORY: &str = "run/mse-build-ca";

/// The directory of the context with the CA: no name that a project has.
const CA_IN_CONTEXT: &str = ".mse-build-ca";

/// The variables by which programs find a CA bundle, and what each of them points to below [`CA_DIRECTORY`].
const CA_VARIABLES: [(&str, &str); 8] = [
    ("APT_CONFIG", "apt.conf"),
    ("CARGO_HTTP_CAINFO", "ca.pem"),
    ("CURL_CA_BUNDLE", "ca.pem"),
    ("GIT_SSL_CAINFO", "ca.pem"),
    ("NODE_EXTRA_CA_CERTS", "ca.pem"),
    ("PIP_CERT", "ca.pem"),
    ("REQUESTS_CA_BUNDLE", "ca.pem"),
    ("SSL_CERT_FILE", "ca.pem"),
];

/// The names of those variables.
pub fn ca_variables() -> impl Iterator<Item = &'static str> {
    CA_VARIABLES.iter().map(|(name, _)| *name)
}
