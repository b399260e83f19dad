use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use sulcus_pipeline::Progress;

/// Told of every tile: tells a Python function, and looks whether Ctrl-C was pressed. What either raises ends the
/// segmentation.
pub(crate) struct Watch {
    progress: Option<Py<PyAny>>,
    last: Option<Instant>,
    raised: Option<PyErr>,
}

impl Watch {
    /// Python's lock is asked for no more often than a person would notice, as others may hold it.
    const PAUSE: Duration = Duration::from_millis(50);

    pub(crate) fn new(progress: Option<Py<PyAny>>) -> Self {
        Self { progress, last: None, raised: None }
    }

    /// What a segmentation's observer does.
    pub(crate) fn tick(&mut self, tiles: Progress) -> ControlFlow<()> {
        let rested = self.last.is_none_or(|last| last.elapsed() >= Self::PAUSE);
        if self.progress.is_none() && !rested {
            return ControlFlow::Continue(());
        }
        let told = Python::try_attach(|py| {
            py.check_signals()?;
            if let Some(progress) = &self.progress {
                progress.call1(py, (tiles.done, tiles.total))?;
            }
            PyResult::Ok(())
        });
        self.last = Some(Instant::now());
        match told {
            Some(Ok(())) => ControlFlow::Continue(()),
            Some(Err(raised)) => {
                self.raised = Some(raised);
                ControlFlow::Break(())
            }
            // Python is being shut down, and nobody waits for the answer.
            None => ControlFlow::Break(()),
        }
    }

    /// What was raised, if anything was.
    pub(crate) fn raised(self) -> PyResult<()> {
        self.raised.map_or(Ok(()), Err)
    }
}
