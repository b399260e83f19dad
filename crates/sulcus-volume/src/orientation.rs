use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::{Geometry, Image, RasFromVoxel, Volume, VolumeError};

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

    /// 0 for left–right, 1 for posterior–anterior, 2 for inferior–superior.
    pub fn ras_axis(self) -> usize {
        usize::from(self.ras_axis)
    }

    /// +1 towards R, A or S; −1 towards L, P or I.
    pub fn sign(self) -> f64 {
        if self.positive { 1.0 } else { -1.0 }
    }

    /// R, L, A, P, S or I.
    pub fn letter(self) -> char {
        LETTERS[self.ras_axis()][usize::from(self.positive)]
    }

    /// The other way along the same axis.
    pub fn opposite(self) -> Self {
        Self { positive: !self.positive, ..self }
    }
}

/// Which way the three axes of a grid run in the patient: `RAS` means the first runs to the right, the second to
/// anterior, the third to superior. 48 of them exist.
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

    /// The directions of the first, second and third axis.
    pub fn axes(self) -> [AxisDirection; 3] {
        self.0
    }

    /// All 48.
    pub fn all() -> impl Iterator<Item = Self> {
        const ORDERS: [[u8; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        ORDERS.into_iter().flat_map(|order| {
            (0..8_u8).map(move |signs| {
                Self(std::array::from_fn(|i| AxisDirection { ras_axis: order[i], positive: signs >> i & 1 == 1 }))
            })
        })
    }

    /// nibabel's `io_orientation`: the rotation nearest to the map's directions (its polar factor), then axis by
    /// axis, the most decided first, the patient axis that it follows most.
    pub(crate) fn of(map: &RasFromVoxel) -> Self {
        let spacing = map.spacing().mm();
        let mut m: [[f64; 3]; 3] =
            std::array::from_fn(|row| std::array::from_fn(|col| map.rows()[row][col] / spacing[col]));
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
        let strength = |col: usize| (0..3).map(|r| m[r][col].abs()).fold(0.0, f64::max);
        let mut order = [0, 1, 2];
        order.sort_by(|a, b| strength(*b).total_cmp(&strength(*a)));
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

/// The turning of a grid from one orientation to another: axes change places and direction, no voxel is
/// interpolated. It works on arrays of any value, and its [`inverse`](Self::inverse) undoes it exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reorientation {
    /// For each axis of the result: which axis of the source it is, and whether it runs the other way.
    source_axis: [usize; 3],
    flipped: [bool; 3],
}

impl Reorientation {
    /// The turning that makes an array of orientation `from` one of orientation `to`.
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

    /// The turning back.
    pub fn inverse(self) -> Self {
        let mut back = self;
        for (axis, source) in self.source_axis.into_iter().enumerate() {
            back.source_axis[source] = axis;
            back.flipped[source] = self.flipped[axis];
        }
        back
    }

    /// Whether nothing moves.
    pub fn is_identity(self) -> bool {
        self.source_axis == [0, 1, 2] && self.flipped == [false; 3]
    }

    /// The shape after turning.
    pub fn shape(self, source: [usize; 3]) -> [usize; 3] {
        self.source_axis.map(|a| source[a])
    }

    /// Which axis of the source an axis of the result is.
    pub(crate) fn source_axis(self, axis: usize) -> usize {
        self.source_axis[axis]
    }

    /// The part of the result that a part of the source becomes; ranges along each axis, first axis first.
    pub fn part(self, source: [usize; 3], part: [Range<usize>; 3]) -> [Range<usize>; 3] {
        std::array::from_fn(|axis| {
            let from = self.source_axis[axis];
            let (n, Range { start, end }) = (source[from], part[from].clone());
            if self.flipped[axis] { n.saturating_sub(end)..n.saturating_sub(start) } else { start..end }
        })
    }

    /// The spacing after turning, or any other triple that goes with the axes but has no sign.
    pub fn triple(self, source: [f64; 3]) -> [f64; 3] {
        self.source_axis.map(|a| source[a])
    }

    /// Offset of the first element, and the step between elements along each axis of the result, in a source of
    /// shape `source` with its first axis fastest.
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

    /// Turns an array of shape `source`, first axis fastest. A length that does not fit the shape gives an empty
    /// result.
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

    /// Puts a piece of a plane of the turned array where it belongs in an array of shape `source`: the piece's rows are
    /// those of `y`, its columns those of `x`, in plane `z` of the result of [`Reorientation::apply`].
    ///
    /// `out` may be the first part of the source alone, such as a slab; values beyond it, and a piece that does not fit,
    /// are left out. `skip` elements of the source lie before `out`. `put` says how a value gets there.
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

    /// The grid after turning: every voxel stays where it is in the patient.
    pub fn geometry(self, source: &Geometry) -> Geometry {
        let shape = source.shape();
        let rows = source.ras_from_voxel().rows().map(|row| {
            let mut turned = [0.0, 0.0, 0.0, row[3]];
            for axis in 0..3 {
                let from = self.source_axis[axis];
                turned[axis] = if self.flipped[axis] { -row[from] } else { row[from] };
                if self.flipped[axis] {
                    turned[3] += row[from] * (shape[from] - 1) as f64;
                }
            }
            turned
        });
        // A permutation with sign changes of a checked map is again one.
        match RasFromVoxel::new(rows).and_then(|map| Geometry::new(self.shape(shape), map, source.source())) {
            Ok(geometry) => geometry,
            Err(_) => *source,
        }
    }
}

impl<T: Copy> Volume<T> {
    /// The same volume with its axes along `to`.
    pub fn reoriented(&self, to: Orientation) -> Self {
        let turn = Reorientation::between(self.geometry().orientation(), to);
        let geometry = turn.geometry(self.geometry());
        let data = turn.apply(self.data(), self.geometry().shape());
        Self::new(geometry, data).unwrap_or_else(|_| self.clone())
    }
}

impl Image {
    /// The same image with its axes along `to`.
    pub fn reoriented(&self, to: Orientation) -> Self {
        let turn = Reorientation::between(self.geometry().orientation(), to);
        let geometry = turn.geometry(self.geometry());
        let data =
            (0..self.channels()).flat_map(|c| turn.apply(self.channel(c), self.geometry().shape())).collect();
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
    fn all_are_48_different_ones() {
        let mut codes: Vec<String> = Orientation::all().map(|o| o.to_string()).collect();
        codes.sort();
        codes.dedup();
        assert_eq!(codes.len(), 48);
        assert!(Orientation::all().all(|o| o.to_string().parse() == Ok(o)));
    }

    #[test]
    fn the_code_of_an_aligned_grid_is_its_own() {
        for orientation in Orientation::all() {
            assert_eq!(phantom(orientation).geometry().orientation(), orientation);
        }
    }

    #[test]
    fn turning_keeps_every_voxel_at_its_place_in_the_patient() {
        for from in Orientation::all() {
            let source = phantom(from);
            for to in Orientation::all() {
                let turned = source.reoriented(to);
                assert_eq!(turned.geometry().orientation(), to);
                let [nx, ny, nz] = turned.geometry().shape();
                for (x, y, z) in [(0, 0, 0), (nx - 1, 0, 1), (1, ny - 1, nz - 1)] {
                    let place = turned.geometry().ras_from_voxel().apply([x as f64, y as f64, z as f64]);
                    let there =
                        source.geometry().ras_from_voxel().inverse().apply(place).map(|v| v.round() as usize);
                    assert_eq!(turned.get(VoxelIndex([x, y, z])), source.get(VoxelIndex(there)), "{from} to {to}");
                }
                let turn = Reorientation::between(from, to);
                assert_eq!(turn.inverse().apply(turned.data(), turned.geometry().shape()), source.data());
                let mut put = vec![0; source.data().len()];
                for (z, plane) in turned.data().chunks_exact(nx * ny).enumerate() {
                    let (above, below) = plane.split_at(nx);
                    turn.put_back(below, source.geometry().shape(), (z, 1..ny, 0..nx), &mut put, 0, |to, v| {
                        *to = v
                    });
                    turn.put_back(above, source.geometry().shape(), (z, 0..1, 0..nx), &mut put, 0, |to, v| {
                        *to = v
                    });
                }
                assert_eq!(put, source.data(), "{from} to {to}");
            }
        }
    }

    #[test]
    fn codes_that_are_none_are_refused() {
        for code in ["", "RA", "RAX", "RLS", "RASS", "ÄÖÜ"] {
            assert!(code.parse::<Orientation>().is_err(), "{code}");
        }
    }
}
