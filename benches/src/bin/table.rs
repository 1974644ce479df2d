//! `table`: writes `docs/reference/other-verifiers.md`.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use benches::table;
use clap::Parser;

/// Run the corpus through both verifiers and write what each refuses.
#[derive(Parser)]
struct Args {
    /// Write nothing; fail where the document is out of date.
    #[arg(long)]
    check: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    // What panics is told in the document.
    std::panic::set_hook(Box::new(|_| {}));
    let document = table::document()?;
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/other-verifiers.md");
    if args.check {
        let found = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        ensure!(found == document, "{}: out of date; run this without --check", path.display());
    } else {
        std::fs::write(&path, document).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
