use super::draw::{PatchTransform, SpatialTransform};

/// nnU-Net's threshold: above it, planes are too far apart to be mixed.
const MAX_ISOTROPIC_RATIO: f64 = 3.0;

/// The prepared case from which a patch is cut.
///
/// # Shapes
/// `image` `[C, z, y, x]`, `classes` `[z, y, x]`; `shape` is z, y, x.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SourceCase<'a> {
    pub(crate) image: &'a [f32],
    pub(crate) classes: &'a [u8],
    pub(crate) shape: [usize; 3],
}

/// The location of a patch in its case. Triples are D, H, W of the patch and z, y, x of the case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PatchLocation {
    /// The patch size.
    pub(crate) patch: [usize; 3],
    /// The position of the patch's first voxel in the case; may lie outside.
    pub(crate) corner: [i64; 3],
    /// A voxel of the case that stays inside the patch under every transform.
    pub(crate) anchor: Option<[i64; 3]>,
    /// Voxel size in millimetres.
    pub(crate) spacing_mm: [f64; 3],
}

impl PatchLocation {
    /// Whether transforms stay within the planes.
    fn is_flat(&self) -> bool {
        let ([d, h, w], [across, along_h, along_w]) = (self.patch, self.spacing_mm);
        d == 1
            || h.max(w) as f64 > MAX_ISOTROPIC_RATIO * d as f64
            || across > MAX_ISOTROPIC_RATIO * along_h.min(along_w)
    }
}

/// Maps a voxel `p` of the patch (D, H, W) to a point of the case (z, y, x): `origin + matrix · p`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct CaseFromPatch {
    matrix: [[f64; 3]; 3],
    origin: [f64; 3],
    /// Whether planes of the patch are planes of the case.
    flat: bool,
}

impl CaseFromPatch {
    fn new(spatial: &SpatialTransform, location: &PatchLocation) -> Self {
        let PatchLocation { patch, corner, anchor, spacing_mm } = *location;
        let flat = location.is_flat();
        let rotation = rotation(spatial.degrees.map(f64::to_radians), flat);
        let scale = |axis: usize| if flat && axis == 0 { 1.0 } else { spatial.scale };
        // The inverse of "rotate, then scale, in millimetres", in voxels.
        let matrix: [[f64; 3]; 3] = std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                rotation[i][j] / scale(i) * if i == j { 1.0 } else { spacing_mm[j] / spacing_mm[i] }
            })
        });
        let mut origin = [0.0; 3];
        // The fixed point of the rotation in the patch, and its position in the case. The anchor falls exactly on a voxel,
        // so that even a structure of one voxel is kept.
        let mut fixed = [0.0; 3];
        for axis in 0..3 {
            let last = patch[axis] as f64 - 1.0;
            let moves = axis > 0 || patch[0] > 1;
            let shift = if moves { (spatial.shift[axis] * patch[axis] as f64).round() } else { 0.0 };
            (fixed[axis], origin[axis]) = match anchor {
                Some(anchor) => {
                    let within = (anchor[axis] - corner[axis]) as f64;
                    ((within + shift).clamp(0.0, last), anchor[axis] as f64)
                }
                None => (last / 2.0, last / 2.0 + corner[axis] as f64 - shift),
            };
        }
        let sign = spatial.mirror.map(|mirrored| if mirrored { -1.0 } else { 1.0 });
        for j in 0..3 {
            let first = if spatial.mirror[j] { patch[j] as f64 - 1.0 } else { 0.0 };
            for i in 0..3 {
                origin[i] += matrix[i][j] * (first - fixed[j]);
            }
        }
        let matrix = matrix.map(|row| std::array::from_fn(|j| row[j] * sign[j]));
        Self { matrix, origin, flat }
    }

    /// The step from voxel to voxel along D, H, W and the position of the first, if voxels map exactly to voxels.
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

/// Rotates z, y, x by an angle about each axis, in radians; if flat, only about z.
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

impl PatchTransform {
    /// Cuts a transformed patch out of a case. Outside the case the image is 0, as prediction pads, and the class is
    /// background. Without rotation and scaling the patch is an exact copy. Otherwise the image is interpolated linearly,
    /// and a voxel gets the class with the largest linear weight (as nnU-Net interpolates labels), or the class of the
    /// nearest voxel if weights are equal.
    ///
    /// # Shapes
    /// `image` `[C, D, H, W]` and `classes` `[D, H, W]` of the patch.
    pub(crate) fn cut(
        &self,
        source: &SourceCase<'_>,
        location: &PatchLocation,
        image: &mut [f32],
        classes: &mut [u8],
    ) {
        let (from, to) = (source.shape.iter().product::<usize>(), location.patch.iter().product::<usize>());
        if from == 0 || to == 0 {
            return;
        }
        let map = CaseFromPatch::new(&self.spatial, location);
        if let Some((step, first)) = map.whole_voxels() {
            for (plane, out) in source.image.chunks_exact(from).zip(image.chunks_exact_mut(to)) {
                copy(plane, source.shape, out, location.patch, step, first);
            }
            copy(source.classes, source.shape, classes, location.patch, step, first);
        } else {
            resample(source, &map, location.patch, image, classes);
        }
        for (intensity, channel) in self.intensities.iter().zip(image.chunks_exact_mut(to)) {
            intensity.apply(channel, location.patch, map.flat);
        }
    }
}

/// Copies rows, in reverse along axes whose `step` is -1.
fn copy<T: Copy + Default>(
    from: &[T],
    [nz, ny, nx]: [usize; 3],
    to: &mut [T],
    [_, height, width]: [usize; 3],
    step: [i64; 3],
    first: [i64; 3],
) {
    // The columns of the patch inside the case.
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

/// The eight voxels around a point: the position of the first, and the weight of the second along each axis.
#[derive(Debug, Clone, Copy)]
struct Cell {
    /// z, y, x; -1 directly outside the case.
    base: [i32; 3],
    share: [f32; 3],
    coverage: Coverage,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Coverage {
    /// All eight voxels are outside.
    Outside,
    /// Some voxels are outside.
    Border,
    /// All eight voxels are inside; the offset of the first.
    Inside(usize),
}

/// The grid of a case.
#[derive(Debug, Clone, Copy)]
struct Grid {
    shape: [usize; 3],
    /// Offset to the next voxel along z; 0 if points lie exactly on planes.
    along_z: usize,
    along_y: usize,
}

impl Grid {
    fn new(shape: [usize; 3], flat: bool) -> Self {
        Self { shape, along_z: if flat { 0 } else { shape[1] * shape[2] }, along_y: shape[2] }
    }

    #[inline]
    fn cell(&self, at: [f64; 3]) -> Cell {
        let mut cell = Cell { base: [-1; 3], share: [0.0; 3], coverage: Coverage::Outside };
        let mut inside = true;
        for (axis, at) in at.into_iter().enumerate() {
            if !(at > -1.0 && at < self.shape[axis] as f64) {
                return cell;
            }
            // Positive, so that the conversion to an integer rounds down.
            let above = at + 1.0;
            let floor = above as i32;
            cell.base[axis] = floor - 1;
            cell.share[axis] = (above - f64::from(floor)) as f32;
            let last = if axis == 0 && self.along_z == 0 { self.shape[0] } else { self.shape[axis] - 1 };
            inside &= floor >= 1 && floor as usize <= last;
        }
        let [z, y, x] = cell.base.map(|v| v as usize);
        cell.coverage =
            if inside { Coverage::Inside((z * self.shape[1] + y) * self.shape[2] + x) } else { Coverage::Border };
        cell
    }

    /// The eight values, x fastest.
    #[inline]
    fn corners<T: Copy + Default>(&self, values: &[T], cell: &Cell) -> [T; 8] {
        let (z, y) = (self.along_z, self.along_y);
        match cell.coverage {
            Coverage::Outside => [T::default(); 8],
            Coverage::Inside(offset) => match values.get(offset..offset + z + y + 2) {
                Some(v) => [v[0], v[1], v[y], v[y + 1], v[z], v[z + 1], v[z + y], v[z + y + 1]],
                None => [T::default(); 8],
            },
            Coverage::Border => std::array::from_fn(|corner| {
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
    source: &SourceCase<'_>,
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
    /// Weights that differ by less count as equal, so that rounding does not decide.
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
