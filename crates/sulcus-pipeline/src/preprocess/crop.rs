//! Crops scans to the bounding box of non-zero voxels, and inserts masks of the box into the scan's grid.

use std::ops::Range;

use sulcus_volume::{Geometry, Image, Label, LabelMap, RasFromVoxel, VolumeError};

use crate::{PipelineError, Prediction};
use sulcus_model::{ModelSpec, OutputActivation};

/// The box of one scan that a model sees.
#[derive(Debug, Clone)]
pub struct Crop {
    full: Geometry,
    part: Geometry,
    ranges: [Range<usize>; 3],
}

impl Crop {
    /// The box that `spec` requires; `None` if it is the whole scan, or if every voxel is zero.
    ///
    /// # Errors
    /// None for a grid that was read from a file.
    pub fn of(spec: &ModelSpec, image: &Image) -> Result<Option<Self>, PipelineError> {
        if spec.crop.is_whole() { Ok(None) } else { Self::to_nonzero(image) }
    }

    /// The bounding box of the non-zero voxels; `None` where it is the whole scan, or where every voxel is zero.
    ///
    /// # Errors
    /// None for a grid that was read from a file.
    pub fn to_nonzero(image: &Image) -> Result<Option<Self>, PipelineError> {
        let full = *image.geometry();
        let Some(ranges) = nonzero_box(image) else { return Ok(None) };
        let shape = ranges.clone().map(|range| range.len());
        if shape == full.shape() {
            return Ok(None);
        }
        Ok(Some(Self::to_box(&full, ranges)?))
    }

    /// A box of this grid, along x, y, z.
    ///
    /// # Errors
    /// When it is empty or exceeds the grid.
    pub fn to_box(full: &Geometry, ranges: [Range<usize>; 3]) -> Result<Self, PipelineError> {
        let shape = ranges.clone().map(|range| range.len());
        if ranges.iter().zip(full.shape()).any(|(range, edge)| range.end > edge) {
            return Err(VolumeError::Shape(shape).into());
        }
        let first = full.ras_from_voxel().apply(ranges.clone().map(|range| range.start as f64)).0;
        let mut rows = full.ras_from_voxel().rows();
        rows.iter_mut().zip(first).for_each(|(row, origin)| row[3] = origin);
        let part = full.with_grid(shape, RasFromVoxel::new(rows)?)?;
        Ok(Self { full: *full, part, ranges })
    }

    /// The scan's own grid.
    pub fn full(&self) -> &Geometry {
        &self.full
    }

    /// The grid of the box.
    pub fn part(&self) -> &Geometry {
        &self.part
    }

    /// The box, along x, y, z of the scan's own grid.
    pub fn ranges(&self) -> &[Range<usize>; 3] {
        &self.ranges
    }

    /// The image inside the box.
    ///
    /// # Errors
    /// When the image has another grid than the scan.
    pub fn image(&self, image: &Image) -> Result<Image, PipelineError> {
        self.full.check_same_grid(image.geometry())?;
        let values = (0..image.channels()).flat_map(|channel| self.cut(image.channel(channel))).collect();
        Ok(Image::new(self.part, image.channels(), values)?)
    }

    /// The mask inside the box.
    ///
    /// # Errors
    /// When it lies on another grid than the scan.
    pub fn labels(&self, labels: &LabelMap) -> Result<LabelMap, PipelineError> {
        self.full.check_same_grid(labels.geometry())?;
        Ok(LabelMap::new(self.part, self.cut(labels.data()))?)
    }

    /// Inserts a prediction of the box into the scan's grid; everything outside the box is background.
    ///
    /// # Errors
    /// When the prediction has another grid than the box.
    pub fn restore(&self, spec: &ModelSpec, inside: Prediction) -> Result<Prediction, PipelineError> {
        self.part.check_same_grid(inside.labels.geometry())?;
        let labels = LabelMap::new(self.full, self.put_back(inside.labels.data(), Label::default()))?;
        let put_back = |inside: Image| -> Result<Image, PipelineError> {
            let background =
                |channel| f32::from(u8::from(channel == 0 && spec.activation == OutputActivation::Softmax));
            let values = (0..inside.channels())
                .flat_map(|channel| self.put_back(inside.channel(channel), background(channel)))
                .collect();
            Ok(Image::new(self.full, inside.channels(), values)?)
        };
        Ok(Prediction { labels, probabilities: inside.probabilities.map(put_back).transpose()? })
    }

    /// The offsets in the scan at which the rows of the box begin, in file order.
    fn rows(&self) -> impl Iterator<Item = usize> + use<> {
        let [nx, ny, _] = self.full.shape();
        let [x, y, z] = self.ranges.clone();
        z.flat_map(move |z| y.clone().map(move |y| (z * ny + y) * nx)).map(move |row| row + x.start)
    }

    fn cut<T: Copy>(&self, values: &[T]) -> Vec<T> {
        let length = self.ranges[0].len();
        self.rows().flat_map(|row| values.get(row..row + length).unwrap_or_default().iter().copied()).collect()
    }

    fn put_back<T: Copy>(&self, values: &[T], outside: T) -> Vec<T> {
        let length = self.ranges[0].len();
        let mut whole = vec![outside; self.full.voxels()];
        for (row, values) in self.rows().zip(values.chunks_exact(length)) {
            if let Some(to) = whole.get_mut(row..row + length) {
                to.copy_from_slice(values);
            }
        }
        whole
    }
}

/// The bounding box, along x, y, z, of the voxels that are non-zero in any channel; `None` if there are none. It equals
/// the box of nnU-Net's *filled* union, because holes inside do not change it.
pub fn nonzero_box(image: &Image) -> Option<[Range<usize>; 3]> {
    let channels = (0..image.channels()).map(|channel| image.channel(channel));
    bounding_box(image.geometry().shape(), channels, |value| *value != 0.0)
}

/// The bounding box, along x, y, z, of the voxels that are inside in any channel; `None` if there are none.
pub(crate) fn bounding_box<'a, T: 'a>(
    [nx, ny, _]: [usize; 3],
    channels: impl IntoIterator<Item = &'a [T]>,
    is_inside: impl Fn(&T) -> bool,
) -> Option<[Range<usize>; 3]> {
    let (mut low, mut high) = ([usize::MAX; 3], [0; 3]);
    for values in channels {
        for (index, row) in values.chunks_exact(nx).enumerate() {
            let Some(first) = row.iter().position(&is_inside) else { continue };
            let last = row.iter().rposition(&is_inside).unwrap_or(first);
            for (axis, [from, to]) in [[first, last], [index % ny; 2], [index / ny; 2]].into_iter().enumerate() {
                low[axis] = low[axis].min(from);
                high[axis] = high[axis].max(to);
            }
        }
    }
    (low[0] != usize::MAX).then(|| std::array::from_fn(|axis| low[axis]..high[axis] + 1))
}

/// The mask of voxels that are non-zero in any channel, with holes filled: zeros that are not connected to the border through voxel
/// faces (nnU-Net's filled union, `scipy.ndimage.binary_fill_holes`).
pub(crate) fn filled_union(image: &Image) -> Vec<bool> {
    let shape = image.geometry().shape();
    let [nx, ny, nz] = shape;
    let mut outside = vec![true; image.geometry().voxels()];
    for channel in 0..image.channels() {
        outside.iter_mut().zip(image.channel(channel)).for_each(|(zero, v)| *zero &= *v == 0.0);
    }
    // `outside` holds every zero; a flood fill from the border finds those that are connected to it.
    let mut inside = vec![true; outside.len()];
    let mut stack = Vec::new();
    let is_border = |at: [usize; 3]| (0..3).any(|a| at[a] == 0 || at[a] + 1 == shape[a]);
    let position = |index: usize| [index % nx, index / nx % ny, index / (nx * ny)];
    for index in (0..outside.len()).filter(|index| outside[*index] && is_border(position(*index))) {
        inside[index] = false;
        stack.push(index);
    }
    while let Some(index) = stack.pop() {
        let [x, y, z] = position(index);
        let neighbours = [
            (x > 0).then(|| index - 1),
            (x + 1 < nx).then_some(index + 1),
            (y > 0).then(|| index - nx),
            (y + 1 < ny).then_some(index + nx),
            (z > 0).then(|| index - nx * ny),
            (z + 1 < nz).then_some(index + nx * ny),
        ];
        for next in neighbours.into_iter().flatten() {
            if outside[next] && inside[next] {
                inside[next] = false;
                stack.push(next);
            }
        }
    }
    inside
}
