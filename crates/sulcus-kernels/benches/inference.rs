//! Benches of the inference layers at the levels of a 3-D U-Net with 16 channels on 96³ voxels:
//!
//! - `cargo bench -p sulcus-kernels --bench inference`: a convolution with normalisation and activation, fused and as separate
//!   layers
//! - `cargo bench -p sulcus-kernels --bench inference -- shares [rounds] [f32|bf16|int8] [layer]`: the share of a core's multiply-add peak that each
//!   fused layer reaches on one thread. Each round measures the peak beside the layer, and processor time is counted where the
//!   system tells it, so that the share means something on a busy machine
#![allow(clippy::expect_used, reason = "a bench that can't be set up has nothing to measure")]
#![allow(clippy::print_stdout, reason = "a bench prints its results")]

use std::hint::black_box;
use std::time::Instant;

use divan::Bencher;
use divan::counter::ItemsCount;
use sulcus_kernels::inference::{
    ConvKernel, Emulation, InputTransform, Int8Weights, LayerInput, LayerOutput, PackedConv, Precision,
    Quantization, Values, ValuesMut, instance_norm_transform,
};
use sulcus_kernels::{ConvShape, InstructionSet, Norm, NormScope, NormShape, conv_forward, instruction_set};

/// A layer: its inputs (the second may have no channels), output channels, size, kernel edge and stride.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    inputs: [usize; 2],
    outputs: usize,
    size: usize,
    edge: usize,
    stride: usize,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const fn case(name: &'static str, inputs: [usize; 2], outputs: usize, size: usize, stride: usize) -> Case {
    Case { name, inputs, outputs, size, edge: 3, stride }
}

/// The convolutions of the network in their order. Those of the decoder read the skip and the upsampled tensor.
const CASES: [Case; 23] = [
    case("1>16 at 96", [1, 0], 16, 96, 1),
    case("16>16 at 96", [16, 0], 16, 96, 1),
    case("16>32 stride 2", [16, 0], 32, 96, 2),
    case("32>32 at 48", [32, 0], 32, 48, 1),
    case("32>64 stride 2", [32, 0], 64, 48, 2),
    case("64>64 at 24", [64, 0], 64, 24, 1),
    case("64>128 stride 2", [64, 0], 128, 24, 2),
    case("128>128 at 12", [128, 0], 128, 12, 1),
    case("128>256 stride 2", [128, 0], 256, 12, 2),
    case("256>256 at 6", [256, 0], 256, 6, 1),
    case("256>320 stride 2", [256, 0], 320, 6, 2),
    case("320>320 at 3", [320, 0], 320, 3, 1),
    case("256+256>256 at 6", [256, 256], 256, 6, 1),
    case("256>256 at 6, decoder", [256, 0], 256, 6, 1),
    case("128+128>128 at 12", [128, 128], 128, 12, 1),
    case("128>128 at 12, decoder", [128, 0], 128, 12, 1),
    case("64+64>64 at 24", [64, 64], 64, 24, 1),
    case("64>64 at 24, decoder", [64, 0], 64, 24, 1),
    case("32+32>32 at 48", [32, 32], 32, 48, 1),
    case("32>32 at 48, decoder", [32, 0], 32, 48, 1),
    case("16+16>16 at 96", [16, 16], 16, 96, 1),
    case("16>16 at 96, decoder", [16, 0], 16, 96, 1),
    Case { name: "16>3 at 96, kernel 1", inputs: [16, 0], outputs: 3, size: 96, edge: 1, stride: 1 },
];

fn values(length: usize) -> Vec<f32> {
    (0..length).map(|index| (index * 7919 % 1000) as f32 / 1000.0 - 0.5).collect()
}

/// The tensors of a layer.
struct Layer {
    shape: ConvShape,
    x: Vec<Vec<f32>>,
    /// The same in bfloat16 and in integers, for the layers of these precisions.
    halves: Vec<Vec<u16>>,
    bytes: Vec<Vec<u8>>,
    weight: Vec<f32>,
    y: Vec<f32>,
    y_halves: Vec<u16>,
    y_bytes: Vec<u8>,
    /// The scale, the shift and the other per-channel values.
    channel: Vec<f32>,
    moments: [Vec<f32>; 2],
}

impl Layer {
    fn new(case: &Case) -> Self {
        let inputs = case.inputs[0] + case.inputs[1];
        let (size, kernel, stride) = ([case.size; 3], [case.edge; 3], [case.stride; 3]);
        let shape = ConvShape { batch: 1, inputs, outputs: case.outputs, size, kernel, stride };
        let voxels = |size: [usize; 3]| size.iter().product::<usize>();
        let inputs_of = case.inputs.iter().filter(|&&channels| channels > 0);
        let x: Vec<Vec<f32>> = inputs_of.map(|channels| values(channels * voxels(size))).collect();
        let y = values(case.outputs * voxels(shape.output_size()));
        let half = |value: &f32| (value.to_bits() >> 16) as u16;
        Self {
            shape,
            halves: x.iter().map(|x| x.iter().map(half).collect()).collect(),
            bytes: x.iter().map(|x| x.iter().map(|value| (value * 100.0 + 60.0) as u8).collect()).collect(),
            x,
            weight: values(case.outputs * inputs * voxels(kernel)),
            y_halves: vec![0; y.len()],
            y_bytes: vec![0; y.len()],
            y,
            channel: vec![1.1; 512],
            moments: [vec![0.0; case.outputs], vec![0.0; case.outputs]],
        }
    }

    fn pack(&self, precision: Precision) -> PackedConv {
        let ConvShape { inputs, outputs, kernel, stride, .. } = self.shape;
        let kernel = ConvKernel { inputs, outputs, kernel, stride };
        let conv = match precision {
            Precision::Bf16 => PackedConv::bf16(kernel, &self.weight, None, Emulation::Refused),
            Precision::Int8 => {
                let weight: Vec<i8> = self.weight.iter().map(|weight| (weight * 120.0) as i8).collect();
                let (scale, bias) = (vec![0.01; outputs], vec![0; outputs]);
                let input = Quantization { scale: 0.01, zero_point: 9 };
                let weights = Int8Weights { weight: &weight, scale: &scale, bias: &bias, input };
                PackedConv::int8(kernel, weights, Emulation::Refused)
            }
            _ => PackedConv::new(kernel, &self.weight, None),
        };
        conv.expect("a layer")
    }

    /// The convolution of normalised and activated inputs, with the statistics of its output. The tensors are stored in the
    /// precision of the layer.
    fn run(&mut self, conv: &PackedConv, precision: Precision) {
        let voxels: usize = self.shape.size.iter().product();
        let values: Vec<Values> = match precision {
            Precision::Bf16 => self.halves.iter().map(|x| Values::Bf16(x)).collect(),
            Precision::Int8 => self.bytes.iter().map(|x| Values::U8(x)).collect(),
            _ => self.x.iter().map(|x| Values::F32(x)).collect(),
        };
        let inputs: Vec<LayerInput> = values
            .into_iter()
            .map(|values| {
                let channel = &self.channel[..values.len() / voxels];
                LayerInput {
                    values,
                    transform: Some(InputTransform { scale: channel, shift: channel, slope: 0.01 }),
                }
            })
            .collect();
        let [mean, variance] = &mut self.moments;
        let values = match precision {
            Precision::Bf16 => ValuesMut::Bf16(&mut self.y_halves),
            Precision::Int8 => {
                let quantization = Quantization { scale: 0.1, zero_point: 128 };
                ValuesMut::U8 { values: &mut self.y_bytes, quantization }
            }
            _ => ValuesMut::F32(&mut self.y),
        };
        let output = LayerOutput::new(values).with_moments(mean, variance);
        conv.forward(1, self.shape.size, &inputs, output).expect("a layer");
    }

    /// Multiplications and additions.
    fn operations(&self) -> usize {
        2 * self.y.len() * self.weight.len() / self.shape.outputs
    }
}

/// The fused layer and the transform of its output.
#[divan::bench(args = CASES)]
fn fused(bencher: Bencher, case: &Case) {
    let mut layer = Layer::new(case);
    let conv = layer.pack(Precision::F32);
    let (mut scale, mut shift) = (vec![0.0; case.outputs], vec![0.0; case.outputs]);
    let ones = vec![1.0; case.outputs];
    bencher.counter(ItemsCount::new(layer.operations())).bench_local(|| {
        layer.run(&conv, Precision::F32);
        let [mean, variance] = &layer.moments;
        instance_norm_transform([mean, variance], [&ones, &ones], 1e-5, [&mut scale, &mut shift])
    });
}

/// The training layers: a convolution and a normalisation with its activation.
#[divan::bench(args = CASES)]
fn unfused(bencher: Bencher, case: &Case) {
    let Layer { shape, x, weight, mut y, channel, .. } = Layer::new(case);
    let voxels = shape.output_size().iter().product();
    let norm_shape = NormShape { batch: 1, channels: case.outputs, voxels, scope: NormScope::Instance };
    let norm = Norm::new(norm_shape, &channel[..case.outputs], &channel[..case.outputs], 0.01).expect("a norm");
    let inputs: Vec<&[f32]> = x.iter().map(Vec::as_slice).collect();
    let mut normalised = y.clone();
    let operations = 2 * y.len() * weight.len() / case.outputs;
    bencher.counter(ItemsCount::new(operations)).bench_local(|| {
        conv_forward(&shape, &inputs, &weight, None, &mut y).expect("a layer");
        norm.forward_train(&y, None, 1e-5, &mut normalised).expect("a norm")
    });
}

/// A clock of this thread's processor time; elsewhere than on Linux of time.
struct Clock {
    start: Instant,
    on_processor: Option<u64>,
}

impl Clock {
    fn start() -> Self {
        Self { start: Instant::now(), on_processor: Self::read() }
    }

    /// The nanoseconds that this thread has run.
    fn read() -> Option<u64> {
        std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
    }

    fn elapsed_secs(&self) -> f64 {
        match (self.on_processor, Self::read()) {
            (Some(start), Some(end)) => (end - start) as f64 * 1e-9,
            _ => self.start.elapsed().as_secs_f64(),
        }
    }
}

/// The seconds per call of `work`, from as many calls as take the scheduler's clock several ticks.
fn seconds(mut work: impl FnMut()) -> f64 {
    let (clock, mut calls) = (Clock::start(), 0);
    loop {
        work();
        calls += 1;
        let elapsed = clock.elapsed_secs();
        if elapsed > 0.04 {
            return elapsed / f64::from(calls);
        }
    }
}

/// Multiply-adds of registers only: operations per second.
fn peak(precision: Precision) -> f64 {
    const STEPS: usize = 200_000;
    let mut operations = 0;
    let time = seconds(|| operations = multiply_add(precision, STEPS));
    operations as f64 / time
}

/// Runs `steps` times some independent multiply-adds of the widest registers; returns the number of operations.
fn multiply_add(precision: Precision, steps: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        if precision != Precision::F32 && instruction_set() == InstructionSet::Amx {
            #[expect(unsafe_code, reason = "matrix instructions")]
            // SAFETY: AMX was detected, and its use permitted.
            return unsafe { multiply_add_tiles(precision, steps) };
        }
        if precision == Precision::Bf16 && is_x86_feature_detected!("avx512bf16") {
            #[expect(unsafe_code, reason = "vector instructions")]
            // SAFETY: AVX512-BF16 was detected.
            return unsafe { multiply_add_bf16(steps) };
        }
        if precision == Precision::Int8 && is_x86_feature_detected!("avx512vnni") {
            #[expect(unsafe_code, reason = "vector instructions")]
            // SAFETY: AVX512-VNNI was detected.
            return unsafe { multiply_add_vnni(steps) };
        }
        if is_x86_feature_detected!("avx512f") {
            #[expect(unsafe_code, reason = "vector instructions")]
            // SAFETY: AVX-512F was detected.
            return unsafe { multiply_add_avx512(steps) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            #[expect(unsafe_code, reason = "vector instructions")]
            // SAFETY: AVX2 and FMA were detected.
            return unsafe { multiply_add_avx2(steps) };
        }
    }
    multiply_add_lanes::<4>(steps)
}

/// Repeats an instruction on twelve variables, each of which stays in a register; returns them.
#[cfg(target_arch = "x86_64")]
macro_rules! independent_chains {
    ($steps:expr, $zero:expr, |$sum:ident| $next:expr) => {
        independent_chains!(@ $steps, $zero, $sum, $next, a b c d e f g h i j k l)
    };
    (@ $steps:expr, $zero:expr, $sum:ident, $next:expr, $($chain:ident)+) => {{
        struct Chains<T> { $($chain: T,)+ }
        let mut chains = Chains { $($chain: $zero,)+ };
        for _ in 0..$steps {
            $(let $sum = chains.$chain; chains.$chain = $next;)+
        }
        [$(chains.$chain,)+]
    }};
}

/// Products of tiles, with four tiles of sums. Fewer steps than of vectors, because each has many operations.
///
/// # Safety
///
/// The process may use AMX.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "matrix instructions")]
unsafe fn multiply_add_tiles(precision: Precision, steps: usize) -> usize {
    /// Eight tiles of sixteen rows of 64 bytes.
    #[repr(align(64))]
    struct Configuration([u8; 64]);
    let mut configuration = Configuration([0; 64]);
    configuration.0[0] = 1;
    for register in 0..8 {
        configuration.0[16 + 2 * register] = 64;
        configuration.0[48 + register] = 16;
    }
    let steps = steps / 4;
    macro_rules! products {
        ($instruction:literal) => {
            std::arch::asm!(
                "ldtilecfg [{configuration}]",
                "2:",
                concat!($instruction, " tmm0, tmm4, tmm6"),
                concat!($instruction, " tmm1, tmm4, tmm7"),
                concat!($instruction, " tmm2, tmm5, tmm6"),
                concat!($instruction, " tmm3, tmm5, tmm7"),
                "dec {steps}",
                "jnz 2b",
                "tilerelease",
                configuration = in(reg) configuration.0.as_ptr(),
                steps = inout(reg) steps => _,
                options(nostack),
            )
        };
    }
    // SAFETY: the caller guarantees the instructions; the registers are used in this block alone, whose tiles are zeros.
    unsafe {
        if precision == Precision::Bf16 {
            products!("tdpbf16ps");
        } else {
            products!("tdpbsud");
        }
    }
    let channels = if precision == Precision::Bf16 { 32 } else { 64 };
    steps * 4 * 16 * 16 * channels * 2
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn multiply_add_avx512(steps: usize) -> usize {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps, _mm512_setzero_ps};
    let (a, b) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(1.0)));
    let sums = independent_chains!(steps, _mm512_setzero_ps(), |sum| _mm512_fmadd_ps(a, b, sum));
    for sum in sums {
        black_box(_mm512_reduce_add_ps(sum));
    }
    steps * sums.len() * 16 * 2
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply_add_bf16(steps: usize) -> usize {
    use std::arch::x86_64::{
        _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_reduce_add_ps, _mm512_set1_ps, _mm512_setzero_ps,
    };
    let one = _mm512_set1_ps(black_box(1.0));
    let (a, b) = (_mm512_cvtne2ps_pbh(one, one), _mm512_cvtne2ps_pbh(one, one));
    let sums = independent_chains!(steps, _mm512_setzero_ps(), |sum| _mm512_dpbf16_ps(sum, a, b));
    for sum in sums {
        black_box(_mm512_reduce_add_ps(sum));
    }
    steps * sums.len() * 32 * 2
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn multiply_add_vnni(steps: usize) -> usize {
    use std::arch::x86_64::{
        _mm512_dpbusd_epi32, _mm512_reduce_add_epi32, _mm512_set1_epi8, _mm512_setzero_si512,
    };
    let (a, b) = (_mm512_set1_epi8(black_box(1)), _mm512_set1_epi8(black_box(2)));
    let sums = independent_chains!(steps, _mm512_setzero_si512(), |sum| _mm512_dpbusd_epi32(sum, a, b));
    for sum in sums {
        black_box(_mm512_reduce_add_epi32(sum));
    }
    steps * sums.len() * 64 * 2
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn multiply_add_avx2(steps: usize) -> usize {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps};
    let (a, b) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(1.0)));
    let sums = independent_chains!(steps, _mm256_setzero_ps(), |sum| _mm256_fmadd_ps(a, b, sum));
    for sum in sums {
        let mut lanes = [0.0f32; 8];
        #[expect(unsafe_code, reason = "vector instructions")]
        // SAFETY: the array has room for eight floats.
        unsafe {
            _mm256_storeu_ps(lanes.as_mut_ptr(), sum);
        }
        black_box(lanes);
    }
    steps * sums.len() * 8 * 2
}

/// Multiply-adds that the compiler vectorises for the target's baseline.
fn multiply_add_lanes<const LANES: usize>(steps: usize) -> usize {
    let (a, b) = (black_box([0.5f32; LANES]), black_box([1.0f32; LANES]));
    let mut sums = [[0.0f32; LANES]; 8];
    for _ in 0..steps {
        for sum in &mut sums {
            for lane in 0..LANES {
                sum[lane] += a[lane] * b[lane];
            }
        }
        sums = black_box(sums);
    }
    steps * 8 * LANES * 2
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints the median time of each layer and its share of the peak.
fn shares(rounds: usize, precision: Precision, layer: &str) {
    let (mut total, mut ideal) = (0.0, 0.0);
    println!("{:<26} {:>9} {:>9} {:>7}", "layer", "ms", "GFLOP/s", "share");
    for case in CASES.iter().filter(|case| case.name.contains(layer)) {
        let mut layer = Layer::new(case);
        let conv = layer.pack(precision);
        layer.run(&conv, precision);
        let (mut times, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let before = peak(precision);
            let time = seconds(|| layer.run(&conv, precision));
            let peak = f64::midpoint(before, peak(precision));
            times.push(time);
            ratios.push(layer.operations() as f64 / time / peak);
        }
        let (time, share) = (median(times), median(ratios));
        total += time;
        ideal += time * share;
        let rate = layer.operations() as f64 / time / 1e9;
        println!("{:<26} {:>9.3} {rate:>9.1} {:>6.1}%", case.name, time * 1e3, share * 100.0);
    }
    println!("{:<26} {:>9.3} {:>9} {:>6.1}%", "all", total * 1e3, "", ideal / total * 100.0);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("shares") => {
            let rounds = arguments.get(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(9);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
            let precision = match arguments.get(2).map(String::as_str) {
                Some("bf16") => Precision::Bf16,
                Some("int8") => Precision::Int8,
                _ => Precision::F32,
            };
            let layer = arguments.get(3).map_or("", String::as_str);
            pool.expect("a thread pool").install(|| shares(rounds, precision, layer));
        }
        _ => divan::main(),
    }
}
