//! Just enough DER (ITU-T X.690) to take a structure apart and put it together otherwise.

/// The elements inside one constructed element, each with its tag and length.
pub fn children(element: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = content(element);
    let mut children = Vec::new();
    while !rest.is_empty() {
        let length = total_length(rest);
        children.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    children
}

/// An element with this tag around these elements.
pub fn constructed(tag: u8, children: &[Vec<u8>]) -> Vec<u8> {
    element(tag, &children.concat())
}

/// An element with this tag and content.
pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match length {
        0..0x80 => out.push(length as u8),
        0x80..0x100 => out.extend([0x81, length as u8]),
        _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend_from_slice(content);
    out
}

/// The content of an element.
pub fn content(element: &[u8]) -> &[u8] {
    &element[header_length(element)..total_length(element)]
}

/// Replaces the children of a constructed element.
pub fn edit(element: &mut Vec<u8>, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut inside = children(element);
    change(&mut inside);
    *element = constructed(element[0], &inside);
}

fn header_length(element: &[u8]) -> usize {
    match element[1] {
        short @ 0..0x80 => {
            let _ = short;
            2
        }
        long => 2 + usize::from(long & 0x7f),
    }
}

fn total_length(element: &[u8]) -> usize {
    let header = header_length(element);
    let length = match header {
        2 => usize::from(element[1]),
        _ => element[2..header].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
    };
    header + length
}
