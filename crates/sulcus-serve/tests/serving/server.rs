//! A server that runs for as long as a test, with an engine that waits, or panics, when it is told to.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sulcus_runtime::{Engine, Error as RuntimeError, SELF_TEST_MODEL, SegmentOptions, Segmentation, Segmenter};
use sulcus_serve::{Ended, Options, Segments, Server, Stopper};
use sulcus_volume::Image;

use crate::client::get;

/// The tiny model that labels what is bright, on the embedded engine.
pub(crate) fn segmenter() -> Segmenter {
    Segmenter::builder().model_bytes(SELF_TEST_MODEL).engine(Engine::Tract).threads(1).build().unwrap()
}

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) stopper: Stopper,
    thread: Option<JoinHandle<Ended>>,
}

impl Running {
    pub(crate) fn start(segments: impl Segments, options: Options) -> Self {
        let server = Server::bind(segments, "127.0.0.1:0".parse().unwrap(), options).unwrap();
        let (address, stopper) = (server.address(), server.stopper());
        let thread = std::thread::spawn(move || server.run().unwrap());
        Self { address, stopper, thread: Some(thread) }
    }

    pub(crate) fn plain() -> Self {
        Self::start(segmenter(), Options::default())
    }

    /// Waits for the end.
    pub(crate) fn ended(mut self) -> Ended {
        self.thread.take().unwrap().join().unwrap()
    }

    /// A line of /metrics, such as `sulcus_queue_length`: its number, 0 where there is none yet.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = get(self.address, "/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |number| number.parse().unwrap())
    }

    /// Waits until a metric has a value.
    pub(crate) fn until(&self, name: &str, value: f64) {
        let start = Instant::now();
        while self.metric(name) != value {
            assert!(start.elapsed() < Duration::from_secs(60), "{name} is {}, not {value}", self.metric(name));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Holds scans up until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let mut open = self.0.0.lock().unwrap();
        while !*open {
            open = self.0.1.wait(open).unwrap();
        }
    }
}

/// A segmenter behind a gate. A scan whose first voxel is [`Gated::EXPLOSIVE`] makes it panic.
pub(crate) struct Gated {
    segmenter: Segmenter,
    gate: Gate,
}

impl Gated {
    pub(crate) const EXPLOSIVE: f32 = 666.0;

    pub(crate) fn new() -> (Self, Gate) {
        let gate = Gate::default();
        (Self { segmenter: segmenter(), gate: gate.clone() }, gate)
    }
}

impl Segments for Gated {
    fn segmenter(&self) -> &Segmenter {
        &self.segmenter
    }

    fn segment(&self, image: Image, options: SegmentOptions<'_>) -> Result<Segmentation, RuntimeError> {
        self.gate.pass();
        if image.data().first() == Some(&Self::EXPLOSIVE) {
            panic!("as was to be shown");
        }
        self.segmenter.segment_owned(image, options)
    }
}
