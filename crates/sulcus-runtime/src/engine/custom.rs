use sulcus_model::ModelSpec;
use sulcus_pipeline::Predictor;

/// A predictor that can be shared between threads.
pub trait SharedPredictor: Predictor + Send + Sync {}

impl<P: Predictor + Send + Sync> SharedPredictor for P {}

/// Loads models into an engine of the caller, for
/// [`SegmenterBuilder::custom_engine`](crate::SegmenterBuilder::custom_engine).
///
/// ```
/// use sulcus_runtime::model::ModelSpec;
/// use sulcus_runtime::pipeline::{Predictor, PredictorError, Tensor};
/// use sulcus_runtime::{EngineFactory, SegmentOptions, Segmenter, SharedPredictor};
///
/// /// Predicts background for every voxel.
/// struct Background;
///
/// impl Predictor for Background {
///     fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
///         let mut shape = input.shape().to_vec();
///         shape[1] = 3;
///         let values = vec![0.0; shape.iter().product()];
///         Tensor::new(shape, values).map_err(|e| PredictorError { engine: "background", message: e.to_string() })
///     }
/// }
///
/// struct Factory;
///
/// impl EngineFactory for Factory {
///     fn name(&self) -> &'static str {
///         "background"
///     }
///
///     fn load(
///         &self,
///         _model: &[u8],
///         _spec: &ModelSpec,
///     ) -> Result<Box<dyn SharedPredictor>, Box<dyn std::error::Error + Send + Sync>> {
///         Ok(Box::new(Background))
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let builder = Segmenter::builder().model_bytes(sulcus_runtime::SELF_TEST_MODEL);
/// let segmenter = builder.custom_engine(std::sync::Arc::new(Factory)).build()?;
/// assert_eq!(segmenter.engine().name(), "background");
/// # Ok(())
/// # }
/// ```
pub trait EngineFactory: Send + Sync {
    /// The engine's name, as reports show it.
    fn name(&self) -> &'static str;

    /// Loads a model.
    ///
    /// # Errors
    /// When the engine cannot run the model.
    fn load(
        &self,
        model: &[u8],
        spec: &ModelSpec,
    ) -> Result<Box<dyn SharedPredictor>, Box<dyn std::error::Error + Send + Sync>>;
}
