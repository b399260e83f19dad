use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sulcus_model::Activation;

/// Draws the initial weights of a network, layer by layer.
///
/// Burn's initialisers draw from one random state per backend, which all threads share and which differs between backends.
/// Drawn here, the same seed gives the same weights on every device.
pub(crate) struct WeightInit {
    random: ChaCha8Rng,
}

impl WeightInit {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// Weights before `activation`: uniform with variance gain² / `fan_in` (He et al. 2015, eq. 15).
    pub(crate) fn rectified(
        &mut self,
        shape: [usize; 5],
        fan_in: usize,
        activation: Activation,
        device: &Device,
    ) -> Param<Tensor<5>> {
        let slope = match activation {
            Activation::Relu => 0.0,
            Activation::LeakyRelu { slope } => f64::from(slope),
        };
        self.uniform(shape, 2.0 / (1.0 + slope * slope), fan_in, device)
    }

    /// Weights that no activation follows: uniform with variance 1 / `fan_in`.
    pub(crate) fn linear(&mut self, shape: [usize; 5], fan_in: usize, device: &Device) -> Param<Tensor<5>> {
        self.uniform(shape, 1.0, fan_in, device)
    }

    fn uniform(
        &mut self,
        shape: [usize; 5],
        gain_squared: f64,
        fan_in: usize,
        device: &Device,
    ) -> Param<Tensor<5>> {
        let bound = (3.0 * gain_squared / fan_in as f64).sqrt() as f32;
        // 24 random bits, the precision of a float between 0 and 1.
        let mut draw = || (self.random.next_u32() >> 8) as f32 / (1_u32 << 24) as f32;
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| bound * (2.0 * draw() - 1.0)).collect();
        Param::from_data(TensorData::new(values, shape), device)
    }
}

/// Biases start at zero: before a normalisation they have no effect, elsewhere zero prefers no class.
pub(crate) fn zero_bias(channels: usize, device: &Device) -> Param<Tensor<1>> {
    Param::from_tensor(Tensor::zeros([channels], device))
}
