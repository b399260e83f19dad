//! The output of `--json` for one case.

use serde::Serialize;
use sulcus_runtime::{LabelVolume, serialize_labels};

/// A successful case.
#[derive(Serialize)]
pub(super) struct Line {
    pub(super) input: String,
    pub(super) output: String,
    /// All averaged models, in the order in which they were given.
    pub(super) models: Vec<String>,
    pub(super) engine: String,
    pub(super) device: String,
    pub(super) precision: String,
    pub(super) seconds: Seconds,
    pub(super) tiles: usize,
    /// Peak memory of the process so far; absent where the system does not report it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peak_memory_bytes: Option<u64>,
    /// What the DICOM reader decided, such as which of several series it took; absent for other formats.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
    #[serde(serialize_with = "serialize_labels")]
    pub(super) labels: Vec<LabelVolume>,
}

#[derive(Serialize)]
pub(super) struct Seconds {
    pub(super) read: f64,
    pub(super) preprocess: f64,
    pub(super) infer: f64,
    /// The part of `infer` that the engine took.
    pub(super) engine: f64,
    pub(super) postprocess: f64,
    pub(super) write: f64,
    pub(super) total: f64,
}

/// A failed case.
#[derive(Serialize)]
pub(super) struct FailureLine<'a> {
    pub(super) input: String,
    pub(super) error: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_has_the_documented_fields_in_order() {
        let line = Line {
            input: "a.nii.gz".into(),
            output: "b.nii.gz".into(),
            models: vec!["m.onnx".into()],
            engine: "ort".into(),
            device: "cpu".into(),
            precision: "fp32".into(),
            seconds: Seconds {
                read: 0.5,
                preprocess: 0.25,
                infer: 1.0,
                engine: 0.75,
                postprocess: 0.5,
                write: 0.25,
                total: 2.5,
            },
            tiles: 3,
            peak_memory_bytes: Some(4096),
            notes: vec![],
            labels: vec![
                LabelVolume { name: "Posterior".into(), value: 1, values: vec![1], voxels: 10, ml: 0.5 },
                LabelVolume { name: "Anterior".into(), value: 2, values: vec![2], voxels: 0, ml: 0.0 },
                LabelVolume { name: "Both".into(), value: 1, values: vec![1, 2], voxels: 10, ml: 0.5 },
            ],
        };
        assert_eq!(
            serde_json::to_string(&line).unwrap(),
            r#"{"input":"a.nii.gz","output":"b.nii.gz","models":["m.onnx"],"engine":"ort","device":"cpu","precision":"fp32","seconds":{"read":0.5,"preprocess":0.25,"infer":1.0,"engine":0.75,"postprocess":0.5,"write":0.25,"total":2.5},"tiles":3,"peak_memory_bytes":4096,"labels":{"Posterior":{"value":1,"voxels":10,"ml":0.5},"Anterior":{"value":2,"voxels":0,"ml":0.0},"Both":{"values":[1,2],"voxels":10,"ml":0.5}}}"#
        );
    }
}
