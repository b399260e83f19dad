use sulcus_model::{Activation, Dimensions, Downsampling, Encoder, NetworkSpec, Norm, StageConfig};

/// The stages of a network for one patch size: strides and kernels along each axis.
///
/// All lists run over (D,) H, W.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Topology {
    /// The patch size, its edges rounded up to multiples of the strides.
    pub(super) patch: Vec<usize>,
    /// The product of the strides along each axis.
    pub(super) multiple: Vec<usize>,
    /// Kernel and stride of each stage, finest first.
    pub(super) stages: Vec<(Vec<usize>, Vec<usize>)>,
}

/// The width of a network, and its kind of encoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Width {
    /// Feature maps of the finest stage; they double with each coarser stage.
    pub(super) base: usize,
    /// Maximum number of feature maps.
    pub(super) max: usize,
    /// Plain convolutions or residual blocks.
    pub(super) encoder: Encoder,
}

/// No axis is pooled below this edge length.
const MIN_EDGE: usize = 4;
/// An axis whose voxels are coarser than the finest by this factor is not pooled until the others are as coarse.
const MAX_SPACING_RATIO: f64 = 2.0;
/// nnU-Net's number of blocks per stage of a residual encoder; deeper stages have as many as the last.
const RESIDUAL_BLOCKS: [usize; 4] = [1, 3, 4, 6];

impl Topology {
    /// nnU-Net's rule (Isensee et al. 2021, supplementary note 2): halve all axes whose voxels are within a factor of 2 of
    /// the finest, repeatedly, as long as the halved edge has at least 4 voxels. Kernels are 1 along an axis until its
    /// voxels have been within that factor once. The coarsest stage always has kernels of 3.
    ///
    /// `patch` and `spacing_mm` run over the same axes; `patch` is rounded up.
    pub(super) fn new(patch: &[usize], spacing_mm: &[f64]) -> Self {
        let axes = patch.len();
        let mut edges = patch.to_vec();
        let mut spacing = spacing_mm.to_vec();
        let mut kernel = vec![1; axes];
        let mut stride = vec![1; axes];
        let mut multiple = vec![1; axes];
        let mut stages = Vec::new();
        loop {
            let poolable: Vec<usize> = (0..axes).filter(|a| edges[*a] >= 2 * MIN_EDGE).collect();
            let finest = minimum(poolable.iter().map(|a| spacing[*a]));
            let halved: Vec<usize> =
                poolable.into_iter().filter(|a| spacing[*a] / finest < MAX_SPACING_RATIO).collect();
            let enough = match halved.as_slice() {
                [] => false,
                // A single axis is pooled only while it is long.
                [alone] => edges[*alone] >= 3 * MIN_EDGE,
                _ => true,
            };
            if !enough {
                break;
            }
            let finest = minimum(spacing.iter().copied());
            for axis in 0..axes {
                if spacing[axis] / finest < MAX_SPACING_RATIO {
                    kernel[axis] = 3;
                }
            }
            stages.push((kernel.clone(), stride));
            stride = vec![1; axes];
            for axis in halved {
                stride[axis] = 2;
                multiple[axis] *= 2;
                spacing[axis] *= 2.0;
                edges[axis] = edges[axis].div_ceil(2);
            }
        }
        stages.push((vec![3; axes], stride));
        let patch = patch.iter().zip(&multiple).map(|(edge, m)| edge.max(&1).next_multiple_of(*m)).collect();
        Self { patch, multiple, stages }
    }

    /// The next smaller patch: shorter along the axis that covers the largest fraction of the median shape. `None` if no
    /// axis can be shortened.
    pub(super) fn smaller(&self, median_shape: &[f64], spacing_mm: &[f64]) -> Option<Self> {
        let share = |axis: usize| self.patch[axis] as f64 / median_shape[axis].max(1.0);
        let mut axes: Vec<usize> = (0..self.patch.len()).collect();
        axes.sort_by(|a, b| share(*a).total_cmp(&share(*b)));
        axes.into_iter().rev().find_map(|axis| {
            let step = self.multiple[axis];
            let mut shorter = self.patch.clone();
            shorter[axis] = shorter[axis].checked_sub(step).filter(|edge| *edge >= MIN_EDGE)?;
            let whole_step = Self::new(&shorter, spacing_mm);
            // A shorter edge may be halved less often, so that a smaller step suffices.
            shorter[axis] = self.patch[axis] - whole_step.multiple[axis].min(step);
            let small_step = Self::new(&shorter, spacing_mm);
            [small_step, whole_step].into_iter().find(|topology| topology.voxels() < self.voxels())
        })
    }

    /// Voxels of a patch.
    pub(super) fn voxels(&self) -> usize {
        self.patch.iter().product()
    }

    /// The network with these stages.
    pub(super) fn network(&self, name: &str, width: Width) -> NetworkSpec {
        let stage = |(depth, (kernel, stride)): (usize, &(Vec<usize>, Vec<usize>))| StageConfig {
            channels: width.base.saturating_mul(1 << depth.min(16)).min(width.max),
            convolutions: match width.encoder {
                Encoder::Plain => 2,
                Encoder::Residual => RESIDUAL_BLOCKS[depth.min(RESIDUAL_BLOCKS.len() - 1)],
            },
            kernel: kernel.clone(),
            stride: stride.clone(),
        };
        NetworkSpec {
            name: name.to_owned(),
            dimensions: if self.patch.len() == 2 { Dimensions::Two } else { Dimensions::Three },
            stages: self.stages.iter().enumerate().map(stage).collect(),
            norm: Norm::Instance,
            activation: Activation::LeakyRelu { slope: 0.01 },
            downsampling: Downsampling::StridedConvolution,
            encoder: width.encoder,
            deep_supervision: self.stages.len() > 2,
            imported: None,
        }
    }
}

/// nnU-Net's initial patch size: a cube or square in millimetres with 256³ or 2048² voxels, limited to the median scan.
pub(super) fn first_patch(median_shape: &[f64], spacing_mm: &[f64]) -> Vec<usize> {
    let axes = median_shape.len() as f64;
    let edge: f64 = if median_shape.len() == 2 { 2048.0 } else { 256.0 };
    let mean_spacing = spacing_mm.iter().product::<f64>().powf(1.0 / axes);
    let edges = median_shape.iter().zip(spacing_mm);
    edges.map(|(voxels, mm)| (edge * mean_spacing / mm).round().min(voxels.round()).max(1.0) as usize).collect()
}

fn minimum(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Width = Width { base: 32, max: 320, encoder: Encoder::Plain };

    fn strides(topology: &Topology) -> Vec<Vec<usize>> {
        topology.stages.iter().map(|(_, stride)| stride.clone()).collect()
    }

    /// nnU-Net's published plans of the Decathlon's tasks are the reference.
    #[test]
    fn hippocampus_gets_nnunets_patch_and_stages() {
        let topology = Topology::new(&first_patch(&[36.0, 50.0, 35.0], &[1.0; 3]), &[1.0; 3]);
        assert_eq!(topology.patch, [40, 56, 40]);
        assert_eq!(strides(&topology), [[1; 3], [2; 3], [2; 3], [2; 3]]);
        let network = topology.network("nnunet-3d", PLAIN);
        network.check().unwrap();
        assert_eq!(network.stages.iter().map(|s| s.channels).collect::<Vec<_>>(), [32, 64, 128, 256]);
        assert!(network.stages.iter().all(|s| s.kernel == [3; 3] && s.convolutions == 2));
        let slices = Topology::new(&first_patch(&[50.0, 35.0], &[1.0; 2]), &[1.0; 2]);
        assert_eq!(slices.patch, [56, 40]);
    }

    /// The prostate's voxels are 3.6 × 0.62 × 0.62 mm; nnU-Net gives its 20 × 320 × 256 patch these strides and kernels.
    #[test]
    fn coarse_axis_is_pooled_later() {
        let topology = Topology::new(&[20, 320, 256], &[3.6, 0.62, 0.62]);
        assert_eq!(topology.patch, [20, 320, 256]);
        let expected = [[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2], [1, 2, 2]];
        assert_eq!(strides(&topology), expected);
        let kernels: Vec<usize> = topology.stages.iter().map(|(kernel, _)| kernel[0]).collect();
        assert_eq!(kernels, [1, 1, 3, 3, 3, 3, 3]);
        let network = topology.network("nnunet-3d", PLAIN);
        assert_eq!(
            network.stages.iter().map(|s| s.channels).collect::<Vec<_>>(),
            [32, 64, 128, 256, 320, 320, 320]
        );
    }

    #[test]
    fn first_patch_is_a_cube_in_millimetres() {
        assert_eq!(first_patch(&[1e4; 3], &[1.0; 3]), [256; 3]);
        let [d, h, w] = first_patch(&[1e4; 3], &[4.0, 1.0, 1.0])[..] else { panic!("three edges") };
        assert!(d.abs_diff(102) <= 1 && h.abs_diff(406) <= 1 && h == w, "{d} {h} {w}");
        assert_eq!(first_patch(&[5000.0, 100.0], &[1.0; 2]), [2048, 100]);
    }

    #[test]
    fn patch_shrinks_until_no_axis_can_be_shortened() {
        let (shape, spacing) = ([200.0, 160.0, 200.0], [1.0; 3]);
        let mut topology = Topology::new(&[200, 160, 200], &spacing);
        let mut steps = 0;
        while let Some(next) = topology.smaller(&shape, &spacing) {
            assert!(next.voxels() < topology.voxels());
            let fits =
                next.patch.iter().zip(&next.multiple).all(|(edge, multiple)| edge.is_multiple_of(*multiple));
            assert!(fits, "{next:?}");
            next.network("a", PLAIN).check().unwrap();
            topology = next;
            steps += 1;
        }
        assert!(steps > 10 && topology.voxels() <= 8 * 8 * 8, "{steps}: {topology:?}");
    }

    #[test]
    fn smallest_input_gives_a_valid_network() {
        let topology = Topology::new(&[1, 3, 7], &[5.0, 1.0, 1.0]);
        assert_eq!((topology.patch.as_slice(), topology.stages.len()), ([1, 3, 7].as_slice(), 1));
        topology.network("tiny", PLAIN).check().unwrap();
    }

    #[test]
    fn residual_encoders_have_more_blocks_in_deeper_stages() {
        let width = Width { encoder: Encoder::Residual, ..PLAIN };
        let network = Topology::new(&[128; 3], &[1.0; 3]).network("resenc-3d", width);
        assert_eq!(network.stages.iter().map(|s| s.convolutions).collect::<Vec<_>>(), [1, 3, 4, 6, 6, 6]);
    }
}
