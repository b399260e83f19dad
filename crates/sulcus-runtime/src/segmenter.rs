use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use sulcus_pipeline::{ModelSpec, Outputs, Precision, Predictor, Progress, WindowOptions};
use sulcus_volume::{Geometry, Image};

use crate::cropped;
use crate::ensemble::{Answer, InferenceRun, Scan, common_postprocessing};
use crate::session_pool::{SessionPool, Pool};
use crate::memory::{loaded_bytes, peak_memory_bytes};
use crate::{Arithmetic, Device, Engine, RuntimeError, SegmentOptions, Segmentation, SegmenterBuilder};

/// One or more loaded models that segment scans: the whole road from a scan to its mask.
///
/// It can be shared between threads, whose tiles then take turns.
pub struct Segmenter {
    spec: ModelSpec,
    models: Vec<Model>,
    engine: Engine,
    device: Device,
    precision: String,
    window: WindowOptions,
    limits: Limits,
    loaded_bytes: u64,
    notes: Vec<String>,
}

/// What runs the models, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Runs {
    pub(crate) engine: Engine,
    pub(crate) device: Device,
    pub(crate) arithmetic: Arithmetic,
}

/// What a segmenter may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of the whole process.
    pub(crate) memory: Option<u64>,
    /// Threads that ask the engine at the same time.
    pub(crate) workers: usize,
    /// Whether what the engine works in is memory of this process, not a GPU's.
    pub(crate) works_in_process: bool,
}

/// A model's engine, that threads share.
pub(crate) trait SharedPredictor: Predictor + Send + Sync {}

impl<P: Predictor + Send + Sync> SharedPredictor for P {}

pub(crate) struct Model {
    pub(crate) spec: ModelSpec,
    pub(crate) predictor: Box<dyn SharedPredictor>,
    /// The same in several sessions, where that is faster.
    pub(crate) session_pool: Option<SessionPool>,
    /// Length of its file.
    pub(crate) bytes: u64,
}

/// Whom tiles are given to.
pub(crate) enum Sessions<'a> {
    One(&'a dyn SharedPredictor),
    Several(Arc<Pool>),
}

impl Sessions<'_> {
    pub(crate) fn predictor(&self) -> &dyn SharedPredictor {
        match self {
            Self::One(predictor) => *predictor,
            Self::Several(pool) => &**pool,
        }
    }
}

impl Model {
    /// Its predictor, or as many sessions of it.
    pub(crate) fn sessions(&self, count: usize) -> Result<Sessions<'_>, RuntimeError> {
        match &self.session_pool {
            Some(session_pool) if count > 1 => Ok(Sessions::Several(session_pool.pool()?)),
            _ => Ok(Sessions::One(self.predictor.as_ref())),
        }
    }
}

/// The numbers that models compute in: `int8`, or `fp32+int8` for an ensemble of both.
fn precision(models: &[Model], arithmetic: Arithmetic, device: Device) -> String {
    let kinds: BTreeSet<Precision> = models.iter().map(|m| m.spec.precision()).collect();
    // The builder has refused what a device does not have.
    let mut names: Vec<&str> =
        kinds.into_iter().map(|kind| arithmetic.name(device, kind).unwrap_or(kind.name())).collect();
    names.dedup();
    names.join("+")
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
        runs: Runs,
        window: WindowOptions,
        limits: Limits,
        notes: Vec<String>,
    ) -> Result<Self, RuntimeError> {
        let specs: Vec<&ModelSpec> = models.iter().map(|m| &m.spec).collect();
        let mut spec = (*specs.first().ok_or(RuntimeError::NoModel)?).clone();
        spec.postprocessing = common_postprocessing(&specs);
        let loaded_bytes = loaded_bytes(models.iter().map(|m| m.bytes).sum());
        let Runs { engine, device, arithmetic } = runs;
        let precision = precision(&models, arithmetic, device);
        Ok(Self { spec, models, engine, device, precision, window, limits, loaded_bytes, notes })
    }

    /// The specification of the model; of an ensemble the first one's, with the postprocessing that all members
    /// have in common, which is what is done to the mask.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The specification of each model, in the order in which they were given.
    pub fn specs(&self) -> impl Iterator<Item = &ModelSpec> {
        self.models.iter().map(|m| &m.spec)
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
    /// When the scan does not fit the model or holds voxels that are no numbers (they are counted, and nothing is guessed
    /// in their place), it cannot be segmented within the memory limit, the engine fails, or the observer asks to stop.
    pub fn segment(&self, image: &Image, options: SegmentOptions<'_>) -> Result<Segmentation, RuntimeError> {
        self.with_options(Scan::Borrowed(image), options)
    }

    /// As [`Segmenter::segment`], for a scan that is not needed any more: its memory is used for the work.
    ///
    /// # Errors
    /// As [`Segmenter::segment`].
    pub fn segment_owned(&self, image: Image, options: SegmentOptions<'_>) -> Result<Segmentation, RuntimeError> {
        self.with_options(Scan::Owned(image), options)
    }

    /// What the process held with the models loaded, before the first scan, in bytes; an estimate where the system does
    /// not say.
    pub fn loaded_memory_bytes(&self) -> u64 {
        self.loaded_bytes
    }

    /// The least memory, in bytes of the whole process, that a scan of this geometry can be segmented in by
    /// [`Segmenter::segment_owned`].
    ///
    /// # Errors
    /// When the prepared grid would be larger than any that can be worked on.
    pub fn min_memory_bytes(&self, geometry: &Geometry, outputs: Outputs) -> Result<u64, RuntimeError> {
        let least = self.road(&self.models, &self.window, outputs, None).least_bytes(geometry, false)?;
        Ok(least.saturating_add(cropped::beside(&self.spec, outputs, geometry)))
    }

    fn with_options(&self, scan: Scan<'_>, options: SegmentOptions<'_>) -> Result<Segmentation, RuntimeError> {
        let SegmentOptions { outputs, observer, max_memory } = options;
        let mut silent = |_: Progress| ControlFlow::Continue(());
        let observer = observer.unwrap_or(&mut silent);
        let limit = max_memory.or(self.limits.memory);
        self.run(&self.spec, self.road(&self.models, &self.window, outputs, limit), scan, observer)
    }

    fn road<'a>(
        &self,
        models: &'a [Model],
        window: &WindowOptions,
        outputs: Outputs,
        limit: Option<u64>,
    ) -> InferenceRun<'a> {
        let Limits { workers, works_in_process, .. } = self.limits;
        let loaded_bytes = self.loaded_bytes;
        InferenceRun { models, window: *window, workers, works_in_process, outputs, limit, loaded_bytes }
    }

    /// Segments a NIfTI file and writes the mask: on the same grid, with the label names.
    ///
    /// # Errors
    /// As [`Segmenter::segment`], and when a file cannot be read or written, or the mask would overwrite the scan.
    #[cfg(not(target_family = "wasm"))]
    pub fn segment_file(
        &self,
        image: impl AsRef<std::path::Path>,
        mask: impl AsRef<std::path::Path>,
    ) -> Result<Segmentation, RuntimeError> {
        self.segment_file_with(image, mask, SegmentOptions::default())
    }

    /// As [`Segmenter::segment_file`], with options. A mask is written only at the end: none is when the observer stops it.
    ///
    /// # Errors
    /// As [`Segmenter::segment_file`].
    #[cfg(not(target_family = "wasm"))]
    pub fn segment_file_with(
        &self,
        image: impl AsRef<std::path::Path>,
        mask: impl AsRef<std::path::Path>,
        options: SegmentOptions<'_>,
    ) -> Result<Segmentation, RuntimeError> {
        let (image, mask) = (image.as_ref(), mask.as_ref());
        if sulcus_io::would_replace(image, mask) {
            return Err(RuntimeError::WouldOverwrite { path: mask.to_path_buf() });
        }
        let scan = sulcus_io::read_scan(image)?;
        let segmentation = self.segment_owned(scan.image, options)?;
        sulcus_io::write_labels(mask, &segmentation.labels, &scan.source, &segmentation.table)?;
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
            let road = self.road(std::slice::from_ref(model), &window, Outputs::Labels, None);
            let found = self.run(spec, road, Scan::Borrowed(&image), observer)?;
            golden.check(&found.labels)?;
        }
        Ok(())
    }

    fn run(
        &self,
        spec: &ModelSpec,
        road: InferenceRun<'_>,
        scan: Scan<'_>,
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Segmentation, RuntimeError> {
        let Answer { prediction, tiles, seconds } = road.walk_inside(spec, scan, observer)?;
        Ok(Segmentation {
            labels: prediction.labels,
            probabilities: prediction.probabilities,
            table: spec.labels.clone(),
            structures: spec.structures(),
            tiles,
            seconds,
            peak_memory_bytes: peak_memory_bytes(),
            engine: self.engine,
            device: self.device,
            precision: self.precision.clone(),
        })
    }
}
