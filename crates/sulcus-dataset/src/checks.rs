//! Checks of one case's files and voxels. [`comparison`](crate::comparison) checks the cases against each other.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};
use sulcus_io::VolumeMetadata;
use sulcus_volume::{
    GridUnit, Image, Label, LabelMap, LabelTable, Orientation, OrientationSource, Reorientation, VolumeError,
};

use crate::case::Case;
use crate::dataset::{Dataset, Layout};
use crate::finding::FileFinding;
use crate::text::{count, difference, first_few, short};

/// The findings about one case, in the order of the checks.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// These must be corrected before training.
    pub(crate) problems: Vec<FileFinding>,
    /// These may be intended.
    pub(crate) warnings: Vec<FileFinding>,
}

impl Findings {
    fn problem(&mut self, file: &Path, what: String) {
        self.problems.push(FileFinding { file: file.to_path_buf(), what });
    }

    fn warning(&mut self, file: &Path, what: String) {
        self.warnings.push(FileFinding { file: file.to_path_buf(), what });
    }
}

/// The volumes of a case that could be read.
pub(crate) struct CaseVolumes {
    pub(crate) image: Option<Image>,
    pub(crate) image_source: Option<VolumeMetadata>,
    pub(crate) mask: Option<LabelMap>,
    mask_source: Option<VolumeMetadata>,
}

/// Reads the files of a case; a file that cannot be read becomes a finding.
pub(crate) fn read(case: &Case, found: &mut Findings) -> CaseVolumes {
    let image = case.read_channels().map_err(|problems| found.problems.extend(problems)).ok();
    let labels = case.read_mask_file().map_err(|problem| found.problems.push(problem)).ok();
    let ((image, image_source), (mask, mask_source)) = (image.unzip(), labels.unzip());
    CaseVolumes { image, image_source, mask, mask_source }
}

/// The properties of a case that are compared between cases.
pub(crate) struct CaseTraits {
    /// Hash of the image's voxels, which stays the same when a file is compressed again.
    pub(crate) image_sha256: [u8; 32],
    pub(crate) source: OrientationSource,
    pub(crate) unit: GridUnit,
    /// Along right, anterior, superior.
    pub(crate) spacing_mm: [f64; 3],
    pub(crate) labels: BTreeMap<Label, LabelExtent>,
}

/// One label in one mask.
pub(crate) struct LabelExtent {
    pub(crate) voxels: usize,
    /// The centre of mass in RAS+ millimetres.
    pub(crate) centre: [f64; 3],
}

/// Checks the voxels of one case. Returns its traits if both image and mask could be read.
pub(crate) fn check_case(
    dataset: &Dataset,
    case: &Case,
    volumes: &CaseVolumes,
    found: &mut Findings,
) -> Option<CaseTraits> {
    if let Some(image) = &volumes.image {
        check_image(dataset, case, image, found);
    }
    if let Some(mask) = &volumes.mask {
        check_mask(dataset, case, mask, found);
    }
    if let Some(table) = volumes.mask_source.as_ref().and_then(VolumeMetadata::label_table) {
        check_names(dataset.labels(), table, &case.label, found);
    }
    let (Some(image), Some(mask)) = (&volumes.image, &volumes.mask) else { return None };
    if let Err(error) = image.geometry().check_same_grid(mask.geometry()) {
        let image = case.images.first().map(|file| short(file)).unwrap_or_default();
        found.problem(
            &case.label,
            format!(
                "the mask's grid differs from that of its image, {image}: {}; resample the mask onto the image, or copy \
                 the image's header into it if only the header is wrong",
                difference(&error)
            ),
        );
    }
    let geometry = image.geometry();
    let to_ras = Reorientation::between(geometry.orientation(), Orientation::RAS);
    Some(CaseTraits {
        image_sha256: voxel_hash(image),
        source: geometry.source(),
        unit: geometry.unit(),
        spacing_mm: to_ras.permute(geometry.spacing().mm()),
        labels: label_extents(mask, dataset.ignore()),
    })
}

fn check_image(dataset: &Dataset, case: &Case, image: &Image, found: &mut Findings) {
    let Some(first) = case.images.first() else { return };
    // If each file has one channel, a finding can name the channel's file.
    let file_of = |channel: usize| {
        case.images.get(channel).filter(|_| case.images.len() == image.channels()).unwrap_or(first)
    };
    let expected = dataset.channels().len();
    if image.channels() != expected {
        let why = match dataset.layout() {
            Layout::Folders => "as most cases have",
            Layout::Decathlon | Layout::NnUnet => "as dataset.json says",
        };
        let axis = if case.images.len() < image.channels() { " along the fourth axis" } else { "" };
        found.problem(
            first,
            format!(
                "expected {} {why}, found {}{axis}; give each case the same channels, or remove this one",
                count(expected, "channel"),
                image.channels()
            ),
        );
    }
    let ranges: Vec<[f32; 2]> = (0..image.channels()).map(|c| range(image.channel(c))).collect();
    for channel in 0..image.channels() {
        let values = image.channel(channel);
        let broken = values.iter().filter(|v| !v.is_finite()).count();
        if broken > 0 {
            found.problem(
                file_of(channel),
                format!(
                    "{broken} of {} voxels are NaN or infinite, which a network cannot use; replace them, for example by the \
                     intensity of the background",
                    values.len()
                ),
            );
        }
    }
    let constant = |[least, greatest]: [f32; 2]| least >= greatest;
    if ranges.iter().all(|r| constant(*r)) {
        // If there is no finite value, that has been reported above.
        if let Some([value, _]) = ranges.first().filter(|r| r[0].is_finite()) {
            found.problem(
                first,
                format!(
                    "every voxel is {value}, so the image has no content; get the scan again, or remove the case"
                ),
            );
        }
        return;
    }
    for (channel, [value, _]) in ranges.iter().enumerate().filter(|(_, r)| constant(**r) && r[0].is_finite()) {
        let name = dataset.channels().get(channel).map_or_else(|| channel.to_string(), Clone::clone);
        found.warning(
            file_of(channel),
            format!(
                "channel `{name}` is {value} in every voxel, so a network learns nothing from it in this case"
            ),
        );
    }
}

/// Minimum and maximum of the finite values; `[∞, -∞]` if there is none.
fn range(values: &[f32]) -> [f32; 2] {
    let finite = values.iter().copied().filter(|v| v.is_finite());
    finite.fold([f32::INFINITY, f32::NEG_INFINITY], |[min, max], v| [min.min(v), max.max(v)])
}

fn check_mask(dataset: &Dataset, case: &Case, mask: &LabelMap, found: &mut Findings) {
    /// How many values a finding lists.
    const MAX_NAMED: usize = 8;
    let counts = mask.counts();
    let unknown: Vec<String> = counts
        .iter()
        .filter(|(value, _)| {
            **value != 0 && Some(**value) != dataset.ignore() && dataset.labels().get(**value).is_none()
        })
        .map(|(value, voxels)| format!("{value} ({})", count(*voxels, "voxel")))
        .collect();
    if !unknown.is_empty() {
        let known: Vec<String> =
            dataset.labels().entries().iter().map(|e| format!("{} {}", e.value, e.name)).collect();
        let known = known.join(", ");
        found.problem(
            &case.label,
            format!(
                "{} not among the data set's ({known}): {}; correct the mask, or add them to \
                 `labels` in dataset.json",
                if unknown.len() == 1 { "a label value is" } else { "label values are" },
                first_few(&unknown, MAX_NAMED),
            ),
        );
    }
    for entry in dataset.labels().entries() {
        if counts.get(&entry.value) == Some(&1) {
            let what =
                format!("label {} ({}) has only one voxel; remove it if it is a mistake", entry.value, entry.name);
            found.warning(&case.label, what);
        }
    }
}

/// Masks that Sulcus writes contain the names of their labels. If a name has another value than in the data set, values
/// or names were exchanged; an unknown name for a value of the data set may be another word for the same structure.
fn check_names(ours: &LabelTable, theirs: &LabelTable, file: &Path, found: &mut Findings) {
    for entry in theirs.entries() {
        match ours.named(&entry.name) {
            Some(own) if own.value != entry.value => found.problem(
                file,
                format!(
                    "the mask itself names its label {} `{}`, which is label {} in this data set; correct the values or the \
                     names of one of them",
                    entry.value, entry.name, own.value
                ),
            ),
            Some(_) => {}
            None => {
                if let Err(VolumeError::LabelName { value, name, expected }) =
                    ours.numbers_by_name(theirs, [entry.value])
                {
                    found.warning(
                        file,
                        format!(
                            "the mask itself names its label {value} `{name}`, but it is `{expected}` in this data set; \
                             correct the names if they do not mean the same"
                        ),
                    );
                }
            }
        }
    }
}

fn voxel_hash(image: &Image) -> [u8; 32] {
    let mut sha = Sha256::new();
    for block in image.data().chunks(1024) {
        let bytes: Vec<u8> = block.iter().flat_map(|v| v.to_le_bytes()).collect();
        sha.update(bytes);
    }
    sha.finalize().into()
}

fn label_extents(mask: &LabelMap, ignore: Option<Label>) -> BTreeMap<Label, LabelExtent> {
    let counts = mask.counts();
    let values: Vec<Label> = counts.into_keys().filter(|v| *v != 0 && Some(*v) != ignore).collect();
    let mut place = vec![None; usize::from(Label::MAX) + 1];
    for (index, value) in values.iter().enumerate() {
        place[usize::from(*value)] = Some(index);
    }
    let mut sums = vec![([0_usize; 3], 0_usize); values.len()];
    let [nx, ny, _] = mask.geometry().shape();
    for (row, labels) in mask.data().chunks_exact(nx).enumerate() {
        for (x, label) in labels.iter().enumerate() {
            let Some((sum, voxels)) = place[usize::from(*label)].and_then(|index: usize| sums.get_mut(index))
            else {
                continue;
            };
            sum.iter_mut().zip([x, row % ny, row / ny]).for_each(|(sum, v)| *sum += v);
            *voxels += 1;
        }
    }
    let extent = |(sum, voxels): ([usize; 3], usize)| LabelExtent {
        voxels,
        centre: mask.geometry().ras_from_voxel().apply(sum.map(|v| v as f64 / voxels.max(1) as f64)).0,
    };
    values.into_iter().zip(sums.into_iter().map(extent)).collect()
}
