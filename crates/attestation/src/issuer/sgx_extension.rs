//! The SGX extension of a PCK certificate, as DER; the reader is [`crate::pck`].
//!
//! Format: Intel "SGX PCK Certificate and CRL Profile Specification", 3.5: a `SEQUENCE` of `SEQUENCE { OID, value }`. The
//! pairs are laid open as [`Element`]s, so that a test can leave one out, double it or change its type.

use crate::pck::{Configuration, SGX_EXTENSION, SgxExtension, SgxType};
use der::asn1::ObjectIdentifier;

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const SEQUENCE: u8 = 0x30;

/// One pair of the extension, or of the sequences inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// The OID in front: 1.2.840.113741.1.13.1 with one or two more arcs.
    pub oid: ObjectIdentifier,
    /// The value behind, DER.
    pub value: Vec<u8>,
}

/// The whole value of the extension.
pub fn encode_sgx_extension(sgx: &SgxExtension) -> Vec<u8> {
    encode_elements(&elements(sgx))
}

/// The pairs on the outer level, in Intel's order; absent ones left out.
pub fn elements(sgx: &SgxExtension) -> Vec<Element> {
    let sgx_type = match sgx.sgx_type {
        SgxType::Standard => 0,
        SgxType::Scalable => 1,
        SgxType::ScalableWithIntegrity => 2,
    };
    let mut elements = vec![
        element(&[1], tlv(OCTET_STRING, &sgx.ppid)),
        element(&[2], encode_elements(&tcb_elements(sgx))),
        element(&[3], tlv(OCTET_STRING, &sgx.pce_id)),
        element(&[4], tlv(OCTET_STRING, &sgx.fmspc)),
        element(&[5], tlv(ENUMERATED, &[sgx_type])),
    ];
    if let Some(id) = &sgx.platform_instance_id {
        elements.push(element(&[6], tlv(OCTET_STRING, id)));
    }
    if let Some(configuration) = &sgx.configuration {
        elements.push(element(&[7], encode_elements(&configuration_elements(configuration))));
    }
    elements
}

/// The pairs inside the TCB (OID ...2): 16 component SVNs, PCESVN, CPUSVN.
pub fn tcb_elements(sgx: &SgxExtension) -> Vec<Element> {
    let components = sgx.components.iter().map(|svn| u16::from(*svn));
    let svns = components.chain([sgx.pce_svn]);
    let mut elements: Vec<_> = (1..).zip(svns).map(|(arc, svn)| element(&[2, arc], integer(svn))).collect();
    elements.push(element(&[2, 18], tlv(OCTET_STRING, &sgx.cpu_svn)));
    elements
}

/// `SEQUENCE` of the pairs, in the order given.
pub fn encode_elements(elements: &[Element]) -> Vec<u8> {
    let pairs = elements.iter().flat_map(|element| {
        let pair = [tlv(OBJECT_IDENTIFIER, element.oid.as_bytes()), element.value.clone()].concat();
        tlv(SEQUENCE, &pair)
    });
    tlv(SEQUENCE, &pairs.collect::<Vec<_>>())
}

fn configuration_elements(configuration: &Configuration) -> Vec<Element> {
    [(1, configuration.dynamic_platform), (2, configuration.cached_keys), (3, configuration.smt)]
        .into_iter()
        .filter_map(|(arc, flag)| Some(element(&[7, arc], tlv(BOOLEAN, &[if flag? { 0xff } else { 0 }]))))
        .collect()
}

fn element(arcs: &[u32], value: Vec<u8>) -> Element {
    let oid = arcs.iter().fold(SGX_EXTENSION, |above, arc| above.push_arc(*arc).unwrap_or(above));
    Element { oid, value }
}

/// A non-negative `INTEGER`, as short as DER wants it.
fn integer(value: u16) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    match bytes {
        [0, low @ 0..=0x7f] => tlv(INTEGER, &[low]),
        [0, low] => tlv(INTEGER, &[0, low]),
        [0x80..=0xff, _] => tlv(INTEGER, &[0, bytes[0], bytes[1]]),
        _ => tlv(INTEGER, &bytes),
    }
}

/// Tag, definite length, content (ITU-T X.690, 8.1).
pub(super) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut encoded = vec![tag];
    if content.len() < 0x80 {
        encoded.push(content.len() as u8);
    } else {
        encoded.push(0x80 | significant.len() as u8);
        encoded.extend_from_slice(significant);
    }
    encoded.extend_from_slice(content);
    encoded
}
