//! What a node writes, from its log file; the file belongs to the operator, so it holds nothing secret.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use crate::error::Error;

const PAUSE: Duration = Duration::from_millis(100);

/// Copies the log from the byte `from` on, then what is added to it as long as `runs` says so.
pub(super) fn copy(
    path: &Path,
    from: u64,
    runs: impl Fn() -> bool,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut log = File::open(path).map_err(Error::file("open", path))?;
    log.seek(SeekFrom::Start(from)).map_err(Error::file("read", path))?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // Asked before reading, so that the last words of a node that ends meanwhile are read too.
        let goes_on = runs();
        loop {
            let length = log.read(&mut buffer).map_err(Error::file("read", path))?;
            if length == 0 {
                break;
            }
            out.write_all(&buffer[..length]).map_err(Error::Output)?;
        }
        out.flush().map_err(Error::Output)?;
        if !goes_on {
            return Ok(());
        }
        sleep(PAUSE);
        // A log that became shorter was begun anew.
        let length = log.metadata().map_err(Error::file("look at", path))?.len();
        if log.stream_position().map_err(Error::file("read", path))? > length {
            log.seek(SeekFrom::Start(0)).map_err(Error::file("read", path))?;
        }
    }
}
