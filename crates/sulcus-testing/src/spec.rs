use sulcus_model::{
    Activation, ChannelSpec, CropRule, Dimensions, Downsampling, Encoder, ModelSpec, NetworkSpec, Norm,
    Normalisation, OutputActivation, SpacingRule, StageConfig, Tiling, Training,
};
use sulcus_volume::LabelTable;

/// Builds a [`ModelSpec`]. Each method changes one property of [`test_spec`]; further fields can be changed in the result.
pub struct TestSpec(ModelSpec);

/// A specification over 2 or 3 axes: one MR channel, one label `Structure`, two stages of one 3-wide convolution with a stride
/// of 2 between them, orientation RAS, native spacing, whole-volume tiling.
pub fn test_spec(axes: u8) -> TestSpec {
    let dimensions = Dimensions::try_from(axes).unwrap();
    let n = dimensions.count();
    let stage =
        |channels, stride| StageConfig { channels, convolutions: 1, kernel: vec![3; n], stride: vec![stride; n] };
    TestSpec(ModelSpec {
        format_version: ModelSpec::version_for(&[]),
        name: "test".into(),
        network: NetworkSpec {
            name: "test".into(),
            dimensions,
            stages: vec![stage(4, 1), stage(8, 2)],
            norm: Norm::Batch,
            activation: Activation::Relu,
            downsampling: Downsampling::MaxPool,
            encoder: Encoder::Plain,
            deep_supervision: false,
        },
        channels: vec![ChannelSpec { name: "MRI".into(), normalisation: Normalisation::ZScore }],
        labels: LabelTable::from_names([(1, "Structure".into())]).unwrap(),
        regions: Vec::new(),
        activation: OutputActivation::Softmax,
        crop: CropRule::Whole,
        orientation: "RAS".parse().unwrap(),
        spacing: SpacingRule::Native,
        patch: vec![8; n],
        tiling: Tiling::Whole,
        tile_step: 0.5,
        mirror_axes: Vec::new(),
        padding_multiple: vec![2; n],
        postprocessing: Vec::new(),
        training: Training::default(),
        training_scans: None,
        precision: None,
        unchecked: None,
        golden_case: None,
    })
}

impl TestSpec {
    /// The name of the model and of its network.
    pub fn name(mut self, name: &str) -> Self {
        self.0.name = name.into();
        self.0.network.name = name.into();
        self
    }

    /// The stages of the network.
    pub fn stages(mut self, stages: Vec<StageConfig>) -> Self {
        self.0.network.stages = stages;
        self
    }

    /// Strided convolutions, leaky ReLU and instance normalisation, as nnU-Net's 3-D networks have them.
    pub fn strided(mut self) -> Self {
        self.0.network.norm = Norm::Instance;
        self.0.network.activation = Activation::LeakyRelu { slope: 0.01 };
        self.0.network.downsampling = Downsampling::StridedConvolution;
        self
    }

    /// The normalisation of the only channel.
    pub fn normalisation(mut self, normalisation: Normalisation) -> Self {
        self.0.channels.iter_mut().for_each(|channel| channel.normalisation = normalisation);
        self
    }

    /// The labels, with their values and names.
    pub fn labels(mut self, labels: &[(u16, &str)]) -> Self {
        self.0.labels = LabelTable::from_names(labels.iter().map(|(v, name)| (*v, (*name).to_owned()))).unwrap();
        self
    }

    /// The patch, and how a volume is divided into tiles.
    pub fn patch(mut self, patch: &[usize], tiling: Tiling) -> Self {
        self.0.patch = patch.to_vec();
        self.0.tiling = tiling;
        self
    }

    /// The factor by which the length of every axis must be divisible.
    pub fn padding_multiple(mut self, multiple: usize) -> Self {
        self.0.padding_multiple.fill(multiple);
        self
    }

    /// Allows mirroring along all axes.
    pub fn mirrored(mut self) -> Self {
        self.0.mirror_axes = (0..self.0.network.dimensions.count()).collect();
        self
    }

    /// The specification.
    pub fn build(self) -> ModelSpec {
        self.0
    }
}
