//! Labels that are chosen plane by plane, compared with those from a whole volume of logits.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::ops::ControlFlow;

use sulcus_model::*;
use sulcus_pipeline::*;
use sulcus_testing::test_spec;
use sulcus_volume::*;

/// Logits that depend on position, intensity and neighbours within the tile, so that every tile has different logits.
struct Uneven(f32);

impl Predictor for Uneven {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        let (mut shape, values) = input.into_parts();
        shape[1] = 3;
        let n = values.len();
        let out = (0..3 * n).map(|i| {
            let (class, at) = (i / n, i % n);
            let near = values[at] - 0.37 * values[(at + 7 * class + 1) % n];
            near * (1.0 + class as f32 * self.0) + ((i * 7919 % 1009) as f32 / 1009.0 - 0.5) * 0.8
        });
        Tensor::new(shape, out.collect()).map_err(|e| PredictorError { engine: "test", message: e.to_string() })
    }
}

fn spec(orientation: &str, dimensions: Dimensions) -> ModelSpec {
    let patch: &[usize] = if dimensions == Dimensions::Two { &[6, 8] } else { &[4, 6, 8] };
    let mut spec = test_spec(dimensions.into())
        .labels(&[(3, "one"), (7, "two")])
        .orientation(orientation)
        .patch(patch, Tiling::Patch)
        .mirrored()
        .build();
    spec.postprocessing = vec![Postprocess::KeepLargestComponent { labels: vec![3] }];
    spec
}

fn scan() -> Image {
    let map =
        RasFromVoxel::new([[-0.9, 0.1, 0.2, 12.0], [0.15, 1.1, -0.3, -7.5], [0.05, 0.25, 2.4, 31.0]]).unwrap();
    let geometry = Geometry::new([17, 13, 11], map, OrientationSource::Sform).unwrap();
    let values = (0..17 * 13 * 11).map(|i| ((i * i) as f32 * 0.137).sin() + (i % 17) as f32 * 0.1).collect();
    Image::new(geometry, 1, values).unwrap()
}

/// The computation of the logits again, without streaming: all tiles, their weighted mean, resampled and reoriented.
mod plain {
    use super::*;

    fn starts(image: usize, tile: usize, step: f64) -> Vec<usize> {
        if image <= tile {
            return vec![0];
        }
        let room = image - tile;
        let count = (room as f64 / (step * tile as f64)).ceil() as usize + 1;
        let mut starts: Vec<usize> = (0..count)
            .map(|i| (i as f64 * (room as f64 / (count - 1) as f64)).round_ties_even() as usize)
            .collect();
        starts.dedup();
        starts
    }

    fn gaussian(tile: usize) -> Vec<f32> {
        let (centre, sigma) = ((tile as f64 - 1.0) / 2.0, tile as f64 / 8.0);
        (0..tile).map(|i| (-0.5 * ((i as f64 - centre) / sigma).powi(2)).exp().max(1e-4) as f32).collect()
    }

    /// `[3, z, y, x]` on the prepared grid.
    pub(super) fn logits(spec: &ModelSpec, image: &Image, networks: &[&Uneven], mirror: bool) -> Vec<f32> {
        let (prepared, _) = preprocess(spec, image).unwrap();
        let [nx, ny, nz] = prepared.shape();
        let shape = [nz, ny, nx];
        let flat = spec.network.dimensions == Dimensions::Two;
        let tile: [usize; 3] = match (spec.tiling, flat) {
            (Tiling::Patch, true) => [1, spec.patch[0], spec.patch[1]],
            (Tiling::Patch, false) => std::array::from_fn(|a| spec.patch[a]),
            (Tiling::CentredPatch, _) => unreachable!("`nnunet_exact.rs` tests it"),
            (Tiling::Whole, _) => {
                std::array::from_fn(|a| if flat && a == 0 { 1 } else { shape[a].next_multiple_of(2) })
            }
        };
        let at: [Vec<usize>; 3] = std::array::from_fn(|a| starts(shape[a], tile[a], spec.tile_step));
        let weights: [Vec<f32>; 3] = std::array::from_fn(|a| gaussian(tile[a]));
        let blended = (usize::from(flat)..3).any(|a| at[a].len() > 1);
        let n = tile.iter().product::<usize>();
        let index = |z: usize, y: usize, x: usize| (z * ny + y) * nx + x;
        let flips: Vec<[bool; 3]> = match (mirror, flat) {
            (false, _) => vec![[false; 3]],
            (true, true) => (0..4).map(|b| [false, b & 1 == 1, b >> 1 & 1 == 1]).collect(),
            (true, false) => (0..8).map(|b| [b & 1 == 1, b >> 1 & 1 == 1, b >> 2 & 1 == 1]).collect(),
        };
        let (mut sum, mut weight) = (vec![0.0_f32; 3 * nx * ny * nz], vec![0.0_f32; nx * ny * nz]);
        let share = 1.0 / (flips.len() * networks.len()) as f32;
        for z0 in &at[0] {
            for y0 in &at[1] {
                for x0 in &at[2] {
                    let voxels = |flip: [bool; 3]| {
                        (0..n).map(move |i| {
                            let [z, y, x] = [i / (tile[1] * tile[2]), i / tile[2] % tile[1], i % tile[2]];
                            let turn = |v: usize, a: usize| if flip[a] { tile[a] - 1 - v } else { v };
                            [turn(z, 0), turn(y, 1), turn(x, 2)]
                        })
                    };
                    let mut mean = vec![0.0_f32; 3 * n];
                    for flip in &flips {
                        let input: Vec<f32> = voxels(*flip)
                            .map(|[z, y, x]| {
                                let [z, y, x] = [z0 + z, y0 + y, x0 + x];
                                if z < nz && y < ny && x < nx { prepared.data()[index(z, y, x)] } else { 0.0 }
                            })
                            .collect();
                        let space = if flat { &tile[1..] } else { &tile[..] };
                        for network in networks {
                            let input = Tensor::new([&[1, 1], space].concat(), input.clone()).unwrap();
                            let answer = network.logits(input).unwrap().into_parts().1;
                            if flips.len() * networks.len() == 1 {
                                mean = answer;
                                continue;
                            }
                            for class in 0..3 {
                                for (i, [z, y, x]) in voxels(*flip).enumerate() {
                                    mean[class * n + (z * tile[1] + y) * tile[2] + x] +=
                                        answer[class * n + i] * share;
                                }
                            }
                        }
                    }
                    for (i, [z, y, x]) in voxels([false; 3]).enumerate() {
                        if z0 + z >= nz || y0 + y >= ny || x0 + x >= nx {
                            continue;
                        }
                        let to = index(z0 + z, y0 + y, x0 + x);
                        let w = weights[0][z] * weights[1][y];
                        for class in 0..3 {
                            let value = mean[class * n + i];
                            let sum = &mut sum[class * nx * ny * nz + to];
                            *sum = if blended { *sum + value * weights[2][x] * w } else { value };
                        }
                        weight[to] += weights[2][x] * w;
                    }
                }
            }
        }
        if blended {
            sum.chunks_exact_mut(weight.len()).for_each(|c| c.iter_mut().zip(&weight).for_each(|(v, w)| *v /= w));
        }
        sum
    }

    /// `[3, z, y, x]` on the scan's grid.
    pub(super) fn on_scan(spec: &ModelSpec, image: &Image, values: &[f32]) -> Vec<f32> {
        let (prepared, _) = preprocess(spec, image).unwrap();
        let turn = Reorientation::between(image.geometry().orientation(), spec.orientation.nominal());
        let turned = turn.shape(image.geometry().shape());
        let back = |c| {
            turn.inverse().apply(
                &resample(c, Xyz(prepared.shape()), Xyz(turned), Xyz([Interpolation::Linear; 3])).unwrap(),
                turned,
            )
        };
        values.chunks_exact(prepared.shape().iter().product()).flat_map(back).collect()
    }

    /// Probabilities and mask of logits on the scan's grid.
    pub(super) fn decided(spec: &ModelSpec, image: &Image, values: &[f32]) -> (Vec<Label>, Vec<f32>) {
        let voxels = image.geometry().voxels();
        let mut probabilities = vec![0.0; 3 * voxels];
        let labels = (0..voxels)
            .map(|voxel| {
                let v = [0, 1, 2].map(|k| values[k * voxels + voxel]);
                let top = v.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f32 = v.iter().map(|v| (v - top).exp()).sum();
                (0..3).for_each(|k| probabilities[k * voxels + voxel] = (v[k] - top).exp() / sum);
                [0, 3, 7][v.iter().position(|v| *v == top).unwrap()]
            })
            .collect();
        let labels = LabelMap::new(*image.geometry(), labels).unwrap();
        (postprocess(&spec.postprocessing, labels).unwrap().into_parts().1, probabilities)
    }
}

const CHUNKS: [ChunkSize; 5] = [
    ChunkSize::WHOLE,
    ChunkSize { slices: 4, rows: usize::MAX },
    ChunkSize { slices: usize::MAX, rows: 5 },
    ChunkSize { slices: 3, rows: 7 },
    ChunkSize { slices: 1, rows: 1 },
];

fn specs() -> Vec<ModelSpec> {
    let resample = |mm, interpolation| SpacingRule::Resample {
        mm: Spacing::new(mm).unwrap(),
        interpolation,
        coarse_axis: CoarseAxis::AsOthers,
        tolerance: 1.0,
    };
    let mut all = Vec::new();
    for spacing in [
        SpacingRule::Native,
        resample([0.8, 1.3, 3.1], Interpolation::Linear),
        resample([1.4, 0.7, 1.1], Interpolation::Cubic),
    ] {
        for (orientation, dimensions) in
            [("RAS", Dimensions::Three), ("PIR", Dimensions::Three), ("SPL", Dimensions::Two)]
        {
            for tiling in [Tiling::Patch, Tiling::Whole] {
                all.push(ModelSpec { spacing, tiling, ..spec(orientation, dimensions) });
            }
        }
    }
    all
}

#[test]
fn streamed_planes_equal_the_whole_volume_in_any_chunks() {
    let (scan, first, second) = (scan(), Uneven(0.1), Uneven(-0.2));
    for spec in specs() {
        for (networks, mirror) in [(vec![&first], false), (vec![&first, &second], false), (vec![&second], true)] {
            let what = format!("{:?} {:?} {} {mirror}", spec.spacing, spec.tiling, spec.orientation);
            let expected = plain::logits(&spec, &scan, &networks, mirror);
            let (labels, probabilities) = plain::decided(&spec, &scan, &plain::on_scan(&spec, &scan, &expected));
            let predictors: Vec<&dyn Predictor> = networks.iter().map(|n| *n as &dyn Predictor).collect();
            let options = WindowOptions { step: None, mirror };
            let (prepared, restore) = preprocess(&spec, &scan).unwrap();
            let go = &mut |_| ControlFlow::Continue(());
            assert_eq!(
                predict_logits(&spec, &prepared, &predictors, &options, go).unwrap().data(),
                expected,
                "{what}"
            );
            for chunks in CHUNKS {
                let mut tiles = 0;
                let mut queue = SyncTileQueue::new(&predictors);
                let mut tick = || {
                    tiles += 1;
                    ControlFlow::Continue(())
                };
                let mut context = InferenceContext { options, chunks, queue: &mut queue, on_tile: &mut tick };
                let share = WeightedGroup {
                    spec: &spec,
                    preprocessed: &prepared,
                    networks: (0..networks.len()).collect(),
                    weight: 1.0,
                };
                let mut decision =
                    LabelAccumulator::new(&spec, scan.geometry(), Outputs::LabelsAndProbabilities).unwrap();
                restore.stream(&[share], &mut context, &mut decision).unwrap();
                let found = decision.finish().unwrap();
                assert_eq!(found.labels.data(), labels, "{what} {chunks:?}");
                assert_eq!(found.probabilities.unwrap().data(), probabilities, "{what} {chunks:?}");
                let undivided = ChunkSize { slices: usize::MAX, ..chunks };
                assert_eq!(
                    count_tiles_in_chunks(&spec, scan.geometry(), &options, undivided).unwrap(),
                    tiles,
                    "{what}"
                );
            }
            let owned = preprocess_owned(&spec, scan.clone()).unwrap().0;
            assert_eq!(owned, prepared, "{what}");
        }
    }
}

#[test]
fn models_with_different_grids_are_averaged_on_slices_of_the_scan() {
    let (scan, network) = (scan(), Uneven(0.1));
    let all = specs();
    let options = WindowOptions::default();
    for pair in all.chunks_exact(2).zip(all.chunks_exact(2).skip(1)).map(|(a, b)| [&a[0], &b[1]]) {
        let mut sum = vec![0.0_f32; 3 * scan.geometry().voxels()];
        for spec in pair {
            let logits = plain::logits(spec, &scan, &[&network], false);
            let weighted: Vec<f32> = logits.iter().map(|v| v * 0.5).collect();
            sum.iter_mut().zip(plain::on_scan(spec, &scan, &weighted)).for_each(|(a, b)| *a += b);
        }
        let (labels, _) = plain::decided(pair[0], &scan, &sum);
        for chunks in CHUNKS {
            let (mut tiles, mut expected) = (0, 0);
            let mut decision = LabelAccumulator::new(pair[0], scan.geometry(), Outputs::Labels).unwrap();
            for slices in chunks.slice_ranges(scan.geometry()) {
                let mut block = LogitSlab::new(scan.geometry(), 3, slices).unwrap();
                for spec in pair {
                    let (prepared, restore) = preprocess(spec, &scan).unwrap();
                    let predictors: [&dyn Predictor; 1] = [&network];
                    let mut queue = SyncTileQueue::new(&predictors);
                    let mut tick = || {
                        tiles += 1;
                        ControlFlow::Continue(())
                    };
                    let mut context = InferenceContext { options, chunks, queue: &mut queue, on_tile: &mut tick };
                    let share = WeightedGroup { spec, preprocessed: &prepared, networks: vec![0], weight: 0.5 };
                    restore.stream_into(&[share], &mut context, &mut block).unwrap();
                }
                decision.add_slab(block);
            }
            assert_eq!(decision.finish().unwrap().labels.data(), labels, "{chunks:?}");
            for spec in pair {
                expected += count_tiles_in_chunks(spec, scan.geometry(), &options, chunks).unwrap();
            }
            assert_eq!(tiles, expected, "{chunks:?}");
        }
    }
}

#[test]
fn memory_limit_is_kept_by_smaller_chunks_or_refused() {
    let scan = scan();
    let (one, other) = (spec("RAS", Dimensions::Three), spec("SPL", Dimensions::Two));
    for specs in [vec![&one], vec![&one, &other]] {
        let models: Vec<PlannedModel<'_>> = specs.iter().map(|spec| PlannedModel::new(spec)).collect();
        let mut settings = InferenceSettings::default();
        settings.scan = ScanOwnership::Owned;
        settings.engine_memory = EngineMemory::Device;
        settings.loaded_bytes = 1000;
        let plan = |limit| {
            let mut settings = settings;
            settings.memory_limit = limit;
            plan_inference(&models, scan.geometry(), &settings)
        };
        let whole = plan(None).unwrap().peak_bytes;
        let min = min_memory_bytes(&models, scan.geometry(), &settings).unwrap();
        assert!(min < whole && min > 1000 + 4 * scan.geometry().voxels() as u64, "{min} {whole}");
        assert_eq!(plan(None).unwrap().chunks, ChunkSize::WHOLE);
        let mut last = u64::MAX;
        for limit in [whole, (whole + min) / 2, min] {
            let plan = plan(Some(limit)).unwrap();
            assert!(plan.peak_bytes <= limit && plan.peak_bytes < last, "{plan:?}");
            last = plan.peak_bytes;
        }
        let refused = plan(Some(min - 1)).unwrap_err();
        assert!(matches!(refused, PipelineError::MemoryLimit { required, .. } if required == min), "{refused}");
        assert_eq!(specs.len() > 1, plan(Some(min)).unwrap().chunks.slices < 11);
    }
    let refused = PipelineError::MemoryLimit { limit: 500_000_000, required: 1_200_000_001, resampling: None };
    insta::assert_snapshot!(refused, @"the memory limit of 500 MB is too small for this scan: with this model it needs at least 1201 MB; raise the limit, or give a smaller scan");
}

#[test]
fn models_are_grouped_by_grid_then_preprocessing_then_window() {
    let base = spec("RAS", Dimensions::Three);
    let other_window = ModelSpec { patch: vec![8, 6, 8], ..base.clone() };
    let mut other_normalisation = base.clone();
    other_normalisation.channels[0].normalisation = Normalisation::MinMax;
    let other_grid = spec("SPL", Dimensions::Two);
    let specs = [&base, &other_grid, &other_window, &base, &other_normalisation];
    let models: Vec<PlannedModel<'_>> = specs.into_iter().map(PlannedModel::new).collect();
    let plan = plan_inference(&models, scan().geometry(), &InferenceSettings::default()).unwrap();
    let indices: Vec<Vec<Vec<Vec<usize>>>> = plan
        .grids
        .iter()
        .map(|grid| {
            let windows = |p: &PreprocessingGroup| p.windows.iter().map(|w| w.models.clone()).collect();
            grid.preprocessings.iter().map(windows).collect()
        })
        .collect();
    assert_eq!(indices, [vec![vec![vec![0, 3], vec![2]], vec![vec![4]]], vec![vec![vec![1]]]]);
    let weights: Vec<f32> = plan.grids.iter().flat_map(GridGroup::windows).map(|w| w.weight).collect();
    assert_eq!(weights, [0.4, 0.2, 0.2, 0.2]);
    insta::assert_snapshot!(
        plan.to_string().split(", about").next().unwrap(),
        @"328 tiles on 2 grid(s) and 4 window(s), 1 session(s), 1 call(s) at a time"
    );
}
