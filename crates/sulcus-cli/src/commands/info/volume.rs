//! `sulcus info` of a volume.

use std::path::Path;

use sulcus_io::VolumeInfo;
use sulcus_volume::OrientationSource;

use super::json_text;
use crate::error::CliError;
use crate::output::{self, join, significant};

pub(super) fn info(path: &Path, json: bool) -> Result<(), CliError> {
    let info = sulcus_io::read_info(path).map_err(|error| CliError::caused_by(&error))?;
    if json {
        return output::json(&info);
    }
    output::fields(&rows(path, &info))
}

/// The properties of a volume.
pub(super) fn rows(path: &Path, info: &VolumeInfo) -> Vec<(&'static str, String)> {
    let number = |value: Option<f64>| value.map_or_else(|| "none".to_owned(), significant);
    let matrix: Vec<String> = info
        .ras_from_voxel
        .iter()
        .map(|row| row.iter().map(|v| format!("{v:>10.4}")).collect::<Vec<_>>().join(" "))
        .collect();
    let mut orientation = info.orientation.to_string();
    match info.orientation_source {
        Some(OrientationSource::Picture) => "none: a picture".clone_into(&mut orientation),
        Some(_) => orientation.push_str(" (a guess: the file does not define the orientation)"),
        None => {}
    }
    let spacing = info.spacing_mm.map_or_else(
        || "not stated: the unit is the pixel".to_owned(),
        |mm| format!("{} mm", mm.map(significant).join(" × ")),
    );
    if let Some(degrees) = info.slice_obliquity_degrees {
        orientation.push_str(&format!(
            " (oblique: the slice normal is {degrees:.0}° away from the nearest patient axis)"
        ));
    }
    let mut rows = vec![
        ("volume", path.display().to_string()),
        ("format", info.format.as_ref().map(json_text).unwrap_or_default()),
        ("shape", join(&info.shape, " × ")),
        ("type", info.dtype.to_owned()),
        ("spacing", spacing),
        ("orientation", orientation),
        ("RAS from voxel", matrix.join("\n")),
        ("minimum", number(info.min)),
        ("maximum", number(info.max)),
        ("mean", number(info.mean)),
    ];
    if info.non_finite > 0 {
        rows.push(("not finite", format!("{} voxels, excluded from the statistics", info.non_finite)));
    }
    rows
}
