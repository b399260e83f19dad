use super::draw::{Motion, Variation};

/// nnU-Net's threshold: beyond it, planes are too far apart to be mixed.
const ANISOTROPIC: f64 = 3.0;

/// A prepared case to cut from.
///
/// # Shapes
/// `image` `[C, z, y, x]`, `classes` `[z, y, x]`; `shape` is z, y, x.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) image: &'a [f32],
    pub(crate) classes: &'a [u8],
    pub(crate) shape: [usize; 3],
}

/// Where a patch lies in its case; triples are D, H, W and z, y, x.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Placement {
    /// The patch's edges.
    pub(crate) patch: [usize; 3],
    /// Where its first voxel lies in the case, which may be outside.
    pub(crate) corner: [i64; 3],
    /// A voxel of the case, inside the patch, that must stay in it however the patch is varied.
    pub(crate) anchor: Option<[i64; 3]>,
    /// Voxel size in millimetres.
    pub(crate) spacing_mm: [f64; 3],
}

impl Placement {
    /// Whether the patch is varied within its planes alone.
    fn is_flat(&self) -> bool {
        let ([d, h, w], [across, along_h, along_w]) = (self.patch, self.spacing_mm);
        d == 1 || h.max(w) as f64 > ANISOTROPIC * d as f64 || across > ANISOTROPIC * along_h.min(along_w)
    }
}

/// Where in the case a voxel `p` of the patch is looked up: `origin + matrix · p`, D, H, W to z, y, x.
#[derive(Debug, Clone, Copy, PartialEq)]
struct CaseFromPatch {
    matrix: [[f64; 3]; 3],
    origin: [f64; 3],
    /// The planes of the patch are planes of the case.
    flat: bool,
}

impl CaseFromPatch {
    fn new(motion: &Motion, placement: &Placement) -> Self {
        let Placement { patch, corner, anchor, spacing_mm } = *placement;
        let flat = placement.is_flat();
        let turn = rotation(motion.degrees.map(f64::to_radians), flat);
        let scale = |axis: usize| if flat && axis == 0 { 1.0 } else { motion.scale };
        // The inverse of "turn, then scale, in millimetres", in voxels.
        let matrix: [[f64; 3]; 3] = std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                turn[i][j] / scale(i) * if i == j { 1.0 } else { spacing_mm[j] / spacing_mm[i] }
            })
        });
        let mut origin = [0.0; 3];
        // The point of the patch that stays where it is while the rest turns, and where it lies in the case. The
        // anchor falls exactly on a voxel, so that even a structure of one voxel survives.
        let mut fixed = [0.0; 3];
        for axis in 0..3 {
            let last = patch[axis] as f64 - 1.0;
            let moves = axis > 0 || patch[0] > 1;
            let shift = if moves { (motion.shift[axis] * patch[axis] as f64).round() } else { 0.0 };
            (fixed[axis], origin[axis]) = match anchor {
                Some(anchor) => {
                    let within = (anchor[axis] - corner[axis]) as f64;
                    ((within + shift).clamp(0.0, last), anchor[axis] as f64)
                }
                None => (last / 2.0, last / 2.0 + corner[axis] as f64 - shift),
            };
        }
        let sign = motion.mirror.map(|mirrored| if mirrored { -1.0 } else { 1.0 });
        for j in 0..3 {
            let first = if motion.mirror[j] { patch[j] as f64 - 1.0 } else { 0.0 };
            for i in 0..3 {
                origin[i] += matrix[i][j] * (first - fixed[j]);
            }
        }
        let matrix = matrix.map(|row| std::array::from_fn(|j| row[j] * sign[j]));
        Self { matrix, origin, flat }
    }

    /// The step from voxel to voxel along D, H, W and the place of the first, when voxels fall on voxels.
    fn whole_voxels(&self) -> Option<([i64; 3], [i64; 3])> {
        for (i, row) in self.matrix.iter().enumerate() {
            for (j, value) in row.iter().enumerate() {
                if value.abs() != f64::from(u8::from(i == j)) {
                    return None;
                }
            }
        }
        Some((std::array::from_fn(|a| self.matrix[a][a] as i64), self.origin.map(|v| v.round() as i64)))
    }

    fn row(&self, d: usize, h: usize) -> [f64; 3] {
        std::array::from_fn(|a| self.origin[a] + self.matrix[a][0] * d as f64 + self.matrix[a][1] * h as f64)
    }

    fn step(&self) -> [f64; 3] {
        self.matrix.map(|row| row[2])
    }
}

/// Rotates z, y, x by an angle about each axis, in radians; when flat about z alone.
fn rotation(angles: [f64; 3], flat: bool) -> [[f64; 3]; 3] {
    let about = |axis: usize, angle: f64| {
        let (sin, cos) = angle.sin_cos();
        let (a, b) = ((axis + 1) % 3, (axis + 2) % 3);
        let mut m = [[0.0; 3]; 3];
        m[axis][axis] = 1.0;
        (m[a][a], m[a][b], m[b][a], m[b][b]) = (cos, -sin, sin, cos);
        m
    };
    let times = |a: [[f64; 3]; 3], b: [[f64; 3]; 3]| -> [[f64; 3]; 3] {
        std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| a[i][k] * b[k][j]).sum()))
    };
    if flat {
        return about(0, angles[0]);
    }
    times(about(0, angles[0]), times(about(1, angles[1]), about(2, angles[2])))
}

impl Variation {
    /// Cuts a patch out of a case, varied. What lies outside the case is 0, as prediction pads, and background. An
    /// unmoved patch is an exact copy; otherwise the image is linear between voxels, and a voxel belongs to the class
    /// with the greatest linear share (as nnU-Net interpolates labels), the nearest voxel's when shares are equal.
    ///
    /// # Shapes
    /// `image` `[C, D, H, W]` and `classes` `[D, H, W]` of the patch.
    pub(crate) fn cut(&self, source: &Source<'_>, placement: &Placement, image: &mut [f32], classes: &mut [u8]) {
        let (from, to) = (source.shape.iter().product::<usize>(), placement.patch.iter().product::<usize>());
        if from == 0 || to == 0 {
            return;
        }
        let map = CaseFromPatch::new(&self.motion, placement);
        if let Some((step, first)) = map.whole_voxels() {
            for (plane, out) in source.image.chunks_exact(from).zip(image.chunks_exact_mut(to)) {
                copy(plane, source.shape, out, placement.patch, step, first);
            }
            copy(source.classes, source.shape, classes, placement.patch, step, first);
        } else {
            resample(source, &map, placement.patch, image, classes);
        }
        for (tint, channel) in self.tints.iter().zip(image.chunks_exact_mut(to)) {
            tint.apply(channel, placement.patch, map.flat);
        }
    }
}

/// Copies rows, from back to front along axes whose `step` is -1.
fn copy<T: Copy + Default>(
    from: &[T],
    [nz, ny, nx]: [usize; 3],
    to: &mut [T],
    [_, height, width]: [usize; 3],
    step: [i64; 3],
    first: [i64; 3],
) {
    // The columns of the patch that lie inside the case.
    let (low, high) =
        if step[2] > 0 { (-first[2], nx as i64 - first[2]) } else { (first[2] - nx as i64 + 1, first[2] + 1) };
    let clamp = |v: i64| v.clamp(0, width as i64) as usize;
    let (low, high) = (clamp(low), clamp(high));
    for (i, out) in to.chunks_exact_mut(width).enumerate() {
        out.fill(T::default());
        let along = |axis: usize, index: usize, n: usize| {
            usize::try_from(first[axis] + step[axis] * index as i64).ok().filter(|v| *v < n)
        };
        let (Some(z), Some(y)) = (along(0, i / height, nz), along(1, i % height, ny)) else { continue };
        let row = (z * ny + y) * nx;
        if low >= high {
            continue;
        }
        let ends = [low, high - 1].map(|w| (first[2] + step[2] * w as i64) as usize);
        let values = from.get(row + ends[0].min(ends[1])..=row + ends[0].max(ends[1])).unwrap_or_default();
        let out = out.get_mut(low..high).unwrap_or_default();
        if step[2] > 0 {
            out.copy_from_slice(values);
        } else {
            out.iter_mut().zip(values.iter().rev()).for_each(|(o, v)| *o = *v);
        }
    }
}

/// The eight voxels around a place: where the first of them is, and how far along each axis to the next the place lies.
#[derive(Debug, Clone, Copy)]
struct Cell {
    /// z, y, x; -1 where it is just outside.
    base: [i32; 3],
    share: [f32; 3],
    reach: Reach,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Reach {
    /// All eight voxels are outside.
    Outside,
    /// Some are.
    Border,
    /// None is; the offset of the first.
    Inside(usize),
}

/// A grid that cells lie in.
#[derive(Debug, Clone, Copy)]
struct Grid {
    shape: [usize; 3],
    /// From a cell's first voxel to its next along z; 0 when places lie exactly on planes.
    along_z: usize,
    along_y: usize,
}

impl Grid {
    fn new(shape: [usize; 3], flat: bool) -> Self {
        Self { shape, along_z: if flat { 0 } else { shape[1] * shape[2] }, along_y: shape[2] }
    }

    #[inline]
    fn cell(&self, at: [f64; 3]) -> Cell {
        let mut cell = Cell { base: [-1; 3], share: [0.0; 3], reach: Reach::Outside };
        let mut inside = true;
        for (axis, at) in at.into_iter().enumerate() {
            if !(at > -1.0 && at < self.shape[axis] as f64) {
                return cell;
            }
            // Positive, so that the cut to an integer is the floor.
            let above = at + 1.0;
            let floor = above as i32;
            cell.base[axis] = floor - 1;
            cell.share[axis] = (above - f64::from(floor)) as f32;
            let last = if axis == 0 && self.along_z == 0 { self.shape[0] } else { self.shape[axis] - 1 };
            inside &= floor >= 1 && floor as usize <= last;
        }
        let [z, y, x] = cell.base.map(|v| v as usize);
        cell.reach =
            if inside { Reach::Inside((z * self.shape[1] + y) * self.shape[2] + x) } else { Reach::Border };
        cell
    }

    /// The eight values, x fastest.
    #[inline]
    fn corners<T: Copy + Default>(&self, values: &[T], cell: &Cell) -> [T; 8] {
        let (z, y) = (self.along_z, self.along_y);
        match cell.reach {
            Reach::Outside => [T::default(); 8],
            Reach::Inside(offset) => match values.get(offset..offset + z + y + 2) {
                Some(v) => [v[0], v[1], v[y], v[y + 1], v[z], v[z + 1], v[z + y], v[z + y + 1]],
                None => [T::default(); 8],
            },
            Reach::Border => std::array::from_fn(|corner| {
                let [nz, ny, nx] = self.shape;
                let up = |axis: usize, bit: usize| cell.base[axis] + (corner >> bit & 1) as i32;
                let at = [if z == 0 { cell.base[0] } else { up(0, 2) }, up(1, 1), up(2, 0)];
                match at.map(usize::try_from) {
                    [Ok(z), Ok(y), Ok(x)] if z < nz && y < ny && x < nx => {
                        values.get((z * ny + y) * nx + x).copied().unwrap_or_default()
                    }
                    _ => T::default(),
                }
            }),
        }
    }
}

fn resample(
    source: &Source<'_>,
    map: &CaseFromPatch,
    [_, height, width]: [usize; 3],
    image: &mut [f32],
    classes: &mut [u8],
) {
    let grid = Grid::new(source.shape, map.flat);
    let (from, to) = (source.shape.iter().product::<usize>(), classes.len());
    let step = map.step();
    let mut cells = Vec::with_capacity(width);
    for (i, out) in classes.chunks_exact_mut(width).enumerate() {
        let first = map.row(i / height, i % height);
        cells.clear();
        cells.extend((0..width).map(|w| grid.cell(std::array::from_fn(|a| first[a] + step[a] * w as f64))));
        for (class, cell) in out.iter_mut().zip(&cells) {
            *class = vote(grid.corners(source.classes, cell), cell.share);
        }
        for (plane, channel) in source.image.chunks_exact(from).zip(image.chunks_exact_mut(to)) {
            let out = channel.get_mut(i * width..(i + 1) * width).unwrap_or_default();
            for (value, cell) in out.iter_mut().zip(&cells) {
                *value = linear(grid.corners(plane, cell), cell.share);
            }
        }
    }
}

#[inline]
fn linear(v: [f32; 8], [z, y, x]: [f32; 3]) -> f32 {
    let along_x = [0, 2, 4, 6].map(|i| v[i] + (v[i + 1] - v[i]) * x);
    let along_y = [0, 2].map(|i| along_x[i] + (along_x[i + 1] - along_x[i]) * y);
    along_y[0] + (along_y[1] - along_y[0]) * z
}

#[inline]
fn vote(classes: [u8; 8], share: [f32; 3]) -> u8 {
    if classes == [classes[0]; 8] { classes[0] } else { vote_among(classes, share) }
}

fn vote_among(classes: [u8; 8], share: [f32; 3]) -> u8 {
    /// Shares that differ by less are equal: rounding does not decide.
    const EQUAL: f32 = 1e-5;
    let weights: [f32; 8] = std::array::from_fn(|corner| {
        let along = |axis: usize, bit: usize| {
            if corner >> bit & 1 == 1 { share[axis] } else { 1.0 - share[axis] }
        };
        along(0, 2) * along(1, 1) * along(2, 0)
    });
    let of =
        |class: u8| -> f32 { classes.iter().zip(weights).filter(|(c, _)| **c == class).map(|(_, w)| w).sum() };
    let nearest = share.iter().fold(0, |corner, s| corner << 1 | usize::from(*s >= 0.5));
    let mut best = (of(classes[nearest]), classes[nearest]);
    for class in classes {
        let weight = of(class);
        if weight > best.0 + EQUAL {
            best = (weight, class);
        }
    }
    best.1
}
