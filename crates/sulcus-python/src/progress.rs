use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use sulcus_pipeline::Progress;

/// Calls a Python function after each tile and checks for Ctrl-C. An exception from either stops the segmentation.
pub(crate) struct ProgressCallback {
    function: Option<Py<PyAny>>,
    last_check: Option<Instant>,
    exception: Option<PyErr>,
}

impl ProgressCallback {
    /// How often signals are checked without a function. Each check needs the GIL, which other threads may hold.
    const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

    pub(crate) fn new(function: Option<Py<PyAny>>) -> Self {
        Self { function, last_check: None, exception: None }
    }

    pub(crate) fn on_tile(&mut self, tiles: Progress) -> ControlFlow<()> {
        let due = self.last_check.is_none_or(|last| last.elapsed() >= Self::SIGNAL_INTERVAL);
        if self.function.is_none() && !due {
            return ControlFlow::Continue(());
        }
        let called = Python::try_attach(|py| {
            py.check_signals()?;
            if let Some(function) = &self.function {
                function.call1(py, (tiles.done, tiles.total))?;
            }
            PyResult::Ok(())
        });
        self.last_check = Some(Instant::now());
        match called {
            Some(Ok(())) => ControlFlow::Continue(()),
            Some(Err(exception)) => {
                self.exception = Some(exception);
                ControlFlow::Break(())
            }
            // The interpreter is shutting down.
            None => ControlFlow::Break(()),
        }
    }

    /// The exception that stopped the segmentation, if there was one.
    pub(crate) fn into_result(self) -> PyResult<()> {
        self.exception.map_or(Ok(()), Err)
    }
}
