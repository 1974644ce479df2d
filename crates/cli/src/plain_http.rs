//! Plain HTTP to this machine: the development server and our own local door.

use std::time::Duration;

use anyhow::bail;

/// Longest answer that is read: 16 MiB.
const LONGEST: u64 = 16 << 20;

/// Status and body of a GET to loopback. No proxy, no redirect.
pub fn get(port: u16, path: &str, limit: Duration) -> anyhow::Result<(u16, Vec<u8>)> {
    if !path.starts_with('/') {
        bail!("a path begins with a slash, {path:?} does not");
    }
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(limit))
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .build()
        .into();
    let mut response = agent.get(format!("http://127.0.0.1:{port}{path}")).call()?;
    let body = response.body_mut().with_config().limit(LONGEST).read_to_vec()?;
    Ok((response.status().as_u16(), body))
}
