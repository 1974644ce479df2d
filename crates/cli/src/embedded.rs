//! The node that this binary carries inside: the shared object and the Python package around it.

use package::NodeFiles;

/// What the native builder puts into an image, below its Python directory.
pub fn node_files() -> NodeFiles {
    let python =
        PYTHON.iter().map(|(name, content)| (format!("mse_node/{name}"), content.as_bytes().to_vec()));
    let library = ("mse_node/_node.abi3.so".to_owned(), LIBRARY.to_vec());
    NodeFiles { files: python.chain([library]).collect() }
}

const LIBRARY: &[u8] = include_bytes!(env!("MSE_NODE_LIBRARY"));

macro_rules! python {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../node-python/python/mse_node/", $name)))),*]
    };
}

const PYTHON: &[(&str, &str)] = python![
    "__init__.py",
    "__main__.py",
    "application.py",
    "evidence.py",
    "serve.py",
    "simulated.py",
    "wsgi.py"
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_python_file_of_the_node_is_carried() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../node-python/python/mse_node");
        let mut found: Vec<String> = std::fs::read_dir(folder)
            .expect("the node's Python package")
            .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
            .filter(|name| name.ends_with(".py"))
            .collect();
        found.sort();
        let carried: Vec<&str> = PYTHON.iter().map(|(name, _)| *name).collect();
        assert_eq!(found, carried);
    }
}
