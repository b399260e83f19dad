use crate::inference::{labels_of, mean_of_networks};
use crate::{PipelineError, Predictor, Tensor};
use sulcus_model::ModelSpec;

/// The difference between two predictors.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Parity {
    /// Greatest absolute difference between logits.
    pub max_abs_difference: f32,
    /// Root mean square of the differences.
    pub rms_difference: f64,
    /// Root mean square of the first predictor's logits.
    pub rms_logits: f64,
    /// Number of compared logits.
    pub values: usize,
    /// Number of voxels with different labels.
    pub class_disagreements: usize,
    /// Number of compared voxels.
    pub voxels: usize,
}

/// Compares two predictors of one specification on the same inputs.
///
/// # Shapes
/// Each input is `[N, C, (D,) H, W]`.
///
/// # Errors
/// When one of them fails, or their outputs differ in shape.
pub fn compare_predictors(
    spec: &ModelSpec,
    a: &dyn Predictor,
    b: &dyn Predictor,
    inputs: &[Tensor],
) -> Result<Parity, PipelineError> {
    let mut parity = Parity::default();
    let (mut squared_differences, mut squares) = (0.0, 0.0);
    for input in inputs {
        let (expected, left) = a.logits(input.clone())?.into_parts();
        let (found, right) = b.logits(input.clone())?.into_parts();
        if found != expected {
            return Err(PipelineError::AnswerShape { expected, found });
        }
        if left.iter().chain(&right).any(|v| !v.is_finite()) {
            return Err(PipelineError::AnswerNotFinite);
        }
        let worst = left.iter().zip(&right).map(|(l, r)| (l - r).abs()).fold(0.0, f32::max);
        parity.max_abs_difference = parity.max_abs_difference.max(worst);
        squared_differences += left.iter().zip(&right).map(|(l, r)| f64::from(l - r).powi(2)).sum::<f64>();
        squares += left.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        parity.values += left.len();
        let (Some(&items), Some(&classes)) = (expected.first(), expected.get(1)) else {
            continue;
        };
        let space: usize = expected.iter().skip(2).product();
        if space * classes == 0 {
            continue;
        }
        for (left, right) in left.chunks_exact(classes * space).zip(right.chunks_exact(classes * space)) {
            let decided =
                [left, right].map(|values| labels_of(spec, &mean_of_networks(spec, values.to_vec()), space));
            let [left, right] = &decided;
            parity.class_disagreements += left.iter().zip(right).filter(|(l, r)| l != r).count();
        }
        parity.voxels += items * space;
    }
    if parity.values > 0 {
        parity.rms_difference = (squared_differences / parity.values as f64).sqrt();
        parity.rms_logits = (squares / parity.values as f64).sqrt();
    }
    Ok(parity)
}
