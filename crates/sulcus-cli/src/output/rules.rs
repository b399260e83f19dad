//! Preprocessing rules of models and plans as text.

use sulcus_dataset::{PatientSource, Patients};
use sulcus_model::{CropRule, GridAxes, NnunetSpacing, Normalisation, SpacingRule};

use super::text::significant;

/// The number of patients, and how they are known.
pub(crate) fn patients(patients: &Patients) -> String {
    let how = match &patients.source {
        PatientSource::CaseNames => "guessed from the case names".to_owned(),
        PatientSource::File(file) => format!("as stated in {}", file.display()),
        _ => "one per case".to_owned(),
    };
    format!("{}, {how}", patients.cases.len())
}

/// The grid of the prepared scans.
pub(crate) fn orientation(axes: GridAxes, crop: CropRule) -> String {
    match crop {
        CropRule::Whole => axes.to_string(),
        CropRule::Nonzero => format!("{axes}, cropped to the box of non-zero voxels"),
    }
}

/// The voxel size of the prepared scans.
pub(crate) fn spacing(rule: &SpacingRule) -> String {
    match rule {
        SpacingRule::Native => "the scan's own".to_owned(),
        SpacingRule::Resample { mm, tolerance, .. } => {
            let target = format!("{} mm", mm.mm().map(significant).join(" × "));
            if rule.resamples_every_scan() {
                target
            } else {
                format!("{target} (scans within a factor of {} of it keep their own)", significant(*tolerance))
            }
        }
        SpacingRule::Nnunet(NnunetSpacing { mm, .. }) => {
            let along = |mm: Option<f64>| mm.map_or_else(|| "own".to_owned(), significant);
            format!("{} mm, resampled as nnU-Net does", mm.map(along).join(" × "))
        }
    }
}

/// An intensity normalisation.
pub(crate) fn normalisation(rule: &Normalisation) -> String {
    match rule {
        Normalisation::None => "none".to_owned(),
        Normalisation::RgbTo01 => "divided by 255".to_owned(),
        Normalisation::MinMax => "min-max".to_owned(),
        Normalisation::ZScore => "z-score".to_owned(),
        Normalisation::ZScoreNonzero => "z-score of the non-zero part".to_owned(),
        Normalisation::Percentile { low, high } => format!("percentiles {low} to {high}"),
        Normalisation::Ct { clip: [low, high], .. } => {
            format!("clipped to {low} to {high}, then data-set z-score")
        }
    }
}
