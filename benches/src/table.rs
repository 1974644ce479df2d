//! The corpus through both verifiers, as a document.
//!
//! The keys of the corpus are new each time, the document is not: it holds names and numbers only. Told apart is what
//! dcap-qvl leaves to its caller, by what a case needs beyond a raw quote, collateral, a root and a time.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, ensure};
use attestation::checks::Id;

use crate::corpus::{self, Anchor, Case, Form};
use crate::other::{self, Answer};

/// One case through both verifiers.
struct Row {
    name: String,
    fails: Vec<Id>,
    /// What dcap-qvl said; `None` where its library has no way to be asked.
    answer: Option<Answer>,
    /// Whether judging it is for the caller of dcap-qvl.
    callers: bool,
}

impl Row {
    /// Under which heading it is counted: the family of its check, or as a pair.
    fn area(&self) -> &'static str {
        match self.fails.as_slice() {
            [one] => one.as_str().split('.').next().unwrap_or_default(),
            _ => "two defects at once",
        }
    }

    fn accepted(&self, way: fn(&Answer) -> bool) -> bool {
        self.answer.as_ref().is_some_and(way)
    }
}

/// The document.
///
/// # Errors
/// Where our own verifier does not do what the corpus expects: then there is nothing to hold another one against.
pub fn document() -> anyhow::Result<String> {
    let mutants: Vec<Row> =
        corpus::mutants().iter().map(|mutant| row(mutant.case())).collect::<anyhow::Result<_>>()?;
    let sound: Vec<Row> = corpus::sound().into_iter().map(row).collect::<anyhow::Result<_>>()?;
    let (callers, own): (Vec<Row>, Vec<Row>) = mutants.into_iter().partition(|row| row.callers);
    write(&own, &callers, &sound).context("cannot write the document")
}

/// Asks both verifiers.
fn row(case: Case) -> anyhow::Result<Row> {
    let judgement = case.judge();
    ensure!(
        judgement.is_accepted() == case.fails.is_empty(),
        "{}: our own verifier does not do what the corpus expects",
        case.name
    );
    let callers = is_for_the_caller(&case);
    let answer = (case.form == Form::Quote).then(|| ask(&case)).transpose()?;
    Ok(Row { name: case.name, fails: case.fails, answer, callers })
}

fn ask(case: &Case) -> anyhow::Result<Answer> {
    // Its function takes collateral: without any it cannot be called, and so accepts nothing.
    let Some(collateral) = &case.collateral else { return Ok(Answer::Refused) };
    let root = match case.anchor {
        Anchor::Nothing => None,
        Anchor::Explicit | Anchor::Simulated => Some(other::der_of_pem(case.root.as_bytes())?),
    };
    let at = u64::try_from(case.at.as_second())?;
    Ok(other::ask(&other::verifier(root), &case.subject, collateral, at))
}

/// RA-TLS, what the caller expects of the enclave, the caller's policy (the status is in the report, the caller must look
/// at it), and simulation, which only this project knows.
fn is_for_the_caller(case: &Case) -> bool {
    let for_the_caller = |id: &Id| {
        let family = id.as_str().split('.').next();
        matches!(family, Some("cert" | "binding" | "policy"))
            || matches!(id, Id::QuoteMrenclave | Id::QuoteMrsigner | Id::QuoteIsvProdId | Id::QuoteIsvSvn)
            || *id == Id::PckSimulation
    };
    case.form != Form::Quote || (!case.fails.is_empty() && case.fails.iter().all(for_the_caller))
}

fn write(own: &[Row], callers: &[Row], sound: &[Row]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let total = own.len() + callers.len();
    writeln!(text, "# Another verifier on the corpus\n")?;
    writeln!(
        text,
        "The corpus of broken evidence (`crates/attestation/tests/corpus`) holds {total} mutants: each is correct evidence with one thing broken (or two), signed again so that nothing else is wrong. \
         This page tells what [dcap-qvl](https://crates.io/crates/dcap-qvl) {} refuses of them, called as a library with the root of the corpus as its trust anchor.\n",
        other::VERSION
    )?;
    writeln!(
        text,
        "The page is made by `cargo run --release --bin table` in `benches/`; with `--check` the program fails where the page is out of date. \
         Any other verifier can be held against the same files, see [below](#other-verifiers).\n"
    )?;
    writeln!(text, "dcap-qvl is asked in three ways:\n")?;
    writeln!(text, "- **Ok**: `QuoteVerifier::verify` returns a report, whatever status it has.")?;
    writeln!(
        text,
        "- **UpToDate**: it returns a report, and its caller looks at the status and takes `UpToDate` only."
    )?;
    writeln!(
        text,
        "- **strict**: `QuotePolicy::strict` passes as well (hyper-threading, cached keys and dynamic platforms allowed: correct evidence of a server has all three).\n"
    )?;

    writeln!(text, "## Refused\n")?;
    writeln!(
        text,
        "| area of the check | mutants | refused by mse | by dcap-qvl: Ok | by dcap-qvl: UpToDate | by dcap-qvl: strict |"
    )?;
    writeln!(text, "|---|---:|---:|---:|---:|---:|")?;
    for (area, rows) in by_area(own) {
        line(&mut text, &in_code(area), &rows)?;
    }
    line(&mut text, "all", &own.iter().collect::<Vec<_>>())?;

    let accepted: Vec<&Row> = own.iter().filter(|row| row.accepted(Answer::is_ok)).collect();
    writeln!(text, "\n## Accepted by dcap-qvl\n")?;
    writeln!(text, "These {} mutants get a report from `verify`.\n", accepted.len())?;
    writeln!(
        text,
        "The corpus re-signs what it breaks, with keys of its own. Much of this a forger could therefore not \
         make without one of Intel's keys, such as odd forms of certificates; it shows how much each verifier \
         takes on trust. What an operator alone can change, without any such key: bytes after the quote, the \
         certificates beside the PCK chain in use, and the wrapping of collateral.\n"
    )?;
    writeln!(text, "| mutant | the check it fails here | asks for | UpToDate | strict |")?;
    writeln!(text, "|---|---|---|---|---|")?;
    for row in &accepted {
        let ids: Vec<String> = row.fails.iter().map(|id| in_code(id.as_str())).collect();
        let questions: Vec<&str> = row.fails.iter().map(|id| id.question()).collect();
        let word = |way| if row.accepted(way) { "accepted" } else { "refused" };
        writeln!(
            text,
            "| `{}` | {} | {} | {} | {} |",
            row.name,
            ids.join(", "),
            questions.join("; "),
            word(Answer::is_up_to_date),
            word(Answer::is_strictly_ok)
        )?;
    }
    let panicked: Vec<&Row> = own.iter().filter(|row| row.answer == Some(Answer::Panicked)).collect();
    if !panicked.is_empty() {
        writeln!(text, "\nThese make it panic, which is counted as refused:\n")?;
        panicked.iter().try_for_each(|row| writeln!(text, "- `{}`", row.name))?;
    }

    writeln!(text, "\n## Left to its caller\n")?;
    writeln!(
        text,
        "No fault of a verifier of quotes: what follows needs more than a quote, collateral, a root and a time, or is a matter of policy. \
         What dcap-qvl has no way to be asked is not counted as refused or accepted. In the rows of `policy` and `quote` its caller has to compare the report with what it wants.\n"
    )?;
    writeln!(
        text,
        "| area of the check | mutants | refused by mse | dcap-qvl can be asked | refused: Ok | refused: UpToDate | refused: strict |"
    )?;
    writeln!(text, "|---|---:|---:|---:|---:|---:|---:|")?;
    for (area, rows) in by_area(callers) {
        let asked: Vec<&Row> = rows.iter().copied().filter(|row| row.answer.is_some()).collect();
        let [ok, up_to_date, strict] = refused(&asked);
        writeln!(
            text,
            "| {} | {} | {} | {} | {ok} | {up_to_date} | {strict} |",
            in_code(area),
            rows.len(),
            rows.len(),
            asked.len()
        )?;
    }

    let asked: Vec<&Row> = sound.iter().filter(|row| row.answer.is_some()).collect();
    let wrongly: Vec<&&Row> = asked.iter().filter(|row| !row.accepted(Answer::is_ok)).collect();
    writeln!(text, "\n## Correct evidence\n")?;
    writeln!(
        text,
        "Of {} pieces of correct evidence {} are bare quotes; mse accepts all {}, `verify` of dcap-qvl accepts {}.",
        sound.len(),
        asked.len(),
        sound.len(),
        asked.len() - wrongly.len()
    )?;
    if !wrongly.is_empty() {
        writeln!(text, "It refuses:\n")?;
        wrongly.iter().try_for_each(|row| writeln!(text, "- `{}`", row.name))?;
    }

    writeln!(text, "\n## Other verifiers\n")?;
    writeln!(
        text,
        "`cargo mse-corpus write DIR` writes the corpus as files, with a `README.md` and an `expectations.json` that explain them. \
         `cargo mse-corpus run DIR -- COMMAND ARG...` runs any command on each bare quote and tells where it differs; \
         `{{quote}}`, `{{collateral}}`, `{{root}}`, `{{at}}` and `{{unix}}` in the arguments stand for the files of the case and its time:\n"
    )?;
    writeln!(text, "```console")?;
    writeln!(text, "$ cargo mse-corpus write /tmp/corpus")?;
    writeln!(
        text,
        "$ cargo mse-corpus run /tmp/corpus -- mse quote verify --quote {{quote}} --collateral {{collateral}} --root-ca {{root}} --at {{at}}"
    )?;
    writeln!(
        text,
        "$ cargo mse-corpus run /tmp/corpus -- dcap-qvl-verify --quote {{quote}} --collateral {{collateral}} --root {{root}} --at {{unix}}"
    )?;
    writeln!(text, "```")?;
    Ok(text)
}

/// In the order of the register of checks.
fn by_area(rows: &[Row]) -> Vec<(&'static str, Vec<&Row>)> {
    let mut areas: BTreeMap<(Option<Id>, &'static str), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        let area = row.area();
        // Pairs after everything else.
        let single = row.fails.len() == 1;
        let first = Id::ALL.iter().copied().find(|id| single && id.as_str().starts_with(area));
        areas.entry((first, area)).or_default().push(row);
    }
    let (pairs, mut singles): (Vec<_>, Vec<_>) =
        areas.into_iter().partition(|((first, _), _)| first.is_none());
    singles.extend(pairs);
    singles.into_iter().map(|((_, area), rows)| (area, rows)).collect()
}

/// How many of these dcap-qvl refuses in each of the three ways.
fn refused(rows: &[&Row]) -> [usize; 3] {
    [Answer::is_ok, Answer::is_up_to_date, Answer::is_strictly_ok]
        .map(|way| rows.iter().filter(|row| !row.accepted(way)).count())
}

fn line(text: &mut String, area: &str, rows: &[&Row]) -> std::fmt::Result {
    let [ok, up_to_date, strict] = refused(rows);
    writeln!(text, "| {area} | {} | {} | {ok} | {up_to_date} | {strict} |", rows.len(), rows.len())
}

/// Names of checks are code, other words are not.
fn in_code(area: &str) -> String {
    if area.contains(' ') { area.to_owned() } else { format!("`{area}`") }
}
