//! The records of a pax extended header (POSIX.1-2001): `<length> <key>=<value>\n`, the length counting all of itself.
//!
//! Only what all readers read alike is taken. They differ in which of two records counts, in what an empty value means,
//! in where a NUL ends one, in other character sets, and in everything that vendors added.

use super::header::Refusal;

/// What the records say about the entry that follows.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
}

/// Names of extended attributes by which overlay file systems and engines keep what they show apart from what is there.
const ATTRIBUTES: [&[u8]; 4] = [b"trusted.", b"user.containers.", b"user.fuseoverlayfs.", b"user.overlay."];

/// Records for one entry.
pub(super) fn parse(data: &[u8]) -> Result<Records, Refusal> {
    let mut records = Records::default();
    each(data, |key, value| {
        let twice = || ("each pax record once", format!("two of {}", String::from_utf8_lossy(key)));
        match key {
            b"path" if records.path.is_some() => return Err(twice()),
            b"path" => records.path = Some(plain(key, value)?),
            b"linkpath" if records.link.is_some() => return Err(twice()),
            b"linkpath" => records.link = Some(plain(key, value)?),
            b"size" if records.size.is_some() => return Err(twice()),
            b"size" => records.size = Some(size(value)?),
            _ => without_effect(key, value)?,
        }
        Ok(())
    })?;
    Ok(records)
}

/// Records for all entries at once. Engines pass over them, other readers do not: only those are allowed that change
/// neither names nor contents.
pub(super) fn check_global(data: &[u8]) -> Result<(), Refusal> {
    each(data, |key, _| match key {
        b"comment" | b"atime" | b"ctime" | b"mtime" | b"uid" | b"gid" | b"uname" | b"gname" => Ok(()),
        _ => {
            let found = format!("a global pax {}", String::from_utf8_lossy(key));
            Err(("no name or content for all entries at once", found))
        }
    })
}

fn each(data: &[u8], mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), Refusal>) -> Result<(), Refusal> {
    let mut rest = data;
    while !rest.is_empty() {
        let (key, value, after) = record(rest).ok_or(("a pax record", "something else".to_string()))?;
        visit(key, value)?;
        rest = after;
    }
    Ok(())
}

fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    // A length of more than 19 digits is none.
    let space = data.iter().take(20).position(|&b| b == b' ')?;
    let length = usize::try_from(decimal(&data[..space])?).ok()?;
    let record = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&b| b == b'=').filter(|&at| at > 0)?;
    Some((&record[..equals], &record[equals + 1..], &data[length..]))
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let all = !digits.is_empty() && digits.len() <= 19 && digits.iter().all(u8::is_ascii_digit);
    all.then(|| digits.iter().fold(0, |value, &digit| value * 10 + u64::from(digit - b'0')))
}

fn plain(key: &[u8], value: &[u8]) -> Result<Vec<u8>, Refusal> {
    let found = match value {
        // POSIX takes the header's own then, and so does Go; others take the empty one.
        [] => "an empty one",
        value if value.contains(&0) => "one with NUL",
        value => return Ok(value.to_vec()),
    };
    Err(("a value in a pax record", format!("{found} of {}", String::from_utf8_lossy(key))))
}

fn size(value: &[u8]) -> Result<u64, Refusal> {
    decimal(value)
        .filter(|&size| size <= i64::MAX as u64)
        .ok_or(("a pax size in decimal digits", String::from_utf8_lossy(value).into_owned()))
}

/// Refuses records that change what some readers make of an entry.
fn without_effect(key: &[u8], value: &[u8]) -> Result<(), Refusal> {
    let named = || format!("a pax {}", String::from_utf8_lossy(key));
    if key.starts_with(b"GNU.sparse") || key == b"SCHILY.realsize" || key == b"SUN.holesdata" {
        return Err(("plain files", format!("a sparse one, by {}", named())));
    }
    if key.starts_with(b"GNU.") || key == b"SCHILY.filetype" {
        return Err(("records that all readers read alike", named()));
    }
    // The names here must be UTF-8, which is what no such record says.
    if key == b"hdrcharset" && value != b"ISO-IR 10646 2000 UTF-8" {
        return Err(("names in UTF-8", format!("a pax hdrcharset of {}", String::from_utf8_lossy(value))));
    }
    let attribute = key.strip_prefix(b"SCHILY.xattr.").or_else(|| key.strip_prefix(b"LIBARCHIVE.xattr."));
    if attribute.is_some_and(|name| ATTRIBUTES.iter().any(|prefix| name.starts_with(prefix))) {
        return Err(("no attributes of overlay file systems", named()));
    }
    Ok(())
}
