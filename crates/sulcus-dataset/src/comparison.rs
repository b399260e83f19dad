//! Checks of the cases against each other.

use std::collections::BTreeMap;
use std::path::Path;

use sulcus_volume::{Label, OrientationSource};

use crate::case::Case;
use crate::checks::CaseTraits;
use crate::dataset::{Dataset, Layout};
use crate::finding::Finding;
use crate::text::{count, short};

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
    problems.extend(equal_names(checked));
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
    warnings.extend(odd_spacings(&readable));
    warnings.extend(guessed_orientations(dataset, &readable));
    warnings.extend(swapped_structures(dataset, &readable));
}

fn image_file(case: &Case) -> &Path {
    case.images.first().unwrap_or(&case.label)
}

/// Expects the cases sorted by name.
fn equal_names(checked: &[Checked]) -> Vec<Finding> {
    let named = |pair: &[Checked]| match pair {
        [(a, _), (b, _)] if a.name == b.name => {
            // Name the files that differ.
            let (first, second) = if image_file(a) == image_file(b) {
                (a.label.as_path(), b.label.as_path())
            } else {
                (image_file(a), image_file(b))
            };
            let what = if first == second {
                "dataset.json lists this case twice; remove one of the two".to_owned()
            } else {
                format!("two cases have this name, the other is {}; rename or remove one", short(first))
            };
            Some(Finding::of_case(&b.name, second, what))
        }
        _ => None,
    };
    checked.windows(2).filter_map(named).collect()
}

fn absent_labels(dataset: &Dataset, readable: &[(&Case, &CaseTraits)]) -> Vec<Finding> {
    let source = match dataset.layout() {
        Layout::Decathlon | Layout::NnUnet => dataset.root.join("dataset.json"),
        Layout::Folders => dataset.root.join("labels"),
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

/// A voxel size that differs by a large factor is often given in another unit.
fn odd_spacings(readable: &[(&Case, &CaseTraits)]) -> Vec<Finding> {
    const FACTOR: f64 = 10.0;
    const MIN_CASES: usize = 3;
    if readable.len() < MIN_CASES {
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

/// Finds masks in which two structures lie in the opposite direction of all other masks: their label values were
/// exchanged, such as left and right, or the header flips the scan. Reports one finding per case, for the clearest pair.
fn swapped_structures(dataset: &Dataset, readable: &[(&Case, &CaseTraits)]) -> Vec<Finding> {
    let values: Vec<Label> = dataset.labels().entries().iter().map(|e| e.value).collect();
    let mut worst: BTreeMap<usize, (f64, Label, Label)> = BTreeMap::new();
    for (i, a) in values.iter().enumerate() {
        for b in values.iter().skip(i + 1) {
            for (case, cosine) in opposite_direction(readable, *a, *b) {
                let worse = worst.get(&case).is_none_or(|(known, ..)| cosine < *known);
                if worse {
                    worst.insert(case, (cosine, *a, *b));
                }
            }
        }
    }
    let name = |value: Label| dataset.labels().get(value).map_or("", |e| e.name.as_str());
    let problem = |(case, (_, a, b)): (usize, (f64, Label, Label))| {
        let (case, _) = readable.get(case)?;
        let what = format!(
            "labels {a} ({}) and {b} ({}) have the opposite direction of those in the other masks; check whether their values \
             were exchanged, or the header flips the scan",
            name(a),
            name(b)
        );
        Some(Finding::of_case(&case.name, &case.label, what))
    };
    worst.into_iter().filter_map(problem).collect()
}

/// The cases in which the direction from `a` to `b` is opposite to that of nearly all others, with the cosine between the
/// two directions.
fn opposite_direction(readable: &[(&Case, &CaseTraits)], a: Label, b: Label) -> Vec<(usize, f64)> {
    /// Fewer cases with both structures are not compared.
    const MIN_CASES: usize = 5;
    /// At most one case in so many may differ.
    const MAX_ODD_RATIO: usize = 5;
    let direction = |(index, (_, traits)): (usize, &(&Case, &CaseTraits))| {
        let (from, to) = (traits.labels.get(&a)?.centre, traits.labels.get(&b)?.centre);
        let step: [f64; 3] = std::array::from_fn(|axis| to[axis] - from[axis]);
        let length = dot(step, step).sqrt();
        // A distance below a voxel's size gives no direction.
        let min_edge = traits.spacing_mm.iter().copied().fold(f64::INFINITY, f64::min);
        (length > min_edge).then(|| (index, step.map(|v| v / length)))
    };
    let directions: Vec<(usize, [f64; 3])> = readable.iter().enumerate().filter_map(direction).collect();
    if directions.len() < MIN_CASES {
        return Vec::new();
    }
    let sum = directions.iter().fold([0.0; 3], |sum: [f64; 3], (_, d)| std::array::from_fn(|i| sum[i] + d[i]));
    let length = dot(sum, sum).sqrt();
    let cosines: Vec<(usize, f64)> =
        directions.iter().map(|(index, d)| (*index, dot(*d, sum) / length.max(f64::MIN_POSITIVE))).collect();
    let (odd, others): (Vec<_>, Vec<_>) = cosines.into_iter().partition(|(_, cosine)| *cosine < -0.5);
    // Nearly all others must agree; otherwise the two structures have no fixed direction.
    let agreeing = others.iter().filter(|(_, cosine)| *cosine > 0.5).count();
    if agreeing * MAX_ODD_RATIO >= directions.len() * (MAX_ODD_RATIO - 1) { odd } else { Vec::new() }
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
