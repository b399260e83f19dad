use std::path::Path;

use sulcus_dataset::LabelledScan;
use sulcus_model::{Dimensions, GoldenCase, ModelSpec};
use sulcus_pipeline::{PipelineError, Preprocessed, Tensor, preprocess};
use sulcus_volume::{Geometry, Image, Label, LabelMap, OrientationSource, RasFromVoxel};

use super::files::write_atomically;
use crate::error::TrainError;

/// The file's name in a run's folder.
pub(crate) const FILE: &str = "checkpoints/samples.json";
/// How many pieces of scans a run keeps. They are the input of the parity check and of the golden case, so that a run can be
/// exported without its data set.
pub(crate) const MAX_SAMPLES: usize = 24;
/// Maximum edge of a slice; every model file contains a golden case.
const MAX_SLICE_EDGE: usize = 96;
/// Maximum edge of a block.
const MAX_BLOCK_EDGE: usize = 32;

/// A piece of a scan around its foreground, in the model's orientation: a part of the slice with the most foreground, or a
/// block. Its labels are the reference's.
pub(crate) fn sample_of(
    spec: &ModelSpec,
    scan: &LabelledScan,
    ignore: Option<Label>,
) -> Result<GoldenCase, PipelineError> {
    let orientation = spec.orientation.orientation_for(scan.image.geometry());
    let image = scan.image.reoriented(orientation);
    let known = scan.labels.map(|label| if Some(*label) == ignore { 0 } else { *label });
    let labels = known.reoriented(orientation);
    let [nx, ny, nz] = image.geometry().shape();
    let area = nx * ny;
    let foreground = |z: usize| {
        let plane = labels.data().get(z * area..(z + 1) * area).unwrap_or_default();
        plane.iter().enumerate().filter(|(_, l)| **l != 0).map(move |(i, _)| [i % nx, i / nx, z])
    };
    let (points, max_edge): (Vec<[usize; 3]>, usize) = match spec.network.dimensions {
        Dimensions::Two => {
            let fullest = (0..nz).max_by_key(|z| foreground(*z).count()).unwrap_or_default();
            (foreground(fullest).collect(), MAX_SLICE_EDGE)
        }
        Dimensions::Three => ((0..nz).flat_map(foreground).collect(), MAX_BLOCK_EDGE),
    };
    let range = |edge: usize, axis: usize, max_edge: usize| {
        let centre = points.iter().map(|p| p[axis]).sum::<usize>().checked_div(points.len()).unwrap_or(edge / 2);
        let length = edge.min(max_edge);
        let start = centre.saturating_sub(length / 2).min(edge - length);
        start..start + length
    };
    let (xs, ys) = (range(nx, 0, max_edge), range(ny, 1, max_edge));
    let zs = range(nz, 2, if spec.network.dimensions == Dimensions::Two { 1 } else { max_edge });
    let mut offsets = Vec::with_capacity(xs.len() * ys.len() * zs.len());
    for z in zs.clone() {
        for y in ys.clone() {
            offsets.extend(xs.clone().map(|x| (z * ny + y) * nx + x));
        }
    }
    let map = RasFromVoxel::aligned(spec.orientation.nominal(), image.geometry().spacing());
    let geometry = Geometry::new([xs.len(), ys.len(), zs.len()], map, OrientationSource::Sform)?;
    let channels = (0..image.channels()).map(|c| image.channel(c));
    let values = channels
        .flat_map(|values| offsets.iter().map(move |o| values.get(*o).copied().unwrap_or_default()))
        .collect();
    let mask = offsets.iter().map(|o| labels.data().get(*o).copied().unwrap_or_default()).collect();
    Ok(GoldenCase::new(&Image::new(geometry, image.channels(), values)?, &LabelMap::new(geometry, mask)?))
}

pub(crate) fn write(file: &Path, samples: &[GoldenCase]) -> Result<(), TrainError> {
    let json = serde_json::to_vec(samples)
        .map_err(|e| TrainError::File { what: e.to_string(), file: file.to_path_buf() })?;
    write_atomically(file, &json)
}

pub(crate) fn read(file: &Path) -> Result<Vec<GoldenCase>, TrainError> {
    let failed = |what: String| TrainError::File { what, file: file.to_path_buf() };
    let text =
        std::fs::read_to_string(file).map_err(|e| failed(format!("the run's samples cannot be read: {e}")))?;
    serde_json::from_str(&text).map_err(|e| failed(format!("the run's samples are broken: {e}")))
}

/// Maximum edge of a parity input. A sample grows when it is resampled to smaller voxels, and a part of it is sufficient.
const MAX_INPUT_EDGE: usize = 128;
/// Maximum edge of a parity input of a 3-D network.
const MAX_BLOCK_INPUT_EDGE: usize = 64;
/// Maximum number of slices of one sample in a parity input: resampling can make several slices of one.
const MAX_SLICES: usize = 3;

/// Network inputs: samples padded to the network's multiple. Every third input is repeated in its batch, which detects a
/// graph whose batch axis is not dynamic; samples of different sizes do the same for the spatial axes.
///
/// # Shapes
/// Each `[N, C, (D,) H, W]`. Each slice of a sample is an item of a 2-D network's batch.
pub(crate) fn inputs(spec: &ModelSpec, samples: &[GoldenCase], n: usize) -> Result<Vec<Tensor>, PipelineError> {
    let input = |(index, sample): (usize, &GoldenCase)| {
        let (prepared, _) = preprocess(spec, &sample.image(spec.orientation.nominal())?)?;
        input_of(spec, &prepared, if index % 3 == 0 { 2 } else { 1 })
    };
    samples.iter().take(n).enumerate().map(input).collect()
}

/// The centre of a prepared sample, padded, repeated `copies` times.
fn input_of(spec: &ModelSpec, prepared: &Preprocessed, copies: usize) -> Result<Tensor, PipelineError> {
    let [nx, ny, nz] = prepared.shape();
    let (multiple, max_edge, max_slices) = match *spec.padding_multiple.as_slice() {
        [d, h, w] => ([d, h, w], MAX_BLOCK_INPUT_EDGE, MAX_BLOCK_INPUT_EDGE),
        [h, w] => ([1, h, w], MAX_INPUT_EDGE, MAX_SLICES),
        _ => ([1; 3], MAX_INPUT_EDGE, MAX_SLICES),
    };
    let middle = |length: usize, max: usize| {
        let kept = length.min(max);
        let first = (length - kept) / 2;
        first..first + kept
    };
    let (xs, ys, zs) = (middle(nx, max_edge), middle(ny, max_edge), middle(nz, max_slices));
    let padded = |length: usize, axis: usize| length.next_multiple_of(multiple[axis].max(1));
    let (d, h, w) = (padded(zs.len(), 0), padded(ys.len(), 1), padded(xs.len(), 2));
    let channels = prepared.channels();
    let put = |out: &mut [f32], channel: usize, z: usize| {
        for (y, out) in ys.clone().zip(out.chunks_exact_mut(w)) {
            let row = ((channel * nz + z) * ny + y) * nx;
            let values = prepared.data().get(row + xs.start..row + xs.end).unwrap_or_default();
            out.iter_mut().zip(values).for_each(|(to, from)| *to = *from);
        }
    };
    let (shape, values) = match spec.network.dimensions {
        Dimensions::Two => {
            let mut values = vec![0.0; zs.len() * channels * h * w];
            for (z, item) in zs.clone().zip(values.chunks_exact_mut(channels * h * w)) {
                item.chunks_exact_mut(h * w).enumerate().for_each(|(channel, plane)| put(plane, channel, z));
            }
            (vec![zs.len() * copies, channels, h, w], values)
        }
        Dimensions::Three => {
            let mut values = vec![0.0; channels * d * h * w];
            for (channel, volume) in values.chunks_exact_mut(d * h * w).enumerate() {
                zs.clone().zip(volume.chunks_exact_mut(h * w)).for_each(|(z, plane)| put(plane, channel, z));
            }
            (vec![copies, channels, d, h, w], values)
        }
    };
    Tensor::new(shape, values.repeat(copies))
}
