//! Figures of the worst and the median case.

use std::path::{Path, PathBuf};

use sulcus_metrics::{CaseScores, Summary};
use sulcus_volume::{Image, LabelMap, LabelTable};

use super::Picture;
use crate::figure::{self, Figure};
use crate::input::cases;
use crate::scores;

/// Figures of the worst and the median case, with their scans where those are found beside the truth. A case whose masks can
/// no longer be read is left out.
pub(crate) fn worst_and_median(summary: &Summary, labels: &LabelTable) -> Vec<Picture> {
    let scored: Vec<&CaseScores> =
        scores::worst_first(summary).into_iter().filter(|case| case.mean_dice().is_some()).collect();
    let median = scored.len().saturating_sub(1) / 2;
    let picked = [("Worst case", Some(0)), ("Median case", (median > 0).then_some(median))];
    let picked = picked.into_iter().filter_map(|(what, index)| Some((what, *scored.get(index?)?)));
    picked.filter_map(|(what, case)| picture(what, case, labels)).collect()
}

fn picture(what: &str, case: &CaseScores, labels: &LabelTable) -> Option<Picture> {
    // As they were scored: a mask with names may number its labels in another order.
    let mask = |file: &str| {
        let (mask, source) = sulcus_io::read_labels(Path::new(file)).ok()?;
        mask.renumbered(source.label_table(), labels).ok()
    };
    let (truth, prediction) = (mask(&case.reference_file)?, mask(&case.prediction_file)?);
    truth.geometry().check_same_grid(prediction.geometry()).ok()?;
    let image = image_of(Path::new(&case.reference_file)).and_then(|file| image_on(&file, &truth));
    let name = scores::name_of(case);
    let figure =
        Figure { title: &name, image: image.as_ref(), truth: Some(&truth), prediction: Some(&prediction), labels };
    let png = figure::draw(&figure)?.png().ok()?;
    let without = if image.is_some() { "" } else { " (no scan on its grid found beside the truth)" };
    Some(Picture {
        caption: format!("{what}: {name}, mean Dice {}{without}", scores::score(case.mean_dice())),
        png,
    })
}

fn image_on(file: &Path, truth: &LabelMap) -> Option<Image> {
    let image = sulcus_io::read_scan(file).ok()?.image;
    image.geometry().check_same_grid(truth.geometry()).is_ok().then_some(image)
}

/// The scan of a truth in the usual layouts: for `labels*/CASE.nii.gz` (or `masks/CASE.png`) either `images*/CASE.nii.gz` or
/// `images*/CASE_0000.nii.gz`. A picture may have another ending than its mask.
fn image_of(truth: &Path) -> Option<PathBuf> {
    let folder = truth.parent()?;
    let folder_name = folder.file_name()?.to_str()?;
    let kind = folder_name.strip_prefix("labels").or_else(|| folder_name.strip_prefix("masks"))?;
    let images = folder.with_file_name(format!("images{kind}"));
    let file = truth.file_name()?.to_str()?;
    let name = cases::case_name(truth)?;
    let ending = file.strip_prefix(&name)?;
    let endings = [ending, ".png", ".jpg", ".jpeg", ".tif", ".tiff"];
    let files = endings.iter().flat_map(|ending| [format!("{name}{ending}"), format!("{name}_0000{ending}")]);
    files.map(|file| images.join(file)).find(|p| p.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scan_is_found_in_every_layout() {
        let home = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = home.path().join(path);
            sulcus_testing::write_file(&path, b"");
            path
        };
        let found = |truth: &str| image_of(&home.path().join(truth));
        assert_eq!(found("msd/labelsTr/a.nii.gz"), None);
        let msd = make("msd/imagesTr/a.nii.gz");
        let nnunet = make("raw/imagesTs/a_0000.nii.gz");
        let plain = make("plain/images/a.nii");
        assert_eq!(found("msd/labelsTr/a.nii.gz"), Some(msd));
        assert_eq!(found("raw/labelsTs/a.nii.gz"), Some(nnunet));
        assert_eq!(found("plain/labels/a.nii"), Some(plain));
        assert_eq!(found("masks/a.nii.gz"), None);
    }
}
