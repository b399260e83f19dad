//! The output of `--json` for one case.

use serde::Serialize;
use sulcus_runtime::{Report, ScanWarning};

/// A successful case.
#[derive(Serialize)]
pub(super) struct Line {
    pub(super) input: String,
    pub(super) output: String,
    /// All averaged models, in the order in which they were given.
    pub(super) models: Vec<String>,
    /// The choices of the DICOM reader, for example between several series; absent for other formats.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
    #[serde(flatten)]
    pub(super) report: Report,
}

/// A failed case.
#[derive(Serialize)]
pub(super) struct FailureLine<'a> {
    pub(super) input: String,
    pub(super) error: &'a str,
    /// Why the scan was refused as implausible.
    #[serde(skip_serializing_if = "<[ScanWarning]>::is_empty")]
    pub(super) warnings: &'a [ScanWarning],
}

#[cfg(test)]
mod tests {
    use sulcus_runtime::LabelVolume;

    use super::*;

    #[test]
    fn line_has_the_documented_fields_in_order() {
        let mut report = Report::default();
        report.engine = "ort".into();
        report.device = "cpu".into();
        report.precision = "fp32".into();
        report.seconds.read = 0.5;
        report.seconds.preprocess = 0.25;
        report.seconds.infer = 1.0;
        report.seconds.engine = 0.75;
        report.seconds.postprocess = 0.5;
        report.seconds.write = 0.25;
        report.seconds.total = 2.5;
        report.tiles = 3;
        report.peak_memory_bytes = Some(4096);
        report.warnings = vec![ScanWarning::ConstantChannel { channel: "MRI".into(), min: 7.0, max: 7.0 }];
        report.labels = vec![
            LabelVolume {
                name: "Posterior".into(),
                value: 1,
                values: vec![1],
                voxels: 10,
                ml: Some(0.5),
                mm2: None,
            },
            LabelVolume {
                name: "Anterior".into(),
                value: 2,
                values: vec![2],
                voxels: 0,
                ml: Some(0.0),
                mm2: None,
            },
            LabelVolume {
                name: "Both".into(),
                value: 1,
                values: vec![1, 2],
                voxels: 10,
                ml: Some(0.5),
                mm2: None,
            },
        ];
        let line = Line {
            input: "a.nii.gz".into(),
            output: "b.nii.gz".into(),
            models: vec!["m.onnx".into()],
            notes: vec![],
            report,
        };
        assert_eq!(
            serde_json::to_string(&line).unwrap(),
            r#"{"input":"a.nii.gz","output":"b.nii.gz","models":["m.onnx"],"engine":"ort","device":"cpu","precision":"fp32","seconds":{"read":0.5,"preprocess":0.25,"infer":1.0,"engine":0.75,"postprocess":0.5,"write":0.25,"total":2.5},"tiles":3,"peak_memory_bytes":4096,"warnings":[{"kind":"constant_channel","channel":"MRI","min":7.0,"max":7.0,"message":"channel `MRI` is 7 in every voxel, so it shows nothing"}],"labels":{"Posterior":{"value":1,"voxels":10,"ml":0.5},"Anterior":{"value":2,"voxels":0,"ml":0.0},"Both":{"values":[1,2],"voxels":10,"ml":0.5}}}"#
        );
    }
}
