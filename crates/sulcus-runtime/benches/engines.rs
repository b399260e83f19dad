//! Compares the native engine with ONNX Runtime on one model, in turn in one process, so that both have the same machine.
//!
//! ```sh
//! SULCUS_ORT_LIB=… cargo bench -p sulcus-runtime --bench engines -- model.onnx 1,1,96,96,96 [threads] [rounds] [--bf16] [--steps]
//! ```
//!
//! It prints the median seconds of each engine, the median of the ratios of the rounds, and the greatest difference of a logit. With
//! `--bf16` the native engine computes in bfloat16; ONNX Runtime always computes as the file states. With `--steps` it also prints the
//! time of each step of the native engine (the fastest of the rounds) and its share of all multiplications per second.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, reason = "a tool for developers")]

use std::time::Instant;

use sulcus_engine::{Arithmetic, Engine, EngineOptions};
use sulcus_pipeline::{Predictor, Tensor};
use sulcus_runtime::ort::{OrtLibrary, OrtPredictor, find_onnx_runtime};
use sulcus_runtime::{Device, NativePredictor};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [model, shape, more @ ..] = arguments.as_slice() else {
        println!("engines: no model was named, nothing is compared");
        return;
    };
    let number = |index: usize, default: usize| more.get(index).and_then(|n| n.parse().ok()).unwrap_or(default);
    let (threads, rounds) = (number(0, 2), number(1, 7));
    let model = std::fs::read(model).expect("the model can be read");
    let shape: Vec<usize> =
        shape.split(',').map(|edge| edge.parse().expect("a shape like 1,1,96,96,96")).collect();
    let values = (0..shape.iter().product()).map(|i: usize| ((i * 7919 % 2003) as f32 / 1001.0) - 1.0).collect();
    let input = Tensor::new(shape.clone(), values).unwrap();

    let half = more.iter().any(|argument| argument == "--bf16");
    let new = if half { NativePredictor::bf16 } else { NativePredictor::new };
    let native = new(&model, Some(threads)).expect("the native engine takes the model");
    let library = std::env::var_os("SULCUS_ORT_LIB").expect("SULCUS_ORT_LIB names ONNX Runtime");
    let runtime = find_onnx_runtime(&OrtLibrary::Path(library.into())).unwrap().0.expect("ONNX Runtime");
    let ort = OrtPredictor::new(&runtime, &model, Device::Cpu, Some(threads)).unwrap();
    let timed = |predictor: &dyn Predictor| {
        let input = input.clone();
        let start = Instant::now();
        let output = predictor.logits(input).expect("the engine runs");
        (start.elapsed().as_secs_f64(), output)
    };
    let (a, b) = (timed(&native).1, timed(&ort).1);
    let apart = a.data().iter().zip(b.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let (mut of_native, mut of_ort, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (a, b) = (timed(&native).0, timed(&ort).0);
        of_native.push(a);
        of_ort.push(b);
        ratios.push(a / b);
    }
    println!(
        "native {:.4} s, ONNX Runtime {:.4} s, median ratio {:.3}, fastest {:.4} and {:.4} s ({:.3}), logits differ by {apart:.1e}",
        median(&mut of_native),
        median(&mut of_ort),
        median(&mut ratios),
        of_native[0],
        of_ort[0],
        of_native[0] / of_ort[0],
    );
    if more.iter().any(|argument| argument == "--steps") {
        let arithmetic = if half { Arithmetic::Bfloat16 } else { Arithmetic::Single };
        let options = EngineOptions::default().with_threads(threads).with_arithmetic(arithmetic);
        steps(&Engine::new(&model, &options).unwrap(), rounds, &shape, input.data());
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn steps(engine: &Engine, rounds: usize, shape: &[usize], input: &[f32]) {
    let mut output = vec![0.0; engine.output_shape(shape).unwrap().iter().product()];
    let mut found: Vec<(String, f64, u64)> = Vec::new();
    for round in 0..=rounds {
        let mut last = Instant::now();
        let mut index = 0;
        let mut after = |step: sulcus_engine::StepInfo<'_>| {
            let secs = last.elapsed().as_secs_f64();
            let name = format!("{} {} {:?}", step.operator, step.node, step.grid);
            match found.get_mut(index) {
                Some(known) => known.1 = known.1.min(secs),
                None => found.push((name, secs, step.multiply_adds)),
            }
            index += 1;
            last = Instant::now();
        };
        engine.run_observed(shape, input, &mut output, &mut after).unwrap();
        let _ = round;
    }
    let total: f64 = found.iter().map(|step| step.1).sum();
    for (name, secs, multiply_adds) in &found {
        let rate = 2.0 * *multiply_adds as f64 / secs / 1e9;
        println!("{:8.3} ms {:5.1} % {rate:7.1} GFLOP/s  {name}", secs * 1e3, 100.0 * secs / total);
    }
    let all: u64 = found.iter().map(|step| step.2).sum();
    println!("{:8.3} ms in all, {:.1} GFLOP/s", total * 1e3, 2.0 * all as f64 / total / 1e9);
    println!("workspace {:.1} MB", engine.workspace_bytes(shape).unwrap() as f64 / 1e6);
}
