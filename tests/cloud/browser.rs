//! A real browser: Chromium without a window, with a profile and a trust store of its own.
//!
//! Needs `chromium` and NSS's `certutil` (`.ci/browser` sees to both), and is skipped unless `MSE_TEST_BROWSER` is set.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

pub struct Browser {
    home: TempDir,
}

/// A browser, unless none is wanted.
pub fn of_somebody() -> Option<Browser> {
    if std::env::var_os("MSE_TEST_BROWSER").is_none() {
        eprintln!("the browser is skipped: MSE_TEST_BROWSER is not set");
        return None;
    }
    let browser = Browser { home: TempDir::new().unwrap() };
    std::fs::create_dir_all(browser.home.path().join(".pki/nssdb")).unwrap();
    browser.certutil(&["-N", "--empty-password"]);
    Some(browser)
}

impl Browser {
    /// Trusts an authority for web sites.
    pub fn trust(&self, certificate: &Path, name: &str) {
        self.certutil(&["-A", "-t", "C,,", "-n", name, "-i", certificate.to_str().unwrap()]);
    }

    /// Opens an address; the page as HTML, or the browser's own words why not.
    pub fn open(&self, url: &str) -> String {
        let profile = format!("--user-data-dir={}", self.home.path().join("profile").display());
        let output = Command::new("timeout")
            .args([&Duration::from_secs(60).as_secs().to_string(), "chromium"])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--no-proxy-server", "--dump-dom", "--virtual-time-budget=5000"])
            .args([&profile, url])
            .env("HOME", self.home.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let page = String::from_utf8_lossy(&output.stdout).into_owned();
        if !page.trim().is_empty() {
            return page;
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let refusal = said.lines().find(|line| line.contains("Page load failed"));
        refusal.unwrap_or_else(|| panic!("{said}")).to_owned()
    }

    fn certutil(&self, arguments: &[&str]) {
        let store = format!("sql:{}", self.home.path().join(".pki/nssdb").display());
        let output = Command::new("certutil").args(["-d", &store]).args(arguments).output().unwrap();
        assert!(output.status.success(), "certutil: {}", String::from_utf8_lossy(&output.stderr));
    }
}
