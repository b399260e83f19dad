//! Sorts the slices of a series and checks that they form one regular grid.

use std::collections::BTreeSet;

use sulcus_volume::{Geometry, OrientationSource, RasFromVoxel};

use super::error::{DicomError, DicomErrorKind};
use super::instance::{Frame, VOLUME_ATTRIBUTES};

/// The tolerance of slice positions along the normal, as a fraction of the slice distance: positions are rounded when
/// written.
const POSITION_TOLERANCE: f64 = 0.05;
/// The tolerance of slice positions within the plane, in pixels.
const SHIFT_TOLERANCE_PIXELS: f64 = 0.25;
/// The tolerance of slice directions and of the angle between stack and normal: 0.5°, in radians.
const ANGLE_TOLERANCE: f64 = 0.008_727;
/// Slices closer than this are at the same position, in millimetres.
const SAME_POSITION_MM: f64 = 1e-3;
/// The relative tolerance of pixel sizes between slices.
const SPACING_TOLERANCE: f64 = 1e-3;

/// The index of a frame: its file, and its number within the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameIndex {
    pub(crate) file: usize,
    pub(crate) frame: usize,
}

/// Slices in the order of the grid.
#[derive(Debug, Clone)]
pub(crate) struct SliceStack {
    pub(crate) order: Vec<FrameIndex>,
    pub(crate) geometry: Geometry,
    /// The only slice has no known thickness.
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

/// The unit vectors along a row, along a column and along the slice normal.
pub(crate) fn axes([a, b, c, d, e, f]: [f64; 6]) -> [Vector; 3] {
    [[a, b, c], [d, e, f], [b * f - c * e, c * d - a * f, a * e - b * d]]
}

/// Sorts the frames along their normal, checks that they form one grid, and computes its geometry.
///
/// `thickness_mm` is used only when there is a single slice.
pub(crate) fn stack_slices(
    frames: &[(FrameIndex, &Frame)],
    shape: [usize; 2],
    thickness_mm: Option<f64>,
) -> Result<SliceStack, DicomError> {
    let Some((_, first)) = frames.first() else { return Err(no_slices()) };
    let [_, _, normal] = axes(first.orientation);
    for (_, frame) in frames {
        let turned = frame.orientation.iter().zip(first.orientation).any(|(a, b)| (a - b).abs() > ANGLE_TOLERANCE);
        if turned {
            return Err(mixed_orientations(frames));
        }
        if frame.spacing.iter().zip(first.spacing).any(|(a, b)| (a / b - 1.0).abs() > SPACING_TOLERANCE) {
            return Err(DicomError::new(
                DicomErrorKind::MixedSizes,
                "slices with pixels of one size (PixelSpacing)",
                format!("pixels of {:?} and of {:?} mm", first.spacing, frame.spacing),
                SEVERAL_SCANS,
            ));
        }
    }
    let along = |frame: &Frame| dot(sub(frame.position, first.position), normal);
    let mut sorted: Vec<(FrameIndex, &Frame)> = frames.to_vec();
    sorted.sort_by(|a, b| along(a.1).total_cmp(&along(b.1)));
    check_positions(&sorted, &along)?;

    let pixel = first.spacing.iter().copied().fold(f64::INFINITY, f64::min);
    let step = slice_step(&sorted, normal, pixel, thickness_mm)?;
    let Some((_, lowest)) = sorted.first() else { return Err(no_slices()) };
    let geometry = grid(lowest, step, [shape[0], shape[1], sorted.len()])?;
    let thickness_unknown = sorted.len() == 1 && thickness_mm.is_none();
    Ok(SliceStack { order: sorted.into_iter().map(|(index, _)| index).collect(), geometry, thickness_unknown })
}

/// The grid with this frame as its first slice.
pub(crate) fn grid(lowest: &Frame, step: Vector, shape: [usize; 3]) -> Result<Geometry, DicomError> {
    let [row, column, _] = axes(lowest.orientation);
    let [down, across] = lowest.spacing;
    let rows = std::array::from_fn(|i| {
        // From LPS to RAS: the first two axes change their sign.
        let sign = if i < 2 { -1.0 } else { 1.0 };
        [row[i] * across, column[i] * down, step[i], lowest.position[i]].map(|v| v * sign + 0.0)
    });
    let fail = |source| DicomError::geometry("place the DICOM series", source);
    let map = RasFromVoxel::new(rows).map_err(fail)?;
    // DICOM always states the patient orientation, as an sform does.
    Geometry::new(shape, map, OrientationSource::Sform).map_err(fail)
}

fn no_slices() -> DicomError {
    DicomError::new(DicomErrorKind::NoImages, "at least one slice", "none", "give the folder of the series")
}

fn mixed_orientations(frames: &[(FrameIndex, &Frame)]) -> DicomError {
    let mut kinds: Vec<([f64; 6], usize)> = Vec::new();
    for (_, frame) in frames {
        let same = |o: &[f64; 6]| o.iter().zip(frame.orientation).all(|(a, b)| (a - b).abs() <= ANGLE_TOLERANCE);
        match kinds.iter_mut().find(|(o, _)| same(o)) {
            Some((_, n)) => *n += 1,
            None => kinds.push((frame.orientation, 1)),
        }
    }
    let counts: Vec<String> = kinds.iter().take(5).map(|(_, n)| n.to_string()).collect();
    DicomError::new(
        DicomErrorKind::MixedOrientations,
        "slices with the same orientation (ImageOrientationPatient, to 0.5°)",
        format!("{} orientations, with {} slices", kinds.len(), counts.join(" and ")),
        "these are several stacks, or localizers among the slices: put the files of each stack into a separate folder",
    )
}

pub(crate) const SEVERAL_SCANS: &str =
    "these are several scans in one series: put the files of each into a separate folder";

/// Checks that no two slices lie at the same position.
fn check_positions(sorted: &[(FrameIndex, &Frame)], along: &dyn Fn(&Frame) -> f64) -> Result<(), DicomError> {
    let mut groups: Vec<Vec<&Frame>> = Vec::new();
    for (_, frame) in sorted {
        let here = along(frame);
        match groups.last_mut() {
            Some(group) if group.last().is_some_and(|f| here - along(f) <= SAME_POSITION_MM) => group.push(frame),
            _ => groups.push(vec![frame]),
        }
    }
    let most = groups.iter().map(Vec::len).max().unwrap_or(0);
    if most <= 1 {
        return Ok(());
    }
    let shared = groups.iter().filter(|g| g.len() > 1).count();
    let attribute = (0..VOLUME_ATTRIBUTES.len()).find(|attribute| {
        groups.iter().filter(|g| g.len() > 1).all(|group| {
            let values: BTreeSet<Option<u64>> = group
                .iter()
                .map(|f| f.volume_attributes.get(*attribute).copied().flatten().map(f64::to_bits))
                .collect();
            values.len() == group.len() && !values.contains(&None)
        })
    });
    if let Some((_, name)) = attribute.and_then(|i| VOLUME_ATTRIBUTES.get(i)) {
        return Err(DicomError::new(
            DicomErrorKind::MultipleVolumes,
            "one slice at each position",
            format!("{most} at one position, which differ in {name}: the series holds {most} volumes"),
            "put the files of one volume into a separate folder, give a file by itself if it has all slices of a volume, or split the \
             series with dcm2niix",
        ));
    }
    Err(DicomError::new(
        DicomErrorKind::DuplicateSlices,
        "one slice at each position (ImagePositionPatient)",
        format!("{shared} position(s) with up to {most} slices"),
        "remove the copies, or, if these are several scans in one series, put the files of each into a separate folder",
    ))
}

/// The vector from one slice to the next, in millimetres.
fn slice_step(
    sorted: &[(FrameIndex, &Frame)],
    normal: Vector,
    pixel_mm: f64,
    thickness_mm: Option<f64>,
) -> Result<Vector, DicomError> {
    let positions: Vec<Vector> = sorted.iter().map(|(_, frame)| frame.position).collect();
    let (Some(first), Some(last)) = (positions.first(), positions.last()) else { return Err(no_slices()) };
    if positions.len() < 2 {
        let thickness = thickness_mm.filter(|mm| *mm > 0.0).unwrap_or(1.0);
        return Ok(normal.map(|v| v * thickness));
    }
    let whole = sub(*last, *first);
    let gaps: Vec<f64> = positions.windows(2).map(|pair| dot(sub(pair[1], pair[0]), normal)).collect();
    check_gaps(&gaps)?;

    let step = whole.map(|v| v / gaps.len() as f64);
    let rise = dot(step, normal);
    let sideways = length(sub(step, normal.map(|v| v * rise)));
    if sideways > rise * ANGLE_TOLERANCE {
        return Err(DicomError::new(
            DicomErrorKind::GantryTilt,
            "slices stacked along their normal (to 0.5°)",
            format!("a stack that is tilted by {:.1}° (gantry tilt)", (sideways / rise).atan().to_degrees()),
            "correct the tilt first, for example with dcm2niix, which resamples the series",
        ));
    }
    for (i, position) in positions.iter().enumerate() {
        let expected: Vector = std::array::from_fn(|axis| first[axis] + i as f64 * step[axis]);
        let off = sub(*position, expected);
        let (up, shift) = (dot(off, normal).abs(), length(off));
        let aside = (shift * shift - up * up).max(0.0).sqrt();
        if up > rise * POSITION_TOLERANCE || aside > pixel_mm * SHIFT_TOLERANCE_PIXELS {
            return Err(DicomError::new(
                DicomErrorKind::UnevenSpacing,
                format!(
                    "slices on one line, within {:.0} % of their distance and {SHIFT_TOLERANCE_PIXELS} pixels",
                    POSITION_TOLERANCE * 100.0
                ),
                format!("slice {} of {} displaced by {:.3} mm", i + 1, positions.len(), shift),
                "resample the series with the software that created it",
            ));
        }
    }
    Ok(step)
}

fn check_gaps(gaps: &[f64]) -> Result<(), DicomError> {
    let mut sorted = gaps.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    let smallest = sorted.first().copied().unwrap_or_default();
    let wide: Vec<(usize, f64)> = gaps
        .iter()
        .copied()
        .enumerate()
        .filter(|(_, gap)| (gap / median - 1.0).abs() > 2.0 * POSITION_TOLERANCE)
        .collect();
    let Some((at, gap)) = wide.first().copied() else { return Ok(()) };
    // When whole slices are missing, every gap is a multiple of the smallest one.
    let multiple = |gap: f64| (gap / smallest - (gap / smallest).round()).abs() <= 2.0 * POSITION_TOLERANCE;
    if gaps.iter().all(|gap| multiple(*gap)) {
        let missing: f64 = gaps.iter().map(|gap| (gap / smallest).round() - 1.0).sum();
        return Err(DicomError::new(
            DicomErrorKind::MissingSlices,
            format!("a slice every {smallest:.3} mm"),
            format!(
                "{missing:.0} missing of {:.0}, the first after slice {}",
                gaps.len() as f64 + 1.0 + missing,
                gaps.iter().position(|gap| (gap / smallest).round() > 1.0).unwrap_or(at) + 1
            ),
            "get the whole series again",
        ));
    }
    Err(DicomError::new(
        DicomErrorKind::UnevenSpacing,
        format!("slices at even distances, within {:.0} %", 2.0 * POSITION_TOLERANCE * 100.0),
        format!("{median:.3} mm mostly, {gap:.3} mm after slice {}", at + 1),
        "resample the series to even distances with the software that created it",
    ))
}
