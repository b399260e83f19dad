//! Checks of the cases against each other.

use std::collections::BTreeMap;
use std::path::Path;

use sulcus_volume::{GridUnit, OrientationSource};

use crate::case::Case;
use crate::checks::CaseTraits;
use crate::dataset::{Dataset, Layout};
use crate::exchanged_labels::exchanged_labels;
use crate::finding::Finding;
use crate::layout::labels_folder;
use crate::text::count;

/// A case and its traits, if its files could be read.
pub(crate) type Checked<'a> = (&'a Case, Option<CaseTraits>);

/// Adds the findings about the data set as a whole, and about cases that differ from the others.
pub(crate) fn compare_cases(
    dataset: &Dataset,
    checked: &[Checked],
    problems: &mut Vec<Finding>,
    warnings: &mut Vec<Finding>,
) {
    warnings.extend(dataset.notes.iter().map(|note| Finding::of_dataset(&note.file, note.what.clone())));
    problems.extend(equal_names(&checked.iter().map(|(case, _)| *case).collect::<Vec<_>>()));
    let readable: Vec<(&Case, &CaseTraits)> =
        checked.iter().filter_map(|(case, traits)| Some((*case, traits.as_ref()?))).collect();
    let empty: Vec<&Case> = readable.iter().filter(|(_, t)| t.labels.is_empty()).map(|(case, _)| *case).collect();
    let all_empty = !readable.is_empty() && empty.len() == readable.len();
    let of_empty = if all_empty { &mut *problems } else { &mut *warnings };
    of_empty.extend(empty.into_iter().map(|case| Finding::no_foreground(&case.name, &case.label)));
    if !all_empty {
        warnings.extend(absent_labels(dataset, &readable));
    }
    if dataset.layout() == Layout::Folders {
        warnings.extend(rare_values(dataset, &readable));
    }
    warnings.extend(equal_images(&readable));
    warnings.extend(mixed_units(dataset, &readable));
    warnings.extend(odd_spacings(&readable));
    warnings.extend(guessed_orientations(dataset, &readable));
    warnings.extend(exchanged_labels(dataset, &readable));
}

fn image_file(case: &Case) -> &Path {
    case.images.first().unwrap_or(&case.label)
}

/// The cases that have the name of another. Expects them sorted by name.
pub(crate) fn equal_names(cases: &[&Case]) -> Vec<Finding> {
    let named = |pair: &[&Case]| match pair {
        [a, b] if a.name == b.name => {
            // Name the files that differ.
            let (first, second) = if image_file(a) == image_file(b) {
                (a.label.as_path(), b.label.as_path())
            } else {
                (image_file(a), image_file(b))
            };
            let what = if first == second {
                "dataset.json lists this case twice; remove one of the two".to_owned()
            } else {
                format!("two cases have this name, the other is {}; rename or remove one", first.display())
            };
            Some(Finding::of_case(&b.name, second, what))
        }
        _ => None,
    };
    cases.windows(2).filter_map(named).collect()
}

fn absent_labels(dataset: &Dataset, readable: &[(&Case, &CaseTraits)]) -> Vec<Finding> {
    let source = match dataset.layout() {
        Layout::Decathlon | Layout::NnUnet => dataset.root.join("dataset.json"),
        Layout::Folders => labels_folder(&dataset.root),
    };
    let absent = dataset
        .labels()
        .entries()
        .iter()
        .filter(|entry| !readable.iter().any(|(_, traits)| traits.labels.contains_key(&entry.value)));
    let problem = |entry: &sulcus_volume::LabelEntry| {
        let what = format!(
            "label {} ({}) is in none of the {} masks that could be read, so it cannot be learnt; correct the labels' \
             values, or the masks",
            entry.value,
            entry.name,
            readable.len()
        );
        Finding::of_dataset(&source, what)
    };
    if readable.is_empty() { Vec::new() } else { absent.map(problem).collect() }
}

/// Without a description the masks define the labels, so that a mistake in one mask would become a structure.
fn rare_values(dataset: &Dataset, readable: &[(&Case, &CaseTraits)]) -> Vec<Finding> {
    const MIN_CASES: usize = 4;
    if readable.len() < MIN_CASES {
        return Vec::new();
    }
    let rare = |entry: &sulcus_volume::LabelEntry| {
        let mut with = readable.iter().filter(|(_, traits)| traits.labels.contains_key(&entry.value));
        let (case, traits) = with.next().filter(|_| with.next().is_none())?;
        let voxels = traits.labels.get(&entry.value).map_or(0, |s| s.voxels);
        let what = format!(
            "label {} is in this mask alone ({}) and would be trained as a structure; correct the mask \
             if this is a mistake",
            entry.value,
            count(voxels, "voxel")
        );
        Some(Finding::of_case(&case.name, &case.label, what))
    };
    dataset.labels().entries().iter().filter_map(rare).collect()
}

fn equal_images(readable: &[(&Case, &CaseTraits)]) -> Vec<Finding> {
    let mut first_with: BTreeMap<[u8; 32], &Case> = BTreeMap::new();
    let mut found = Vec::new();
    for (case, traits) in readable {
        match first_with.get(&traits.image_sha256) {
            Some(first) if first.name != case.name => {
                let what = format!(
                    "its voxels are identical to those of {}; remove one of the two, otherwise scores are too high if one is \
                     trained on and the other held out",
                    first.name
                );
                found.push(Finding::of_case(&case.name, image_file(case), what));
            }
            Some(_) => {}
            None => {
                first_with.insert(traits.image_sha256, case);
            }
        }
    }
    found
}

/// Pictures that state the size of their pixels beside others that do not.
fn mixed_units(dataset: &Dataset, readable: &[(&Case, &CaseTraits)]) -> Option<Finding> {
    let in_pixels = readable.iter().filter(|(_, traits)| traits.unit == GridUnit::Pixel).count();
    let what = format!(
        "{in_pixels} of {} images do not state the size of their pixels, the others do; all are used pixel by pixel, without \
         regard to their sizes",
        readable.len()
    );
    (in_pixels > 0 && in_pixels < readable.len()).then(|| Finding::of_dataset(&dataset.root, what))
}

/// A voxel size that differs by a large factor is often given in another unit.
fn odd_spacings(readable: &[(&Case, &CaseTraits)]) -> Vec<Finding> {
    const FACTOR: f64 = 10.0;
    const MIN_CASES: usize = 3;
    if readable.len() < MIN_CASES {
        return Vec::new();
    }
    if readable.iter().any(|(_, traits)| traits.unit == GridUnit::Pixel) {
        return Vec::new();
    }
    let median: [f64; 3] = std::array::from_fn(|axis| {
        let mut all: Vec<f64> = readable.iter().map(|(_, traits)| traits.spacing_mm[axis]).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(1.0)
    });
    let text = |mm: [f64; 3]| mm.map(|v| format!("{v:.3}")).join(" × ");
    let odd = |(case, traits): &(&Case, &CaseTraits)| {
        let far = traits.spacing_mm.iter().zip(median).any(|(mm, median)| {
            let ratio = mm / median;
            !(1.0 / FACTOR..=FACTOR).contains(&ratio)
        });
        let what = format!(
            "its voxels are {} mm (right, anterior, superior), those of most cases about {} mm; correct the header if \
             its unit is wrong",
            text(traits.spacing_mm),
            text(median)
        );
        far.then(|| Finding::of_case(&case.name, image_file(case), what))
    };
    readable.iter().filter_map(odd).collect()
}

fn guessed_orientations(dataset: &Dataset, readable: &[(&Case, &CaseTraits)]) -> Vec<Finding> {
    const WHAT: &str =
        "has neither sform nor qform, so left and right are a guess; set one from the scan's source";
    let guessed: Vec<&Case> =
        readable.iter().filter(|(_, t)| t.source == OrientationSource::None).map(|(case, _)| *case).collect();
    if guessed.len() > 1 && guessed.len() == readable.len() {
        let what = format!("each of the {} images {WHAT}", guessed.len());
        return vec![Finding::of_dataset(&dataset.root, what)];
    }
    guessed
        .into_iter()
        .map(|case| Finding::of_case(&case.name, image_file(case), format!("the image {WHAT}")))
        .collect()
}
