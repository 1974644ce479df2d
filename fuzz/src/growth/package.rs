//! What makes a package, and what stands beside one: archives, TOML, requirements, ignore files, Dockerfiles.

use super::shapes::{self, Hole, numbered};
use super::{Memory, Shape, Subject};
use crate::targets;

const TOML: Memory = Memory { per_byte: 200, besides: 1 << 20, at: 60 << 10 };
const TAR: Memory = Memory { per_byte: 24, besides: 2 << 20, at: 1 << 20 };
const TEXT: Memory = Memory { per_byte: 24, besides: 1 << 20, at: 240 << 10 };

pub(super) fn subjects() -> Vec<Subject> {
    let subject =
        |name, limit, shapes, memory| Subject { name, limit, run: targets::find(name), shapes, memory };
    vec![
        Subject {
            name: "code-archive",
            limit: "4 GiB, 100,000 entries, directories above included; paths of 4,096 bytes",
            run: |data| package::code_archive::check(data).is_ok(),
            shapes: shapes::tars(""),
            memory: TAR,
        },
        Subject {
            name: "code-archive-unpacked",
            limit: "4 GiB, 100,000 entries, directories above included; paths of 4,096 bytes",
            run: targets::find("code-archive"),
            shapes: unpacked(),
            memory: Memory { at: 64 << 10, ..TAR },
        },
        subject(
            "ignore-rules",
            "256 KiB, 4,096 patterns",
            ignores(),
            Memory { per_byte: 512, besides: 16 << 20, at: 12 << 10 },
        ),
        Subject {
            name: "dockerignore",
            limit: "256 KiB, 4,096 patterns",
            run: |data| {
                targets::text(data, |text| {
                    runtime::image_build::ignore_file::IgnoreFile::parse(text)
                        .is_ok_and(|file| file.leaves_out("a/b/c"))
                })
            },
            shapes: ignores(),
            memory: Memory { per_byte: 1024, besides: 16 << 20, at: 12 << 10 },
        },
        Subject {
            name: "dockerfile",
            limit: "1 MiB; names of images of 512 bytes",
            run: |data| {
                targets::text(data, |text| {
                    let file = runtime::image_build::dockerfile::Dockerfile::parse(text);
                    !file.bases(&[]).is_empty() & !file.with_ca().is_empty()
                })
            },
            shapes: dockerfiles(),
            memory: Memory { per_byte: 400, ..TEXT },
        },
        Subject {
            name: "requirements",
            limit: "4 MiB each, 8 deep",
            run: |data| {
                targets::with_file(data, |file| package::native::Requirements::read(Some(file)).is_ok())
            },
            shapes: requirements(),
            memory: Memory { per_byte: 64, ..TEXT },
        },
        subject("lock", "4 MiB", locks(), Memory { per_byte: 32, ..TEXT }),
        subject("mse-toml", "64 KiB", configs(), TOML),
        subject("cloud-table", "64 KiB, as a part of mse.toml", cloud_tables(), TOML),
        subject("instance", "16 KiB", instances(), Memory { at: 15 << 10, ..TOML }),
        subject(
            "node-config",
            "64 KiB, as a part of the manifest",
            shapes::json(),
            Memory { at: 60 << 10, ..TEXT },
        ),
    ]
}

fn unpacked() -> Vec<Shape> {
    // On a disk every entry costs system calls: fewer of them.
    shapes::tars("").into_iter().map(|shape| shape.up_to(64 << 10)).collect()
}

fn ignores() -> Vec<Shape> {
    let text = |grow: fn(usize) -> String| move |size: usize| grow(size).into_bytes();
    let shapes = vec![
        Shape::new("distinct patterns", text(|size| numbered(size, |n| format!("d{n}/*.x\n")))),
        Shape::new("distinct names", text(|size| numbered(size, |n| format!("f{n}\n")))),
        Shape::new("exceptions", text(|size| numbered(size, |n| format!("!f{n}\n")))),
        Shape::new("one pattern again and again", text(|size| "*\n".repeat(size / 2))),
        Shape::new("one pattern of many stars", text(|size| "*a".repeat(size / 2))),
        Shape::new("one pattern of many double stars", text(|size| format!("{}a", "**/".repeat(size / 3)))),
        Shape::new("one pattern of many classes", text(|size| "[a-z]".repeat(size / 5))),
        Shape::new("one long class", text(|size| format!("[{}]", "a-z".repeat(size / 3)))),
        Shape::new("classes of other scripts", text(|size| "[\u{80}-\u{10ffff}]".repeat(size / 9))),
        Shape::new("braces in braces", text(|size| "{a,".repeat(size / 3))),
        Shape::new("alternatives", text(|size| format!("{{{}}}", shapes::listed(size, |n| n.to_string())))),
        Shape::new("comments", text(|size| "#\n".repeat(size / 2))),
        Shape::new("slashes", text(|size| "/".repeat(size))),
    ];
    shapes.into_iter().map(|shape| shape.up_to(8 << 10)).collect()
}

fn dockerfiles() -> Vec<Shape> {
    let text = |grow: fn(usize) -> String| move |size: usize| grow(size).into_bytes();
    vec![
        Shape::new("distinct bases", text(|size| numbered(size, |n| format!("FROM b{n}\n")))),
        Shape::new("distinct stages", text(|size| numbered(size, |n| format!("FROM b AS s{n}\n")))),
        Shape::new(
            "stages from stages",
            text(|size| numbered(size, |n| format!("FROM s{} AS s{n}\n", n.saturating_sub(1)))),
        ),
        Shape::new("instructions", text(|size| "RUN x\n".repeat(size / 6))),
        Shape::new(
            "variables",
            text(|size| format!("{}FROM $V1\n", numbered(size, |n| format!("ARG V{n}=x\n")))),
        ),
        Shape::new(
            "one long variable, named again and again",
            text(|size| format!("ARG A={}\nFROM {}\n", "x".repeat(size / 2), "$A".repeat(size / 4))),
        ),
        Shape::new("a variable as long as a name may be, in many bases", |size| {
            let bases = numbered(size, |n| format!("FROM ${{A}}{n}\n"));
            format!("ARG A={}\n{bases}", "x".repeat(500)).into_bytes()
        }),
        Shape::new("one line that goes on", text(|size| "x\\\n".repeat(size / 3))),
        Shape::new(
            "comments in a line that goes on",
            text(|size| format!("RUN x \\\n{}", "#\n".repeat(size / 2))),
        ),
        Shape::new("directives", text(|size| "# a=b\n".repeat(size / 6))),
        Shape::new("braces that never close", text(|size| format!("FROM {}\n", "${".repeat(size / 2)))),
        Shape::new("options", text(|size| format!("FROM {}x\n", "--a ".repeat(size / 4)))),
    ]
}

fn requirements() -> Vec<Shape> {
    let text = |grow: fn(usize) -> String| move |size: usize| grow(size).into_bytes();
    vec![
        Shape::new("requirements", text(|size| numbered(size, |n| format!("p{n}==1\n")))),
        Shape::new(
            "requirements with hashes",
            text(|size| {
                let hash = "ab".repeat(32);
                numbered(size, |n| format!("p{n}==1 --hash=sha256:{hash}\n"))
            }),
        ),
        Shape::new("one line that goes on", text(|size| "x\\\n".repeat(size / 3))),
        Shape::new("options", text(|size| "--pre\n".repeat(size / 6))),
        Shape::new("comments", text(|size| "#\n".repeat(size / 2))),
        Shape::new("white space", text(|size| " ".repeat(size))),
        Shape::new("a line of hash signs", text(|size| " #".repeat(size / 2))),
        Shape::new("variables", text(|size| "${A}".repeat(size / 4))),
        Shape::new("extras", text(|size| format!("p[{}]", shapes::listed(size, |n| format!("e{n}"))))),
        Shape::new("inclusions of one absent file", text(|size| "-r /nonexistent/a\n".repeat(size / 18))),
        Shape::new("inclusions of an empty file", text(|size| "-r /dev/null\n".repeat(size / 13))),
        Shape::new("UTF-16", text(|size| "x\n".repeat(size / 2))),
    ]
}

fn locks() -> Vec<Shape> {
    let text = |grow: fn(usize) -> String| move |size: usize| grow(size).into_bytes();
    vec![
        Shape::new(
            "packages",
            text(|size| {
                let hash = "ab".repeat(32);
                numbered(size, |n| format!("p{n}==1 --hash=sha256:{hash}\n"))
            }),
        ),
        Shape::new(
            "one package again and again",
            text(|size| format!("p==1 --hash=sha256:{}\n", "ab".repeat(32)).repeat(size / 83)),
        ),
        Shape::new(
            "a name of hyphens",
            text(|size| format!("p{}==1 --hash=sha256:{}\n", "-_.".repeat(size / 3), "ab".repeat(32))),
        ),
        Shape::new("comments", text(|size| "#\n".repeat(size / 2))),
        Shape::new("inputs", text(|size| "# inputs: x\n".repeat(size / 12))),
    ]
}

fn configs() -> Vec<Shape> {
    let own =
        "name = \"e\"\npython_application = \"app:app\"\nhealthcheck_endpoint = \"/h\"\ntests_cmd = \"t\"\n";
    let hole = |rest: &str| Hole::new(&format!("{own}{rest}"));
    let mut all = shapes::toml();
    all.extend([
        hole("tests_requirements=[@@@]\n")
            .shape("requirements of tests", |size| numbered(size, |n| format!("'p{n}',"))),
        hole("[image]\nmeasured=[@@@]\n")
            .shape("measured paths", |size| numbered(size, |n| format!("'/d{n}',"))),
        hole("[image]\nmeasured=['@@@']\n")
            .shape("one measured path of many names", |size| "/a".repeat(size / 2)),
        hole("[cloud]\n@@@")
            .shape("a cloud table of many keys", |size| numbered(size, |n| format!("k{n}=1\n"))),
        Hole::new(&own.replace("app:app", "@@@"))
            .shape("a long application", |size| format!("{}:a", "a.".repeat(size / 2))),
        Hole::new(&own.replace("/h", "@@@")).shape("a long endpoint", |size| "/a".repeat(size / 2)),
    ]);
    all
}

fn cloud_tables() -> Vec<Shape> {
    let mut all = shapes::toml();
    for field in ["code", "docker", "project", "expiration_date"] {
        let hole = Hole::new(&format!("{field} = \"@@@\"\n"));
        all.push(match field {
            "code" => hole.shape("a long path", |size| "a/".repeat(size / 2)),
            "docker" => hole.shape("a long image", |size| "a/".repeat(size / 2) + "b:c"),
            "project" => hole.shape("a long project", |size| "a".repeat(size)),
            _ => hole.shape("a long time", |size| "2030-01-01 ".repeat(size / 11)),
        });
    }
    let ssl = Hole::new("[ssl]\ndomain_name='@@@'\nprivate_key='k'\ncertificate='c'\n");
    all.push(ssl.shape("a domain of many labels", |size| "a.".repeat(size / 2)));
    all
}

fn instances() -> Vec<Shape> {
    let own = crate::campaign::corpus_file("instance", "simulated");
    let own = String::from_utf8_lossy(&own).into_owned();
    let mut all = shapes::toml();
    all.extend([
        Hole::new(&format!("other_hosts=[@@@]\n{own}"))
            .shape("other hosts", |size| numbered(size, |n| format!("'h{n}.fr',"))),
        Hole::new(&own.replace("CN=myapp.fr", "@@@"))
            .shape("a subject of many names", |size| "CN=a,".repeat(size / 5)),
        Hole::new(&own.replace("/var/lib/mse", "/@@@")).shape("a long path", |size| "a/".repeat(size / 2)),
    ]);
    all.into_iter().map(|shape| shape.up_to(15 << 10)).collect()
}
