//! Masks in which the values of two structures were exchanged, such as left and right, or whose header mirrors the scan.
//!
//! One structure may lie elsewhere in a malformed or operated organ. A mistake is likely only if the offset between two structures
//! is nearly the same in the whole data set and the exact reverse in one mask, and if an exchange or a reflection brings the other
//! structures of this mask to their usual places too.

use std::collections::BTreeMap;
use sulcus_pipeline::quantile;
use sulcus_volume::Label;

use crate::case::Case;
use crate::checks::CaseTraits;
use crate::dataset::Dataset;
use crate::finding::Finding;

/// Fewer cases with both structures are not compared.
const MIN_CASES: usize = 5;
/// At most one case in so many, but one in any data set, may differ.
const MAX_ODD_RATIO: usize = 5;
/// The least cosine between the offset in a case and the usual one where they agree.
const SAME_DIRECTION: f64 = 0.5;
/// How far the offset in a case may be from the exact reverse of the usual one, as a share of its length.
const MAX_DEVIATION: f64 = 0.5;
/// A reflection or an exchange must bring the structures three times as close to their usual places; in squared distances.
const MIN_IMPROVEMENT: f64 = 9.0;

type Vector = [f64; 3];

/// Reports one finding per case, for the clearest pair.
pub(crate) fn exchanged_labels(dataset: &Dataset, readable: &[(&Case, &CaseTraits)]) -> Vec<Finding> {
    let values: Vec<Label> = dataset.labels().entries().iter().map(|e| e.value).collect();
    let mut usual = UsualOffsets::new();
    let mut suspected: BTreeMap<usize, Vec<(f64, Label, Label)>> = BTreeMap::new();
    for (i, a) in values.iter().enumerate() {
        for b in values.iter().skip(i + 1) {
            let offsets: Vec<(usize, Vector)> = readable
                .iter()
                .enumerate()
                .filter_map(|(index, (_, traits))| Some((index, offset(traits, *a, *b)?)))
                .collect();
            if offsets.len() < MIN_CASES {
                continue;
            }
            let typical = median(&offsets);
            usual.insert((*a, *b), typical);
            for (case, deviation) in reversed(readable, &offsets, typical) {
                suspected.entry(case).or_default().push((deviation, *a, *b));
            }
        }
    }
    let name = |value: Label| dataset.labels().get(value).map_or("", |e| e.name.as_str());
    let finding = |(case, mut pairs): (usize, Vec<(f64, Label, Label)>)| {
        let (case, traits) = readable.get(case)?;
        pairs.sort_by(|x, y| x.0.total_cmp(&y.0));
        let reflected = is_reflected(traits, &usual);
        let (_, a, b) = pairs.into_iter().find(|(_, a, b)| reflected || is_exchanged(traits, &usual, *a, *b))?;
        let what = format!(
            "labels {a} ({}) and {b} ({}) have the opposite direction of those in the other masks; check whether their values \
             were exchanged, or the header flips the scan",
            name(a),
            name(b)
        );
        Some(Finding::of_case(&case.name, &case.label, what))
    };
    suspected.into_iter().filter_map(finding).collect()
}

/// From the centre of `a` to that of `b`.
fn offset(traits: &CaseTraits, a: Label, b: Label) -> Option<Vector> {
    let (from, to) = (traits.labels.get(&a)?.centre, traits.labels.get(&b)?.centre);
    Some(minus(to, from))
}

fn median(offsets: &[(usize, Vector)]) -> Vector {
    std::array::from_fn(|axis| {
        let mut values: Vec<f64> = offsets.iter().map(|(_, offset)| offset[axis]).collect();
        values.sort_unstable_by(f64::total_cmp);
        quantile(&values, 0.5)
    })
}

/// The cases in which an offset is the reverse of the usual one, with their deviation from it, if nearly all others have the
/// usual one.
fn reversed(readable: &[(&Case, &CaseTraits)], offsets: &[(usize, Vector)], typical: Vector) -> Vec<(usize, f64)> {
    let length = norm(typical);
    let agrees = |offset: Vector| dot(offset, typical) > SAME_DIRECTION * norm(offset) * length;
    let agreeing = offsets.iter().filter(|(_, offset)| agrees(*offset)).count();
    let max_odd = (offsets.len() / MAX_ODD_RATIO).max(1);
    if agreeing + max_odd < offsets.len() {
        return Vec::new();
    }
    let odd = |(case, offset): &(usize, Vector)| {
        // A distance below a voxel's size gives no direction.
        let spacing_mm = readable.get(*case)?.1.spacing_mm;
        let min_edge = spacing_mm.iter().copied().fold(f64::INFINITY, f64::min);
        let deviation = norm(plus(*offset, typical)) / length.max(f64::MIN_POSITIVE);
        (norm(*offset) > min_edge && deviation <= MAX_DEVIATION).then_some((*case, deviation))
    };
    offsets.iter().filter_map(odd).collect()
}

/// Whether an exchange of `a` and `b` brings the other structures to their usual places too. With two structures there are no
/// others.
fn is_exchanged(traits: &CaseTraits, usual: &UsualOffsets, a: Label, b: Label) -> bool {
    let involved = |(c, d): (Label, Label)| [a, b].contains(&c) || [a, b].contains(&d);
    let swapped = |value: Label| match value {
        _ if value == a => b,
        _ if value == b => a,
        other => other,
    };
    let pairs = || offsets(traits, usual).filter(|(pair, ..)| involved(*pair));
    let as_is: f64 = pairs().map(|(_, own, typical)| distance(own, typical)).sum();
    let exchanged: f64 = pairs()
        .filter_map(|((c, d), _, typical)| Some(distance(offset(traits, swapped(c), swapped(d))?, typical)))
        .sum();
    exchanged * MIN_IMPROVEMENT <= as_is
}

/// Whether a reflection of the whole mask brings the structures to their usual places.
fn is_reflected(traits: &CaseTraits, usual: &UsualOffsets) -> bool {
    let as_is: f64 = offsets(traits, usual).map(|(_, own, typical)| distance(own, typical)).sum();
    (1..8_u8).any(|axes| {
        let mirrored =
            |v: Vector| -> Vector { std::array::from_fn(|i| if axes >> i & 1 == 1 { -v[i] } else { v[i] }) };
        let reflected: f64 =
            offsets(traits, usual).map(|(_, own, typical)| distance(mirrored(own), typical)).sum();
        reflected * MIN_IMPROVEMENT <= as_is
    })
}

/// The usual offset of each pair of labels.
type UsualOffsets = BTreeMap<(Label, Label), Vector>;

/// The pairs that the case has, with their offset in it and the usual one.
fn offsets<'a>(
    traits: &'a CaseTraits,
    usual: &'a UsualOffsets,
) -> impl Iterator<Item = ((Label, Label), Vector, Vector)> + 'a {
    usual.iter().filter_map(|((a, b), typical)| Some(((*a, *b), offset(traits, *a, *b)?, *typical)))
}

fn dot(a: Vector, b: Vector) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(v: Vector) -> f64 {
    dot(v, v).sqrt()
}

fn plus(a: Vector, b: Vector) -> Vector {
    std::array::from_fn(|i| a[i] + b[i])
}

fn minus(a: Vector, b: Vector) -> Vector {
    std::array::from_fn(|i| a[i] - b[i])
}

/// The squared distance.
fn distance(a: Vector, b: Vector) -> f64 {
    let d = minus(a, b);
    dot(d, d)
}
