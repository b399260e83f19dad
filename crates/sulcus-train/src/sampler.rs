use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sulcus_pipeline::{Prepared, PreparedLabels};

use crate::Augmentation;
use crate::augment::Slice;

/// A prepared case, held in memory, and where its structures are.
pub(crate) struct TrainingCase {
    image: Prepared,
    labels: PreparedLabels,
    /// For each class from 1 on: the slices that hold it. Classes that the case lacks are left out.
    slices_of_class: Vec<(u8, Vec<usize>)>,
}

impl TrainingCase {
    /// `classes`: how many structures there are.
    pub(crate) fn new(image: Prepared, labels: PreparedLabels, classes: usize) -> Self {
        let [nx, ny, _] = labels.shape();
        let mut slices = vec![Vec::new(); classes + 1];
        for (z, plane) in labels.classes().chunks_exact((nx * ny).max(1)).enumerate() {
            let mut seen = vec![false; classes + 1];
            plane.iter().for_each(|c| seen[usize::from(*c).min(classes)] = true);
            slices.iter_mut().zip(seen).filter(|(_, seen)| *seen).for_each(|(list, _)| list.push(z));
        }
        let slices_of_class =
            (0..=u8::MAX).zip(slices).skip(1).filter(|(_, list): &(u8, Vec<usize>)| !list.is_empty()).collect();
        Self { image, labels, slices_of_class }
    }

    pub(crate) fn image(&self) -> &Prepared {
        &self.image
    }

    pub(crate) fn labels(&self) -> &PreparedLabels {
        &self.labels
    }

    /// Slices that hold any structure.
    pub(crate) fn foreground_slices(&self) -> usize {
        let mut all: Vec<usize> = self.slices_of_class.iter().flat_map(|(_, list)| list.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all.len()
    }

    fn slice(&self, z: usize) -> Slice<'_> {
        let [nx, ny, nz] = self.image.shape();
        let area = nx * ny;
        let plane =
            |c: usize| self.image.data().get((c * nz + z) * area..(c * nz + z + 1) * area).unwrap_or_default();
        Slice {
            channels: (0..self.image.channels()).map(plane).collect(),
            classes: self.labels.classes().get(z * area..(z + 1) * area).unwrap_or_default(),
            shape: [ny, nx],
        }
    }
}

/// Draws training patches. Which patch a sample is depends on (seed, epoch, index of the sample) alone, so neither
/// the number of workers nor an interruption changes what a network is trained on.
pub(crate) struct Sampler {
    pub(crate) cases: Vec<TrainingCase>,
    /// H, W.
    pub(crate) patch: [usize; 2],
    pub(crate) batch_size: usize,
    /// At least this share of a batch holds foreground.
    pub(crate) foreground_share: f64,
    pub(crate) augmentation: Augmentation,
    pub(crate) seed: u64,
}

/// Patches for one step.
///
/// # Shapes
/// `image` `[N, C, H, W]`, `classes` `[N, H, W]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Batch {
    pub(crate) image: Vec<f32>,
    pub(crate) classes: Vec<u8>,
    /// N, C, H, W.
    pub(crate) shape: [usize; 4],
}

impl Sampler {
    pub(crate) fn batch(&self, epoch: usize, step: usize) -> Batch {
        let [height, width] = self.patch;
        let area = height * width;
        let channels = self.cases.first().map_or(1, |case| case.image.channels());
        let mut image = vec![0.0; self.batch_size * channels * area];
        let mut classes = vec![0; self.batch_size * area];
        let with_foreground = (self.batch_size as f64 * self.foreground_share).ceil() as usize;
        let samples = image.chunks_exact_mut((channels * area).max(1)).zip(classes.chunks_exact_mut(area.max(1)));
        for (index, (image, classes)) in samples.enumerate() {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(((epoch as u64) << 32) | (step * self.batch_size + index) as u64);
            self.sample(&mut rng, index < with_foreground, image, classes);
        }
        Batch { image, classes, shape: [self.batch_size, channels, height, width] }
    }

    fn sample(&self, rng: &mut ChaCha8Rng, foreground: bool, image: &mut [f32], classes: &mut [u8]) {
        let holds = |case: &&TrainingCase| !foreground || !case.slices_of_class.is_empty();
        let cases: Vec<&TrainingCase> = self.cases.iter().filter(holds).collect();
        let Some(case) = pick(rng, &cases) else { return };
        let [nx, ny, nz] = case.image.shape();
        // A structure first, then a slice with it, so that a small one is seen as often as a large one.
        let wanted = if foreground { pick(rng, &case.slices_of_class) } else { None };
        let z = match wanted {
            Some((_, slices)) => pick(rng, slices).copied().unwrap_or_default(),
            None => rng.random_range(0..nz.max(1)),
        };
        let slice = case.slice(z);
        let anchor = wanted.and_then(|(class, _)| {
            let pixels: Vec<usize> =
                slice.classes.iter().enumerate().filter(|(_, c)| *c == class).map(|(i, _)| i).collect();
            pick(rng, &pixels).map(|i| [i / nx, i % nx])
        });
        let corner = [
            corner(rng, ny, self.patch[0], anchor.map(|a| a[0])),
            corner(rng, nx, self.patch[1], anchor.map(|a| a[1])),
        ];
        self.augmentation.draw(rng).cut(&slice, self.patch, corner, image, classes);
    }
}

fn pick<'a, T>(rng: &mut ChaCha8Rng, items: &'a [T]) -> Option<&'a T> {
    if items.is_empty() { None } else { items.get(rng.random_range(0..items.len())) }
}

/// Where along an axis a patch begins: anywhere inside a longer slice so that it covers the anchor, anywhere around a
/// shorter one.
fn corner(rng: &mut ChaCha8Rng, slice: usize, patch: usize, anchor: Option<usize>) -> i64 {
    let (slice, patch) = (slice as i64, patch as i64);
    let (mut low, mut high) = ((slice - patch).min(0), (slice - patch).max(0));
    if let Some(anchor) = anchor.map(|a| a as i64)
        && slice > patch
    {
        (low, high) = (low.max(anchor - patch + 1), high.min(anchor));
    }
    rng.random_range(low..=high.max(low))
}
