//! Whole predictions as nnU-Net computes them: every voxel equals the mask of its own predictor (`tests/peers/nnunet_numerics.py`).
//! In the default mode almost every voxel does.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::ops::ControlFlow;

use serde::Deserialize;
use sulcus_model::{
    AxisOrder, CropRule, GridAxes, ModelSpec, NnunetOrigin, NnunetResampling, NnunetSpacing, Normalisation,
    OutputActivation, Region, SpacingRule, Tiling,
};
use sulcus_pipeline::{
    Crop, InferenceSettings, Numerics, Outputs, PipelineError, PlannedModel, Prediction, Predictor,
    PredictorError, ScanInput, SyncTileQueue, Tensor, WindowOptions, execute, plan_inference,
};
use sulcus_testing::test_spec;
use sulcus_volume::{Geometry, Image, LabelTable, Orientation, OrientationSource, RasFromVoxel, Spacing};

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

/// The networks of a case: `logits[k] = x·gain[k] + ((z·slope[k, 0] + y·slope[k, 1]) + x·slope[k, 2])`.
struct Affine {
    gains: Vec<f32>,
    slopes: Vec<f32>,
}

impl Predictor for Affine {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        let (mut shape, values) = input.into_parts();
        let (ny, nx) = (shape[shape.len() - 2], shape[shape.len() - 1]);
        let voxels: usize = shape[2..].iter().product();
        let mut sum = values[..voxels].to_vec();
        values[voxels..].chunks_exact(voxels).for_each(|c| sum.iter_mut().zip(c).for_each(|(s, v)| *s += v));
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
            if inside(z, nz, mz) && inside(y, ny, my) && inside(x, nx, mx) { value as f32 } else { 0.0 }
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
        Affine { gains: of(&gains, self.classes), slopes: of(&slopes, 3 * self.classes) }
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
        predict(&specs, &networks, &self.scan(), settings).unwrap()
    }

    fn expected(&self) -> Vec<u16> {
        self.labels.chars().map(|digit| digit.to_digit(16).unwrap() as u16).collect()
    }
}

fn predict(
    specs: &[&ModelSpec],
    networks: &[&dyn Predictor],
    scan: &Image,
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
    let found = execute(&plan, specs, specs[0], ScanInput::Borrowed(image), &mut queue, &mut |progress| {
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

/// The networks of the test are noise, so that far more voxels than with trained networks lie near a tie.
#[test]
fn default_mode_gives_almost_the_same_masks() {
    for case in cases() {
        let found = case.predict(&[case.folds], Numerics::Float32, Outputs::Labels);
        let different = found.labels.data().iter().zip(case.expected()).filter(|(a, b)| **a != *b).count();
        let share = different as f64 / case.labels.len() as f64;
        println!("{}: {different} of {}", case.name, case.labels.len());
        assert!(share < 0.01, "{different} of {} voxels of `{}`", case.labels.len(), case.name);
    }
}
