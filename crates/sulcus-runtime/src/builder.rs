use std::path::{Path, PathBuf};

use sulcus_onnx::read_spec;
#[cfg(feature = "ort")]
use sulcus_pipeline::Dimensions;
use sulcus_pipeline::{ModelSpec, Precision, WindowOptions};

use crate::ensemble::{check_member, common_postprocessing};
use crate::session_pool::SessionPool;
use crate::segmenter::{Limits, Model, Runs, SharedPredictor};
use crate::{Arithmetic, Device, Engine, RuntimeError, Segmenter};
#[cfg(feature = "ort")]
use crate::{OrtLibrary, OrtSearch, engine};

/// Puts a [`Segmenter`] together; made by [`Segmenter::builder`].
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct SegmenterBuilder {
    models: Vec<Source>,
    engine: Engine,
    device: Device,
    threads: Option<usize>,
    arithmetic: Arithmetic,
    sessions: Option<usize>,
    batch: Option<usize>,
    cache_folder: Option<PathBuf>,
    #[cfg(feature = "ort")]
    library: Option<OrtLibrary>,
    window: WindowOptions,
    max_memory: Option<u64>,
}

#[derive(Debug, Clone)]
enum Source {
    File(PathBuf),
    Bytes(Vec<u8>),
}

/// A model that was read and is not loaded yet.
struct File {
    /// For people: its path, or which one it is.
    name: String,
    bytes: Vec<u8>,
    spec: ModelSpec,
}

/// What was decided about engine and device.
struct Choice {
    engine: Engine,
    device: Device,
    #[cfg(feature = "ort")]
    runtime: Option<engine::OnnxRuntime>,
    notes: Vec<String>,
}

impl SegmenterBuilder {
    /// Adds a model file. Several models are averaged; the [crate's page](crate#ensembles) says how.
    pub fn model(mut self, path: impl AsRef<Path>) -> Self {
        self.models.push(Source::File(path.as_ref().to_path_buf()));
        self
    }

    /// Adds model files, such as those of the folds of a cross-validation.
    pub fn models(self, paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        paths.into_iter().fold(self, Self::model)
    }

    /// Adds a model that is in memory, such as one from `include_bytes!`.
    pub fn model_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.models.push(Source::Bytes(bytes.into()));
        self
    }

    /// What runs the network; [`Engine::Auto`] unless said.
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// Where it runs; [`Device::Auto`] unless said.
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Threads for one operation of the network; all that the process may use unless said. Zero counts as one.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads.max(1));
        self
    }

    /// The numbers that the device computes in; those of the model unless said.
    pub fn arithmetic(mut self, arithmetic: Arithmetic) -> Self {
        self.arithmetic = arithmetic;
        self
    }

    /// Sessions among which [`threads`](Self::threads) are shared out for scans of many tiles, on the processor with ONNX
    /// Runtime. Unless said: two for 3-D networks, which are a fifth faster with them, where there are two threads or more;
    /// one for 2-D networks. Each needs memory to work in; under a memory limit that leaves none, one is used.
    pub fn sessions(mut self, sessions: usize) -> Self {
        self.sessions = Some(sessions.max(1));
        self
    }

    /// Tiles that a GPU is given at a time; unless said, 8 slices or 2 blocks. The processor takes one by one.
    pub fn batch(mut self, tiles: usize) -> Self {
        self.batch = Some(tiles.max(1));
        self
    }

    /// Where ONNX Runtime's optimised graphs for the processor, and what TensorRT compiles for a model, which takes it
    /// minutes, are kept from one process to the next; nowhere unless said. The folder is made when there is none. What
    /// lies in it is trusted: keep it where others can't write.
    pub fn cache_folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.cache_folder = Some(folder.as_ref().to_path_buf());
        self
    }

    /// Where ONNX Runtime comes from; [`OrtSearch::local`] unless said.
    #[cfg(feature = "ort")]
    pub fn ort_library(mut self, library: OrtLibrary) -> Self {
        self.library = Some(library);
        self
    }

    /// Also predicts mirrored along every axis, and averages: slower, often a little better.
    pub fn mirror(mut self, mirror: bool) -> Self {
        self.window.mirror = mirror;
        self
    }

    /// Share of a tile by which the window advances, in (0, 1]; the model's own for `None`.
    pub fn step(mut self, step: Option<f64>) -> Self {
        self.window.step = step;
        self
    }

    /// What the process may hold, in bytes; as much as it takes unless said. It is kept by working on a part of a scan at a
    /// time, which takes longer and gives the same mask to the last bit; a scan that needs more is refused, with what it
    /// needs. Scans and results that the caller keeps beside the one that is being segmented are not counted.
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.max_memory = Some(bytes);
        self
    }

    /// Reads the models and gets the engine ready.
    ///
    /// # Errors
    /// When no model was given or one cannot be used, the models don't fit each other, or the engine or the device
    /// that was named cannot be had.
    pub fn build(self) -> Result<Segmenter, RuntimeError> {
        if self.models.is_empty() {
            return Err(RuntimeError::NoModel);
        }
        let total = self.models.len();
        let files: Vec<File> =
            self.models.iter().enumerate().map(|(i, source)| read(source, i, total)).collect::<Result<_, _>>()?;
        if let Some((first, others)) = files.split_first() {
            for other in others {
                check_member((&first.name, &first.spec), (&other.name, &other.spec))?;
            }
        }
        let mut choice = self.choose()?;
        let in_bytes = files.iter().find(|file| file.spec.precision() == Precision::Int8);
        if let (Engine::Tract, Some(file)) = (choice.engine, in_bytes) {
            return Err(RuntimeError::NeedsOnnxRuntime { precision: Precision::Int8, model: file.name.clone() });
        }
        for file in &files {
            let refused =
                |reason| RuntimeError::Arithmetic { device: choice.device, reason, model: file.name.clone() };
            self.arithmetic.name(choice.device, file.spec.precision()).map_err(refused)?;
        }
        let specs: Vec<&ModelSpec> = files.iter().map(|f| &f.spec).collect();
        let common = common_postprocessing(&specs);
        if specs.iter().any(|spec| spec.postprocessing.len() > common.len()) {
            choice.notes.push(match common.len() {
                0 => "the models ask for different postprocessing, so none is done".to_owned(),
                steps => format!(
                    "the models ask for different postprocessing: of its steps, the {steps} that all ask for are done"
                ),
            });
        }
        let predictors = match self.load(&files, &choice) {
            // `auto` took the GPU because its provider answered; the models themselves may still not fit it.
            Err(RuntimeError::Device { device, reason }) if self.device == Device::Auto => {
                choice.notes.push(format!("running on the processor: {device} cannot be used: {reason}"));
                choice.device = Device::Cpu;
                self.load(&files, &choice)?
            }
            loaded => loaded?,
        };
        let mut models = Vec::new();
        for (file, predictor) in files.into_iter().zip(predictors) {
            let bytes = file.bytes.len() as u64;
            let session_pool = self.session_pool(&file.spec, file.bytes, &choice);
            models.push(Model { spec: file.spec, predictor, session_pool, bytes });
        }
        let on_gpu = choice.device.is_gpu();
        // While one thread's batch is computed another one's is copied.
        let workers = if on_gpu { 2 } else { 1 };
        let limits = Limits { memory: self.max_memory, workers, works_in_process: !on_gpu };
        let runs = Runs { engine: choice.engine, device: choice.device, arithmetic: self.arithmetic };
        Segmenter::new(models, runs, self.window, limits, choice.notes)
    }

    /// The engine and the device, with what `auto` has to say about them.
    fn choose(&self) -> Result<Choice, RuntimeError> {
        #[cfg(feature = "ort")]
        if self.engine != Engine::Tract {
            let default = OrtLibrary::Search(OrtSearch::local());
            let (runtime, places) = engine::find_onnx_runtime(self.library.as_ref().unwrap_or(&default))?;
            if let Some(runtime) = runtime {
                return self.choose_ort_device(runtime);
            }
            if self.engine == Engine::Ort || !cfg!(feature = "tract") || self.device_needs_ort() {
                return Err(RuntimeError::LibraryNotFound { looked: places.len() });
            }
            let mut choice = self.choose_tract()?;
            choice.notes.push(format!(
                "ONNX Runtime was not found in {} place(s): running on the embedded engine (tract), which is slower; \
                 `sulcus runtime install` fetches ONNX Runtime",
                places.len()
            ));
            return Ok(choice);
        }
        if self.engine == Engine::Ort {
            return Err(RuntimeError::EngineNotBuilt { engine: Engine::Ort });
        }
        self.choose_tract()
    }

    #[cfg(feature = "ort")]
    fn device_needs_ort(&self) -> bool {
        matches!(self.device, Device::Cuda(_) | Device::TensorRt(_) | Device::OpenVino)
    }

    #[cfg(feature = "ort")]
    fn choose_ort_device(&self, runtime: engine::OnnxRuntime) -> Result<Choice, RuntimeError> {
        let mut notes = Vec::new();
        let device = if self.device == Device::Auto {
            match engine::check_device(&runtime, Device::Cuda(0)) {
                Ok(()) => Device::Cuda(0),
                Err(reason) => {
                    tracing::info!("CUDA is not used: {reason}");
                    notes.push(
                        "running on the processor: no CUDA device can be used (`sulcus doctor` says why)".into(),
                    );
                    Device::Cpu
                }
            }
        } else {
            engine::check_device(&runtime, self.device)?;
            self.device
        };
        Ok(Choice { engine: Engine::Ort, device, runtime: Some(runtime), notes })
    }

    fn choose_tract(&self) -> Result<Choice, RuntimeError> {
        if !cfg!(feature = "tract") {
            return Err(RuntimeError::EngineNotBuilt { engine: Engine::Tract });
        }
        let reason = match self.device {
            Device::Auto | Device::Cpu => {
                return Ok(Choice {
                    engine: Engine::Tract,
                    device: Device::Cpu,
                    #[cfg(feature = "ort")]
                    runtime: None,
                    notes: Vec::new(),
                });
            }
            Device::Vulkan(_) => "inference runs on cpu, openvino, cuda and tensorrt; vulkan is a training device",
            Device::Cuda(_) | Device::TensorRt(_) => {
                "the embedded engine (tract) runs on the processor alone; GPUs need the engine `ort`"
            }
            Device::OpenVino => "OpenVINO is a provider of ONNX Runtime, so it needs the engine `ort`",
        };
        Err(RuntimeError::Device { device: self.device, reason: reason.into() })
    }

    fn load(&self, files: &[File], choice: &Choice) -> Result<Vec<Box<dyn SharedPredictor>>, RuntimeError> {
        let load = |file: &File| match choice.engine {
            Engine::Ort => self.load_ort(file, choice),
            Engine::Tract | Engine::Auto => self.load_tract(&file.bytes, &file.spec),
        };
        files.iter().map(load).collect()
    }

    #[cfg(feature = "ort")]
    fn load_ort(&self, file: &File, choice: &Choice) -> Result<Box<dyn SharedPredictor>, RuntimeError> {
        let runtime = choice.runtime.as_ref().ok_or(RuntimeError::LibraryNotFound { looked: 0 })?;
        if let Some(folder) = &self.cache_folder {
            let made = std::fs::create_dir_all(folder);
            made.map_err(|source| RuntimeError::CacheFolder { path: folder.clone(), source })?;
        }
        let options = self.ort_options(&file.spec, choice.device);
        Ok(Box::new(engine::OrtPredictor::with_options(runtime, &file.bytes, &options)?))
    }

    #[cfg(feature = "ort")]
    fn ort_options(&self, spec: &ModelSpec, device: Device) -> engine::OrtOptions {
        let unless_said = match spec.network.dimensions {
            Dimensions::Two => 8,
            Dimensions::Three => 2,
        };
        engine::OrtOptions {
            device,
            threads: self.threads,
            arithmetic: self.arithmetic,
            batch: Some(self.batch.unwrap_or(unless_said)),
            cache_folder: self.cache_folder.clone(),
        }
    }

    /// The same model in several sessions, for scans of many tiles.
    #[cfg(feature = "ort")]
    fn session_pool(&self, spec: &ModelSpec, bytes: Vec<u8>, choice: &Choice) -> Option<SessionPool> {
        let unless_said = match spec.network.dimensions {
            Dimensions::Two => 1,
            Dimensions::Three => 2,
        };
        let threads = self.threads.unwrap_or_else(engine::all_threads);
        let count = self.sessions.unwrap_or(unless_said).min(threads);
        let runtime = choice.runtime.clone().filter(|_| count > 1 && choice.device == Device::Cpu)?;
        let options = self.ort_options(spec, choice.device);
        let session = move |number: usize| {
            let share = threads / count + usize::from(number < threads % count);
            let mut options = options.clone();
            options.threads = Some(share);
            let predictor = engine::OrtPredictor::with_options(&runtime, &bytes, &options)?;
            Ok(Box::new(predictor) as Box<dyn SharedPredictor>)
        };
        Some(SessionPool::new(count, Box::new(move || (0..count).map(&session).collect())))
    }

    #[cfg(not(feature = "ort"))]
    fn session_pool(&self, _: &ModelSpec, _: Vec<u8>, _: &Choice) -> Option<SessionPool> {
        None
    }

    #[cfg(not(feature = "ort"))]
    fn load_ort(&self, _: &File, choice: &Choice) -> Result<Box<dyn SharedPredictor>, RuntimeError> {
        Err(RuntimeError::EngineNotBuilt { engine: choice.engine })
    }

    #[cfg(feature = "tract")]
    fn load_tract(&self, bytes: &[u8], spec: &ModelSpec) -> Result<Box<dyn SharedPredictor>, RuntimeError> {
        let shape = [&[1, spec.channels.len()], spec.patch.as_slice()].concat();
        Ok(Box::new(crate::engine::TractPredictor::new(bytes, &shape, self.threads)?))
    }

    #[cfg(not(feature = "tract"))]
    fn load_tract(&self, _: &[u8], _: &ModelSpec) -> Result<Box<dyn SharedPredictor>, RuntimeError> {
        Err(RuntimeError::EngineNotBuilt { engine: Engine::Tract })
    }
}

fn read(source: &Source, index: usize, total: usize) -> Result<File, RuntimeError> {
    let (bytes, name) = match source {
        Source::File(path) => {
            let bytes = std::fs::read(path);
            let bytes = bytes.map_err(|source| RuntimeError::ReadModel { path: path.clone(), source })?;
            (bytes, path.display().to_string())
        }
        Source::Bytes(bytes) if total == 1 => (bytes.clone(), "the model".to_owned()),
        Source::Bytes(bytes) => (bytes.clone(), format!("model {} of {total}", index + 1)),
    };
    let spec = read_spec(&bytes).map_err(|e| RuntimeError::Model { model: name.clone(), source: Box::new(e) })?;
    Ok(File { name, bytes, spec })
}
