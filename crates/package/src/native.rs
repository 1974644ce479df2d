//! The native builder.
/// The node's own files, as the CLI carries them: `mse_node/*.py` and `mse_node/_node.abi3.so`.
#[derive(Debug, Clone)]
pub struct NodeFiles {
    /// (path relative to `opt/mse/python`, content).
    pub files: Vec<(String, Vec<u8>)>,
}
