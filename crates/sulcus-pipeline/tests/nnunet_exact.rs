//! Whole predictions as nnU-Net computes them: every voxel equals the mask of its own predictor (`tests/peers/nnunet_numerics.py`).
//! In the default mode almost every voxel does.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::ops::ControlFlow;

use serde::Deserialize;
use sulcus_model::{
    AxisOrder, CropRule, GridAxes, MaskUse, ModelSpec, NnunetOrigin, NnunetResampling, NnunetSpacing,
    Normalisation, OutputActivation, PreviousNetwork, Region, SpacingRule, Tiling,
};
use sulcus_pipeline::{
    Average, Crop, InferenceSettings, ModelInput, Numerics, Outputs, PipelineError, PlannedModel, Prediction,
    Predictor, PredictorError, ScanInput, SyncTileQueue, Tensor, WindowOptions, execute, min_memory_bytes,
    plan_inference,
};
use sulcus_testing::test_spec;
use sulcus_volume::{
    Geometry, Image, LabelMap, LabelTable, Orientation, OrientationSource, RasFromVoxel, Spacing,
};

#[derive(Deserialize)]
struct Case {
    name: String,
    dimensions: u8,
    /// z, y, x, as all triples here.
    shape: [usize; 3],
    channels: usize,
    margin: [usize; 3],
    spacing: [f64; 3],
    /// Of the transposed grid; two numbers for slices.
    target: Vec<f64>,
    transpose: [usize; 3],
    patch: Vec<usize>,
    classes: usize,
    regions: bool,
    folds: usize,
    mirror: Option<Vec<usize>>,
    masked: bool,
    step: f64,
    image: NnunetResampling,
    logits: NnunetResampling,
    /// The voxels where z + y + x is less are 0.
    corner: usize,
    /// How the mask of the previous network is resampled.
    mask: NnunetResampling,
    previous: Option<Box<Case>>,
    gains: String,
    slopes: String,
    labels: String,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("fixtures/nnunet_predictor.json")).unwrap()
}

fn floats(hexadecimal: &str) -> Vec<f32> {
    let digits: Vec<u8> = (0..hexadecimal.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hexadecimal[i..i + 2], 16).unwrap())
        .collect();
    digits.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// The networks of a case: `logits[k] = v·gain[k] + ((z·slope[k, 0] + y·slope[k, 1]) + x·slope[k, 2])`, where v is the sum of the channels;
/// those of a mask count ½, 1, 1½, …
struct Affine {
    channels: usize,
    gains: Vec<f32>,
    slopes: Vec<f32>,
}

impl Predictor for Affine {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        let (mut shape, values) = input.into_parts();
        let (ny, nx) = (shape[shape.len() - 2], shape[shape.len() - 1]);
        let voxels: usize = shape[2..].iter().product();
        let weight = |channel: usize| match channel.checked_sub(self.channels) {
            None => 1.0,
            Some(of_mask) => (of_mask + 1) as f32 / 2.0,
        };
        let mut sum = vec![0.0; voxels];
        for (i, channel) in values.chunks_exact(voxels).enumerate() {
            sum.iter_mut().zip(channel).for_each(|(s, v)| *s += v * weight(i));
        }
        shape[1] = self.gains.len();
        let class = |(gain, slope): (&f32, &[f32])| -> Vec<f32> {
            let at = |i: usize| ((i / (ny * nx)) as f32, (i / nx % ny) as f32, (i % nx) as f32);
            let ramp = |(z, y, x): (f32, f32, f32)| (z * slope[0] + y * slope[1]) + x * slope[2];
            sum.iter().enumerate().map(|(i, v)| v * gain + ramp(at(i))).collect()
        };
        let data = self.gains.iter().zip(self.slopes.chunks_exact(3)).flat_map(class).collect();
        Ok(Tensor::new(shape, data).unwrap())
    }
}

impl Case {
    fn spec(&self, networks: usize) -> ModelSpec {
        let names: Vec<(u16, String)> = (1..4).map(|v| (v, format!("label {v}"))).collect();
        let mut mm = [None; 3];
        self.target.iter().rev().zip(&mut mm).for_each(|(target, mm)| *mm = Some(*target));
        let scheme = if self.masked { Normalisation::ZScoreNonzero } else { Normalisation::ZScore };
        let region =
            |name: &str, values: &[u16], writes| Region { name: name.into(), values: values.to_vec(), writes };
        let base = test_spec(self.dimensions).strided().channels((0..self.channels).map(|c| c.to_string()));
        let mut spec = ModelSpec {
            labels: LabelTable::from_names(names).unwrap(),
            orientation: GridAxes::Stored(AxisOrder::of_transpose_forward(self.transpose).unwrap()),
            spacing: SpacingRule::Nnunet(NnunetSpacing { mm, image: self.image, logits: self.logits }),
            crop: CropRule::Nonzero,
            mirror_axes: self.mirror.clone().unwrap_or_default(),
            tile_step: self.step,
            networks,
            nnunet: Some(NnunetOrigin { configuration: "x".into(), ..NnunetOrigin::default() }),
            ..base.normalisation(scheme).patch(&self.patch, Tiling::CentredPatch).build()
        };
        if self.regions {
            spec.activation = OutputActivation::Regions;
            spec.regions =
                vec![region("whole", &[1, 2, 3], 1), region("core", &[2, 3], 2), region("inner", &[3], 3)];
        }
        if let Some(previous) = &self.previous {
            let name = "low".to_owned();
            let mask = MaskUse::InputChannels { labels: vec![1, 2, 3], resampling: self.mask };
            let mut of_previous = previous.spec(previous.folds);
            of_previous.nnunet.as_mut().unwrap().configuration = name.clone();
            spec.previous = Some(Box::new(PreviousNetwork { name, spec: of_previous, mask }));
        }
        spec.format_version = spec.min_format_version();
        spec.check().unwrap();
        assert_eq!(spec.classes(), self.classes);
        spec
    }

    fn scan(&self) -> Image {
        let [nz, ny, nx] = self.shape;
        let inside = |at: usize, n: usize, margin: usize| (margin..n - margin).contains(&at);
        let value = |channel: usize, z: usize, y: usize, x: usize| {
            let index = (z * ny + y) * nx + x;
            let value =
                (index * 7919 + channel * 104_729) % 1009 / 4 + 20 * ((z / 2 + y / 3 + x / 3 + channel) % 7) + 1;
            let [mz, my, mx] = self.margin;
            let is_inside =
                inside(z, nz, mz) && inside(y, ny, my) && inside(x, nx, mx) && z + y + x >= self.corner;
            if is_inside { value as f32 } else { 0.0 }
        };
        let mut data = Vec::new();
        for channel in 0..self.channels {
            for z in 0..nz {
                for y in 0..ny {
                    data.extend((0..nx).map(|x| value(channel, z, y, x)));
                }
            }
        }
        let [z, y, x] = self.spacing;
        let map = RasFromVoxel::aligned(Orientation::LPI, Spacing::new([x, y, z]).unwrap());
        Image::new(Geometry::new([nx, ny, nz], map, OrientationSource::Sform).unwrap(), self.channels, data)
            .unwrap()
    }

    fn network(&self, folds: std::ops::Range<usize>) -> Affine {
        let (gains, slopes) = (floats(&self.gains), floats(&self.slopes));
        let of = |all: &[f32], length: usize| all[folds.start * length..folds.end * length].to_vec();
        let channels = self.channels;
        Affine { channels, gains: of(&gains, self.classes), slopes: of(&slopes, 3 * self.classes) }
    }

    /// Each file has some of the folds.
    fn predict(&self, files: &[usize], numerics: Numerics, outputs: Outputs) -> Prediction {
        let specs: Vec<ModelSpec> = files.iter().map(|folds| self.spec(*folds)).collect();
        let mut first = 0;
        let networks: Vec<Affine> = files
            .iter()
            .map(|folds| {
                first += folds;
                self.network(first - folds..first)
            })
            .collect();
        let networks: Vec<&dyn Predictor> = networks.iter().map(|n| n as &dyn Predictor).collect();
        let specs: Vec<&ModelSpec> = specs.iter().collect();
        let mut settings = InferenceSettings::default();
        settings.window = WindowOptions { step: None, mirror: self.mirror.is_some() };
        settings.outputs = outputs;
        settings.numerics = numerics;
        let before =
            self.previous.as_ref().map(|previous| previous.predict(&[previous.folds], numerics, Outputs::Labels));
        let mask = before.as_ref().map(|before| &before.labels);
        predict(&specs, &networks, &self.scan(), mask, settings).unwrap()
    }

    fn expected(&self) -> Vec<u16> {
        self.labels.chars().map(|digit| digit.to_digit(16).unwrap() as u16).collect()
    }
}

fn predict(
    specs: &[&ModelSpec],
    networks: &[&dyn Predictor],
    scan: &Image,
    mask: Option<&LabelMap>,
    mut settings: InferenceSettings,
) -> Result<Prediction, PipelineError> {
    let crop = Crop::of(specs[0], scan)?;
    let part = crop.as_ref().map(|crop| crop.image(scan)).transpose()?;
    settings.cropped_from = crop.as_ref().map(|crop| crop.full().shape());
    let image = part.as_ref().unwrap_or(scan);
    let models: Vec<PlannedModel<'_>> = specs.iter().map(|spec| PlannedModel::new(spec)).collect();
    let plan = plan_inference(&models, image.geometry(), &settings)?;
    let mut queue = SyncTileQueue::new(networks);
    let mut last = None;
    let part_of_mask = crop.as_ref().zip(mask).map(|(crop, mask)| crop.labels(mask)).transpose()?;
    let mask = part_of_mask.as_ref().or(mask);
    let inputs: Vec<ModelInput<'_>> = specs.iter().map(|spec| ModelInput { spec, mask }).collect();
    let found = execute(&plan, &inputs, specs[0], ScanInput::Borrowed(image), &mut queue, &mut |progress| {
        last = Some((progress.done, progress.total));
        ControlFlow::Continue(())
    })?;
    assert_eq!(last, Some((plan.tiles, plan.tiles)));
    match crop {
        Some(crop) => crop.restore(specs[0], found.prediction),
        None => Ok(found.prediction),
    }
}

#[test]
fn every_voxel_equals_nnunets_mask() {
    for case in cases() {
        let found = case.predict(&[case.folds], Numerics::Nnunet, Outputs::Labels);
        let different = found.labels.data().iter().zip(case.expected()).filter(|(a, b)| **a != *b).count();
        assert_eq!(different, 0, "{} of {} voxels of `{}`", different, case.labels.len(), case.name);
    }
}

/// Folds in files of their own, and the same folds in one file, or in two.
#[test]
fn folds_may_be_divided_among_files() {
    let case = cases().into_iter().find(|case| case.name == "folds").unwrap();
    for files in [vec![1; 5], vec![2, 3], vec![5]] {
        let found = case.predict(&files, Numerics::Nnunet, Outputs::Labels);
        assert_eq!(found.labels.data(), case.expected(), "{files:?}");
    }
}

/// The networks of the test are noise, so that far more voxels than with trained networks lie near a tie. Splines of higher order through
/// logits that are noise also overshoot, where the default mode is linear.
#[test]
fn default_mode_gives_almost_the_same_masks() {
    for case in cases() {
        let found = case.predict(&[case.folds], Numerics::Float32, Outputs::Labels);
        let different = found.labels.data().iter().zip(case.expected()).filter(|(a, b)| **a != *b).count();
        let share = different as f64 / case.labels.len() as f64;
        println!("{}: {different} of {}", case.name, case.labels.len());
        let limit = if case.name.ends_with("_logits") { 0.2 } else { 0.01 };
        assert!(share < limit, "{different} of {} voxels of `{}`", case.labels.len(), case.name);
    }
}

/// nnU-Net averages the probabilities of configurations, in single precision.
#[test]
fn probabilities_of_configurations_are_averaged() {
    let named = |name: &str| cases().into_iter().find(|case| case.name == name).unwrap();
    let (fine, coarse) = (named("isotropic"), named("step"));
    let coarse = Case { target: vec![2.0; 3], ..coarse };
    let (mut first, mut second) = (fine.spec(1), coarse.spec(1));
    second.nnunet = Some(NnunetOrigin { configuration: "y".into(), ..NnunetOrigin::default() });
    let networks = [fine.network(0..1), coarse.network(0..1)];
    let networks: Vec<&dyn Predictor> = networks.iter().map(|network| network as &dyn Predictor).collect();
    for numerics in [Numerics::Nnunet, Numerics::Float32] {
        let mut settings = InferenceSettings::default();
        settings.numerics = numerics;
        settings.outputs = Outputs::LabelsAndProbabilities;
        let scan = fine.scan();
        let alone: Vec<Image> = [(&first, networks[0]), (&second, networks[1])]
            .map(|(spec, network)| {
                predict(&[spec], &[network], &scan, None, settings).unwrap().probabilities.unwrap()
            })
            .into();
        let both = predict(&[&first, &second], &networks, &scan, None, settings).unwrap();
        let mean: Vec<f32> = alone[0].data().iter().zip(alone[1].data()).map(|(a, b)| (a + b) / 2.0).collect();
        let found = both.probabilities.unwrap();
        let worst = found.data().iter().zip(&mean).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= if numerics == Numerics::Nnunet { 0.0 } else { 1e-5 }, "{numerics:?}: {worst}");
        let voxels = both.labels.data().len();
        let greatest = |voxel: usize| {
            let of = |class: usize| mean[class * voxels + voxel];
            (1..4).fold(0, |best, class| if of(class) > of(best) { class } else { best }) as u16
        };
        let different = (0..voxels).filter(|voxel| both.labels.data()[*voxel] != greatest(*voxel)).count();
        assert!(different <= if numerics == Numerics::Nnunet { 0 } else { 5 }, "{numerics:?}: {different}");
    }
    // The same configuration again is a fold, whose logits are averaged.
    second.nnunet.clone_from(&first.nnunet);
    let planned = [&first, &second].map(PlannedModel::new);
    let plan = plan_inference(&planned, fine.scan().geometry(), &InferenceSettings::default()).unwrap();
    assert_eq!(plan.average, Average::Logits);
    first.nnunet = Some(NnunetOrigin { configuration: "z".into(), ..NnunetOrigin::default() });
    let planned = [&first, &second].map(PlannedModel::new);
    let plan = plan_inference(&planned, fine.scan().geometry(), &InferenceSettings::default()).unwrap();
    assert_eq!(plan.average, Average::Probabilities);
}

#[test]
fn other_models_and_too_little_memory_are_refused() {
    let case = &cases()[0];
    let (scan, spec) = (case.scan(), case.spec(case.folds));
    let mut settings = InferenceSettings::default();
    settings.numerics = Numerics::Nnunet;
    let own = ModelSpec { nnunet: None, ..spec.clone() };
    let refused = plan_inference(&[PlannedModel::new(&own)], scan.geometry(), &settings).unwrap_err();
    assert!(refused.to_string().contains("not imported from nnU-Net"), "{refused}");
    let planned = [PlannedModel::new(&spec)];
    let required = min_memory_bytes(&planned, scan.geometry(), &settings).unwrap();
    let plan = plan_inference(&planned, scan.geometry(), &settings).unwrap();
    assert_eq!(plan.peak_bytes, required);
    // Half precision for four classes and the weights, and the scan twice in single precision.
    let least = case.labels.len() as u64 * (5 * 2 + 2 * 4);
    assert!(required > least && required < 200 * least, "{required}");
    settings.memory_limit = Some(required);
    plan_inference(&planned, scan.geometry(), &settings).unwrap();
    settings.memory_limit = Some(required - 1);
    let refused = plan_inference(&planned, scan.geometry(), &settings).unwrap_err();
    assert!(matches!(refused, PipelineError::MemoryLimit { required: found, .. } if found == required));
}

/// Sums that half precision cannot hold are an error, as in nnU-Net, and no mask.
#[test]
fn logits_beyond_half_precision_are_refused() {
    let case = &cases()[0];
    let mut network = case.network(0..1);
    network.gains.iter_mut().for_each(|gain| *gain *= 1e4);
    let mut settings = InferenceSettings::default();
    settings.numerics = Numerics::Nnunet;
    let refused = predict(&[&case.spec(1)], &[&network], &case.scan(), None, settings).unwrap_err();
    assert!(matches!(refused, PipelineError::HalfPrecisionRange), "{refused}");
}

/// A model with a previous network needs its mask, and only such a model takes one.
#[test]
fn masks_are_needed_where_there_is_a_previous_network() {
    let named = |name: &str| cases().into_iter().find(|case| case.name == name).unwrap();
    let (cascade, alone) = (named("cascade"), named("isotropic"));
    let mask = LabelMap::new(*alone.scan().geometry(), vec![0; alone.labels.len()]).unwrap();
    for numerics in [Numerics::Nnunet, Numerics::Float32] {
        let mut settings = InferenceSettings::default();
        settings.numerics = numerics;
        let network = cascade.network(0..1);
        let message = |case: &Case, mask: Option<&LabelMap>| {
            predict(&[&case.spec(1)], &[&network], &case.scan(), mask, settings).unwrap_err().to_string()
        };
        insta::allow_duplicates! {
            insta::assert_snapshot!(message(&cascade, None), @"`test` needs the mask of its previous network `low`, and there is none");
            insta::assert_snapshot!(message(&alone, Some(&mask)), @"there is a mask of a previous network, but `test` has none");
        }
        let other = LabelMap::new(*named("thick_slices").scan().geometry(), vec![0; 9 * 30 * 28]).unwrap();
        assert!(message(&cascade, Some(&other)).contains("grid"), "{}", message(&cascade, Some(&other)));
    }
}
