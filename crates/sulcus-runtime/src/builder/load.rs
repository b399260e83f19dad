//! Loads models into an engine.

#[cfg(feature = "ort")]
use sulcus_model::Dimensions;
use sulcus_model::ModelSpec;
#[cfg(feature = "native")]
use sulcus_model::Precision;

use super::{Choice, ModelFile, SegmenterBuilder};
#[cfg(feature = "ort")]
use crate::Device;
#[cfg(feature = "native")]
use crate::NativePredictor;
#[cfg(feature = "ort")]
use crate::engine;
use crate::engine::SessionPool;
use crate::{Engine, Error, ErrorKind, SharedPredictor};

impl SegmenterBuilder {
    /// Loads the models into the chosen engine.
    pub(super) fn load(
        &self,
        files: &[ModelFile],
        choice: &Choice,
    ) -> Result<Vec<Box<dyn SharedPredictor>>, Error> {
        let load = |file: &ModelFile| match choice.engine {
            Engine::Ort => self.load_ort(file, choice),
            Engine::Custom(_) => self.load_custom(file),
            Engine::Native => self.load_native(&file.bytes),
            Engine::Tract | Engine::Auto => self.load_tract(&file.bytes, &file.spec),
        };
        files.iter().map(load).collect()
    }

    fn load_custom(&self, file: &ModelFile) -> Result<Box<dyn SharedPredictor>, Error> {
        let factory = self.custom_engine.as_ref().ok_or(ErrorKind::NoModel)?;
        let (engine, model) = (factory.name(), file.name.clone());
        let loaded = factory.load(&file.bytes, &file.spec);
        loaded.map_err(|source| ErrorKind::CustomEngine { engine, model, source }.into())
    }

    #[cfg(feature = "ort")]
    fn load_ort(&self, file: &ModelFile, choice: &Choice) -> Result<Box<dyn SharedPredictor>, Error> {
        let runtime = choice.runtime.as_ref().ok_or(ErrorKind::LibraryNotFound { looked: 0 })?;
        if let Some(folder) = &self.cache_folder {
            let made = std::fs::create_dir_all(folder);
            made.map_err(|source| ErrorKind::CacheFolder { path: folder.clone(), source })?;
        }
        let options = self.ort_options(&file.spec, choice.device);
        Ok(Box::new(engine::OrtPredictor::with_options(runtime, &file.bytes, &options)?))
    }

    #[cfg(feature = "ort")]
    fn ort_options(&self, spec: &ModelSpec, device: Device) -> engine::OrtOptions {
        let default = match spec.network.dimensions {
            Dimensions::Two => 8,
            Dimensions::Three => 2,
        };
        engine::OrtOptions {
            device,
            threads: self.threads,
            precision: self.precision,
            batch: Some(self.batch.unwrap_or(default)),
            cache_folder: self.cache_folder.clone(),
        }
    }

    /// Several sessions of a model, for scans of many tiles.
    #[cfg(feature = "ort")]
    pub(super) fn session_pool(&self, spec: &ModelSpec, bytes: Vec<u8>, choice: &Choice) -> Option<SessionPool> {
        let default = match spec.network.dimensions {
            Dimensions::Two => 1,
            Dimensions::Three => 2,
        };
        let threads = self.threads.unwrap_or_else(engine::all_threads);
        let count = self.sessions.unwrap_or(default).min(threads);
        let runtime = choice.runtime.clone().filter(|_| count > 1 && choice.device == Device::Cpu)?;
        let options = self.ort_options(spec, choice.device);
        let session = move |number: usize| {
            let mut options = options.clone();
            options.threads = Some(threads / count + usize::from(number < threads % count));
            let predictor = engine::OrtPredictor::with_options(&runtime, &bytes, &options)?;
            Ok(Box::new(predictor) as Box<dyn SharedPredictor>)
        };
        Some(SessionPool::new(count, Box::new(move || (0..count).map(&session).collect())))
    }

    #[cfg(not(feature = "ort"))]
    pub(super) fn session_pool(&self, _: &ModelSpec, _: Vec<u8>, _: &Choice) -> Option<SessionPool> {
        None
    }

    #[cfg(not(feature = "ort"))]
    fn load_ort(&self, _: &ModelFile, choice: &Choice) -> Result<Box<dyn SharedPredictor>, Error> {
        Err(ErrorKind::EngineNotBuilt { engine: choice.engine }.into())
    }

    /// The precision has been checked: bf16 is requested for models in fp32 and fp16 only.
    #[cfg(feature = "native")]
    fn load_native(&self, bytes: &[u8]) -> Result<Box<dyn SharedPredictor>, Error> {
        let half = self.precision == Some(Precision::Bf16);
        let new = if half { NativePredictor::bf16 } else { NativePredictor::new };
        Ok(Box::new(new(bytes, self.threads)?))
    }

    #[cfg(not(feature = "native"))]
    fn load_native(&self, _: &[u8]) -> Result<Box<dyn SharedPredictor>, Error> {
        Err(ErrorKind::EngineNotBuilt { engine: Engine::Native }.into())
    }

    #[cfg(feature = "tract")]
    fn load_tract(&self, bytes: &[u8], spec: &ModelSpec) -> Result<Box<dyn SharedPredictor>, Error> {
        let shape = [&[1, spec.input_channels()], spec.patch.as_slice()].concat();
        Ok(Box::new(crate::engine::TractPredictor::new(bytes, &shape, self.threads)?))
    }

    #[cfg(not(feature = "tract"))]
    fn load_tract(&self, _: &[u8], _: &ModelSpec) -> Result<Box<dyn SharedPredictor>, Error> {
        Err(ErrorKind::EngineNotBuilt { engine: Engine::Tract }.into())
    }
}
