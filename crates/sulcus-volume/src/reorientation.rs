use std::ops::Range;

use crate::{Geometry, Image, Orientation, RasFromVoxel, Spacing, Volume, Xyz};

/// A change of orientation: a permutation of the axes of a grid, some of them flipped. No value is interpolated, so
/// [`inverse`](Self::inverse) undoes it exactly. In the methods, the *source* is the array before the change and the
/// *result* the array after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reorientation {
    /// For each axis of the result: the axis of the source, and whether the direction is reversed.
    source_axis: [usize; 3],
    flipped: [bool; 3],
}

impl Reorientation {
    /// The change from orientation `from` to orientation `to`.
    pub fn between(from: Orientation, to: Orientation) -> Self {
        let mut source_axis = [0; 3];
        let mut flipped = [false; 3];
        for (axis, wanted) in to.axes().into_iter().enumerate() {
            for (candidate, direction) in from.axes().into_iter().enumerate() {
                if direction.ras_axis() == wanted.ras_axis() {
                    source_axis[axis] = candidate;
                    flipped[axis] = direction != wanted;
                }
            }
        }
        Self { source_axis, flipped }
    }

    /// The reverse change.
    pub fn inverse(self) -> Self {
        let mut back = self;
        for (axis, source) in self.source_axis.into_iter().enumerate() {
            back.source_axis[source] = axis;
            back.flipped[source] = self.flipped[axis];
        }
        back
    }

    /// Whether source and result are the same.
    pub fn is_identity(self) -> bool {
        self.source_axis == [0, 1, 2] && self.flipped == [false; 3]
    }

    /// The shape of the result for a source of shape `source`, x first.
    pub fn shape(self, source: [usize; 3]) -> [usize; 3] {
        self.permute(source)
    }

    /// The axis of the source that an axis of the result comes from.
    pub(crate) fn source_axis(self, axis: usize) -> usize {
        self.source_axis[axis]
    }

    /// The region of the result that corresponds to region `region` of a source of shape `source`.
    pub fn region(self, source: Xyz<usize>, region: Xyz<Range<usize>>) -> Xyz<Range<usize>> {
        Xyz(std::array::from_fn(|axis| {
            let from = self.source_axis[axis];
            let (n, Range { start, end }) = (source.0[from], region.0[from].clone());
            if self.flipped[axis] { n.saturating_sub(end)..n.saturating_sub(start) } else { start..end }
        }))
    }

    /// The values of the result's axes, given one value per axis of the source, x first. Flipped axes keep their value,
    /// so this suits voxel sizes but not positions.
    pub fn permute<T: Copy>(self, source: [T; 3]) -> [T; 3] {
        self.source_axis.map(|a| source[a])
    }

    /// The offset of the result's first element in the source, and the stride in the source along each axis of the
    /// result.
    pub(crate) fn strides(self, source: [usize; 3]) -> (isize, [isize; 3]) {
        let step = [1, source[0] as isize, (source[0] * source[1]) as isize];
        let mut start = 0;
        let strides = std::array::from_fn(|axis| {
            let from = self.source_axis[axis];
            if self.flipped[axis] {
                start += step[from] * (source[from] as isize - 1);
                -step[from]
            } else {
                step[from]
            }
        });
        (start, strides)
    }

    /// Reorders an array of shape `source` (x first, x fastest). Returns an empty array when the number of values does not
    /// match the shape.
    pub fn apply<T: Copy>(self, data: &[T], source: [usize; 3]) -> Vec<T> {
        if data.len() != source.iter().product::<usize>() {
            return Vec::new();
        }
        if self.is_identity() {
            return data.to_vec();
        }
        let [nx, ny, nz] = self.shape(source);
        let (start, [sx, sy, sz]) = self.strides(source);
        let mut out = Vec::with_capacity(data.len());
        for z in 0..nz as isize {
            for y in 0..ny as isize {
                let row = start + z * sz + y * sy;
                out.extend((0..nx as isize).map(|x| data[(row + x * sx) as usize]));
            }
        }
        out
    }

    /// As [`Reorientation::apply`], in the same memory. Only a permutation of axes needs a copy meanwhile, mirroring does not. Data
    /// of another length than `source` are not changed.
    pub fn apply_in_place<T: Copy>(self, data: &mut [T], source: [usize; 3]) {
        let [nx, ny, nz] = source;
        if data.is_empty() || data.len() != source.iter().product::<usize>() {
            return;
        }
        if !self.is_mirroring() {
            let permuted = self.apply(data, source);
            data.copy_from_slice(&permuted);
            return;
        }
        let [x, y, z] = self.flipped;
        if x {
            data.chunks_exact_mut(nx).for_each(<[T]>::reverse);
        }
        if y {
            data.chunks_exact_mut(nx * ny).for_each(|plane| reverse_blocks(plane, nx, ny));
        }
        if z {
            reverse_blocks(data, nx * ny, nz);
        }
    }

    /// Whether each axis stays where it is, in one direction or the other.
    pub fn is_mirroring(self) -> bool {
        self.source_axis == [0, 1, 2]
    }

    /// Writes a part of the result back to the source: the inverse of [`Reorientation::apply`] for the rows `y` and
    /// columns `x` of plane `z` of the result.
    ///
    /// `out` may be a contiguous part of the source, such as a slab, that begins at its element `skip`; values outside it
    /// are ignored, and so is a region that exceeds the result. `put` writes or accumulates one value.
    ///
    /// # Shapes
    /// `piece` is `[y.len(), x.len()]`, row-major; `source` is the shape of the source, x first.
    pub fn put_back<T: Copy>(
        self,
        piece: &[T],
        source: [usize; 3],
        (z, y, x): (usize, Range<usize>, Range<usize>),
        out: &mut [T],
        skip: usize,
        put: impl Fn(&mut T, T),
    ) {
        let [nx, ny, nz] = self.shape(source);
        if x.is_empty() || x.end > nx || y.end > ny || z >= nz {
            return;
        }
        let (start, [sx, sy, sz]) = self.strides(source);
        for (row, y) in piece.chunks_exact(x.len()).zip(y) {
            let first = start + x.start as isize * sx + y as isize * sy + z as isize * sz - skip as isize;
            if sx == 1
                && let Some(to) = usize::try_from(first).ok().and_then(|at| out.get_mut(at..at + row.len()))
            {
                to.iter_mut().zip(row).for_each(|(to, value)| put(to, *value));
                continue;
            }
            for (i, value) in row.iter().enumerate() {
                if let Some(to) = usize::try_from(first + i as isize * sx).ok().and_then(|at| out.get_mut(at)) {
                    put(to, *value);
                }
            }
        }
    }

    /// The grid of the result. Every voxel keeps its position in the patient.
    pub fn geometry(self, source: &Geometry) -> Geometry {
        let shape = source.shape();
        let rows = source.ras_from_voxel().rows().map(|row| {
            let mut reoriented = [0.0, 0.0, 0.0, row[3]];
            for axis in 0..3 {
                let from = self.source_axis[axis];
                reoriented[axis] = if self.flipped[axis] { -row[from] } else { row[from] };
                if self.flipped[axis] {
                    reoriented[3] += row[from] * (shape[from] - 1) as f64;
                }
            }
            reoriented
        });
        // A signed permutation of a valid transform's columns is a valid transform, so the error cannot occur.
        match RasFromVoxel::new(rows).and_then(|map| source.with_grid(self.shape(shape), map)) {
            Ok(geometry) => geometry,
            Err(_) => *source,
        }
    }
}

/// Reverses the order of blocks of equal length.
fn reverse_blocks<T>(data: &mut [T], length: usize, blocks: usize) {
    let (first, second) = data.split_at_mut(blocks / 2 * length);
    let last = second.chunks_exact_mut(length).rev();
    first.chunks_exact_mut(length).zip(last).for_each(|(a, b)| a.swap_with_slice(b));
}

impl Spacing {
    /// The voxel sizes along the axes of a reoriented grid.
    #[must_use]
    pub fn reoriented(self, reorientation: Reorientation) -> Self {
        Self(reorientation.permute(self.0))
    }
}

impl<T: Copy> Volume<T> {
    /// The same volume with its axes permuted and flipped to orientation `to`.
    pub fn reoriented(&self, to: Orientation) -> Self {
        let reorientation = Reorientation::between(self.geometry().orientation(), to);
        let geometry = reorientation.geometry(self.geometry());
        let data = reorientation.apply(self.data(), self.geometry().shape());
        Self::new(geometry, data).unwrap_or_else(|_| self.clone())
    }
}

impl Image {
    /// The same image with its axes permuted and flipped to orientation `to`.
    pub fn reoriented(&self, to: Orientation) -> Self {
        let reorientation = Reorientation::between(self.geometry().orientation(), to);
        let geometry = reorientation.geometry(self.geometry());
        let data = (0..self.channels())
            .flat_map(|c| reorientation.apply(self.channel(c), self.geometry().shape()))
            .collect();
        Self::new(geometry, self.channels(), data).unwrap_or_else(|_| self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OrientationSource, VoxelIndex};

    fn phantom(orientation: Orientation) -> Volume<u32> {
        let map = RasFromVoxel::aligned(orientation, Spacing::new([1.5, 0.7, 2.5]).unwrap());
        let geometry = Geometry::new([3, 4, 5], map, OrientationSource::Sform).unwrap();
        Volume::new(geometry, (0..60).collect()).unwrap()
    }

    #[test]
    fn reorientation_keeps_the_position_of_every_voxel() {
        for from in Orientation::all() {
            let source = phantom(from);
            for to in Orientation::all() {
                let reoriented = source.reoriented(to);
                assert_eq!(reoriented.geometry().orientation(), to);
                let [nx, ny, nz] = reoriented.geometry().shape();
                for (x, y, z) in [(0, 0, 0), (nx - 1, 0, 1), (1, ny - 1, nz - 1)] {
                    let position = reoriented.geometry().ras_from_voxel().apply([x as f64, y as f64, z as f64]);
                    let there =
                        source.geometry().ras_from_voxel().inverse().apply(position).map(|v| v.round() as usize);
                    assert_eq!(
                        reoriented.get(VoxelIndex([x, y, z])),
                        source.get(VoxelIndex(there)),
                        "{from} to {to}"
                    );
                }
                let reorientation = Reorientation::between(from, to);
                assert_eq!(
                    reorientation.inverse().apply(reoriented.data(), reoriented.geometry().shape()),
                    source.data()
                );
                let mut put = vec![0; source.data().len()];
                for (z, plane) in reoriented.data().chunks_exact(nx * ny).enumerate() {
                    let (above, below) = plane.split_at(nx);
                    reorientation.put_back(
                        below,
                        source.geometry().shape(),
                        (z, 1..ny, 0..nx),
                        &mut put,
                        0,
                        |to, v| *to = v,
                    );
                    reorientation.put_back(
                        above,
                        source.geometry().shape(),
                        (z, 0..1, 0..nx),
                        &mut put,
                        0,
                        |to, v| *to = v,
                    );
                }
                assert_eq!(put, source.data(), "{from} to {to}");
            }
        }
    }
}
