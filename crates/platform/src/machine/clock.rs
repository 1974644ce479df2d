//! Whether the clock is kept right. Certificates, CRLs and TCB info are judged by it.
//!
//! The kernel's own word (adjtimex) has no safe binding here, so this reads the marks that time services leave. Only
//! systemd-timesyncd's says that the clock *is* right; of the others it shows that they run.

use std::path::Path;

use super::below;

/// systemd-timesyncd makes this file once it has set the clock.
const TIMESYNCD: &str = "/run/systemd/timesync/synchronized";
/// What other services have while they run.
const SERVICES: [(&str, &str); 5] = [
    ("chronyd", "/run/chrony/chronyd.pid"),
    ("chronyd", "/run/chronyd.pid"),
    ("chronyd", "/run/chrony/chronyd.sock"),
    ("ntpd", "/run/ntpd.pid"),
    ("ntpd", "/run/ntpd.sock"),
];

/// What is known of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clock {
    /// A service has set it since the machine started; which.
    Synchronised(&'static str),
    /// A service that sets it runs; whether it has, it alone knows.
    Kept(&'static str),
    /// Nothing is known. Virtual machines often take their host's time.
    Unknown,
}

impl Clock {
    pub(super) fn look(root: &Path) -> Clock {
        let there = |path: &str| below(root, path).symlink_metadata().is_ok();
        if there(TIMESYNCD) {
            return Clock::Synchronised("systemd-timesyncd");
        }
        let service = SERVICES.into_iter().find(|(_, path)| there(path));
        service.map_or(Clock::Unknown, |(name, _)| Clock::Kept(name))
    }
}
