//! A server that runs during one test, and a segmenter that waits or panics on demand.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sulcus_runtime::{Engine, Error as RuntimeError, SELF_TEST_MODEL, SegmentOptions, Segmentation, Segmenter};
use sulcus_serve::{Options, SegmentService, Server, ShutdownHandle, ShutdownReport};
use sulcus_volume::Image;

use crate::client::get;

/// The self-test model, which labels bright voxels, on tract.
pub(crate) fn segmenter() -> Segmenter {
    Segmenter::builder().model_bytes(SELF_TEST_MODEL).engine(Engine::Tract).threads(1).build().unwrap()
}

/// The self-test model, with a specification that resamples scans to voxels of 1 mm.
pub(crate) fn resampling_segmenter() -> Segmenter {
    let start = SELF_TEST_MODEL.windows(17).position(|w| w == b"{\"format_version\"").unwrap();
    let mut values =
        serde_json::Deserializer::from_slice(&SELF_TEST_MODEL[start..]).into_iter::<serde_json::Value>();
    let mut spec = values.next().unwrap().unwrap();
    let old = metadata_entry(&SELF_TEST_MODEL[start..start + values.byte_offset()]);
    spec["spacing"] = serde_json::json!({"resample": {"mm": [1.0, 1.0, 1.0], "interpolation": "linear"}});
    let new = metadata_entry(spec.to_string().as_bytes());
    let at = SELF_TEST_MODEL.windows(old.len()).position(|w| w == old).unwrap();
    let model = [&SELF_TEST_MODEL[..at], &new, &SELF_TEST_MODEL[at + old.len()..]].concat();
    Segmenter::builder().model_bytes(model).engine(Engine::Tract).threads(1).build().unwrap()
}

/// The protobuf of an ONNX metadata entry with the specification.
fn metadata_entry(spec: &[u8]) -> Vec<u8> {
    let field = |tag: u8, content: &[u8]| {
        let (mut bytes, mut length) = (vec![tag], content.len());
        while length >= 0x80 {
            bytes.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend(content);
        bytes
    };
    field(0x72, &[field(0x0a, b"sulcus.spec"), field(0x12, spec)].concat())
}

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: ShutdownHandle,
    thread: Option<JoinHandle<ShutdownReport>>,
}

impl Running {
    pub(crate) fn start(service: impl SegmentService, options: Options) -> Self {
        let server = Server::bind(service, "127.0.0.1:0".parse().unwrap(), options).unwrap();
        let (address, shutdown) = (server.address(), server.shutdown_handle());
        let thread = std::thread::spawn(move || server.run().unwrap());
        Self { address, shutdown, thread: Some(thread) }
    }

    pub(crate) fn with_defaults() -> Self {
        Self::start(segmenter(), Options::default())
    }

    /// Waits until the server has ended.
    pub(crate) fn join(mut self) -> ShutdownReport {
        self.thread.take().unwrap().join().unwrap()
    }

    /// The value of a metric such as `sulcus_queue_length`; 0 when it is absent.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = get(self.address, "/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |number| number.parse().unwrap())
    }

    /// Waits until a metric has a value.
    pub(crate) fn wait_until(&self, name: &str, value: f64) {
        let start = Instant::now();
        while self.metric(name) != value {
            assert!(start.elapsed() < Duration::from_secs(60), "{name} is {}, not {value}", self.metric(name));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.shutdown();
        self.shutdown.shutdown();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Blocks scans until it is opened.
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

/// A segmenter behind a gate. A scan whose first voxel is [`Gated::PANIC_VALUE`] makes it panic.
pub(crate) struct Gated {
    segmenter: Segmenter,
    gate: Gate,
}

impl Gated {
    pub(crate) const PANIC_VALUE: f32 = 666.0;

    pub(crate) fn new() -> (Self, Gate) {
        let gate = Gate::default();
        (Self { segmenter: segmenter(), gate: gate.clone() }, gate)
    }
}

impl SegmentService for Gated {
    fn segmenter(&self) -> &Segmenter {
        &self.segmenter
    }

    fn segment(&self, image: Image, options: SegmentOptions<'_>) -> Result<Segmentation, RuntimeError> {
        self.gate.pass();
        if image.data().first() == Some(&Self::PANIC_VALUE) {
            panic!("requested by the test");
        }
        self.segmenter.segment_owned(image, options)
    }
}
