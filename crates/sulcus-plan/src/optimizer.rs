use serde::{Deserialize, Serialize};

/// The optimizer, with its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Optimizer {
    /// Stochastic gradient descent (Robbins & Monro 1951) with momentum.
    Sgd {
        /// Fraction of the last update that is added to the next one, below 1; nnU-Net uses 0.99.
        momentum: f64,
        /// Whether momentum is Nesterov's (1983).
        nesterov: bool,
        /// Factor of the weights that is added to their gradient.
        weight_decay: f32,
    },
    /// Adam (Kingma & Ba 2015).
    Adam,
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019).
    AdamW {
        /// Fraction of a weight that is subtracted per step, times the learning rate.
        weight_decay: f32,
    },
}

/// How the learning rate decays while the fraction p of the training that is done rises from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Schedule {
    /// No decay.
    Constant,
    /// (1 − p) to this power; nnU-Net uses 0.9.
    Poly {
        /// The exponent.
        power: f64,
    },
    /// Half a cosine, down to one hundredth.
    Cosine,
}

impl Optimizer {
    pub(crate) fn check(self) -> Result<(), String> {
        let (momentum, weight_decay) = match self {
            Self::Adam => (0.0, 0.0),
            Self::AdamW { weight_decay } => (0.0, weight_decay),
            Self::Sgd { momentum, weight_decay, .. } => (momentum, weight_decay),
        };
        if !(0.0..1.0).contains(&momentum) {
            return Err(format!("`momentum` must lie in 0 to below 1, found {momentum}"));
        }
        if !(weight_decay >= 0.0 && weight_decay.is_finite()) {
            return Err(format!("`weight_decay` must not be negative, found {weight_decay}"));
        }
        Ok(())
    }
}

impl Schedule {
    /// The factor of the learning rate after the fraction `share` of the training.
    pub fn factor(self, share: f64) -> f64 {
        let share = share.clamp(0.0, 1.0);
        match self {
            Self::Constant => 1.0,
            Self::Poly { power } => (1.0 - share).powf(power),
            Self::Cosine => 0.01 + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * share).cos()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_decay_from_one_to_a_hundredth_or_less() {
        for schedule in [Schedule::Poly { power: 0.9 }, Schedule::Cosine] {
            let factors: Vec<f64> = (0..=10).map(|i| schedule.factor(f64::from(i) / 10.0)).collect();
            assert_eq!(factors[0], 1.0);
            assert!(factors[10] <= 0.01 + 1e-12);
            assert!(factors.is_sorted_by(|a, b| a > b), "{factors:?}");
        }
    }
}
