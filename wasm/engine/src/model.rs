//! A model file and its predictions.

use std::ops::ControlFlow;

use serde_json::json;
use sulcus_runtime::io::{Compression, encode_labels, nifti_geometry, nifti_memory_bytes, read_scan_bytes};
use sulcus_runtime::pipeline::{Outputs, Progress};
use sulcus_runtime::{Engine, SegmentOptions, Segmenter, with_causes};

/// A module of 32 bits addresses at most 4 GiB. Scans that need more than this are processed in chunks, or refused.
const MAX_MEMORY_BYTES: u64 = 3 << 30;

/// A model that is ready to predict.
#[derive(Debug)]
pub struct LoadedModel {
    segmenter: Segmenter,
}

/// A predicted mask.
#[derive(Debug)]
pub struct PredictedMask {
    /// A NIfTI file on the grid of the scan, with the names and colours of the labels.
    pub file: Vec<u8>,
    /// The report of every front end as JSON: times, warnings and volumes.
    pub report: String,
}

impl LoadedModel {
    /// Loads a model from the bytes of its file.
    ///
    /// # Errors
    /// A sentence that says why the file cannot be used.
    pub fn new(bytes: Vec<u8>) -> Result<Self, String> {
        // Models that failed their check are loaded, so that the page can describe them. `predict` refuses them.
        let builder = Segmenter::builder().model_bytes(bytes).engine(Engine::Native).allow_unchecked(true);
        let segmenter = builder.max_memory(MAX_MEMORY_BYTES).build().map_err(|error| with_causes(&error))?;
        Ok(Self { segmenter })
    }

    /// What the page shows about the model, as JSON: `name`, `dimensions`, `networks`, `precision`, `channels`, `labels` with `value`, `name`
    /// and `color`, and `unchecked`, the reason for which its masks may be wrong, or `null`.
    pub fn description(&self) -> String {
        let spec = self.segmenter.spec();
        let labels = spec.labels.entries().iter();
        json!({
            "name": spec.name,
            "dimensions": spec.network.dimensions.count(),
            "networks": spec.networks,
            "precision": spec.precision().name(),
            "channels": spec.channels.iter().map(|channel| channel.name.as_str()).collect::<Vec<_>>(),
            "labels": labels.map(|label| json!({ "value": label.value, "name": label.name, "color": label.color.0 })).collect::<Vec<_>>(),
            "unchecked": spec.unchecked,
        })
        .to_string()
    }

    /// Segments a NIfTI file. The observer is called after every tile.
    ///
    /// # Errors
    /// A sentence that says why the scan cannot be segmented: among others for a blank scan, and for a model that failed its check unless
    /// `allow_unchecked` is set.
    pub fn predict(
        &self,
        scan: &[u8],
        allow_unchecked: bool,
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<PredictedMask, String> {
        if let (Some(reason), false) = (&self.segmenter.spec().unchecked, allow_unchecked) {
            return Err(format!(
                "the model did not pass its check when it was exported, so its masks may be wrong: {reason}"
            ));
        }
        let geometry = nifti_geometry(scan).map_err(|error| with_causes(&error))?;
        let read_bytes = nifti_memory_bytes(scan).map_err(|error| with_causes(&error))?;
        let fits = self.segmenter.check_memory(&geometry, read_bytes, Outputs::Labels, None);
        fits.map_err(|error| with_causes(&error))?;
        let scan = read_scan_bytes(scan).map_err(|error| with_causes(&error))?;
        let options = SegmentOptions::default().with_observer(observer);
        let found = self.segmenter.segment_owned(scan.image, options).map_err(|error| with_causes(&error))?;
        let file = encode_labels(&found.labels, &scan.metadata, &found.table, Compression::None)
            .map_err(|error| with_causes(&error))?;
        let report = serde_json::to_string(&found.report()).map_err(|error| error.to_string())?;
        Ok(PredictedMask { file, report })
    }
}
