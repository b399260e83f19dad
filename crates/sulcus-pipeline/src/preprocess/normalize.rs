use sulcus_model::Normalisation;

use crate::quantile::quantile;

/// Normalises the finite values of one channel in place. A constant channel becomes 0. `inside` marks the voxels that
/// [`Normalisation::ZScoreNonzero`] uses; it is empty if all are used.
pub(super) fn normalize(scheme: Normalisation, values: &mut [f32], inside: &[bool]) {
    match scheme {
        Normalisation::None => {}
        Normalisation::RgbTo01 => values.iter_mut().for_each(|v| *v /= 255.0),
        Normalisation::MinMax => {
            let (low, high) = values
                .iter()
                .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)));
            stretch(values, f64::from(low), f64::from(high));
        }
        Normalisation::ZScore => {
            let n = values.len() as f64;
            let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
            let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
            shift_and_scale(values, mean, variance.sqrt());
        }
        Normalisation::ZScoreNonzero => {
            let is_inside = |index: usize| inside.get(index).copied().unwrap_or(true);
            let mut counted: Vec<f32> =
                values.iter().enumerate().filter(|(index, _)| is_inside(*index)).map(|(_, v)| *v).collect();
            normalize(Normalisation::ZScore, &mut counted, &[]);
            let mut counted = counted.into_iter();
            for (index, value) in values.iter_mut().enumerate() {
                *value = if is_inside(index) { counted.next().unwrap_or_default() } else { 0.0 };
            }
        }
        Normalisation::Percentile { low, high } => {
            let (low, high) = percentiles(values, low, high);
            values.iter_mut().for_each(|v| *v = v.clamp(low, high));
            stretch(values, f64::from(low), f64::from(high));
        }
        Normalisation::Ct { clip, mean, sd } => {
            values.iter_mut().for_each(|v| *v = v.clamp(clip[0], clip[1]));
            shift_and_scale(values, f64::from(mean), f64::from(sd));
        }
    }
}

fn stretch(values: &mut [f32], low: f64, high: f64) {
    shift_and_scale(values, low, high - low);
}

fn shift_and_scale(values: &mut [f32], shift: f64, scale: f64) {
    // A standard deviation below the single-precision resolution of the values is noise: the channel is constant.
    if !scale.is_finite() || scale <= f64::from(f32::EPSILON) * shift.abs() {
        values.fill(0.0);
        return;
    }
    let factor = 1.0 / scale;
    values.iter_mut().for_each(|v| *v = ((f64::from(*v) - shift) * factor) as f32);
}

/// Two percentiles, with linear interpolation as numpy's default.
fn percentiles(values: &[f32], low: f64, high: f64) -> (f32, f32) {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let at = |percent: f64| quantile(&sorted, percent / 100.0) as f32;
    (at(low), at(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Normalisation; 5] = [
        Normalisation::MinMax,
        Normalisation::ZScore,
        Normalisation::ZScoreNonzero,
        Normalisation::Percentile { low: 0.5, high: 99.5 },
        Normalisation::Ct { clip: [-100.0, 300.0], mean: 50.0, sd: 75.0 },
    ];

    #[test]
    fn result_does_not_depend_on_intensity_scale() {
        let scan: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 1000) as f32).collect();
        for scheme in &ALL[..4] {
            let mut small = scan.clone();
            let mut large: Vec<f32> = scan.iter().map(|v| v * 10_000.0 + 3.0).collect();
            normalize(*scheme, &mut small, &[]);
            normalize(*scheme, &mut large, &[]);
            let difference = small.iter().zip(&large).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(difference < 1e-4, "{scheme:?}: {difference}");
        }
    }

    #[test]
    fn schemes_give_their_defined_values() {
        let scan = [0.0_f32, 1.0, 2.0, 3.0, 4.0];
        let apply = |scheme: Normalisation| {
            let mut v = scan;
            normalize(scheme, &mut v, &[]);
            v
        };
        assert_eq!(apply(Normalisation::MinMax), [0.0, 0.25, 0.5, 0.75, 1.0]);
        let z = apply(Normalisation::ZScore);
        assert!((z[4] - std::f32::consts::SQRT_2).abs() < 1e-6 && z[2] == 0.0);
        assert_eq!(apply(Normalisation::Percentile { low: 25.0, high: 75.0 }), [0.0, 0.0, 0.5, 1.0, 1.0]);
        let ct = apply(Normalisation::Ct { clip: [1.0, 3.0], mean: 2.0, sd: 0.5 });
        assert_eq!(ct, [-2.0, -2.0, 0.0, 2.0, 2.0]);
        assert_eq!(apply(Normalisation::None), scan);
        let mut colours = [0.0, 51.0, 255.0];
        normalize(Normalisation::RgbTo01, &mut colours, &[]);
        assert_eq!(colours, [0.0, 0.2, 1.0]);
    }

    #[test]
    fn constant_image_becomes_zero() {
        for scheme in &ALL[..4] {
            for constant in [0.0, 5.0, -1e30, 1e-30] {
                let mut v = [constant; 64];
                normalize(*scheme, &mut v, &[]);
                assert_eq!(v, [0.0; 64], "{scheme:?} of {constant}");
            }
        }
    }
}
