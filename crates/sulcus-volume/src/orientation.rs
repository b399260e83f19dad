use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::{Geometry, Image, RasFromVoxel, Volume, VolumeError, Xyz};

/// A direction along one patient axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AxisDirection {
    ras_axis: u8,
    positive: bool,
}

const LETTERS: [[char; 2]; 3] = [['L', 'R'], ['P', 'A'], ['I', 'S']];

impl AxisDirection {
    fn from_letter(letter: char) -> Option<Self> {
        let wanted = letter.to_ascii_uppercase();
        LETTERS.iter().enumerate().find_map(|(axis, pair)| {
            let side = pair.iter().position(|l| *l == wanted)?;
            Some(Self { ras_axis: axis as u8, positive: side == 1 })
        })
    }

    /// The index in RAS coordinates: 0 for left–right, 1 for posterior–anterior, 2 for inferior–superior.
    pub fn ras_axis(self) -> usize {
        usize::from(self.ras_axis)
    }

    /// +1 towards R, A or S; −1 towards L, P or I.
    pub fn sign(self) -> f64 {
        if self.positive { 1.0 } else { -1.0 }
    }

    /// The letter of the direction: R, L, A, P, S or I.
    pub fn letter(self) -> char {
        LETTERS[self.ras_axis()][usize::from(self.positive)]
    }

    /// The opposite direction along the same axis.
    pub fn opposite(self) -> Self {
        Self { positive: !self.positive, ..self }
    }
}

/// The patient directions of the x, y and z axis of a grid, as a three-letter code. `RAS` means that x runs to the right,
/// y to anterior and z to superior. There are 48 orientations.
///
/// ```
/// use sulcus_volume::Orientation;
///
/// let orientation: Orientation = "LPS".parse()?;
/// assert_eq!(orientation.axes()[0].letter(), 'L');
/// # Ok::<(), sulcus_volume::VolumeError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Orientation([AxisDirection; 3]);

impl Orientation {
    /// Right, anterior, superior: the axes of NIfTI world space.
    pub const RAS: Self = Self([
        AxisDirection { ras_axis: 0, positive: true },
        AxisDirection { ras_axis: 1, positive: true },
        AxisDirection { ras_axis: 2, positive: true },
    ]);

    /// The directions of the x, y and z axis.
    pub fn axes(self) -> [AxisDirection; 3] {
        self.0
    }

    /// All 48 orientations.
    pub fn all() -> impl Iterator<Item = Self> {
        const ORDERS: [[u8; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        ORDERS.into_iter().flat_map(|order| {
            (0..8_u8).map(move |signs| {
                Self(std::array::from_fn(|i| AxisDirection { ras_axis: order[i], positive: signs >> i & 1 == 1 }))
            })
        })
    }

    /// nibabel's `io_orientation`: takes the rotation closest to the transform (its polar factor) and assigns a patient
    /// axis to each voxel axis, beginning with the voxel axis that has the largest component.
    pub(crate) fn of(ras_from_voxel: &RasFromVoxel) -> Self {
        let spacing = ras_from_voxel.spacing().mm();
        let mut m: [[f64; 3]; 3] =
            std::array::from_fn(|row| std::array::from_fn(|col| ras_from_voxel.rows()[row][col] / spacing[col]));
        // Newton's iteration for the polar factor (Higham 1986): X ← (X + X⁻ᵀ) / 2; X⁻ᵀ = cofactors / det.
        for _ in 0..100 {
            let cof = cofactors(&m);
            let det: f64 = (0..3).map(|c| m[0][c] * cof[0][c]).sum();
            let next: [[f64; 3]; 3] =
                std::array::from_fn(|r| std::array::from_fn(|c| 0.5 * (m[r][c] + cof[r][c] / det)));
            let change = (0..9).map(|i| (next[i / 3][i % 3] - m[i / 3][i % 3]).abs()).fold(0.0, f64::max);
            m = next;
            if change < 1e-14 {
                break;
            }
        }
        let largest_component = |col: usize| (0..3).map(|r| m[r][col].abs()).fold(0.0, f64::max);
        let mut order = [0, 1, 2];
        order.sort_by(|a, b| largest_component(*b).total_cmp(&largest_component(*a)));
        let mut free = [true; 3];
        let mut axes = Self::RAS.0;
        for col in order {
            let mut best = None::<usize>;
            for row in (0..3).filter(|r| free[*r]) {
                if best.is_none_or(|b| m[row][col].abs() > m[b][col].abs()) {
                    best = Some(row);
                }
            }
            let row = best.unwrap_or(0);
            free[row] = false;
            axes[col] = AxisDirection { ras_axis: row as u8, positive: m[row][col] > 0.0 };
        }
        Self(axes)
    }
}

fn cofactors(m: &[[f64; 3]; 3]) -> [[f64; 3]; 3] {
    std::array::from_fn(|r| {
        std::array::from_fn(|c| {
            let (r1, r2, c1, c2) = ((r + 1) % 3, (r + 2) % 3, (c + 1) % 3, (c + 2) % 3);
            m[r1][c1] * m[r2][c2] - m[r1][c2] * m[r2][c1]
        })
    })
}

impl FromStr for Orientation {
    type Err = VolumeError;
    fn from_str(code: &str) -> Result<Self, Self::Err> {
        let bad = || VolumeError::Orientation(code.chars().take(16).collect());
        let axes: Vec<AxisDirection> = code.chars().map_while(AxisDirection::from_letter).collect();
        let axes: [AxisDirection; 3] = axes.try_into().map_err(|_| bad())?;
        let mut seen = [false; 3];
        axes.iter().for_each(|a| seen[a.ras_axis()] = true);
        if code.chars().count() != 3 || seen.contains(&false) { Err(bad()) } else { Ok(Self(axes)) }
    }
}

impl TryFrom<String> for Orientation {
    type Error = VolumeError;
    fn try_from(code: String) -> Result<Self, Self::Error> {
        code.parse()
    }
}

impl From<Orientation> for String {
    fn from(orientation: Orientation) -> Self {
        orientation.to_string()
    }
}

impl fmt::Display for Orientation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.map(AxisDirection::letter).iter().collect::<String>())
    }
}

impl fmt::Debug for Orientation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Orientation({self})")
    }
}

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
        match RasFromVoxel::new(rows).and_then(|map| Geometry::new(self.shape(shape), map, source.source())) {
            Ok(geometry) => geometry,
            Err(_) => *source,
        }
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
    use crate::{OrientationSource, Spacing, VoxelIndex};

    fn phantom(orientation: Orientation) -> Volume<u32> {
        let map = RasFromVoxel::aligned(orientation, Spacing::new([1.5, 0.7, 2.5]).unwrap());
        let geometry = Geometry::new([3, 4, 5], map, OrientationSource::Sform).unwrap();
        Volume::new(geometry, (0..60).collect()).unwrap()
    }

    #[test]
    fn there_are_48_distinct_orientations() {
        let mut codes: Vec<String> = Orientation::all().map(|o| o.to_string()).collect();
        codes.sort();
        codes.dedup();
        assert_eq!(codes.len(), 48);
        assert!(Orientation::all().all(|o| o.to_string().parse() == Ok(o)));
    }

    #[test]
    fn aligned_grid_has_its_orientation() {
        for orientation in Orientation::all() {
            assert_eq!(phantom(orientation).geometry().orientation(), orientation);
        }
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

    #[test]
    fn invalid_orientation_codes_are_refused() {
        for code in ["", "RA", "RAX", "RLS", "RASS", "ÄÖÜ"] {
            assert!(code.parse::<Orientation>().is_err(), "{code}");
        }
    }
}
