//! Hostile and broken inputs: every one is refused with the place at fault, and none makes anything panic.
#![allow(clippy::unwrap_used)]

use gramine::elf::Image;
use gramine::manifest::EnclaveSettings;
use gramine::measure::mrenclave;
use gramine::{Error, Manifest, SigStruct, loader};
use proptest::prelude::*;

const MANIFEST: &[u8] = include_bytes!("vectors/10-inline-trusted-files-debug-edmm/app.manifest.sgx");
const LIBPAL: &[u8] = include_bytes!("vectors/10-inline-trusted-files-debug-edmm/libpal.so");
const SIGSTRUCT: &[u8] = include_bytes!("vectors/10-inline-trusted-files-debug-edmm/app.sig");

const SMALL: &str = "sgx.enclave_size = '64M'\nsgx.max_threads = 1\n";

/// The message for a manifest that measuring refuses.
fn refused(manifest: &str) -> String {
    mrenclave(manifest.as_bytes(), LIBPAL).unwrap_err().to_string()
}

/// The message for an image that measuring refuses.
fn refused_image(libpal: &[u8]) -> String {
    mrenclave(SMALL.as_bytes(), libpal).unwrap_err().to_string()
}

/// The image with one field overwritten.
fn image_with(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut image = LIBPAL.to_vec();
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
    image
}

/// Where a field of a program header stands. The image's first four headers are its PT_LOADs.
fn program_header(index: usize, field: usize) -> usize {
    64 + index * 56 + field
}

#[test]
fn wrong_keys_are_named() {
    for (manifest, expected) in [
        ("sgx = 1", "manifest, sgx: expected a table, found 1"),
        (
            "sgx.max_threads = '4'",
            "sgx.max_threads: expected an integer from 0 to 4294967295, found the string \"4\"",
        ),
        ("sgx.max_threads = -1", "sgx.max_threads: expected an integer from 0 to 4294967295, found -1"),
        ("sgx.max_threads = 4294967296", "sgx.max_threads: expected an integer"),
        ("sgx.enclave_size = 256", "sgx.enclave_size: expected a string, found 256"),
        ("sgx.enclave_size = '256m'", "sgx.enclave_size: expected an integer, then K, M or G or nothing"),
        (
            "sgx.enclave_size = '1000'",
            "sgx.enclave_size: expected a multiple of 4096 bytes, found 1000 bytes",
        ),
        ("sgx.enclave_size = '99999999999G'", "sgx.enclave_size: expected"),
        ("sgx.enclave_size = '1M'", "sgx.enclave_size"),
        ("sgx.enclave_size = '0'", "sgx.enclave_size"),
        ("sgx.debug = 1", "sgx.debug: expected true or false, found 1"),
        ("sgx.edmm_enable = 'yes'", "sgx.edmm_enable: expected true or false, found the string \"yes\""),
        ("sgx.use_exinfo = []", "sgx.use_exinfo: expected true or false, found a value of type array"),
        ("sgx.isvprodid = 65536", "sgx.isvprodid: expected an integer from 0 to 65535, found 65536"),
        ("sgx.isvsvn = 0x10000", "sgx.isvsvn: expected an integer from 0 to 65535, found 0x10000"),
        ("sgx.cpu_features = []", "sgx.cpu_features: expected a table"),
        (
            "sgx.cpu_features.avx = 'on'",
            "sgx.cpu_features.avx: expected unspecified or disabled or required, found \"on\"",
        ),
        ("sgx.cpu_features.pkru = 'unspecified'", "sgx.cpu_features.pkru: expected disabled or required"),
        ("sgx.remote_attestation = 'epid'", "sgx.remote_attestation: expected none or dcap, found \"epid\""),
    ] {
        let message = refused(manifest);
        assert!(message.contains(expected), "{manifest}: {message}");
    }
}

#[test]
fn a_segment_without_bytes_may_say_that_they_are_anywhere() {
    let image_at = |offset: u64| {
        let mut image = image_with(program_header(0, 32), &0u64.to_le_bytes());
        image[program_header(0, 8)..][..8].copy_from_slice(&offset.to_le_bytes());
        mrenclave(SMALL.as_bytes(), &image).unwrap()
    };
    for offset in [1, 1 << 40, u64::MAX - 4096, u64::MAX] {
        assert_eq!(image_at(offset), image_at(0), "{offset:#x}");
    }
}

#[test]
fn broken_toml_is_named_by_its_line() {
    for (manifest, line) in
        [(&b"a = 1\n\nb = = 2\n"[..], 3), (b"a = 1\na = 2", 2), (b"x = 'a\xff'", 1), (b"a = 1\n\0", 2)]
    {
        let error = EnclaveSettings::parse(manifest).unwrap_err();
        assert!(matches!(error, Error::ManifestSyntax { line: found, .. } if found == line), "{error}");
    }
}

#[test]
fn wrong_trusted_files_and_variables_are_named() {
    let hash = "ab".repeat(32);
    for (manifest, expected) in [
        ("sgx.trusted_files = 1".into(), "sgx.trusted_files: expected an array"),
        ("sgx.trusted_files = ['file:a']".into(), "sgx.trusted_files[0]: expected a table of uri and sha256"),
        (
            "sgx.trusted_files = [{ uri = 'file:a' }]".into(),
            "sgx.trusted_files[0].sha256: expected 64 hexadecimal digits",
        ),
        (
            format!("sgx.trusted_files = [{{ uri = 'dev:a', sha256 = '{hash}' }}]"),
            "sgx.trusted_files[0].uri: expected file:",
        ),
        (
            format!("sgx.trusted_files = [{{ uri = 'file:a', sha256 = '{}' }}]", &hash[2..]),
            "sgx.trusted_files[0].sha256",
        ),
        (
            format!(
                "sgx.trusted_files = [{{ uri = 'file:a', sha256 = '{hash}' }}, {{ uri = 'file:a', sha256 = '{}' }}]",
                "cd".repeat(32)
            ),
            "sgx.trusted_files[1].sha256: expected the hash that \"file:a\" has further up",
        ),
        ("loader.env.A = 1".into(), "loader.env.A: expected a string, or a table with value"),
        ("loader.env.A = { passthrough = true }".into(), "loader.env.A.passthrough: expected false"),
        ("loader.env.A = { }".into(), "loader.env.A.value: expected a string, found nothing"),
        ("loader.argv = 'python3'".into(), "loader.argv: expected an array"),
        ("loader.argv = ['python3', 1]".into(), "loader.argv[1]: expected a string, found 1"),
    ] {
        let message = Manifest::parse(manifest.as_bytes()).unwrap_err().to_string();
        assert!(message.contains(expected), "{manifest}: {message}");
    }
}

#[test]
fn what_runs_is_read_in_every_form() {
    let text = "loader.argv = ['python3', '-m']\n[loader.env]\nA = 'a'\nB = { value = 'b' }\nC = { value = 'c', passthrough = false }";
    let manifest = Manifest::parse(text.as_bytes()).unwrap();
    assert_eq!(manifest.argv, ["python3", "-m"]);
    let env: Vec<_> = manifest.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(env, ["A=a", "B=b", "C=c"]);
    assert!(manifest.trusted_files.is_empty());
    assert_eq!(manifest.sgx.max_threads, 4);
    assert_eq!(manifest.sgx.enclave_size, 256 << 20);
}

#[test]
fn measuring_leaves_hashes_to_the_loader_as_the_signer_does() {
    let odd = "sgx.trusted_files = [{ uri = 'file:a', sha256 = 'FF' }]";
    assert!(mrenclave(odd.as_bytes(), LIBPAL).is_ok());
    assert!(Manifest::parse(odd.as_bytes()).is_err());
}

#[test]
fn enormous_enclaves_are_refused_before_anything_is_hashed() {
    for manifest in [
        "sgx.enclave_size = '17179869183G'",
        "sgx.enclave_size = '17179869183G'\nsgx.edmm_enable = true\nsgx.max_threads = 4294967295",
    ] {
        assert!(refused(manifest).contains("bytes to measure"), "{}", refused(manifest));
    }
    assert!(refused("sgx.max_threads = 4294967295").contains("room for ssa"));
    let oversize = vec![b'#'; (16 << 20) + 1];
    assert!(matches!(EnclaveSettings::parse(&oversize), Err(Error::TooLarge { what: "manifest", .. })));
    let oversize = vec![0; (256 << 20) + 1];
    assert!(matches!(Image::parse(&oversize), Err(Error::TooLarge { what: "libpal", .. })));
}

#[test]
fn deep_nesting_does_not_exhaust_the_stack() {
    for manifest in [
        "a.".repeat(100_000) + "a = 1",
        "[".to_string() + &"a.".repeat(100_000) + "a]",
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{b=".repeat(100_000)),
    ] {
        assert!(matches!(EnclaveSettings::parse(manifest.as_bytes()), Err(Error::ManifestSyntax { .. })));
    }
}

#[test]
fn segments_are_counted() {
    let image = |segments: u16| {
        let mut image = LIBPAL[..64].to_vec();
        image[32..40].copy_from_slice(&64u64.to_le_bytes());
        image[56..58].copy_from_slice(&segments.to_le_bytes());
        for _ in 0..segments {
            image.extend([&[1, 0, 0, 0], [0; 52].as_slice()].concat());
        }
        image
    };
    assert_eq!(gramine::elf::Image::parse(&image(64)).unwrap().segments.len(), gramine::elf::MAX_SEGMENTS);
    let message = gramine::elf::Image::parse(&image(65)).unwrap_err().to_string();
    assert!(message.contains("at most 64 PT_LOAD program headers"), "{message}");
}

#[test]
fn wrong_elf_headers_are_named() {
    for (image, expected) in [
        (Vec::new(), "ELF header, size: expected at least 64 bytes, found 0 bytes"),
        (LIBPAL[..63].to_vec(), "ELF header, size"),
        (image_with(0, b"\x7fELG"), "ELF header, e_ident"),
        (image_with(4, &[1]), "ELF header, e_ident[EI_CLASS]: expected 2 (64-bit), found 1"),
        (image_with(5, &[2]), "ELF header, e_ident[EI_DATA]"),
        (image_with(6, &[0]), "ELF header, e_ident[EI_VERSION]"),
        (image_with(16, &[4, 0]), "ELF header, e_type"),
        (image_with(18, &[183, 0]), "ELF header, e_machine: expected 62 (x86-64), found 183"),
        (image_with(32, &[0xff; 8]), "ELF header, e_phoff"),
        (image_with(32, &(LIBPAL.len() as u64).to_le_bytes()), "ELF header, e_phoff"),
        (image_with(54, &[57, 0]), "ELF header, e_phentsize: expected 56, found 57"),
        (image_with(56, &[0, 0]), "ELF header, e_phnum"),
        (image_with(56, &[0xff, 0xff]), "ELF header, e_phnum"),
        (image_with(56, &[0xfe, 0xff]), "ELF header, e_phoff"),
        (image_with(24, &[0xff; 8]), "ELF header, e_entry"),
        (
            image_with(program_header(0, 32), &[0xff; 8]),
            "program header 0, p_filesz: expected at most p_memsz",
        ),
        (image_with(program_header(1, 8), &[0xff; 8]), "program header 1, p_offset and p_filesz"),
        (
            image_with(program_header(1, 8), &(LIBPAL.len() as u64).to_le_bytes()),
            "program header 1, p_offset and p_filesz",
        ),
        (image_with(program_header(3, 40), &[0xff; 8]), "program header 3, p_vaddr and p_memsz"),
        (image_with(program_header(3, 40), &(1u64 << 40).to_le_bytes()), "room for libpal"),
        (image_with(program_header(3, 16), &(1u64 << 60).to_le_bytes()), "room for libpal"),
    ] {
        let message = refused_image(&image);
        assert!(message.contains(expected), "{expected}: {message}");
    }
    let mut without_load = LIBPAL.to_vec();
    for index in 0..4 {
        without_load[program_header(index, 0)] = 2;
    }
    assert!(refused_image(&without_load).contains("at least one PT_LOAD program header"));
}

#[test]
fn an_image_with_fixed_addresses_lies_where_it_says() {
    let at = |base: u64| {
        let mut image = LIBPAL.to_vec();
        for index in 0..4 {
            let field = program_header(index, 16);
            let address = u64::from_le_bytes(image[field..field + 8].try_into().unwrap());
            image[field..field + 8].copy_from_slice(&(address + base).to_le_bytes());
        }
        image
    };
    let measured = gramine::measure::measure(SMALL.as_bytes(), &at(0x20_0000)).unwrap();
    let layout = measured.layout;
    assert_eq!(layout.image, 0x20_0000);
    // The signer counts the image's start twice.
    let entry = u64::from_le_bytes(LIBPAL[24..32].try_into().unwrap());
    assert_eq!(layout.entry, 0x20_0000 + entry);
    let free: Vec<_> = layout.free_areas().map(|area| area.addresses).collect();
    assert_eq!(free.len(), 2);
    assert_eq!((free[0].end, free[1].start, free[1].end), (layout.sig_stacks, 0x10000, 0x20_0000));
    for base in [0x1000, 64 << 20, (64 << 20) - 0x5_0000] {
        assert!(refused_image(&at(base)).contains("program headers, p_vaddr"), "{base:#x}");
    }
}

#[test]
fn the_loader_is_stricter_than_the_signer() {
    let good =
        "libos.entrypoint = 'python3'\nloader.entrypoint.uri = 'file:libsysdb.so'\nsgx.max_threads = 1\n";
    let size = |size: &str| format!("{good}sgx.enclave_size = '{size}'");
    assert_eq!(loader::check(size("64M").as_bytes(), LIBPAL), Ok(()));
    assert_eq!(loader::check(good.as_bytes(), LIBPAL), Ok(()));
    for (manifest, key) in [
        (size("300M"), "sgx.enclave_size"),
        (size("0x100M"), "sgx.enclave_size"),
        (size("0"), "sgx.enclave_size"),
        (good.replace("= 1", "= 0"), "sgx.max_threads"),
        (good.replace("= 1", "= 4097"), "sgx.max_threads"),
        (good.replace("libos.", "other."), "libos.entrypoint"),
        (good.replace("loader.entrypoint", "other"), "loader.entrypoint.uri"),
        (
            format!("{good}sgx.trusted_files = [{{ uri = 'file:a', sha256 = '0' }}]"),
            "sgx.trusted_files[0].sha256",
        ),
    ] {
        let error = loader::check(manifest.as_bytes(), LIBPAL).unwrap_err();
        assert!(
            matches!(&error, Error::ManifestKey { key: found, .. } if found == key),
            "{manifest}: {error}"
        );
        let measured = mrenclave(manifest.as_bytes(), LIBPAL);
        assert!(
            measured.is_ok() || matches!(measured, Err(Error::EnclaveTooSmall { .. })),
            "{manifest}: {measured:?}"
        );
    }
    let misplaced = image_with(program_header(1, 16), &0x1010u64.to_le_bytes());
    assert!(mrenclave(SMALL.as_bytes(), &misplaced).is_ok());
    assert!(
        loader::check(good.as_bytes(), &misplaced)
            .unwrap_err()
            .to_string()
            .contains("program header 1, p_vaddr")
    );
    let overlapping = image_with(program_header(1, 16), &0u64.to_le_bytes());
    assert!(mrenclave(SMALL.as_bytes(), &overlapping).is_ok());
    assert!(
        loader::check(good.as_bytes(), &overlapping).unwrap_err().to_string().contains("page of its own")
    );
}

#[test]
fn wrong_sigstruct_fields_are_named() {
    let with = |offset: usize, byte: u8| {
        let mut file = SIGSTRUCT.to_vec();
        file[offset] ^= byte;
        file
    };
    for (offset, field) in [
        (0, "HEADER"),
        (24, "HEADER2"),
        (44, "reserved"),
        (127, "reserved"),
        (512, "EXPONENT"),
        (910, "reserved"),
        (992, "reserved"),
        (1039, "reserved"),
    ] {
        let error = SigStruct::parse(&with(offset, 1)).unwrap_err();
        assert!(
            matches!(error, Error::SigStruct { field: found, .. } if found == field),
            "{offset}: {error}"
        );
    }
    assert!(SigStruct::parse(&with(20, 0xf0)).unwrap_err().to_string().contains("DATE"));
    assert!(
        SigStruct::parse(&SIGSTRUCT[1..])
            .unwrap_err()
            .to_string()
            .contains("expected 1808 bytes, found 1807 bytes")
    );
    for (offset, field) in [
        (16, "SIGNATURE"),
        (21, "SIGNATURE"),
        (40, "SIGNATURE"),
        (128, "MODULUS"),
        (511, "MODULUS"),
        (129, "SIGNATURE"),
        (516, "SIGNATURE"),
        (900, "SIGNATURE"),
        (928, "SIGNATURE"),
        (960, "SIGNATURE"),
        (1024, "SIGNATURE"),
        (1040, "Q1"),
        (1423, "Q1"),
        (1424, "Q2"),
        (1807, "Q2"),
    ] {
        let flipped = SigStruct::parse(&with(offset, if offset == 511 { 0x80 } else { 1 })).unwrap();
        let error = flipped.verify().unwrap_err();
        assert!(
            matches!(error, Error::SigStruct { field: found, .. } if found == field),
            "{offset}: {error}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_manifest_makes_it_panic(text in ".{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for manifest in [text.as_bytes(), &bytes] {
            let _ = Manifest::parse(manifest);
            let _ = EnclaveSettings::parse(manifest);
            let _ = loader::check(manifest, LIBPAL);
        }
    }

    #[test]
    fn no_altered_manifest_makes_it_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut manifest = MANIFEST.to_vec();
        let at = at.index(manifest.len());
        manifest[at] = byte;
        let _ = Manifest::parse(&manifest);
        if let Ok(settings) = EnclaveSettings::parse(&manifest) {
            prop_assume!(settings.edmm_enable && settings.max_threads < 16);
            let _ = mrenclave(&manifest, LIBPAL);
        }
    }

    #[test]
    fn no_altered_image_makes_it_panic(offset in 0usize..512, bytes in proptest::collection::vec(any::<u8>(), 1..9)) {
        let manifest = b"sgx.edmm_enable = true\nsgx.max_threads = 1\nsgx.enclave_size = '2M'";
        let _ = mrenclave(manifest, &image_with(offset, &bytes));
    }

    #[test]
    fn no_image_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), keep in 0usize..130) {
        let image = [&LIBPAL[..keep], &bytes].concat();
        let _ = Image::parse(&image);
    }

    #[test]
    fn a_sigstruct_is_written_as_it_was_read(at in 0usize..1808, byte in any::<u8>()) {
        let mut file = SIGSTRUCT.to_vec();
        file[at] = byte;
        if let Ok(sigstruct) = SigStruct::parse(&file) {
            prop_assert_eq!(sigstruct.to_bytes().to_vec(), file.clone());
            prop_assert_eq!(sigstruct.verify().is_ok(), file == SIGSTRUCT);
        }
    }

    #[test]
    fn no_bytes_make_a_sigstruct_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        if let Ok(sigstruct) = SigStruct::parse(&bytes) {
            prop_assert!(sigstruct.verify().is_err());
        }
    }
}
