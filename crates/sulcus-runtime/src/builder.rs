mod load;
mod model_file;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sulcus_model::{ModelSpec, Precision};
use sulcus_pipeline::{Numerics, PipelineError, ScanChecks, WindowOptions};

use crate::device::compute_precision;
use crate::ensemble::{check_member, common_postprocessing};
use crate::segmenter::EngineSettings;
use crate::{Device, Engine, EngineFactory, Error, ErrorKind, Note, Segmenter, SharedPredictor};
#[cfg(feature = "ort")]
use crate::{OrtLibrary, OrtSearch, engine};
use model_file::{ModelFile, ModelSource, assemble, read};

/// Builds a [`Segmenter`]; created by [`Segmenter::builder`].
#[derive(Clone, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct SegmenterBuilder {
    models: Vec<ModelSource>,
    engine: Engine,
    device: Device,
    threads: Option<usize>,
    precision: Option<Precision>,
    custom_engine: Option<Arc<dyn EngineFactory>>,
    sessions: Option<usize>,
    batch: Option<usize>,
    cache_folder: Option<PathBuf>,
    #[cfg(feature = "ort")]
    library: Option<OrtLibrary>,
    window: WindowOptions,
    numerics: Numerics,
    checks: ScanChecks,
    max_memory: Option<u64>,
    allow_unchecked: bool,
}

/// The chosen engine and device.
struct Choice {
    engine: Engine,
    device: Device,
    #[cfg(feature = "ort")]
    runtime: Option<engine::OnnxRuntime>,
    notes: Vec<Note>,
}

impl Choice {
    fn on_processor(engine: Engine) -> Self {
        Self {
            engine,
            device: Device::Cpu,
            #[cfg(feature = "ort")]
            runtime: None,
            notes: Vec::new(),
        }
    }
}

impl std::fmt::Debug for SegmenterBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmenterBuilder")
            .field("models", &self.models.len())
            .field("engine", &self.engine)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

impl Segmenter {
    /// A builder, to which models and options are given.
    pub fn builder() -> SegmenterBuilder {
        SegmenterBuilder::default()
    }
}

impl SegmenterBuilder {
    /// Adds a model file. Several models are averaged; see [Ensembles](crate#ensembles). A [pack](crate#packs) is given alone.
    pub fn model(mut self, path: impl AsRef<Path>) -> Self {
        self.models.push(ModelSource::File(path.as_ref().to_path_buf()));
        self
    }

    /// Adds model files, such as those of the folds of a cross-validation.
    pub fn models(self, paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        paths.into_iter().fold(self, Self::model)
    }

    /// Adds a model from memory, such as one from `include_bytes!`.
    pub fn model_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.models.push(ModelSource::Bytes(bytes.into()));
        self
    }

    /// The engine. Defaults to [`Engine::Auto`].
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// The device. Defaults to [`Device::Auto`].
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Threads for one operation of the network. Defaults to all that the process may use; zero counts as one.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads.max(1));
        self
    }

    /// The precision in which the device computes. Defaults to the precision of the model file, which is always accepted.
    /// [`Engine::Native`] and [`Device::OpenVino`] also compute in bf16 and [`Device::TensorRt`] in fp16: faster, and masks may differ at
    /// single voxels.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = Some(precision);
        self
    }

    /// Computes in the half precision of the device: bf16 on [`Device::OpenVino`], fp16 on [`Device::TensorRt`]. Set the device first; other
    /// devices have none.
    pub fn half_precision(self) -> Self {
        let precision = self.device.half_precision().unwrap_or(Precision::Fp16);
        self.precision(precision)
    }

    /// Sessions that share the [`threads`](Self::threads) for scans of many tiles, on the processor with ONNX Runtime.
    /// Defaults to two for 3-D networks, which are a fifth faster with them, and one for 2-D networks. Each session needs
    /// a workspace; if a memory limit leaves no room for a second one, one session is used.
    pub fn sessions(mut self, sessions: usize) -> Self {
        self.sessions = Some(sessions.max(1));
        self
    }

    /// Tiles per call on a GPU. Defaults to 8 for 2-D and 2 for 3-D networks. On the processor it is always one.
    pub fn batch(mut self, tiles: usize) -> Self {
        self.batch = Some(tiles.max(1));
        self
    }

    /// A folder that keeps ONNX Runtime's optimised graphs (processor) and TensorRT's compiled engines, which take minutes to build,
    /// from one process to the next. By default nothing is kept. The folder is created if it does not exist. Its content is trusted:
    /// use one that nobody else can write to.
    pub fn cache_folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.cache_folder = Some(folder.as_ref().to_path_buf());
        self
    }

    /// Where ONNX Runtime comes from. Defaults to [`OrtSearch::local`].
    #[cfg(feature = "ort")]
    pub fn ort_library(mut self, library: OrtLibrary) -> Self {
        self.library = Some(library);
        self
    }

    /// Also predicts mirrored tiles and averages: slower, often slightly better. Defaults to `false`.
    pub fn mirror(mut self, mirror: bool) -> Self {
        self.window.mirror = mirror;
        self
    }

    /// The fraction of a tile by which the sliding window advances, in (0, 1]. Defaults to the value in the model.
    pub fn step(mut self, step: Option<f64>) -> Self {
        self.window.step = step;
        self
    }

    /// How predictions are computed. Defaults to [`Numerics::Float32`]; [`Numerics::Nnunet`] repeats the computation of nnU-Net's own
    /// predictor, for models that were imported from nnU-Net. nnU-Net mirrors by default: use it with [`mirror`](Self::mirror) to get the
    /// same masks.
    pub fn numerics(mut self, numerics: Numerics) -> Self {
        self.numerics = numerics;
        self
    }

    /// Limits the memory of the process, in bytes. By default the limit is the memory of the machine or its container, if the
    /// system reports it (Linux); `u64::MAX` removes the limit. The limit is kept by processing the scan in chunks, which
    /// takes longer and gives the same mask to the last bit; a scan that needs more memory even then is refused with the
    /// required amount. Other scans and results that the caller keeps in memory are not counted.
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.max_memory = Some(bytes);
        self
    }

    /// Whether to accept models that did not pass their check when they were exported. Defaults to `false`: their masks may be wrong.
    pub fn allow_unchecked(mut self, allow: bool) -> Self {
        self.allow_unchecked = allow;
        self
    }

    /// Whether to refuse scans for which there is any [`ScanWarning`](crate::ScanWarning). Defaults to `false`: the warnings are in the
    /// [`Segmentation`](crate::Segmentation).
    pub fn strict(mut self, strict: bool) -> Self {
        self.checks.strict = strict;
        self
    }

    /// Whether to accept scans with a channel that has the same value in every voxel. Defaults to `false`: such a channel shows nothing.
    pub fn allow_constant(mut self, allow: bool) -> Self {
        self.checks.allow_constant = allow;
        self
    }

    /// An engine of the caller. It replaces [`engine`](Self::engine); its device is reported as [`Device::Cpu`].
    pub fn custom_engine(mut self, factory: Arc<dyn EngineFactory>) -> Self {
        self.custom_engine = Some(factory);
        self
    }

    /// Reads the models and loads them into the engine.
    ///
    /// # Errors
    /// When no model was given, a model cannot be used, the models cannot be averaged, or the named engine or device cannot be used.
    pub fn build(self) -> Result<Segmenter, Error> {
        if self.models.is_empty() {
            return Err(ErrorKind::NoModel.into());
        }
        let total = self.models.len();
        let mut files: Vec<ModelFile> = Vec::new();
        let mut pack = None;
        for (i, source) in self.models.iter().enumerate() {
            let file = read(source, i, total)?;
            files.extend(file.networks);
            pack = file.pack;
        }
        let unchecked = self.check_unchecked(&files)?;
        if self.numerics == Numerics::Nnunet
            && let Some(other) = files.iter().find(|file| file.spec.nnunet.is_none())
        {
            return Err(PipelineError::NotFromNnunet { model: other.name.clone() }.into());
        }
        // The networks of a pack are not averaged.
        let mut last = files.iter().filter(|file| !file.is_previous && pack.is_none());
        if let Some(first) = last.next() {
            for other in last {
                check_member((&first.name, &first.spec), (&other.name, &other.spec))?;
            }
        }
        // Before a library is loaded. On the processor the precision depends on the engine.
        if !matches!(self.device, Device::Auto | Device::Cpu) {
            self.check_precision(self.engine, self.device, &files)?;
        }
        let (mut choice, predictors) = self.choose_and_load(&files)?;
        choice.notes.extend(unchecked);
        let specs: Vec<&ModelSpec> = files.iter().filter(|file| !file.is_previous).map(|f| &f.spec).collect();
        let common = common_postprocessing(&specs);
        if pack.is_none() && specs.iter().any(|spec| spec.postprocessing.len() > common.len()) {
            choice.notes.push(Note::PostprocessingDiffers { common_steps: common.len() });
        }
        // ONNX Runtime optimises graphs on the processor, TensorRT compiles engines.
        let stores = choice.engine == Engine::Ort && matches!(choice.device, Device::Cpu | Device::TensorRt(_));
        if self.cache_folder.is_some() && !stores {
            choice.notes.push(Note::CacheUnused { engine: choice.engine, device: choice.device });
        }
        let models = assemble(files, predictors, |spec, bytes| self.session_pool(spec, bytes, &choice));
        let settings = EngineSettings {
            engine: choice.engine,
            device: choice.device,
            precision: self.precision,
            memory_limit: self.max_memory,
            // On a GPU, the batch of one thread is copied while that of another one is computed.
            engine_threads: if choice.device.is_gpu() { 2 } else { 1 },
        };
        Segmenter::new((models, pack), settings, (self.window, self.numerics), self.checks, choice.notes)
    }

    /// Chooses engine and device, and loads the models. `auto` prefers the native engine, and another one for graphs that it does not know.
    fn choose_and_load(&self, files: &[ModelFile]) -> Result<(Choice, Vec<Box<dyn SharedPredictor>>), Error> {
        let choice = self.choose(NativeRank::new(files))?;
        let is_automatic = self.engine == Engine::Auto && choice.engine == Engine::Native;
        let loaded = self.check_and_load(files, choice);
        match loaded.map_err(Error::into_kind) {
            Ok(loaded) => Ok(loaded),
            Err(ErrorKind::Graph { engine: Engine::Native, message }) if is_automatic => {
                let (mut choice, predictors) = self.check_and_load(files, self.choose(NativeRank::Last)?)?;
                choice.notes.insert(0, Note::NativeRefused { reason: message, engine: choice.engine });
                Ok((choice, predictors))
            }
            Err(other) => Err(other.into()),
        }
    }

    fn check_and_load(
        &self,
        files: &[ModelFile],
        mut choice: Choice,
    ) -> Result<(Choice, Vec<Box<dyn SharedPredictor>>), Error> {
        let in_bytes = files.iter().find(|file| file.spec.precision() == Precision::Int8);
        if let (Engine::Tract, Some(file)) = (choice.engine, in_bytes) {
            let (precision, model) = (Precision::Int8, file.name.clone());
            return Err(ErrorKind::NeedsOnnxRuntime { precision, model }.into());
        }
        self.check_precision(choice.engine, choice.device, files)?;
        let predictors = match self.load(files, &choice) {
            // `auto` chose the GPU because its provider started; the models may still not fit it.
            Err(error) if self.device == Device::Auto => match error.into_kind() {
                ErrorKind::Device { device, reason } => {
                    choice.notes.push(Note::DeviceFailed { device, reason });
                    choice.device = Device::Cpu;
                    self.load(files, &choice)?
                }
                other => return Err(other.into()),
            },
            loaded => loaded?,
        };
        Ok((choice, predictors))
    }

    /// Refuses a precision that the device cannot compute the models in.
    fn check_precision(&self, engine: Engine, device: Device, files: &[ModelFile]) -> Result<(), Error> {
        for file in files {
            let precision = self.precision.unwrap_or_default();
            let model = file.name.clone();
            compute_precision(self.precision, engine, device, file.spec.precision())
                .map_err(|reason| ErrorKind::Precision { precision, device, reason, model })?;
        }
        Ok(())
    }

    /// Refuses models that did not pass their check, or lists them if they are allowed.
    fn check_unchecked(&self, files: &[ModelFile]) -> Result<Vec<Note>, Error> {
        let marked = files.iter().filter_map(|file| Some((file.name.clone(), file.spec.unchecked.clone()?)));
        marked
            .map(|(model, reason)| {
                if self.allow_unchecked {
                    Ok(Note::Unchecked { reason, model })
                } else {
                    Err(ErrorKind::Unchecked { reason, model }.into())
                }
            })
            .collect()
    }

    /// `rank` says what `auto` means on the processor.
    fn choose(&self, rank: NativeRank) -> Result<Choice, Error> {
        if let Some(factory) = &self.custom_engine {
            return Ok(Choice::on_processor(Engine::Custom(factory.name())));
        }
        if matches!(self.engine, Engine::Native | Engine::Tract) {
            return self.choose_embedded(self.engine);
        }
        #[cfg(feature = "ort")]
        {
            let prefers_native = rank == NativeRank::First && self.engine == Engine::Auto;
            let default = OrtLibrary::Search(OrtSearch::local());
            let library = self.library.as_ref().unwrap_or(&default);
            let may_be_gpu = self.device == Device::Auto && may_have_cuda();
            // A library that the caller names is never skipped: it is used or refused.
            if prefers_native && !may_be_gpu && !self.device_needs_ort() && !library.is_named() {
                return self.choose_embedded(Engine::Native);
            }
            let (runtime, places) = engine::find_onnx_runtime(library)?;
            if let Some(runtime) = runtime {
                let choice = self.choose_ort_device(runtime)?;
                return match choice.device {
                    Device::Cpu if prefers_native => self.choose_embedded(Engine::Native),
                    _ => Ok(choice),
                };
            }
            if self.engine == Engine::Ort || self.device_needs_ort() {
                return Err(ErrorKind::LibraryNotFound { looked: places.len() }.into());
            }
            let engine = rank.embedded();
            let mut choice = self.choose_embedded(engine).map_err(|error| match error.into_kind() {
                ErrorKind::EngineNotBuilt { .. } => ErrorKind::LibraryNotFound { looked: places.len() }.into(),
                other => Error::from(other),
            })?;
            if engine == Engine::Tract {
                choice.notes.push(Note::OnnxRuntimeNotFound { searched: places.len() });
            }
            Ok(choice)
        }
        #[cfg(not(feature = "ort"))]
        match self.engine {
            Engine::Ort => Err(ErrorKind::EngineNotBuilt { engine: Engine::Ort }.into()),
            _ => self.choose_embedded(rank.embedded()),
        }
    }

    #[cfg(feature = "ort")]
    fn device_needs_ort(&self) -> bool {
        matches!(self.device, Device::Cuda(_) | Device::TensorRt(_) | Device::OpenVino)
    }

    #[cfg(feature = "ort")]
    fn choose_ort_device(&self, runtime: engine::OnnxRuntime) -> Result<Choice, Error> {
        let mut notes = Vec::new();
        let device = if self.device == Device::Auto {
            match engine::check_device(&runtime, Device::Cuda(0)) {
                Ok(()) => Device::Cuda(0),
                Err(reason) => {
                    tracing::info!("CUDA is not used: {reason}");
                    notes.push(Note::NoCuda);
                    Device::Cpu
                }
            }
        } else {
            engine::check_device(&runtime, self.device)?;
            self.device
        };
        Ok(Choice { engine: Engine::Ort, device, runtime: Some(runtime), notes })
    }

    /// A built-in engine, which runs only on the processor.
    fn choose_embedded(&self, engine: Engine) -> Result<Choice, Error> {
        let built = [(Engine::Native, cfg!(feature = "native")), (Engine::Tract, cfg!(feature = "tract"))];
        if built.contains(&(engine, false)) {
            return Err(ErrorKind::EngineNotBuilt { engine }.into());
        }
        let reason = match self.device {
            Device::Auto | Device::Cpu => return Ok(Choice::on_processor(engine)),
            Device::Vulkan(_) => {
                "inference runs on cpu, openvino, cuda and tensorrt; vulkan is a training device".to_owned()
            }
            Device::Cuda(_) | Device::TensorRt(_) => {
                format!("the built-in engine ({engine}) runs only on the processor; GPUs need the engine `ort`")
            }
            Device::OpenVino => "OpenVINO is a provider of ONNX Runtime, so it needs the engine `ort`".to_owned(),
        };
        Err(ErrorKind::Device { device: self.device, reason }.into())
    }
}

/// The place of the native engine among those that `auto` may take on the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NativeRank {
    /// Before ONNX Runtime.
    First,
    /// After ONNX Runtime, before tract.
    BeforeTract,
    /// It is taken only if the build has no other engine.
    Last,
}

impl NativeRank {
    /// With AVX-512 the native engine takes half the time of ONNX Runtime for 3-D networks, the same for 2-D networks, and as much or slightly
    /// more in 8-bit integers, with AMX half as much. With AVX2 its kernels reach the same share of the processor's peak. Elsewhere nothing
    /// was measured.
    #[cfg(feature = "native")]
    fn new(files: &[ModelFile]) -> Self {
        let in_bytes = files.iter().any(|file| file.spec.precision() == Precision::Int8);
        match (sulcus_engine::has_vector_kernels(), in_bytes) {
            (true, false) => Self::First,
            (true, true) if sulcus_engine::has_tile_kernels() => Self::First,
            // tract does not run models in 8-bit integers.
            (_, true) => Self::BeforeTract,
            (false, false) => Self::Last,
        }
    }

    #[cfg(not(feature = "native"))]
    fn new(_: &[ModelFile]) -> Self {
        Self::Last
    }

    /// The built-in engine that `auto` takes.
    fn embedded(self) -> Engine {
        match self {
            Self::Last if cfg!(feature = "tract") => Engine::Tract,
            _ if cfg!(feature = "native") => Engine::Native,
            _ => Engine::Tract,
        }
    }
}

/// Whether a CUDA device may be present, which only ONNX Runtime can tell for certain. Its driver has device files on Linux.
#[cfg(feature = "ort")]
fn may_have_cuda() -> bool {
    let devices = ["/dev/nvidiactl", "/dev/nvhost-ctrl", "/dev/dxg"];
    cfg!(feature = "cuda") && (!cfg!(target_os = "linux") || devices.iter().any(|file| Path::new(file).exists()))
}
