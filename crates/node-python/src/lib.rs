//! The node as the CPython extension module `mse_node._node` (stable ABI, Python 3.10 and later).
//!
//! A thin skin: everything is done by the crate `node`; this file turns its types into Python's, and lets go of the
//! interpreter's lock around whatever blocks. The Python package around it serves the application.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use node::configuration::{Limits, Server};
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

create_exception!(
    _node,
    NodeError,
    PyException,
    "The node cannot start or go on; the message is for the log."
);

fn failed(error: node::Error) -> PyErr {
    NodeError::new_err(error.to_string())
}

/// A node that listens.
#[pyclass(frozen)]
struct Node {
    node: Arc<node::Node>,
    listener: Mutex<Option<TcpListener>>,
    /// Where the enclave is simulated: the threads that a real one would have.
    #[pyo3(get)]
    simulated_threads: Option<u32>,
}

/// What is needed to start the application.
#[pyclass(frozen, get_all)]
struct Application {
    /// `module:variable`, or `module:factory()`.
    application: String,
    /// Where its code is.
    module_path: OsString,
    /// What to set in its environment.
    environment: BTreeMap<&'static str, OsString>,
    /// Whether its source must stay out of the log.
    confidential: bool,
}

#[pymethods]
impl Node {
    /// Blocks until there is a configuration; returns at once if an earlier run had one.
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        if self.node.is_configured() {
            return Ok(());
        }
        let listener = self.take_listener()?;
        let listener = py.detach(|| {
            let server = Server::start(self.node.clone(), listener, Limits::default())?;
            let listener = server.wait()?;
            server.finish_in_background();
            Ok(listener)
        });
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener.map_err(failed)?);
        Ok(())
    }

    /// Puts code and secrets in their places.
    fn prepare(&self, py: Python<'_>) -> PyResult<Application> {
        let prepared = py.detach(|| self.node.prepare()).map_err(failed)?;
        Ok(Application {
            application: prepared.application,
            module_path: prepared.module_path.into(),
            environment: prepared.environment.into_iter().map(|(name, path)| (name, path.into())).collect(),
            confidential: prepared.confidential,
        })
    }

    /// Writes the certificate to serve and its key; returns the paths of both files.
    fn write_tls_files(&self) -> PyResult<(OsString, OsString)> {
        let files = self.node.write_tls_files().map_err(failed)?;
        Ok((files.certificate.into(), files.key.into()))
    }

    /// Removes these files.
    fn forget_tls_files(&self) -> PyResult<()> {
        self.node.forget_tls_files().map_err(failed)
    }

    /// Gives away the listening socket's file descriptor. Works once.
    fn detach_listener(&self) -> PyResult<i32> {
        Ok(self.take_listener()?.into_raw_fd())
    }

    /// Answers a request for evidence: (status, headers, body).
    fn answer_evidence<'py>(
        &self,
        py: Python<'py>,
        method: &str,
        query: &str,
    ) -> (u16, Vec<(&'static str, &'static str)>, Bound<'py, PyBytes>) {
        let answer = py.detach(|| self.node.answer_evidence(method, query));
        (answer.status, answer.headers, PyBytes::new(py, answer.body.as_bytes()))
    }
}

impl Node {
    fn take_listener(&self) -> PyResult<TcpListener> {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        listener.take().ok_or_else(|| NodeError::new_err("the listening socket was given away already"))
    }
}

/// Starts the node of this process, as its environment says. `module_installed`: whether the image holds the
/// application's top module.
#[pyfunction]
#[pyo3(signature = (module_installed = false))]
fn start(py: Python<'_>, module_installed: bool) -> PyResult<Node> {
    let started = py.detach(|| node::start(module_installed)).map_err(failed)?;
    let simulated_threads = started.simulated_threads;
    Ok(Node { node: started.node, listener: Mutex::new(Some(started.listener)), simulated_threads })
}

/// Unpacks the image's archive of Python packages into a directory in memory.
#[pyfunction]
fn unpack_packages(py: Python<'_>, archive: PathBuf, directory: PathBuf) -> PyResult<()> {
    py.detach(|| node::unpack_packages(&archive, &directory)).map_err(failed)
}

#[pymodule]
mod _node {
    #[pymodule_export]
    use super::{Application, Node, NodeError, start, unpack_packages};
}
