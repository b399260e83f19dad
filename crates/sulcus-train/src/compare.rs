//! What can be wrong between the cases of a data set.

use std::collections::BTreeMap;
use std::path::Path;

use sulcus_volume::{Label, OrientationSource};

use crate::checks::Marks;
use crate::dataset::{count, short};
use crate::{Case, Dataset, Layout, Problem};

/// A case and what its voxels showed, where they could be read.
pub(crate) type Seen<'a> = (&'a Case, Option<Marks>);

/// Adds what is wrong with the data set as a whole, or with a case beside the others.
pub(crate) fn set(dataset: &Dataset, seen: &[Seen], problems: &mut Vec<Problem>, warnings: &mut Vec<Problem>) {
    warnings.extend(dataset.notes.iter().map(|note| Problem::of_set(&note.file, note.what.clone())));
    problems.extend(equal_names(seen));
    let readable: Vec<(&Case, &Marks)> =
        seen.iter().filter_map(|(case, marks)| Some((*case, marks.as_ref()?))).collect();
    let empty: Vec<&Case> = readable.iter().filter(|(_, m)| m.labels.is_empty()).map(|(case, _)| *case).collect();
    let all_empty = !readable.is_empty() && empty.len() == readable.len();
    let of_empty = if all_empty { &mut *problems } else { &mut *warnings };
    of_empty.extend(empty.into_iter().map(Problem::no_foreground));
    if !all_empty {
        warnings.extend(absent_labels(dataset, &readable));
    }
    if dataset.layout() == Layout::Folders {
        warnings.extend(rare_values(dataset, &readable));
    }
    warnings.extend(equal_images(&readable));
    warnings.extend(odd_spacings(&readable));
    warnings.extend(guessed_orientations(dataset, &readable));
    warnings.extend(turned_structures(dataset, &readable));
}

fn of_case(case: &Case, file: &Path, what: String) -> Problem {
    Problem { case: case.name.clone(), what, file: file.to_path_buf() }
}

fn image_file(case: &Case) -> &Path {
    case.images.first().unwrap_or(&case.label)
}

/// Cases come sorted by name.
fn equal_names(seen: &[Seen]) -> Vec<Problem> {
    let named = |pair: &[Seen]| match pair {
        [(a, _), (b, _)] if a.name == b.name => {
            // The files that differ tell the two apart.
            let (first, second) = if image_file(a) == image_file(b) {
                (a.label.as_path(), b.label.as_path())
            } else {
                (image_file(a), image_file(b))
            };
            let what = if first == second {
                "dataset.json lists this case twice; take one of the two out".to_owned()
            } else {
                format!("two cases have this name, the other is {}; rename one, or take it out", short(first))
            };
            Some(of_case(b, second, what))
        }
        _ => None,
    };
    seen.windows(2).filter_map(named).collect()
}

fn absent_labels(dataset: &Dataset, readable: &[(&Case, &Marks)]) -> Vec<Problem> {
    let source = match dataset.layout() {
        Layout::Decathlon | Layout::NnUnet => dataset.root.join("dataset.json"),
        Layout::Folders => dataset.root.join("labels"),
    };
    let absent = dataset
        .labels()
        .entries()
        .iter()
        .filter(|entry| !readable.iter().any(|(_, marks)| marks.labels.contains_key(&entry.value)));
    let problem = |entry: &sulcus_volume::LabelEntry| {
        let what = format!(
            "label {} ({}) is in none of the {} masks that could be read, so it cannot be learnt; correct the labels' \
             values, or the masks",
            entry.value,
            entry.name,
            readable.len()
        );
        Problem::of_set(&source, what)
    };
    if readable.is_empty() { Vec::new() } else { absent.map(problem).collect() }
}

/// Where the masks alone say which labels there are, a slip would become a structure.
fn rare_values(dataset: &Dataset, readable: &[(&Case, &Marks)]) -> Vec<Problem> {
    const ENOUGH: usize = 4;
    if readable.len() < ENOUGH {
        return Vec::new();
    }
    let rare = |entry: &sulcus_volume::LabelEntry| {
        let mut with = readable.iter().filter(|(_, marks)| marks.labels.contains_key(&entry.value));
        let (case, marks) = with.next().filter(|_| with.next().is_none())?;
        let voxels = marks.labels.get(&entry.value).map_or(0, |s| s.voxels);
        let what = format!(
            "label {} is in this mask alone ({}) and would be trained as a structure; correct the mask \
             if it is a slip",
            entry.value,
            count(voxels, "voxel")
        );
        Some(of_case(case, &case.label, what))
    };
    dataset.labels().entries().iter().filter_map(rare).collect()
}

fn equal_images(readable: &[(&Case, &Marks)]) -> Vec<Problem> {
    let mut first_with: BTreeMap<[u8; 32], &Case> = BTreeMap::new();
    let mut found = Vec::new();
    for (case, marks) in readable {
        match first_with.get(&marks.image_sha256) {
            Some(first) if first.name != case.name => {
                let what = format!(
                    "the same image as {}'s, voxel by voxel; take one out, or scores are too good as soon as one is \
                     trained on and the other held out",
                    first.name
                );
                found.push(of_case(case, image_file(case), what));
            }
            Some(_) => {}
            None => {
                first_with.insert(marks.image_sha256, case);
            }
        }
    }
    found
}

/// Voxels that are far larger or smaller than all others' are mostly in another unit.
fn odd_spacings(readable: &[(&Case, &Marks)]) -> Vec<Problem> {
    const FACTOR: f64 = 10.0;
    const ENOUGH: usize = 3;
    if readable.len() < ENOUGH {
        return Vec::new();
    }
    let median: [f64; 3] = std::array::from_fn(|axis| {
        let mut all: Vec<f64> = readable.iter().map(|(_, marks)| marks.spacing_mm[axis]).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(1.0)
    });
    let text = |mm: [f64; 3]| mm.map(|v| format!("{v:.3}")).join(" × ");
    let odd = |(case, marks): &(&Case, &Marks)| {
        let far = marks.spacing_mm.iter().zip(median).any(|(mm, median)| {
            let ratio = mm / median;
            !(1.0 / FACTOR..=FACTOR).contains(&ratio)
        });
        let what = format!(
            "its voxels are {} mm (right, anterior, superior), those of most cases about {} mm; correct the header if \
             its unit is wrong",
            text(marks.spacing_mm),
            text(median)
        );
        far.then(|| of_case(case, image_file(case), what))
    };
    readable.iter().filter_map(odd).collect()
}

fn guessed_orientations(dataset: &Dataset, readable: &[(&Case, &Marks)]) -> Vec<Problem> {
    const WHAT: &str =
        "has neither sform nor qform, so left and right are a guess; set one from the scan's source";
    let guessed: Vec<&Case> =
        readable.iter().filter(|(_, m)| m.source == OrientationSource::None).map(|(case, _)| *case).collect();
    if guessed.len() > 1 && guessed.len() == readable.len() {
        let what = format!("each of the {} images {WHAT}", guessed.len());
        return vec![Problem::of_set(&dataset.root, what)];
    }
    guessed.into_iter().map(|case| of_case(case, image_file(case), format!("the image {WHAT}"))).collect()
}

/// Masks in which two structures lie the other way round than in all others: values that were exchanged, such as left
/// and right, or a header that turns the scan. One finding a case, for the pair that is the most surely so.
fn turned_structures(dataset: &Dataset, readable: &[(&Case, &Marks)]) -> Vec<Problem> {
    let values: Vec<Label> = dataset.labels().entries().iter().map(|e| e.value).collect();
    let mut worst: BTreeMap<usize, (f64, Label, Label)> = BTreeMap::new();
    for (i, a) in values.iter().enumerate() {
        for b in values.iter().skip(i + 1) {
            for (case, cosine) in against_the_others(readable, *a, *b) {
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
            "labels {a} ({}) and {b} ({}) lie the other way round than in the other masks; look whether their values \
             were exchanged, or the header turns the scan",
            name(a),
            name(b)
        );
        Some(of_case(case, &case.label, what))
    };
    worst.into_iter().filter_map(problem).collect()
}

/// Which cases have `b` on the other side of `a` than nearly all others, and the cosine between the two directions.
fn against_the_others(readable: &[(&Case, &Marks)], a: Label, b: Label) -> Vec<(usize, f64)> {
    /// Cases with both structures that make a rule.
    const ENOUGH: usize = 5;
    /// At most this share may break it.
    const ODD: usize = 5;
    let direction = |(index, (_, marks)): (usize, &(&Case, &Marks))| {
        let (from, to) = (marks.labels.get(&a)?.centre, marks.labels.get(&b)?.centre);
        let step: [f64; 3] = std::array::from_fn(|axis| to[axis] - from[axis]);
        let length = dot(step, step).sqrt();
        // Below a voxel's size there is no direction.
        let least = marks.spacing_mm.iter().copied().fold(f64::INFINITY, f64::min);
        (length > least).then(|| (index, step.map(|v| v / length)))
    };
    let directions: Vec<(usize, [f64; 3])> = readable.iter().enumerate().filter_map(direction).collect();
    if directions.len() < ENOUGH {
        return Vec::new();
    }
    let sum = directions.iter().fold([0.0; 3], |sum: [f64; 3], (_, d)| std::array::from_fn(|i| sum[i] + d[i]));
    let length = dot(sum, sum).sqrt();
    let cosines: Vec<(usize, f64)> =
        directions.iter().map(|(index, d)| (*index, dot(*d, sum) / length.max(f64::MIN_POSITIVE))).collect();
    let (odd, others): (Vec<_>, Vec<_>) = cosines.into_iter().partition(|(_, cosine)| *cosine < -0.5);
    // Nearly all others must agree, or the two structures have no sides.
    let agreeing = others.iter().filter(|(_, cosine)| *cosine > 0.5).count();
    if agreeing * ODD >= directions.len() * (ODD - 1) { odd } else { Vec::new() }
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
