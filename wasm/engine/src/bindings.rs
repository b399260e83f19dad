//! The interface for JavaScript.

use std::ops::ControlFlow;

use js_sys::Function;
use sulcus_runtime::pipeline::Progress;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::model::{LoadedModel, PredictedMask};

/// A model that is ready to predict.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Model {
    model: LoadedModel,
}

/// A predicted mask.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Mask {
    mask: PredictedMask,
}

#[wasm_bindgen]
impl Model {
    /// Loads a model from the bytes of its file.
    ///
    /// # Errors
    /// As [`LoadedModel::new`].
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: Vec<u8>) -> Result<Self, String> {
        Ok(Self { model: LoadedModel::new(bytes)? })
    }

    /// [`LoadedModel::description`].
    pub fn description(&self) -> String {
        self.model.description()
    }

    /// Segments a NIfTI file. `progress` is called after every tile with the number of tiles that are done and of all.
    ///
    /// # Errors
    /// As [`LoadedModel::predict`].
    pub fn predict(&self, scan: &[u8], allow_unchecked: bool, progress: &Function) -> Result<Mask, String> {
        let mut observer = |Progress { done, total, .. }: Progress| {
            let [done, total] = [done, total].map(|count| JsValue::from_f64(count as f64));
            // To cancel, the page ends the worker, which receives no messages while it computes.
            let _ = progress.call2(&JsValue::NULL, &done, &total);
            ControlFlow::Continue(())
        };
        Ok(Mask { mask: self.model.predict(scan, allow_unchecked, &mut observer)? })
    }
}

#[wasm_bindgen]
impl Mask {
    /// Takes the NIfTI file with the mask and the names and colours of its labels.
    pub fn take_file(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.mask.file)
    }

    /// The report as JSON.
    pub fn report(&self) -> String {
        self.mask.report.clone()
    }
}
