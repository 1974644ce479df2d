//! The node's few lines in the log, which lies with the host: nothing confidential, no line that a stranger can
//! cause at will.

use std::io::Write;

/// Writes one line. A log that cannot be written stops nothing.
pub(crate) fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "mse: {line}");
}
