//! Several sessions of one model, and tiles in batches: the results are the same.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

#[macro_use]
extern crate sulcus_harness;

mod common;

use common::{builders, model, noise_scan, onnx_runtime, search, spec};
use sulcus_pipeline::{Predictor, Tensor};
use sulcus_runtime::ort::{OrtLibrary, OrtPredictor};
use sulcus_runtime::{Device, Engine, ErrorKind, SegmentOptions, Segmenter};
use sulcus_testing::Noise;

#[test]
fn several_sessions_give_identical_masks() {
    onnx_runtime();
    // Many tiles, and for a 3-D network also too few for several sessions.
    for (axes, shape) in [(3, [40, 33, 21]), (3, [10, 12, 8]), (2, [20, 14, 9])] {
        let scan = noise_scan(shape, 6);
        let answer = |sessions: usize, mirror: bool| {
            let builder = Segmenter::builder().engine(Engine::Ort).device(Device::Cpu).threads(2).mirror(mirror);
            let builder = builder.ort_library(OrtLibrary::Search(search())).sessions(sessions);
            let segmenter = builder.model_bytes(model(axes)).build().unwrap();
            let found = segmenter.segment(&scan, SegmentOptions::default().with_probabilities()).unwrap();
            // The sessions exist now, and are used by several callers at the same time.
            std::thread::scope(|scope| {
                let again = || segmenter.segment(&scan, SegmentOptions::default()).unwrap().labels;
                for thread in [scope.spawn(again), scope.spawn(again)] {
                    assert_eq!(thread.join().unwrap(), found.labels);
                }
            });
            (found.labels, found.probabilities.unwrap(), found.tiles)
        };
        for mirror in [false, true] {
            let expected = answer(1, mirror);
            for sessions in [2, 5] {
                assert!(answer(sessions, mirror) == expected, "{axes}-D, {sessions} sessions, mirrored: {mirror}");
            }
        }
    }
}

/// The memory for a scan follows from tiles and engine; with several sessions it is larger.
#[test]
fn memory_limit_reduces_the_number_of_sessions() {
    onnx_runtime();
    let scan = noise_scan([40, 33, 21], 6);
    let builder = Segmenter::builder().engine(Engine::Ort).device(Device::Cpu).threads(2);
    let segmenter =
        builder.ort_library(OrtLibrary::Search(search())).sessions(2).model_bytes(model(3)).build().unwrap();
    let least = segmenter.min_memory_bytes(scan.geometry(), sulcus_pipeline::Outputs::Labels).unwrap();
    let limited = || {
        let options = SegmentOptions::default().with_max_memory(least);
        segmenter.segment_owned(scan.clone(), options).unwrap().labels
    };
    let expected = limited();
    let free = segmenter.segment(&scan, SegmentOptions::default()).unwrap();
    assert_eq!(free.labels, expected);
    // The sessions are freed, so that they take no memory from the next scan.
    assert_eq!(limited(), expected);
    assert_eq!(segmenter.min_memory_bytes(scan.geometry(), sulcus_pipeline::Outputs::Labels).unwrap(), least);
}

#[test]
fn batches_with_bound_buffers_give_the_same_logits() {
    let runtime = onnx_runtime();
    for (axes, shapes) in
        [(2, [vec![1, 1, 16, 16], vec![1, 1, 8, 24]]), (3, [vec![1, 1, 8, 12, 12], vec![1, 1, 10, 4, 30]])]
    {
        let bytes = model(axes);
        let plain = OrtPredictor::new(&runtime, &bytes, Device::Cpu, Some(2)).unwrap();
        let bound = OrtPredictor::bound_on_processor(&runtime, &bytes, 3).unwrap();
        assert_eq!((plain.batch(), bound.batch()), (1, 3));
        let mut noise = Noise(4);
        for count in [3, 2, 7, 1] {
            for shape in &shapes {
                let values = |noise: &mut Noise| noise.take(shape.iter().product(), 1.0);
                let tiles: Vec<Tensor> =
                    (0..count).map(|_| Tensor::new(shape.clone(), values(&mut noise)).unwrap()).collect();
                let found = bound.logits_batch(tiles.clone()).unwrap();
                let expected = plain.logits_batch(tiles).unwrap();
                assert_eq!(found.len(), count);
                for (found, expected) in found.iter().zip(&expected) {
                    assert_eq!(found.shape(), expected.shape());
                    let apart = found.data().iter().zip(expected.data()).map(|(a, b)| (a - b).abs());
                    assert!(apart.fold(0.0, f32::max) <= 1e-5, "{axes}-D, {count} tiles");
                }
            }
        }
        // Two threads, whose batches alternate.
        std::thread::scope(|scope| {
            for seed in [8, 9] {
                let (bound, plain, shape) = (&bound, &plain, &shapes[0]);
                scope.spawn(move || {
                    let mut noise = Noise(seed);
                    for _ in 0..20 {
                        let tile = Tensor::new(shape.clone(), noise.take(shape.iter().product(), 1.0)).unwrap();
                        let (found, expected) = (bound.logits(tile.clone()).unwrap(), plain.logits(tile).unwrap());
                        let apart = found.data().iter().zip(expected.data()).map(|(a, b)| (a - b).abs());
                        assert!(apart.fold(0.0, f32::max) <= 1e-5);
                    }
                });
            }
        });
        let shape = |n| [&[n], &shapes[0][1..]].concat();
        let two = Tensor::new(shape(2), vec![0.0; 2 * shapes[0].iter().product::<usize>()]).unwrap();
        assert!(bound.logits(two).unwrap_err().to_string().contains("expected tiles of one shape"));
    }
}

#[test]
fn half_precision_is_refused_on_devices_without_it() {
    for builder in builders() {
        let error = builder.model_bytes(model(2)).half_precision().build().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Precision { device: Device::Cpu, .. }), "{error}");
        assert!(error.to_string().starts_with("`cpu` cannot compute in fp16: "), "{error}");
    }
    assert!(spec(2).precision.is_none());
}

sulcus_harness::main!();
