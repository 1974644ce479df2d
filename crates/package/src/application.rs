//! Whether what `python_application` names is there, and is no factory, before anybody starts an enclave to find out.
//!
//! Nothing is imported or run. The module is looked for in the code and in what is installed; its source is scanned once,
//! and only what a scan can say for certain is refused.

use std::path::Path;

use crate::config::Application;
use crate::{Error, Result, text};

/// Largest source that is scanned, in bytes. A larger one is taken as it is.
const LIMIT: u64 = 4 * 1024 * 1024;

/// What an application is loaded from.
pub struct Sources<'a> {
    /// The directory of the code.
    pub code: &'a Path,
    /// The files of the code, by their paths from there on.
    pub code_files: &'a [String],
    /// What else the image has.
    pub installed: Installed<'a>,
}

/// The packages of an image.
pub enum Installed<'a> {
    /// A directory of packages, and its files by their paths from there on.
    Site(&'a Path, Vec<&'a str>),
    /// All files of a container image. Which of them Python finds is for the image to say, so that a module may be
    /// anywhere.
    Image(Vec<&'a str>),
}

/// Checks that `application` is in the code or the packages, and that it is no factory named as an application, nor a
/// factory that needs arguments.
///
/// # Errors
/// [`Error::Project`], with advice.
pub fn check(application: &Application<'_>, sources: &Sources<'_>) -> Result<()> {
    let module = application.module.replace('.', "/");
    let source = if let Some(file) = module_file(&module, sources.code_files.iter().map(String::as_str)) {
        Some(sources.code.join(file))
    } else {
        match &sources.installed {
            Installed::Site(site, files) => match module_file(&module, files.iter().copied()) {
                Some(file) => Some(site.join(file)),
                None => return Err(missing(application, &module, sources, files)),
            },
            Installed::Image(files) => {
                let at_end = |name: &str| {
                    files.iter().any(|file| file.strip_suffix(name).is_some_and(|b| b.ends_with('/')))
                };
                let inside = |name: &str| files.iter().any(|file| file.contains(name));
                let found = at_end(&format!("{module}.py"))
                    || inside(&format!("/{module}/"))
                    || inside(&format!("/{module}.cpython-"))
                    || inside(&format!("/{module}.abi3."))
                    || at_end(&format!("{module}.so"));
                if !found {
                    return Err(missing(application, &module, sources, &[]));
                }
                None
            }
        }
    };
    match source.filter(|path| path.extension().is_some_and(|extension| extension == "py")) {
        Some(path) => check_source(application, &path),
        None => Ok(()),
    }
}

/// The file that `module` (with `/` for dots) is loaded from, among `files`. A package without `__init__.py` is its
/// directory.
fn module_file<'a>(module: &str, files: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: Option<(u8, &str)> = None;
    for file in files {
        let Some(rest) = file.strip_prefix(module) else { continue };
        // In the order in which Python prefers them.
        let rank = match rest {
            "/__init__.py" => 0,
            ".py" => 2,
            _ if rest.starts_with('.') && rest.ends_with(".so") && !rest.contains('/') => 1,
            _ if rest.starts_with('/') => 3,
            _ => continue,
        };
        if best.is_none_or(|(other, _)| rank < other) {
            best = Some((rank, file));
        }
    }
    best.map(|(_, file)| file)
}

fn missing(application: &Application<'_>, module: &str, sources: &Sources<'_>, site: &[&str]) -> Error {
    let file = format!("{module}.py");
    let folder = (sources.code_files.iter())
        .filter_map(|name| {
            let folder =
                name.strip_suffix(&file).or_else(|| name.strip_suffix(&format!("{module}/__init__.py")))?;
            folder.strip_suffix('/')
        })
        .min_by_key(|folder| folder.len());
    let place = sources.code.display();
    let found = match folder {
        Some(folder) => format!(
            "it in `{folder}/`: Python looks in `{place}` only. Name the directory with --code {place}/{folder}, or \
             write `{}.{}:...`",
            folder.replace('/', "."),
            application.module
        ),
        None => {
            let near = near(
                application.module,
                sources.code_files.iter().map(String::as_str).chain(site.iter().copied()),
            );
            match near.is_empty() {
                true => "neither there nor in the requirements".to_owned(),
                false => format!("neither there nor in the requirements, but {}", near.join(", ")),
            }
        }
    };
    Error::Project {
        path: sources.code.into(),
        expected: format!(
            "the module `{}` ({file} or {module}/__init__.py), since python_application names it",
            application.module
        ),
        found,
    }
}

/// At most three names of modules that `wanted` may have been meant for.
fn near<'a>(wanted: &str, files: impl Iterator<Item = &'a str>) -> Vec<String> {
    let last = |module: &str| module.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let mut names: Vec<(usize, String)> = Vec::new();
    for file in files {
        let Some(name) = file.strip_suffix("/__init__.py").or_else(|| file.strip_suffix(".py")) else {
            continue;
        };
        let name = name.replace('/', ".");
        if name.len() > 100 {
            continue;
        }
        let whole = distance(&wanted.to_ascii_lowercase(), &name.to_ascii_lowercase());
        let far = if last(&name) == last(wanted) { whole.min(2) } else { whole };
        if far <= 2 && far < wanted.len() {
            names.push((far, name));
        }
    }
    names.sort();
    names.dedup();
    names.into_iter().take(3).map(|(_, name)| format!("`{}`", text::printable(&name, 100))).collect()
}

/// Levenshtein's distance, for short texts; those of very different lengths are not compared.
fn distance(a: &str, b: &str) -> usize {
    if a.len().abs_diff(b.len()) > 2 || a.len() > 100 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let cost = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Refuses a source that defines what is named as one plain function which no server can call.
fn check_source(application: &Application<'_>, path: &Path) -> Result<()> {
    // What does not read here may still read for Python: that is not for this check to say.
    let Ok(bytes) = outside::files::read(path, LIMIT) else { return Ok(()) };
    let Ok(source) = text::decode_declared(&bytes) else { return Ok(()) };
    let Some(function) = only_function(&source, application.attribute) else { return Ok(()) };
    let Application { module, attribute, .. } = application;
    let refuse = |expected: String, found: String| Err(Error::Project { path: path.into(), expected, found });
    let is_async = if function.is_async { "an async function" } else { "a function" };
    let takes = match function.required {
        0 => "no arguments".to_owned(),
        1 => "one argument".to_owned(),
        n => format!("{n} arguments"),
    };
    if application.factory {
        if function.required > 0 || function.keywords || function.is_async {
            return refuse(
                format!(
                    "a factory that is called without arguments, since python_application is `{module}:{attribute}()`"
                ),
                format!(
                    "{is_async} that takes {takes}: write `app = {attribute}(...)` there, and `{module}:app` in mse.toml"
                ),
            );
        }
        return Ok(());
    }
    // WSGI calls with two arguments, ASGI with three.
    let callable = matches!(function.required, 2 | 3)
        || (function.required == 1 && function.most > 1)
        || (function.required < 4 && function.variadic);
    if callable && !function.keywords {
        return Ok(());
    }
    let advice = if function.required == 0 && !function.keywords && !function.is_async {
        format!("write `{module}:{attribute}()` in mse.toml")
    } else {
        format!("write `app = {attribute}(...)` there, and `{module}:app` in mse.toml")
    };
    refuse(
        format!("a WSGI or ASGI application as `{attribute}`, since python_application names it"),
        format!("a factory, {is_async} that takes {takes}: {advice}"),
    )
}

/// A function as its definition says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Function {
    is_async: bool,
    /// Positional parameters without a default.
    required: usize,
    /// Positional parameters.
    most: usize,
    /// Whether there is a `*args`.
    variadic: bool,
    /// Whether there are keyword-only parameters without a default.
    keywords: bool,
}

/// The function `name` of a module, where its one undecorated definition at the top of the source is certain to be what
/// the name stands for in the end.
fn only_function(source: &str, name: &str) -> Option<Function> {
    let mut function = None;
    let mut decorated = false;
    for statement in statements(source) {
        let Statement { indented, text } = statement;
        let words =
            || text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty());
        // What could bind any name.
        if ["globals", "setattr", "exec", "modules", "__getattr__", "locals", "vars"]
            .iter()
            .any(|w| words().any(|x| x == *w))
        {
            return None;
        }
        let definition =
            text.strip_prefix("async ").map(str::trim_start).unwrap_or(&text).strip_prefix("def ");
        let parameters = definition
            .and_then(|rest| rest.trim_start().strip_prefix(name))
            .map(str::trim_start)
            .and_then(|rest| rest.strip_prefix('('));
        if let Some(parameters) = parameters.filter(|_| !indented) {
            if decorated || function.is_some() {
                return None;
            }
            function = Some(parsed(parameters, text.starts_with("async "))?);
        } else {
            let imports = text.starts_with("from ") || text.starts_with("import ");
            if imports && text.ends_with('*') && function.is_some() {
                return None;
            }
            if words().any(|word| word == name) && may_bind(&text, name, imports) {
                return None;
            }
        }
        decorated = text.starts_with('@');
    }
    function
}

/// Whether a statement in which `name` occurs may give it another value. Errs on that side.
fn may_bind(text: &str, name: &str, imports: bool) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let first = text.split(|c| !is_word(c)).next().unwrap_or_default();
    if imports
        || matches!(
            first,
            "global" | "del" | "for" | "with" | "async" | "class" | "def" | "except" | "case" | "type"
        )
    {
        return true;
    }
    if text.contains(":=") || text.starts_with('@') {
        return true;
    }
    // Before the last `=` outside brackets that assigns: `a = name = 1`.
    let bytes = text.as_bytes();
    let mut depth = 0_i64;
    let mut last = 0;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            b'=' if depth == 0 => {
                let compares = bytes.get(at + 1) == Some(&b'=')
                    || at
                        .checked_sub(1)
                        .is_some_and(|before| matches!(bytes[before], b'=' | b'!' | b'<' | b'>'));
                if !compares {
                    last = at;
                }
            }
            _ => {}
        }
    }
    text[..last].split(|c| !is_word(c)).any(|word| word == name)
}

/// Reads the parameters of a definition, from after its `(` on.
fn parsed(parameters: &str, is_async: bool) -> Option<Function> {
    let mut function = Function { is_async, ..Function::default() };
    let mut only_keywords = false;
    let mut depth = 0_usize;
    let mut parameter = String::new();
    for c in parameters.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth > 0 => depth -= 1,
            ',' | ')' if depth == 0 => {
                let text = std::mem::take(&mut parameter);
                let text = text.trim();
                let has_default = text.contains('=');
                match text {
                    "" | "/" => {}
                    "*" => only_keywords = true,
                    _ if text.starts_with("**") => {}
                    _ if text.starts_with('*') => (function.variadic, only_keywords) = (true, true),
                    _ if only_keywords => function.keywords |= !has_default,
                    _ => {
                        function.most += 1;
                        function.required += usize::from(!has_default);
                    }
                }
                if c == ')' {
                    return Some(function);
                }
                continue;
            }
            _ => {}
        }
        // Of what is in brackets nothing counts.
        if depth == 0 {
            parameter.push(c);
        }
    }
    None
}

/// A line of Python with those that it goes on in, without comments and without what stands in strings.
struct Statement {
    indented: bool,
    text: String,
}

/// Splits source into statements, in one pass. `a; b` counts as one.
fn statements(source: &str) -> Vec<Statement> {
    let mut statements = Vec::new();
    let mut text = String::new();
    let mut depth = 0_usize;
    let bytes = source.as_bytes();
    let mut at = 0;
    let mut copied = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'#' => {
                text.push_str(&source[copied..at]);
                while bytes.get(at).is_some_and(|byte| !matches!(byte, b'\n' | b'\r')) {
                    at += 1;
                }
                copied = at;
                continue;
            }
            b'"' | b'\'' => {
                text.push_str(&source[copied..at]);
                text.push_str("\"\"");
                at = after_string(bytes, at);
                copied = at;
                continue;
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'\\' if matches!(bytes.get(at + 1), Some(b'\n' | b'\r')) => {
                text.push_str(&source[copied..at]);
                text.push(' ');
                let crlf = bytes.get(at + 1..at + 3) == Some(b"\r\n");
                at += if crlf { 3 } else { 2 };
                copied = at;
                continue;
            }
            b'\n' | b'\r' => {
                text.push_str(&source[copied..at]);
                copied = at + 1;
                if depth > 0 {
                    text.push(' ');
                } else {
                    push_statement(&mut statements, &mut text);
                }
            }
            _ => {}
        }
        at += 1;
    }
    text.push_str(&source[copied.min(source.len())..]);
    push_statement(&mut statements, &mut text);
    statements
}

fn push_statement(statements: &mut Vec<Statement>, text: &mut String) {
    let whole = std::mem::take(text);
    let trimmed = whole.trim();
    if !trimmed.is_empty() {
        let indented = whole.starts_with([' ', '\t', '\u{c}']);
        statements.push(Statement { indented, text: trimmed.to_owned() });
    }
}

/// The place after the string that begins at `start`.
fn after_string(bytes: &[u8], start: usize) -> usize {
    let quote = bytes[start];
    let triple = bytes.get(start + 1) == Some(&quote) && bytes.get(start + 2) == Some(&quote);
    let mut at = start + if triple { 3 } else { 1 };
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'\n' | b'\r' if !triple => return at,
            _ if byte == quote && !triple => return at + 1,
            _ if byte == quote && bytes.get(at + 1) == Some(&quote) && bytes.get(at + 2) == Some(&quote) => {
                return at + 3;
            }
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn checked(
        files: &[(&str, &str)],
        site: &[(&str, &str)],
        application: &str,
    ) -> std::result::Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        for (root, files) in [("code", files), ("site", site)] {
            for (name, text) in files {
                let path = dir.path().join(root).join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
        }
        let code_files: Vec<String> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
        let (code, place) = (dir.path().join("code"), dir.path().join("site"));
        let installed = Installed::Site(&place, site.iter().map(|(name, _)| *name).collect());
        let sources = Sources { code: &code, code_files: &code_files, installed };
        check(&Application::parse(application).unwrap(), &sources).map_err(|error| error.to_string())
    }

    #[test]
    fn a_module_is_in_the_code_or_in_the_packages() {
        let code = [("app.py", ""), ("inner/web.py", ""), ("pkg/__init__.py", ""), ("fast.abi3.so", "")];
        let site =
            [("flask/app.py", ""), ("hello_app.py", ""), ("native.cpython-311-x86_64-linux-gnu.so", "")];
        for good in [
            "app:app",
            "inner.web:app",
            "inner:app",
            "pkg:app",
            "fast:app",
            "flask.app:x",
            "hello_app:app",
            "native:app",
        ] {
            assert_eq!(checked(&code, &site, good), Ok(()), "{good}");
        }
        for (bad, near) in [
            ("apps:app", "`app`"),
            ("App:app", "`app`"),
            ("web:app", "--code"),
            ("inner.wep:app", "`inner.web`"),
            ("helloapp:app", "`hello_app`"),
            ("nothing:app", "neither"),
            ("app.web:app", "`inner.web`"),
        ] {
            let error = checked(&code, &site, bad).unwrap_err();
            assert!(error.contains(near), "{bad}: {error}");
        }
        let error = checked(&[("src/shop/web.py", "")], &[], "shop.web:app").unwrap_err();
        assert!(error.contains("--code") && error.contains("/src,"), "{error}");
        let error = checked(&[("src/shop/__init__.py", "")], &[], "shop:app").unwrap_err();
        assert!(error.contains("`src.shop:...`"), "{error}");
    }

    #[test]
    fn a_container_image_may_have_it_anywhere() {
        let files =
            vec!["usr/lib/python3/dist-packages/shop/web.py", "opt/x/fast.cpython-311-x86_64-linux-gnu.so"];
        let found = |application: &str| {
            let sources = Sources {
                code: Path::new("/none"),
                code_files: &[],
                installed: Installed::Image(files.clone()),
            };
            check(&Application::parse(application).unwrap(), &sources).is_ok()
        };
        assert!(found("shop.web:app") && found("shop:app") && found("fast:app"));
        assert!(!found("web2:app") && !found("op.web:app") && !found("shop.wsgi:app"));
    }

    #[test]
    fn a_factory_named_as_an_application_is_refused() {
        for source in [
            "def create_app():\n    return 1\n",
            "def create_app(config=None, testing=False):\n    return 1\n",
            "def create_app(config=None, *, x=1, **more) -> Flask:\n    return 1\n",
            "def create_app(\n    config: dict[str, int] = {},  # ) (\n):\r\n    return 1\n",
            "'''def create_app(environ, start_response): x'''\ndef create_app(): pass\n",
            "def create_app(): pass\nif __name__ == '__main__':\n    create_app().run()\napp = create_app()\n",
            "from x import *\ndef  create_app (): pass\n",
            "x = \"\"\"\ncreate_app = 1\n\"\"\"\ndef create_app(): pass",
        ] {
            let error = checked(&[("app.py", source)], &[], "app:create_app").unwrap_err();
            assert!(error.contains("factory") && error.contains("`app:create_app()`"), "{source}: {error}");
            assert_eq!(checked(&[("app.py", source)], &[], "app:create_app()"), Ok(()), "{source}");
        }
        for source in [
            "def create_app(config): pass\n",
            "def create_app(a, b, c, d): pass\n",
            "def create_app(*, config): pass\n",
            "async def create_app(): pass\n",
        ] {
            let error = checked(&[("app.py", source)], &[], "app:create_app").unwrap_err();
            assert!(
                error.contains("factory") && error.contains("`app = create_app(...)`"),
                "{source}: {error}"
            );
            let error = checked(&[("app.py", source)], &[], "app:create_app()").unwrap_err();
            assert!(error.contains("without arguments"), "{error}");
        }
        let error = checked(&[], &[("pkg/web.py", "def make(): pass")], "pkg.web:make").unwrap_err();
        assert!(error.contains("factory"), "{error}");
    }

    #[test]
    fn what_may_be_an_application_is_left_alone() {
        for source in [
            "def app(environ, start_response): pass\n",
            "def app(environ, start_response, /): pass\n",
            "def app(environ, start_response=None): pass\n",
            "def app(*args): pass\n",
            "async def app(scope, receive, send): pass\n",
            "class app:\n    def __call__(self, environ, start_response): pass\n",
            "@wsgi\ndef app(): pass\n",
            "@wsgi\n\n# c\ndef app(): pass\n",
            "def app(): pass\napp = app()\n",
            "def app(): pass\nif x:\n    app = 1\n",
            "def app(): pass\nx = app = 1\n",
            "def app(): pass\ndef app(environ, start_response): pass\n",
            "if x:\n    def app(): pass\n",
            "def app(): pass\nfrom web import app\n",
            "def app(): pass\nfrom web import (\n    x,\n    y as app)\n",
            "def app(): pass\nfrom web import *\n",
            "def app(): pass\nglobals()['app'] = 1\n",
            "def app(): pass\nfor app in x: pass\n",
            "def app(): pass\n(app := 1)\n",
            "x = '''\ndef app(): pass\n'''\n",
            "def application(): pass\n",
            "def app(",
            "def app(:",
            "'",
            "",
        ] {
            assert_eq!(checked(&[("app.py", source)], &[], "app:app"), Ok(()), "{source}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_source_is_scanned(source in "(?s)([-a-z@#=()\\[\\]{},.:* \\\\\"'\\n\\r]|def app\\(|.){0,200}") {
            let _ = only_function(&source, "app");
            let length: usize = statements(&source).iter().map(|statement| statement.text.len()).sum();
            proptest::prop_assert!(length <= source.len() * 2);
        }
    }
}
