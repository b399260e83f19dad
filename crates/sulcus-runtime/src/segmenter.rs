use std::cell::Cell;
use std::ops::ControlFlow;

use sulcus_pipeline::{
    ModelSpec, Outputs, Predictor, PredictorError, Progress, Tensor, WindowOptions, predict_logits, prepare,
};
use sulcus_volume::Image;

use crate::clock::Stopwatch;
use crate::{Device, Engine, RuntimeError, Seconds, SegmentOptions, Segmentation, SegmenterBuilder};

/// Every engine computes in single precision today.
const PRECISION: &str = "fp32";

/// One or more loaded models that segment scans: the whole road from a scan to its mask.
///
/// It can be shared between threads; a model's engine runs one scan's tile at a time.
pub struct Segmenter {
    models: Vec<Model>,
    engine: Engine,
    device: Device,
    window: WindowOptions,
    notes: Vec<String>,
}

/// A model's engine, that threads share.
pub(crate) type SharedPredictor = Box<dyn Predictor + Send + Sync>;

pub(crate) struct Model {
    pub(crate) spec: ModelSpec,
    pub(crate) predictor: SharedPredictor,
}

impl std::fmt::Debug for Segmenter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segmenter")
            .field("models", &self.models.iter().map(|m| &m.spec.name).collect::<Vec<_>>())
            .field("engine", &self.engine)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

impl Segmenter {
    /// Starts to put one together.
    pub fn builder() -> SegmenterBuilder {
        SegmenterBuilder::default()
    }

    pub(crate) fn new(
        models: Vec<Model>,
        engine: Engine,
        device: Device,
        window: WindowOptions,
        notes: Vec<String>,
    ) -> Result<Self, RuntimeError> {
        if models.is_empty() {
            return Err(RuntimeError::NoModel);
        }
        Ok(Self { models, engine, device, window, notes })
    }

    /// The specification of the model; of an ensemble, the first one's.
    pub fn spec(&self) -> &ModelSpec {
        // `new` refuses an empty list.
        &self.models[0].spec
    }

    /// Models that are averaged.
    pub fn models(&self) -> usize {
        self.models.len()
    }

    /// The engine in use; never [`Engine::Auto`].
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// The device in use; never [`Device::Auto`].
    pub fn device(&self) -> Device {
        self.device
    }

    /// What a person should know about what `auto` chose, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Segments a scan.
    ///
    /// # Errors
    /// When the scan does not fit the model or holds voxels that are no numbers, the engine fails, or the observer
    /// asks to stop.
    pub fn segment(&self, image: &Image, options: SegmentOptions<'_>) -> Result<Segmentation, RuntimeError> {
        let (outputs, observer) = options.into_parts();
        let mut silent = |_: Progress| ControlFlow::Continue(());
        let observer = observer.unwrap_or(&mut silent);
        self.run(&self.models, image, &self.window, outputs, observer)
    }

    /// Segments a NIfTI file and writes the mask: on the same grid, with the label names.
    ///
    /// # Errors
    /// As [`Segmenter::segment`], and when a file cannot be read or written.
    #[cfg(not(target_family = "wasm"))]
    pub fn segment_file(
        &self,
        image: impl AsRef<std::path::Path>,
        mask: impl AsRef<std::path::Path>,
    ) -> Result<Segmentation, RuntimeError> {
        let scan = sulcus_io::read_image(image.as_ref())?;
        let segmentation = self.segment(&scan.image, SegmentOptions::default())?;
        sulcus_io::write_labels(mask.as_ref(), &segmentation.labels, &scan.header, &segmentation.table)?;
        Ok(segmentation)
    }

    /// Segments the small scan that each model carries and compares the mask with the recorded one: a check of the
    /// file, the engine and this machine together.
    ///
    /// # Errors
    /// [`RuntimeError::NoGoldenCase`] when a model carries none; a
    /// [`PipelineError`](sulcus_pipeline::PipelineError) when the masks differ.
    pub fn replay_golden(&self) -> Result<(), RuntimeError> {
        for (i, model) in self.models.iter().enumerate() {
            let spec = &model.spec;
            let golden = spec.golden_case.as_ref().ok_or(RuntimeError::NoGoldenCase { model: i + 1 })?;
            let image = golden.image(spec.orientation)?;
            let observer = &mut |_: Progress| ControlFlow::Continue(());
            // The recorded answer is the plain one, whatever window this segmenter was given.
            let window = WindowOptions::default();
            let found = self.run(std::slice::from_ref(model), &image, &window, Outputs::Labels, observer)?;
            golden.check(&found.labels)?;
        }
        Ok(())
    }

    fn run(
        &self,
        models: &[Model],
        image: &Image,
        window: &WindowOptions,
        outputs: Outputs,
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Segmentation, RuntimeError> {
        let spec = models.first().map(|m| &m.spec).ok_or(RuntimeError::NoModel)?;
        let watch = Stopwatch::start();
        let (prepared, restore) = prepare(spec, image)?;
        let preprocess = watch.elapsed_secs();

        let watch = Stopwatch::start();
        let engine_secs = Cell::new(0.0);
        let timed: Vec<Timed<'_>> =
            models.iter().map(|m| Timed { predictor: m.predictor.as_ref(), secs: &engine_secs }).collect();
        let predictors: Vec<&dyn Predictor> = timed.iter().map(|t| t as &dyn Predictor).collect();
        let logits = predict_logits(spec, &prepared, &predictors, window, observer)?;
        let (infer, tiles) = (watch.elapsed_secs(), logits.tiles());

        let watch = Stopwatch::start();
        // What is done with is freed before the logits are resampled, the moment that needs the most memory.
        drop(prepared);
        let restored = restore.finish(spec, logits, outputs)?;
        let seconds = Seconds { preprocess, infer, engine: engine_secs.get(), postprocess: watch.elapsed_secs() };
        Ok(Segmentation {
            labels: restored.labels,
            probabilities: restored.probabilities,
            table: spec.labels.clone(),
            tiles,
            seconds,
            engine: self.engine,
            device: self.device,
            precision: PRECISION,
        })
    }
}

/// Adds up the time spent in a predictor.
struct Timed<'a> {
    predictor: &'a (dyn Predictor + Send + Sync),
    secs: &'a Cell<f64>,
}

impl Predictor for Timed<'_> {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        let watch = Stopwatch::start();
        let answer = self.predictor.logits(input);
        self.secs.set(self.secs.get() + watch.elapsed_secs());
        answer
    }
}
