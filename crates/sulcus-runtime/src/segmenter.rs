mod pack;
mod predict;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sulcus_model::{GoldenCase, ModelSpec, PackSpec, Precision, SpecError};
use sulcus_pipeline::{
    EngineMemory, InferencePlan, InferenceSettings, Numerics, Outputs, Progress, ScanChecks, ScanInput,
    WindowOptions, check_memory, check_scan, min_memory_bytes,
};
use sulcus_volume::{Geometry, Image, LabelMap};

use crate::device::compute_precision;
use crate::ensemble::common_postprocessing;
use crate::loaded::Model;
use crate::machine::default_memory_limit;
use crate::memory::loaded_bytes;
use crate::stages::{Stage, StageCheck, TileCounter, for_each_stage};
use crate::{Device, Engine, Error, ErrorKind, Note, SegmentOptions, Segmentation};
use predict::{Work, crop_reserve};

/// One or more loaded models that segment scans.
///
/// It can be shared between threads, which take turns in using the engine.
pub struct Segmenter {
    spec: ModelSpec,
    models: Vec<Model>,
    /// The recipe by which the models segment a scan together; `None` for models that are averaged.
    pack: Option<PackSpec>,
    settings: EngineSettings,
    precision: String,
    window: WindowOptions,
    numerics: Numerics,
    checks: ScanChecks,
    loaded_bytes: u64,
    /// The memory limit where the caller sets none.
    default_memory_limit: Option<u64>,
    notes: Vec<Note>,
}

/// How the models run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EngineSettings {
    pub(crate) engine: Engine,
    pub(crate) device: Device,
    /// The requested precision of the arithmetic.
    pub(crate) precision: Option<Precision>,
    /// The memory limit of the whole process, in bytes.
    pub(crate) memory_limit: Option<u64>,
    /// Threads that call the engine at the same time.
    pub(crate) engine_threads: usize,
}

/// Which models segment a scan, and how.
struct Request<'a> {
    models: &'a [Model],
    /// The specification that they share, with the postprocessing that is applied.
    spec: &'a ModelSpec,
    window: &'a WindowOptions,
    numerics: Numerics,
    /// `None` for a scan that is not checked.
    checks: Option<ScanChecks>,
}

/// The largest deviation of the number of foreground voxels of a golden case where values between layers are rounded. Engines that are
/// correct deviate by less than a fifth of it.
const MAX_GOLDEN_DEVIATION: f64 = 0.01;

/// Compares a mask with that of a golden case. Its margin between the logits covers the rounding of single precision. Where values between
/// layers are rounded to 8 or 16 bits, those in the middle are rounded up in one engine and down in the next, so that single voxels differ.
fn check_golden(golden: &GoldenCase, labels: &LabelMap, rounds_values: bool) -> Result<(), SpecError> {
    let foreground = labels.data().iter().filter(|label| **label != 0).count();
    let allowed = MAX_GOLDEN_DEVIATION * golden.foreground_voxels as f64;
    if rounds_values && foreground.abs_diff(golden.foreground_voxels) as f64 <= allowed {
        return Ok(());
    }
    golden.check(labels)
}

/// The names of the models' precisions: `int8`, or `fp32+int8` for an ensemble of both.
fn precision_names(models: &[Model], settings: &EngineSettings) -> String {
    let stored: BTreeSet<Precision> = models.iter().map(|m| m.spec.precision()).collect();
    // The builder has refused precisions that the device does not support.
    let EngineSettings { engine, device, precision, .. } = *settings;
    let computed = |stored| compute_precision(precision, engine, device, stored).unwrap_or(stored);
    let mut names: Vec<&str> = stored.into_iter().map(|stored| computed(stored).name()).collect();
    names.dedup();
    names.join("+")
}

impl std::fmt::Debug for Segmenter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segmenter")
            .field("models", &self.models.iter().map(|m| &m.spec.name).collect::<Vec<_>>())
            .field("engine", &self.settings.engine)
            .field("device", &self.settings.device)
            .finish_non_exhaustive()
    }
}

impl Segmenter {
    pub(crate) fn new(
        (models, pack): (Vec<Model>, Option<PackSpec>),
        settings: EngineSettings,
        (window, numerics): (WindowOptions, Numerics),
        checks: ScanChecks,
        notes: Vec<Note>,
    ) -> Result<Self, Error> {
        let pack = pack.filter(|_| cfg!(feature = "packs"));
        let spec = match &pack {
            Some(pack) => pack.outline()?,
            None => {
                let specs: Vec<&ModelSpec> = models.iter().map(|m| &m.spec).collect();
                let mut spec = (*specs.first().ok_or(ErrorKind::NoModel)?).clone();
                spec.postprocessing = common_postprocessing(&specs);
                spec
            }
        };
        let loaded_bytes = loaded_bytes(models.iter().flat_map(Model::chain).map(|m| m.file_bytes).sum());
        let default_memory_limit = default_memory_limit(loaded_bytes);
        let precision = precision_names(&models, &settings);
        Ok(Self {
            spec,
            models,
            pack,
            settings,
            precision,
            window,
            numerics,
            checks,
            loaded_bytes,
            default_memory_limit,
            notes,
        })
    }

    /// The specification of the model. For an ensemble: that of the first model, with only the postprocessing steps that
    /// all models have in common, which are applied to the mask. For a pack: its [outline](PackSpec::outline).
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The recipe, if the model file is a pack.
    pub fn pack(&self) -> Option<&PackSpec> {
        if cfg!(feature = "packs") { self.pack.as_ref() } else { None }
    }

    /// The specification of each model, in the order in which they were given; for a pack, of each network.
    pub fn specs(&self) -> impl Iterator<Item = &ModelSpec> {
        self.models.iter().map(|m| &m.spec)
    }

    /// The number of models that are averaged.
    pub fn models(&self) -> usize {
        if self.pack().is_some() { 1 } else { self.models.len() }
    }

    /// The engine in use; never [`Engine::Auto`].
    pub fn engine(&self) -> Engine {
        self.settings.engine
    }

    /// The device in use; never [`Device::Auto`].
    pub fn device(&self) -> Device {
        self.settings.device
    }

    /// Information for the user about the automatic choice of engine and device.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The memory of the process after the models were loaded and before the first scan, in bytes; an estimate if the
    /// system does not report it.
    pub fn loaded_memory_bytes(&self) -> u64 {
        self.loaded_bytes
    }

    /// The minimum memory of the whole process, in bytes, with which [`Segmenter::segment_owned`] can segment a scan of
    /// this geometry.
    ///
    /// # Errors
    /// When the network's grid would be larger than any that can be processed.
    pub fn min_memory_bytes(&self, geometry: &Geometry, outputs: Outputs) -> Result<u64, Error> {
        let mut bytes = 0;
        let settings = self.owned_scan_settings(geometry, outputs, None);
        self.for_each_stage(geometry, &settings, &mut |models, settings| {
            bytes = min_memory_bytes(models, geometry, settings)?.max(bytes);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Checks a scan before it is read: whether its header announces voxels that can be read, and segmented by
    /// [`Segmenter::segment_owned`], within the memory limit. `read_bytes` is the memory that reading needs; `max_memory` is as in
    /// [`SegmentOptions::with_max_memory`].
    ///
    /// # Errors
    /// [`PipelineError::MemoryLimit`](sulcus_pipeline::PipelineError::MemoryLimit) with the memory that is needed, or
    /// [`PipelineError::GridTooLarge`](sulcus_pipeline::PipelineError::GridTooLarge).
    pub fn check_memory(
        &self,
        geometry: &Geometry,
        read_bytes: u64,
        outputs: Outputs,
        max_memory: Option<u64>,
    ) -> Result<(), Error> {
        let settings = self.owned_scan_settings(geometry, outputs, self.memory_limit(max_memory));
        self.for_each_stage(geometry, &settings, &mut |models, settings| {
            Ok(check_memory(models, Some(geometry), read_bytes, settings)?)
        })
    }

    fn for_each_stage(
        &self,
        geometry: &Geometry,
        settings: &InferenceSettings,
        check: &mut StageCheck<'_>,
    ) -> Result<(), Error> {
        match self.pack() {
            Some(pack) => pack::for_each_network(self, pack, geometry, settings, check),
            None => for_each_stage(&self.all_models(), geometry, settings, check),
        }
    }

    fn all_models(&self) -> Vec<&Model> {
        self.models.iter().collect()
    }

    /// A network of the pack.
    fn network(&self, name: &str) -> Result<&Model, Error> {
        let index = self.pack().iter().flat_map(|pack| &pack.networks).position(|network| network.name == name);
        index.and_then(|index| self.models.get(index)).ok_or_else(|| ErrorKind::NoModel.into())
    }

    /// Whether the caller limits the memory.
    fn is_limited(&self, of_call: Option<u64>) -> bool {
        of_call.or(self.settings.memory_limit).is_some()
    }

    /// The settings for a scan whose memory is reused.
    fn owned_scan_settings(&self, geometry: &Geometry, outputs: Outputs, limit: Option<u64>) -> InferenceSettings {
        let mut settings = self.inference_settings(outputs, limit);
        settings.scan = sulcus_pipeline::ScanOwnership::Owned;
        settings.reserved_bytes = crop_reserve(&self.spec, outputs, geometry);
        settings
    }

    fn memory_limit(&self, of_call: Option<u64>) -> Option<u64> {
        of_call.or(self.settings.memory_limit).or(self.default_memory_limit)
    }

    /// How a scan of this geometry would be predicted: groups of models, chunks, sessions, tiles and memory. A model that crops
    /// scans ([`CropRule::Nonzero`](sulcus_model::CropRule::Nonzero)) is planned for the whole scan here, and for the cropped box when it is segmented. The plan does not
    /// contain [previous networks](ModelSpec::previous), which are planned on their own. Of a pack, the plan is that of the first part on the
    /// whole scan.
    ///
    /// # Errors
    /// When the memory limit is too small for the scan, or the network's grid would be larger than any that can be processed.
    pub fn plan(&self, geometry: &Geometry, outputs: Outputs) -> Result<InferencePlan, Error> {
        let settings = self.inference_settings(outputs, self.memory_limit(None));
        match self.pack() {
            Some(pack) => {
                let (part, seen) = pack::first_part(self, pack, geometry)?;
                Ok(Stage::plan(vec![part], &seen, &settings)?.plan)
            }
            None => Ok(Stage::plan(self.all_models(), geometry, &settings)?.plan),
        }
    }

    /// Segments a scan.
    ///
    /// # Errors
    /// When the scan does not fit the model, is not plausible ([`PipelineError::Implausible`](sulcus_pipeline::PipelineError::Implausible))
    /// or contains voxels that are not finite, it cannot be segmented within the memory limit, the engine fails, or the observer asks to
    /// stop.
    pub fn segment(&self, image: &Image, options: SegmentOptions<'_>) -> Result<Segmentation, Error> {
        self.segment_input(ScanInput::Borrowed(image), options)
    }

    /// As [`Segmenter::segment`], for a scan that is not needed afterwards: its memory is reused.
    ///
    /// # Errors
    /// As [`Segmenter::segment`].
    pub fn segment_owned(&self, image: Image, options: SegmentOptions<'_>) -> Result<Segmentation, Error> {
        self.segment_input(ScanInput::Owned(image), options)
    }

    fn segment_input(&self, scan: ScanInput<'_>, options: SegmentOptions<'_>) -> Result<Segmentation, Error> {
        match self.pack() {
            Some(pack) => pack::run(self, pack, scan, options),
            None => self.run(self.request(), scan, options),
        }
    }

    /// Segments a scan in any supported file format and writes the mask in the format of its file name: on the same grid, with the
    /// label names.
    ///
    /// # Errors
    /// As [`Segmenter::segment`], and when a file cannot be read or written, or the mask would overwrite the scan.
    #[cfg(not(target_family = "wasm"))]
    pub fn segment_file(
        &self,
        image: impl AsRef<std::path::Path>,
        mask: impl AsRef<std::path::Path>,
    ) -> Result<Segmentation, Error> {
        self.segment_file_with(image, mask, SegmentOptions::default())
    }

    /// As [`Segmenter::segment_file`], with options. The mask is written at the end; when the observer stops the segmentation there is
    /// no mask.
    ///
    /// # Errors
    /// As [`Segmenter::segment_file`].
    #[cfg(not(target_family = "wasm"))]
    pub fn segment_file_with(
        &self,
        image: impl AsRef<std::path::Path>,
        mask: impl AsRef<std::path::Path>,
        options: SegmentOptions<'_>,
    ) -> Result<Segmentation, Error> {
        let (image, mask) = (image.as_ref(), mask.as_ref());
        if sulcus_io::would_replace(image, mask) {
            return Err(ErrorKind::WouldOverwrite { path: mask.to_path_buf() }.into());
        }
        let header = sulcus_io::read_metadata(image)?;
        self.check_memory(header.geometry(), header.memory_bytes(), options.outputs, options.max_memory)?;
        let scan = sulcus_io::read_scan(image)?;
        let segmentation = self.segment_owned(scan.image, options)?;
        sulcus_io::write_labels(mask, &segmentation.labels, &scan.metadata, &segmentation.table)?;
        Ok(segmentation)
    }

    /// Segments the golden case of each model, a small scan inside the file, and compares the mask with the recorded one: a check of
    /// file, engine and machine.
    ///
    /// # Errors
    /// [`ErrorKind::NoGoldenCase`] when a model has none; [`ErrorKind::Pipeline`] when the masks differ.
    pub fn replay_golden(&self) -> Result<(), Error> {
        for (i, model) in self.models.iter().enumerate() {
            let spec = &model.spec;
            let golden = spec.golden_case.as_ref().ok_or(ErrorKind::NoGoldenCase { model: i + 1 })?;
            let image = golden.image(spec.orientation.nominal())?;
            // The recorded mask was computed with the window of the model, so the settings of this segmenter are ignored.
            let window = WindowOptions::default();
            let one = std::slice::from_ref(model);
            // Its memory limit is ignored too, because it may be too small for the golden case. The limit of the machine stays: an
            // untrusted model file may require more memory than there is.
            let max_memory = Some(self.default_memory_limit.unwrap_or(u64::MAX));
            let options = SegmentOptions { max_memory, ..SegmentOptions::default() };
            // It is a part of a training scan, so it is not compared with whole ones.
            let request =
                Request { models: one, spec, window: &window, numerics: Numerics::Float32, checks: None };
            let found = self.run(request, ScanInput::Borrowed(&image), options)?;
            check_golden(golden, &found.labels, self.rounds_values(spec))?;
        }
        Ok(())
    }

    /// Whether values between the layers of a model are rounded to fewer bits than single precision has.
    fn rounds_values(&self, spec: &ModelSpec) -> bool {
        let EngineSettings { engine, device, precision, .. } = self.settings;
        let stored = spec.precision();
        let computed = compute_precision(precision, engine, device, stored).unwrap_or(stored);
        computed == Precision::Int8 || (computed != stored && computed != Precision::Fp32)
    }

    fn request(&self) -> Request<'_> {
        let Self { models, spec, window, numerics, checks, .. } = self;
        Request { models, spec, window, numerics: *numerics, checks: Some(*checks) }
    }

    /// Segments a scan with models that are averaged.
    fn run(
        &self,
        request: Request<'_>,
        scan: ScanInput<'_>,
        options: SegmentOptions<'_>,
    ) -> Result<Segmentation, Error> {
        let Request { models, spec, window, numerics, checks } = request;
        let SegmentOptions { outputs, observer, max_memory } = options;
        let mut ignore_progress = |_: Progress| ControlFlow::Continue(());
        let observer = observer.unwrap_or(&mut ignore_progress);

        let mut settings = self.inference_settings(outputs, self.memory_limit(max_memory));
        settings.window = *window;
        settings.numerics = numerics;
        let mut checked = Vec::new();
        let mut check = |image: &Image| -> Result<(), Error> {
            let specs: Vec<&ModelSpec> = models.iter().flat_map(Model::chain).map(|model| &model.spec).collect();
            if let Some(checks) = checks {
                checked = check_scan(&specs, image, checks)?;
            }
            Ok(())
        };
        let models: Vec<&Model> = models.iter().collect();
        let work = Work { models: &models, spec, settings, is_limited: self.is_limited(max_memory) };
        let (prediction, effort) = self.predict(work, scan, &mut check, &mut TileCounter::new(observer))?;
        let mut segmentation = self.segmentation(spec, prediction, &effort, checked);
        segmentation.numerics = numerics;
        Ok(segmentation)
    }

    fn inference_settings(&self, outputs: Outputs, limit: Option<u64>) -> InferenceSettings {
        let mut settings = InferenceSettings::default();
        settings.window = self.window;
        settings.numerics = self.numerics;
        settings.outputs = outputs;
        settings.engine_threads = self.settings.engine_threads;
        settings.engine_memory =
            if self.settings.device.is_gpu() { EngineMemory::Device } else { EngineMemory::Process };
        settings.memory_limit = limit;
        settings.loaded_bytes = self.loaded_bytes;
        settings
    }
}
