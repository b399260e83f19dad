//! Every kind of plan is exported, checked and used before its first step and after its last one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot be set up has failed"
)]

use std::path::{Path, PathBuf};

use prost::Message;
use sulcus_dataset::{Dataset, SplitChoice};
use sulcus_io::VolumeMetadata;
use sulcus_model::{
    CoarseAxis, CropRule, Dimensions, ModelSpec, NetworkSpec, Normalisation, OutputActivation, SpacingRule, Tiling,
};
use sulcus_onnx::messages::{GraphProto, ModelProto, NodeProto};
use sulcus_plan::{DeviceChoice, Plan, PlanFile, TrainConfig};
use sulcus_runtime::ort::{OrtLibrary, OrtSearch};
use sulcus_runtime::{Engine, ErrorKind, Segmenter};
use sulcus_testing::{test_spec, test_stage};
use sulcus_train::{Event, Preflight, PreflightError, TrainObserver, TrainOutcome, train_by_plan};
use sulcus_volume::{
    Geometry, Image, Interpolation, LabelMap, LabelTable, Orientation, OrientationSource, RasFromVoxel, Spacing,
};

use super::checked::{SinglePrecision, accepted, checked, keep_trained, single_precision};
use super::engines::{Engines, ModelFile};
use super::*;

/// The properties of a plan that affect its export.
#[derive(Debug, Clone, Copy)]
struct Kind {
    dimensions: Dimensions,
    grid: Grid,
    crop: CropRule,
    channels: usize,
    output: OutputActivation,
    slices: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Grid {
    Native,
    /// Resampled along every axis, also across slices: a single slice becomes two.
    Resampled,
    /// Thick slices, which are repeated.
    CoarseAxis,
}

fn kinds(dimensions: Dimensions) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for grid in [Grid::Native, Grid::Resampled, Grid::CoarseAxis] {
        for crop in [CropRule::Whole, CropRule::Nonzero] {
            for channels in [1, 2] {
                for output in [OutputActivation::Softmax, OutputActivation::Sigmoid, OutputActivation::Regions] {
                    for slices in [1, 7] {
                        kinds.push(Kind { dimensions, grid, crop, channels, output, slices });
                    }
                }
            }
        }
    }
    kinds
}

impl Kind {
    fn spacing_mm(&self) -> [f64; 3] {
        match self.grid {
            Grid::Native => [1.0, 1.0, 1.5],
            Grid::Resampled => [1.0, 1.0, 2.5],
            Grid::CoarseAxis => [1.0, 1.0, 5.0],
        }
    }

    /// Two cases in nnU-Net's form: a ball and a box in noise, inside a margin of zeros.
    fn dataset(&self, root: &Path) -> Dataset {
        let shape = [18, 16, self.slices];
        let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new(self.spacing_mm()).unwrap());
        let geometry = Geometry::new(shape, map, OrientationSource::Sform).unwrap();
        for folder in ["imagesTr", "labelsTr"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        for seed in 0..2 {
            let labels: Vec<u16> = (0..geometry.voxels()).map(|i| label(i, shape)).collect();
            for channel in 0..self.channels {
                let values =
                    labels.iter().enumerate().map(|(i, label)| value(i, *label, shape, 7 * seed + channel));
                let image = Image::new(geometry, 1, values.collect()).unwrap();
                let file = root.join(format!("imagesTr/case{seed}_{channel:04}.nii.gz"));
                sulcus_io::write_image(&file, &image, &VolumeMetadata::from(geometry)).unwrap();
            }
            let structures =
                |label: &u16| if self.output == OutputActivation::Sigmoid { (*label).min(1) } else { *label };
            let labels = LabelMap::new(geometry, labels.iter().map(structures).collect()).unwrap();
            let file = root.join(format!("labelsTr/case{seed}.nii.gz"));
            sulcus_io::write_labels(&file, &labels, &VolumeMetadata::from(geometry), &LabelTable::default())
                .unwrap();
        }
        let channels = (0..self.channels).map(|c| format!(r#""{c}":"MRI {c}""#)).collect::<Vec<_>>().join(",");
        let labels = match self.output {
            OutputActivation::Softmax => r#""labels":{"background":0,"ball":1,"box":2}"#,
            OutputActivation::Sigmoid => r#""labels":{"background":0,"ball":1}"#,
            OutputActivation::Regions => {
                r#""labels":{"background":0,"both":[1,2],"box":[2]},"regions_class_order":[1,2]"#
            }
        };
        let json =
            format!(r#"{{"channel_names":{{{channels}}},{labels},"numTraining":2,"file_ending":".nii.gz"}}"#);
        std::fs::write(root.join("dataset.json"), json).unwrap();
        Dataset::open(root).unwrap()
    }

    fn network(&self) -> NetworkSpec {
        let axes = self.dimensions.count();
        let stages = vec![test_stage(axes, 3, 1), test_stage(axes, 4, 2)];
        test_spec(self.dimensions.into()).name("tiny").strided().stages(stages).build().network
    }

    fn plan(&self, dataset: &Dataset, config: &TrainConfig) -> Plan {
        let PlanFile { mut plan, .. } = sulcus_train::plan(dataset, &SplitChoice::All, config, &mut ()).unwrap();
        assert_eq!(plan.output, self.output);
        let resampled = |mm, coarse_axis| SpacingRule::Resample {
            mm: Spacing::new(mm).unwrap(),
            interpolation: Interpolation::Cubic,
            coarse_axis,
            tolerance: 1.0,
        };
        plan.orientation = Orientation::RAS.into();
        plan.spacing = match self.grid {
            Grid::Native => SpacingRule::Native,
            Grid::Resampled => resampled([1.25, 0.9, 1.25], CoarseAxis::AsOthers),
            Grid::CoarseAxis => resampled([1.25, 0.9, 2.5], CoarseAxis::Nearest),
        };
        plan.crop = self.crop;
        if self.crop == CropRule::Nonzero {
            plan.normalisation = vec![Normalisation::ZScoreNonzero; self.channels];
        }
        plan.patch = vec![8; self.dimensions.count()];
        plan.tiling = if self.slices == 1 { Tiling::Whole } else { Tiling::Patch };
        plan.check().unwrap();
        plan
    }
}

/// 1 in a ball, 2 in a box that extends over all slices.
fn label(i: usize, [nx, ny, _]: [usize; 3]) -> u16 {
    let [x, y] = [i % nx, i / nx % ny].map(|v| v as i32);
    if (x - 6) * (x - 6) + (y - 8) * (y - 8) < 10 {
        1
    } else {
        u16::from((10..14).contains(&x) && (5..11).contains(&y)) * 2
    }
}

fn value(i: usize, label: u16, [nx, ny, _]: [usize; 3], seed: usize) -> f32 {
    let [x, y] = [i % nx, i / nx % ny];
    if !(2..nx - 2).contains(&x) || !(2..ny - 2).contains(&y) {
        return 0.0;
    }
    let noise = (i.wrapping_mul(2_654_435_761).wrapping_add(seed * 97) >> 7) % 100;
    50.0 + 100.0 * f32::from(label) + 0.5 * noise as f32
}

/// Checks before the first step, as `sulcus train` does.
struct Engineer {
    library: OrtLibrary,
    checked: usize,
}

impl TrainObserver for Engineer {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Step { .. } = event {
            assert_eq!(self.checked, 1, "the check comes before the first step");
        }
    }

    fn preflight(&mut self, model: &Preflight<'_>) -> Result<(), PreflightError> {
        self.checked += 1;
        assert!(model.spec().golden_case.is_some());
        preflight::check(model, &self.library).map(drop)
    }
}

fn library() -> OrtLibrary {
    match std::env::var_os("SULCUS_ORT_LIB") {
        Some(path) => OrtLibrary::Path(path.into()),
        None => {
            eprintln!("the half of the matrix for ONNX Runtime is not run: SULCUS_ORT_LIB is not set");
            OrtLibrary::Search(OrtSearch::local())
        }
    }
}

fn one_step(network: NetworkSpec) -> TrainConfig {
    let mut config = TrainConfig::new(network);
    (config.epochs, config.steps_per_epoch, config.batch_size) = (Some(1), Some(1), Some(2));
    config.device = DeviceChoice::Cpu.into();
    config.workers = 1;
    config
}

fn train(dataset: &Dataset, config: &TrainConfig, plan: &Plan, run: &Path) {
    let mut engineer = Engineer { library: library(), checked: 0 };
    let outcome = train_by_plan(dataset, &SplitChoice::All, config, plan, run, &mut engineer).unwrap();
    assert!(matches!(outcome, TrainOutcome::Finished { .. }), "{outcome:?}");
    assert_eq!(engineer.checked, 1);
}

fn every_kind_passes(dimensions: Dimensions) {
    for kind in kinds(dimensions) {
        let folder = tempfile::tempdir().unwrap();
        let (dataset, run) = (kind.dataset(&folder.path().join("data")), folder.path().join("run"));
        let config = one_step(kind.network());
        println!("{kind:?}");
        train(&dataset, &config, &kind.plan(&dataset, &config), &run);
        let model = checked(&run, &ExportRequest::default(), &library(), Ui::new(true, true));
        let model = model.unwrap_or_else(|error| panic!("{kind:?}: {}", error.message()));
        assert!(model.failure.is_none());
    }
}

#[test]
fn every_kind_of_2d_plan_passes_preflight_and_export() {
    every_kind_passes(Dimensions::Two);
}

#[test]
fn every_kind_of_3d_plan_passes_preflight_and_export() {
    every_kind_passes(Dimensions::Three);
}

#[test]
fn transposed_convolutions_are_written_as_convolutions_where_asked() {
    for dimensions in [Dimensions::Two, Dimensions::Three] {
        let kind = Kind {
            dimensions,
            grid: Grid::Native,
            crop: CropRule::Whole,
            channels: 2,
            output: OutputActivation::Softmax,
            slices: 7,
        };
        let folder = tempfile::tempdir().unwrap();
        let (dataset, run) = (kind.dataset(&folder.path().join("data")), folder.path().join("run"));
        let config = one_step(kind.network());
        train(&dataset, &config, &kind.plan(&dataset, &config), &run);
        let (plain, ui) = (ExportRequest::default(), Ui::new(true, true));
        let rewritten = ExportRequest { conv_transpose_to_conv: true, ..plain };
        let [plain, rewritten] =
            [plain, rewritten].map(|request| checked(&run, &request, &library(), ui).unwrap().bytes);
        let operators = |bytes: &[u8]| {
            let nodes = sulcus_onnx::read_model(bytes).unwrap().graph.unwrap().node;
            nodes.into_iter().map(|node| node.op_type).collect::<Vec<_>>()
        };
        assert!(operators(&plain).iter().any(|operator| operator == "ConvTranspose"));
        assert!(!operators(&rewritten).iter().any(|operator| operator == "ConvTranspose"));
        // `checked` has compared the logits and the mask of the golden case on every engine but native, which refuses it by name.
        let run = sulcus_train::Run::open(&run).unwrap();
        let spec = sulcus_onnx::read_spec(&rewritten).unwrap();
        let inputs = run.parity_inputs(1).unwrap();
        let engines = Engines::find(&library()).unwrap();
        for (bytes, has_native) in [(&rewritten, false), (&plain, true)] {
            let (agreed, native) = engines.agree(bytes, &spec, &inputs).unwrap();
            assert_eq!(agreed.iter().any(|engine| engine.contains("native")), has_native, "{agreed:?}");
            assert_eq!(native, has_native);
            engines.replay_all(bytes, &spec, native).unwrap();
        }
        let native = Segmenter::builder().model_bytes(rewritten).engine(Engine::Native).build().unwrap_err();
        assert!(native.to_string().contains("(Shape) is not supported"), "{native}");
    }
}

/// A run of one step.
fn trained(folder: &Path) -> PathBuf {
    let kind = Kind {
        dimensions: Dimensions::Two,
        grid: Grid::Native,
        crop: CropRule::Whole,
        channels: 1,
        output: OutputActivation::Softmax,
        slices: 7,
    };
    let (dataset, run) = (kind.dataset(&folder.join("data")), folder.join("run"));
    let config = one_step(kind.network());
    train(&dataset, &config, &kind.plan(&dataset, &config), &run);
    run
}

#[test]
fn model_that_fails_its_check_after_training_is_marked_and_refused_by_default() {
    let folder = tempfile::tempdir().unwrap();
    let run_folder = trained(folder.path());
    let run = sulcus_train::Run::open(&run_folder).unwrap();
    let engines = Engines::find(&library()).unwrap();
    let (model, ui) = (run_folder.join("model.onnx"), Ui::new(true, true));
    let export = |request: &ExportRequest<'_>| {
        let written = single_precision(&run, request, &engines).unwrap();
        let check = Err(CliError::failed("the file gives other results in native: logits differ by up to 1"));
        accepted(&run, SinglePrecision { check, ..written }, request, &engines, ui)
    };
    let marked = ExportRequest { allow_unchecked: true, ..ExportRequest::default() };

    let Err(CliError::Failed { message, hint }) = keep_trained(&run_folder, export(&marked), &model, ui) else {
        panic!("logits that differ by more than the tolerance were accepted");
    };
    assert!(message.contains("gives other results in native: logits differ by up to"), "{message}");
    assert!(message.contains("the trained weights are kept: "), "{message}");
    assert!(hint.unwrap().contains("sulcus export"));
    let bytes = std::fs::read(&model).unwrap();
    let spec = sulcus_onnx::read_spec(&bytes).unwrap();
    assert_eq!(spec.format_version, 5);
    assert!(spec.unchecked.unwrap().contains("logits differ"));
    let refused = Segmenter::builder().model_bytes(bytes.as_slice()).build().unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Unchecked { .. }), "{refused}");
    let allowed = Segmenter::builder().model_bytes(bytes).allow_unchecked(true).build().unwrap();
    assert!(
        allowed.notes().iter().any(|note| note.to_string().contains("did not pass its check")),
        "{:?}",
        allowed.notes()
    );

    // `sulcus export` refuses it.
    let Err(CliError::Failed { hint, .. }) = export(&ExportRequest::default()) else {
        panic!("an unchecked model was written without --allow-unchecked");
    };
    assert!(hint.unwrap().contains("--allow-unchecked"));
    std::fs::remove_file(&model).unwrap();
    export(&marked).unwrap().write(&model, ui).unwrap();
    assert!(model.exists());
}

/// A change of a model file that no rounding explains.
type Damage = fn(&mut ModelProto);

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

/// Negates the largest weight of a convolution at the coarsest resolution, one of about a million.
fn negate_a_weight(model: &mut ModelProto) {
    let largest = graph(model).initializer.iter_mut().max_by_key(|tensor| tensor.raw_data.len()).unwrap();
    let weights = largest.raw_data.as_chunks_mut::<4>().0;
    let size = |weight: &&mut [u8; 4]| f32::from_le_bytes(**weight).abs();
    let weight = weights.iter_mut().max_by(|a, b| size(a).total_cmp(&size(b))).unwrap();
    *weight = (-f32::from_le_bytes(*weight)).to_le_bytes();
}

/// Moves the window of a convolution by a voxel along its last axis: one more column before, and one less behind.
fn shift_the_padding(model: &mut ModelProto) {
    let attributes = graph(model).node.iter_mut().filter(|n| n.op_type == "Conv").flat_map(|n| &mut n.attribute);
    let pads = attributes.filter(|a| a.name == "pads" && a.ints.iter().all(|n| *n == 1)).last().unwrap();
    let axes = pads.ints.len() / 2;
    (pads.ints[axes - 1], pads.ints[2 * axes - 1]) = (2, 0);
}

/// Uses an ε of 0.01 instead of 1e-5 in one normalisation.
fn change_the_epsilon(model: &mut ModelProto) {
    let normalisation = |n: &&mut NodeProto| n.op_type == "InstanceNormalization";
    let mut attributes = graph(model).node.iter_mut().filter(normalisation).flat_map(|n| &mut n.attribute);
    attributes.find(|a| a.name == "epsilon").unwrap().f = 0.01;
}

#[test]
fn wrong_weight_padding_and_epsilon_are_caught_in_every_engine() {
    for dimensions in [Dimensions::Two, Dimensions::Three] {
        let kind = Kind {
            dimensions,
            grid: Grid::Native,
            crop: CropRule::Whole,
            channels: 1,
            output: OutputActivation::Softmax,
            slices: 7,
        };
        let folder = tempfile::tempdir().unwrap();
        let (dataset, run) = (kind.dataset(&folder.path().join("data")), folder.path().join("run"));
        let axes = dimensions.count();
        let widths = [(16, 1), (32, 2), (64, 2), (128, 2)];
        let stages = widths.map(|(channels, stride)| test_stage(axes, channels, stride));
        let network = NetworkSpec { stages: stages.to_vec(), ..kind.network() };
        let config = one_step(network);
        train(&dataset, &config, &kind.plan(&dataset, &config), &run);

        let run = sulcus_train::Run::open(&run).unwrap();
        let (device, _) = sulcus_train::find_device(DeviceChoice::Cpu).unwrap();
        let network = run.load_network(sulcus_train::Weights::Best, &device).unwrap();
        let trainer = sulcus_train::NetworkPredictor::new(&network, &device);
        let spec: ModelSpec = run.model_spec(sulcus_train::Weights::Best, &trainer).unwrap();
        let right = sulcus_train::export_onnx(&network, &spec).unwrap();
        let inputs = run.parity_inputs(2).unwrap();
        let engines = Engines::find(&library()).unwrap();
        let compare = |bytes: &[u8]| {
            let model = ModelFile { bytes, spec: &spec, trainer: &trainer, inputs: &inputs, native: true };
            engines.compare_all(&model)
        };
        let passed = compare(&right);
        assert!(passed.iter().all(Result::is_ok), "{axes}-D: {passed:?}");
        let damages: [(&str, Damage); 3] =
            [("weight", negate_a_weight), ("padding", shift_the_padding), ("epsilon", change_the_epsilon)];
        for (what, damage) in damages {
            let mut model = sulcus_onnx::read_model(&right).unwrap();
            damage(&mut model);
            for found in compare(&model.encode_to_vec()) {
                let message = found.unwrap_err().message().to_owned();
                // The native engine refuses padding that it does not know.
                assert!(
                    message.contains("gives other results") || message.contains("pads"),
                    "{axes}-D, {what}: {message}"
                );
            }
        }
    }
}

#[test]
fn failed_export_after_training_names_the_weights_and_the_next_command() {
    let folder = tempfile::tempdir().unwrap();
    let run = trained(folder.path());
    std::fs::write(run.join("checkpoints/samples.json"), "[").unwrap();
    let model = run.join("model.onnx");
    let Err(CliError::Failed { message, hint }) = write_trained(&run, &model, &library(), Ui::new(true, true))
    else {
        panic!("a model without samples was accepted");
    };
    assert!(message.contains("the run's samples are broken"), "{message}");
    assert!(message.contains("the trained weights are kept: "), "{message}");
    assert!(hint.unwrap().starts_with("`sulcus export "));
    assert!(!model.exists());
}
