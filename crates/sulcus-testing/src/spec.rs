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
    TestSpec(ModelSpec {
        format_version: ModelSpec::version_for(&[]),
        name: "test".into(),
        network: NetworkSpec {
            name: "test".into(),
            dimensions,
            stages: vec![test_stage(n, 4, 1), test_stage(n, 8, 2)],
            norm: Norm::Batch,
            activation: Activation::Relu,
            downsampling: Downsampling::MaxPool,
            encoder: Encoder::Plain,
            deep_supervision: false,
            imported: None,
        },
        channels: vec![ChannelSpec { name: "MRI".into(), normalisation: Normalisation::ZScore }],
        labels: LabelTable::from_names([(1, "Structure".into())]).unwrap(),
        regions: Vec::new(),
        activation: OutputActivation::Softmax,
        networks: 1,
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
        nnunet: None,
        training_scans: None,
        precision: None,
        unchecked: None,
        golden_case: None,
        previous: None,
        assumed_mm: None,
    })
}

/// A stage over 2 or 3 axes: one 3-wide convolution, the same stride along every axis.
pub fn test_stage(axes: usize, channels: usize, stride: usize) -> StageConfig {
    StageConfig { channels, convolutions: 1, kernel: vec![3; axes], stride: vec![stride; axes] }
}

impl TestSpec {
    /// The name of the model and of its network.
    pub fn name(mut self, name: &str) -> Self {
        self.0.name = name.into();
        self.0.network.name = name.into();
        self
    }

    /// The network. The padding multiple is changed to that of its strides, and the patch to one multiple.
    pub fn network(mut self, network: NetworkSpec) -> Self {
        self.0.padding_multiple = network.padding_multiple();
        self.0.patch = self.0.padding_multiple.clone();
        self.0.network = network;
        self
    }

    /// The stages of the network. The padding multiple is changed to that of their strides.
    pub fn stages(mut self, stages: Vec<StageConfig>) -> Self {
        self.0.network.stages = stages;
        self.0.padding_multiple = self.0.network.padding_multiple();
        self
    }

    /// Strided convolutions, leaky ReLU and instance normalisation, as nnU-Net's 3-D networks have them.
    pub fn strided(mut self) -> Self {
        self.0.network.norm = Norm::Instance;
        self.0.network.activation = Activation::LeakyRelu { slope: 0.01 };
        self.0.network.downsampling = Downsampling::StridedConvolution;
        self
    }

    /// The names of the channels; each is normalised as the first one was.
    pub fn channels<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        let normalisation = self.0.channels[0].normalisation;
        self.0.channels = names.into_iter().map(|name| ChannelSpec { name: name.into(), normalisation }).collect();
        self
    }

    /// The normalisation of every channel.
    pub fn normalisation(mut self, normalisation: Normalisation) -> Self {
        self.0.channels.iter_mut().for_each(|channel| channel.normalisation = normalisation);
        self
    }

    /// The labels, with their values and names.
    pub fn labels(mut self, labels: &[(u16, &str)]) -> Self {
        self.0.labels = LabelTable::from_names(labels.iter().map(|(v, name)| (*v, (*name).to_owned()))).unwrap();
        self
    }

    /// One label with a sigmoid, in place of background and label with a softmax.
    pub fn sigmoid(mut self) -> Self {
        self.0.activation = OutputActivation::Sigmoid;
        self
    }

    /// The orientation of the network's grid, for example `RAS`.
    pub fn orientation(mut self, code: &str) -> Self {
        self.0.orientation = code.parse().unwrap();
        self
    }

    /// The patch, and how a volume is divided into tiles.
    pub fn patch(mut self, patch: &[usize], tiling: Tiling) -> Self {
        self.0.patch = patch.to_vec();
        self.0.tiling = tiling;
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
