use std::ops::Range;

/// A network's output on a whole grid, before softmax or sigmoid.
///
/// # Shapes
/// `data` is `[K, z, y, x]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Logits {
    shape: [usize; 3],
    classes: usize,
    data: Vec<f32>,
    tiles: usize,
}

impl Logits {
    pub(super) fn new(shape: [usize; 3], classes: usize, data: Vec<f32>, tiles: usize) -> Self {
        Self { shape, classes, data, tiles }
    }

    /// Voxels along x, y, z of the grid.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Output channels of the network.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The values, `[K, z, y, x]`.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// Number of predicted tiles. Mirrored copies of a tile, and further models that share it, are not counted.
    pub fn tiles(&self) -> usize {
        self.tiles
    }

    /// Some rows and columns of one plane, `[K, y, x]`.
    pub(super) fn plane(&self, z: usize, y: &Range<usize>, x: &Range<usize>) -> Vec<f32> {
        let [nx, ny, nz] = self.shape;
        let mut out = Vec::with_capacity(self.classes * y.len() * x.len());
        for channel in self.data.chunks_exact(nx * ny * nz) {
            for y in y.clone() {
                let row = (z * ny + y) * nx;
                out.extend_from_slice(channel.get(row + x.start..row + x.end).unwrap_or_default());
            }
        }
        out
    }
}
