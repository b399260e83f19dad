//! From slices with places to one grid, or the reason why they are none.

use std::collections::BTreeSet;

use sulcus_volume::{Geometry, OrientationSource, RasFromVoxel};

use super::error::{DicomFault, DicomProblem};
use super::instance::{Frame, PHASES};
use crate::error::Problem;

/// How far a slice may lie from its place on an even grid, in slice distances: positions are rounded when written.
const UNEVEN: f64 = 0.05;
/// How far a slice may be shifted in its plane against the line through the others, in pixels.
const SHIFTED_PIXELS: f64 = 0.25;
/// How far directions of slices may differ, and the stack may lean against their normal: 0.5°.
const LEANING: f64 = 0.008_727;
/// Slices closer than this lie at one place, in millimetres.
const SAME_PLACE_MM: f64 = 1e-3;
/// How far pixel sizes may differ between slices, relative.
const SAME_SPACING: f64 = 1e-3;

/// A frame in a file, both by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameIndex {
    pub(crate) file: usize,
    pub(crate) frame: usize,
}

/// Slices in the order of the grid.
#[derive(Debug, Clone)]
pub(crate) struct Stack {
    pub(crate) order: Vec<FrameIndex>,
    pub(crate) geometry: Geometry,
    /// Nothing says how thick the only slice is.
    pub(crate) thickness_unknown: bool,
}

type Vector = [f64; 3];

fn dot(a: Vector, b: Vector) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn sub(a: Vector, b: Vector) -> Vector {
    std::array::from_fn(|i| a[i] - b[i])
}

fn length(a: Vector) -> f64 {
    dot(a, a).sqrt()
}

/// The directions along a row, down a column and across the slices.
pub(crate) fn axes([a, b, c, d, e, f]: [f64; 6]) -> [Vector; 3] {
    [[a, b, c], [d, e, f], [b * f - c * e, c * d - a * f, a * e - b * d]]
}

/// Sorts the frames along the normal of their planes, checks that they are the slices of one grid, and places it.
///
/// `thickness_mm` tells the size of a single slice.
pub(crate) fn stack(
    frames: &[(FrameIndex, &Frame)],
    shape: [usize; 2],
    thickness_mm: Option<f64>,
) -> Result<Stack, Problem> {
    let Some((_, first)) = frames.first() else { return Err(no_slices().into()) };
    let [_, _, normal] = axes(first.orientation);
    for (_, frame) in frames {
        let turned = frame.orientation.iter().zip(first.orientation).any(|(a, b)| (a - b).abs() > LEANING);
        if turned {
            return Err(mixed_orientations(frames).into());
        }
        if frame.spacing.iter().zip(first.spacing).any(|(a, b)| (a / b - 1.0).abs() > SAME_SPACING) {
            return Err(DicomProblem::new(
                DicomFault::MixedSizes,
                "slices with pixels of one size (PixelSpacing)",
                format!("pixels of {:?} and of {:?} mm", first.spacing, frame.spacing),
                "these are several scans in one series: put the files of each into a folder of its own",
            )
            .into());
        }
    }
    let along = |frame: &Frame| dot(sub(frame.position, first.position), normal);
    let mut sorted: Vec<(FrameIndex, &Frame)> = frames.to_vec();
    sorted.sort_by(|a, b| along(a.1).total_cmp(&along(b.1)));
    check_places(&sorted, &along)?;

    let pixel = first.spacing.iter().copied().fold(f64::INFINITY, f64::min);
    let step = step(&sorted, normal, pixel, thickness_mm)?;
    let Some((_, lowest)) = sorted.first() else { return Err(no_slices().into()) };
    let geometry = grid(lowest, step, [shape[0], shape[1], sorted.len()])?;
    let thickness_unknown = sorted.len() == 1 && thickness_mm.is_none();
    Ok(Stack { order: sorted.into_iter().map(|(index, _)| index).collect(), geometry, thickness_unknown })
}

/// The grid whose first slice is this frame.
pub(crate) fn grid(lowest: &Frame, step: Vector, shape: [usize; 3]) -> Result<Geometry, Problem> {
    let [row, column, _] = axes(lowest.orientation);
    let [down, across] = lowest.spacing;
    let rows = std::array::from_fn(|i| {
        // LPS to RAS: the first two axes point the other way.
        let sign = if i < 2 { -1.0 } else { 1.0 };
        [row[i] * across, column[i] * down, step[i], lowest.position[i]].map(|v| v * sign + 0.0)
    });
    let fail = |source| Problem::Volume { action: "place the DICOM series", source: Box::new(source) };
    let map = RasFromVoxel::new(rows).map_err(fail)?;
    // DICOM always says how the patient lies, as an sform does.
    Geometry::new(shape, map, OrientationSource::Sform).map_err(fail)
}

fn no_slices() -> DicomProblem {
    DicomProblem::new(DicomFault::NoImages, "at least one slice", "none", "give the folder of the series")
}

fn mixed_orientations(frames: &[(FrameIndex, &Frame)]) -> DicomProblem {
    let mut kinds: Vec<([f64; 6], usize)> = Vec::new();
    for (_, frame) in frames {
        let same = |o: &[f64; 6]| o.iter().zip(frame.orientation).all(|(a, b)| (a - b).abs() <= LEANING);
        match kinds.iter_mut().find(|(o, _)| same(o)) {
            Some((_, n)) => *n += 1,
            None => kinds.push((frame.orientation, 1)),
        }
    }
    let counts: Vec<String> = kinds.iter().take(5).map(|(_, n)| n.to_string()).collect();
    DicomProblem::new(
        DicomFault::MixedOrientations,
        "slices that all look the same way (ImageOrientationPatient, to 0.5°)",
        format!("{} directions, with {} slices", kinds.len(), counts.join(" and ")),
        "these are several stacks, or overview pictures among the slices: put the files of each stack into a folder of its own",
    )
}

/// No two slices may lie at one place.
fn check_places(sorted: &[(FrameIndex, &Frame)], along: &dyn Fn(&Frame) -> f64) -> Result<(), DicomProblem> {
    let mut groups: Vec<Vec<&Frame>> = Vec::new();
    for (_, frame) in sorted {
        let here = along(frame);
        match groups.last_mut() {
            Some(group) if group.last().is_some_and(|f| here - along(f) <= SAME_PLACE_MM) => group.push(frame),
            _ => groups.push(vec![frame]),
        }
    }
    let most = groups.iter().map(Vec::len).max().unwrap_or(0);
    if most <= 1 {
        return Ok(());
    }
    let doubled = groups.iter().filter(|g| g.len() > 1).count();
    let phase = (0..PHASES.len()).find(|phase| {
        groups.iter().filter(|g| g.len() > 1).all(|group| {
            let values: BTreeSet<Option<u64>> =
                group.iter().map(|f| f.phase.get(*phase).copied().flatten().map(f64::to_bits)).collect();
            values.len() == group.len() && !values.contains(&None)
        })
    });
    if let Some((_, name)) = phase.and_then(|i| PHASES.get(i)) {
        return Err(DicomProblem::new(
            DicomFault::Temporal,
            "one slice at each place",
            format!("{most} at one place, which differ in {name}: the series holds {most} volumes"),
            "put the files of one of them into a folder of its own, or split the series with dcm2niix",
        ));
    }
    Err(DicomProblem::new(
        DicomFault::Duplicates,
        "one slice at each place (ImagePositionPatient)",
        format!("{doubled} place(s) with up to {most} slices"),
        "remove the copies, or, if these are several scans in one series, put the files of each into a folder of its own",
    ))
}

/// The way from one slice to the next, in millimetres.
fn step(
    sorted: &[(FrameIndex, &Frame)],
    normal: Vector,
    pixel_mm: f64,
    thickness_mm: Option<f64>,
) -> Result<Vector, DicomProblem> {
    let places: Vec<Vector> = sorted.iter().map(|(_, frame)| frame.position).collect();
    let (Some(first), Some(last)) = (places.first(), places.last()) else { return Err(no_slices()) };
    if places.len() < 2 {
        let thickness = thickness_mm.filter(|mm| *mm > 0.0).unwrap_or(1.0);
        return Ok(normal.map(|v| v * thickness));
    }
    let whole = sub(*last, *first);
    let gaps: Vec<f64> = places.windows(2).map(|pair| dot(sub(pair[1], pair[0]), normal)).collect();
    check_gaps(&gaps)?;

    let step = whole.map(|v| v / gaps.len() as f64);
    let rise = dot(step, normal);
    let sideways = length(sub(step, normal.map(|v| v * rise)));
    if sideways > rise * LEANING {
        return Err(DicomProblem::new(
            DicomFault::Tilt,
            "slices stacked along their normal (to 0.5°)",
            format!("a stack that leans by {:.1}°: a tilted gantry", (sideways / rise).atan().to_degrees()),
            "straighten the series first, for example with dcm2niix, which resamples it",
        ));
    }
    for (i, place) in places.iter().enumerate() {
        let expected: Vector = std::array::from_fn(|axis| first[axis] + i as f64 * step[axis]);
        let off = sub(*place, expected);
        let (up, shift) = (dot(off, normal).abs(), length(off));
        let aside = (shift * shift - up * up).max(0.0).sqrt();
        if up > rise * UNEVEN || aside > pixel_mm * SHIFTED_PIXELS {
            return Err(DicomProblem::new(
                DicomFault::UnevenSpacing,
                format!(
                    "slices on one line, within {:.0} % of their distance and {SHIFTED_PIXELS} pixels",
                    UNEVEN * 100.0
                ),
                format!("slice {} of {} {:.3} mm off its place", i + 1, places.len(), shift),
                "resample the series with the software that it comes from",
            ));
        }
    }
    Ok(step)
}

fn check_gaps(gaps: &[f64]) -> Result<(), DicomProblem> {
    let mut sorted = gaps.to_vec();
    sorted.sort_by(f64::total_cmp);
    let usual = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    let least = sorted.first().copied().unwrap_or_default();
    let wide: Vec<(usize, f64)> =
        gaps.iter().copied().enumerate().filter(|(_, gap)| (gap / usual - 1.0).abs() > 2.0 * UNEVEN).collect();
    let Some((at, gap)) = wide.first().copied() else { return Ok(()) };
    // Where whole slices are missing, every gap is a multiple of the smallest one.
    let multiple = |gap: f64| (gap / least - (gap / least).round()).abs() <= 2.0 * UNEVEN;
    if gaps.iter().all(|gap| multiple(*gap)) {
        let missing: f64 = gaps.iter().map(|gap| (gap / least).round() - 1.0).sum();
        return Err(DicomProblem::new(
            DicomFault::MissingSlices,
            format!("a slice every {least:.3} mm"),
            format!(
                "{missing:.0} missing of {:.0}, the first after slice {}",
                gaps.len() as f64 + 1.0 + missing,
                gaps.iter().position(|gap| (gap / least).round() > 1.0).unwrap_or(at) + 1
            ),
            "get the whole series again",
        ));
    }
    Err(DicomProblem::new(
        DicomFault::UnevenSpacing,
        format!("slices at even distances, within {:.0} %", 2.0 * UNEVEN * 100.0),
        format!("{usual:.3} mm mostly, {gap:.3} mm after slice {}", at + 1),
        "resample the series to even distances with the software that it comes from",
    ))
}
