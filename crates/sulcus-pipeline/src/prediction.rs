use sulcus_volume::{Image, LabelMap};

/// Which results a prediction computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outputs {
    /// Only the mask.
    #[default]
    Labels,
    /// The mask and the probability of each class.
    LabelsAndProbabilities,
}

/// A prediction on the scan's own grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The mask.
    pub labels: LabelMap,
    /// Probabilities `[K, z, y, x]`: background first (softmax), of the one label (sigmoid), or of each region.
    pub probabilities: Option<Image>,
}
