//! What the user can do about a library's error, in the commands and options of this program.
//!
//! The match is on types and variants alone, so that a changed message changes no hint.

use std::error::Error;

use sulcus_dataset::DatasetError;
use sulcus_onnx::OnnxError;
use sulcus_pipeline::{PipelineError, ScanWarning};
use sulcus_plan::PlanError;
use sulcus_runtime::{Device, Error as RuntimeError, ErrorKind};
use sulcus_serve::ServeError;
use sulcus_train::{DeviceError, InitError, PrecisionError, TrainError};
use sulcus_volume::VolumeError;

/// The hint of the first error in the chain of causes that has one.
pub(super) fn hint_for(error: &(dyn Error + 'static)) -> Option<String> {
    super::chain(error).find_map(of_one)
}

fn of_one(error: &(dyn Error + 'static)) -> Option<String> {
    let of_runtime = || runtime(error.downcast_ref()?);
    let of_pipeline = || pipeline(error.downcast_ref()?);
    let of_training = || training(error.downcast_ref()?);
    let of_dataset = || dataset(error.downcast_ref()?);
    let of_plan = || plan(error.downcast_ref()?);
    let of_device = || training_device(error.downcast_ref()?);
    let of_precision = || training_precision(error.downcast_ref()?);
    let of_init = || initial_weights(error.downcast_ref()?);
    let of_server = || server(error.downcast_ref()?);
    let of_volume = || volume(error.downcast_ref()?);
    // A boxed source is an error of the box's type.
    let of_model =
        || model(error.downcast_ref().or_else(|| error.downcast_ref::<Box<OnnxError>>().map(Box::as_ref))?);
    let hint = of_runtime()
        .or_else(of_pipeline)
        .or_else(of_training)
        .or_else(of_dataset)
        .or_else(of_plan)
        .or_else(of_device)
        .or_else(of_precision)
        .or_else(of_init)
        .or_else(of_server)
        .or_else(of_volume)
        .or_else(of_model)?;
    Some(hint.to_owned())
}

fn runtime(error: &RuntimeError) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::LibraryNotFound { .. } => Some(
            "`sulcus runtime install` fetches ONNX Runtime, `--ort-lib` names a library, `sulcus doctor` lists the places \
             that were searched",
        ),
        ErrorKind::NeedsOnnxRuntime { .. } => Some(
            "use `--engine auto` or `--engine native`; a model exported with `--precision fp32` runs on every engine",
        ),
        ErrorKind::EngineNotBuilt { .. } => Some("use `--engine auto`"),
        ErrorKind::Library { .. } => Some("`sulcus doctor` lists the libraries that were found"),
        ErrorKind::Device { device: Device::Vulkan(_), .. } => Some(
            "`sulcus train --device vulkan` trains on this device; predict with cpu, openvino, cuda or tensorrt",
        ),
        ErrorKind::Device { .. } => Some("`sulcus doctor` lists the devices and what each of them needs"),
        ErrorKind::Precision { .. } => Some(
            "leave `--precision` out to compute as the model file does; `sulcus export --precision` writes models in \
             fewer bits",
        ),
        ErrorKind::Unchecked { .. } => Some(
            "`--allow-unchecked` uses it nevertheless; `sulcus export RUN -o M.onnx` checks the weights of the run again",
        ),
        ErrorKind::WouldOverwrite { .. } => Some("choose another file or folder with `-o`"),
        ErrorKind::NoGoldenCase { .. } => {
            Some("export the model again with `sulcus export`, which adds a golden case")
        }
        ErrorKind::Pipeline(error) => pipeline(error),
        _ => None,
    }
}

fn pipeline(error: &PipelineError) -> Option<&'static str> {
    match error {
        PipelineError::MemoryLimit { resampling: None, .. } => Some("`--max-memory` sets the limit"),
        PipelineError::MemoryLimit { .. } => {
            Some("`sulcus info SCAN` shows the scan's header; `--max-memory` sets the limit")
        }
        PipelineError::GridTooLarge { .. } => Some("`sulcus info SCAN` shows the scan's header"),
        PipelineError::Memory { .. } => Some("`--max-memory 4GB`, for example, processes the scan in chunks"),
        PipelineError::Implausible { reasons } => Some(implausible(reasons)),
        PipelineError::Cancelled => Some("run the same command again to start over"),
        _ => None,
    }
}

fn implausible(reasons: &[ScanWarning]) -> &'static str {
    let is_constant = |reason: &ScanWarning| matches!(reason, ScanWarning::ConstantChannel { .. });
    if reasons.iter().any(is_constant) {
        "`sulcus info SCAN` shows its values; `--allow-constant` segments it nevertheless"
    } else {
        "`sulcus info` shows what the scan and the model's training scans look like; without `--strict` this is a warning"
    }
}

fn training(error: &TrainError) -> Option<&'static str> {
    match error {
        TrainError::NotARun { .. } => Some("`sulcus train DATASET -o RUN` makes a run"),
        TrainError::RunExists { .. } => Some("`--resume` continues the run, another `-o` starts a new one"),
        TrainError::DataChanged { .. } => Some("start a new run with another `-o`"),
        TrainError::RunData { .. } => {
            Some("`--data DIR` names the folder where the data set is now, unchanged since the run was trained")
        }
        TrainError::CaseMemory { .. } | TrainError::CaseGrid { .. } => Some(
            "`sulcus info FILE` shows the header; correct it, leave the case out with `--splits`, or choose larger voxels in a plan",
        ),
        TrainError::Diverged { .. } => Some("`--learning-rate` sets the learning rate"),
        TrainError::Overflow { .. } => Some("train with `--precision bf16` or `--precision fp32`"),
        TrainError::FoldNotFinished { .. } => Some("`--resume` continues the cross-validation"),
        TrainError::NotACrossValidation { .. } => Some("`--fold all` starts a cross-validation"),
        TrainError::Dataset(error) => dataset(error),
        TrainError::Plan(error) => plan(error),
        TrainError::Device(error) => training_device(error),
        TrainError::Precision(error) => training_precision(error),
        TrainError::Init(error) => initial_weights(error),
        // The option `--max-memory` is none of training's.
        TrainError::Pipeline(PipelineError::MemoryLimit { .. } | PipelineError::Memory { .. }) => None,
        TrainError::Pipeline(error) => pipeline(error),
        _ => None,
    }
}

fn dataset(error: &DatasetError) -> Option<&'static str> {
    match error {
        DatasetError::SingleCase { .. } => Some("`--all` trains on the case without holding it out"),
        DatasetError::SinglePatient { .. } => Some(
            "`--all` trains on all cases without holding any out; `--patients none` treats each case as a patient of its own",
        ),
        DatasetError::EmptyFold { .. } => Some("`--all` trains on all cases without holding any out"),
        DatasetError::Split { .. } => Some(
            "`--fold K` selects a fold, `--splits F` names a file of folds, `--all` trains without held-out cases",
        ),
        _ => None,
    }
}

fn plan(error: &PlanError) -> Option<&'static str> {
    match error {
        PlanError::FlatScans => Some(
            "train a 2-D network: `--preset nnunet-2d`, or `--preset auto` without a `--patch` of three sizes",
        ),
        PlanError::Memory(_) => Some("`--memory` sets how much memory the training may use"),
        _ => None,
    }
}

fn training_device(error: &DeviceError) -> Option<&'static str> {
    match error {
        DeviceError::NotCompiled { .. } => Some(
            "`cargo build --release --features cuda` (or `vulkan`) adds the backend; `--device cpu` is always available",
        ),
        DeviceError::TunedForCuda { .. } => Some(
            "`cargo build --release --features vulkan`, without `cuda`, makes a program for Vulkan; `--device cpu` is always available",
        ),
        DeviceError::Absent { .. } => {
            Some("`sulcus doctor` lists the devices; `--device cpu` is always available")
        }
        _ => None,
    }
}

fn training_precision(error: &PrecisionError) -> Option<&'static str> {
    match error {
        PrecisionError::NoGain { .. } => Some("leave `--precision` out, or train on a GPU with `--device cuda`"),
        PrecisionError::Unsupported { .. } => Some("`sulcus doctor` lists the precisions of each training device"),
        _ => None,
    }
}

fn initial_weights(error: &InitError) -> Option<&'static str> {
    match error {
        InitError::NotARun { .. } => Some("`--init` takes a run of `sulcus train`, a model or a file of weights"),
        _ => None,
    }
}

fn server(error: &ServeError) -> Option<&'static str> {
    match error {
        ServeError::Listen { .. } => {
            Some("another program may use this port: choose another one with `--port`, or 0 for any free port")
        }
        ServeError::Unprotected { .. } => Some(
            "`--token-file F` or $SULCUS_TOKEN sets a token, `--host 127.0.0.1` serves this machine only, `--allow-anyone` \
             serves everyone without a token",
        ),
        ServeError::MemoryLimit { .. } => Some("`--max-memory` sets the limit"),
        _ => None,
    }
}

fn volume(error: &VolumeError) -> Option<&'static str> {
    match error {
        VolumeError::LabelName { .. } | VolumeError::LabelNumber { .. } => Some(
            "`sulcus convert MASK OUT --names TABLE --rename` gives the labels of a mask other names, number by number",
        ),
        _ => None,
    }
}

fn model(error: &OnnxError) -> Option<&'static str> {
    match error {
        OnnxError::NoSpec { .. } => Some("`sulcus export` writes models with the entry"),
        OnnxError::Precision { .. } => Some("export it with `--precision fp32`"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use sulcus_runtime::Engine;

    use super::*;

    #[test]
    fn each_error_names_the_command_that_helps() {
        let hint = |error: ErrorKind| hint_for(&RuntimeError::from(error)).unwrap_or_default();
        assert!(hint(ErrorKind::LibraryNotFound { looked: 3 }).contains("`sulcus runtime install`"));
        assert!(hint(ErrorKind::EngineNotBuilt { engine: Engine::Ort }).contains("--engine auto"));
        assert!(hint(ErrorKind::WouldOverwrite { path: PathBuf::from("a.nii") }).contains("`-o`"));
        assert!(hint(ErrorKind::NoGoldenCase { model: 1 }).contains("`sulcus export`"));
        let no_cuda = ErrorKind::Device { device: Device::Cuda(0), reason: "no driver".into() };
        assert!(hint(no_cuda).contains("`sulcus doctor`"));
        assert_eq!(hint_for(&RuntimeError::from(ErrorKind::NoModel)), None);
    }

    #[test]
    fn hint_is_found_through_transparent_and_boxed_causes() {
        let limit = RuntimeError::from(ErrorKind::Pipeline(PipelineError::MemoryLimit {
            limit: 1,
            required: 2,
            resampling: None,
        }));
        assert!(hint_for(&limit).unwrap().contains("`--max-memory`"));
        let foreign = OnnxError::NoSpec { producer: String::new() };
        let model = RuntimeError::from(ErrorKind::Model { model: "m.onnx".into(), source: Box::new(foreign) });
        assert!(hint_for(&model).unwrap().contains("`sulcus export`"));
        let constant = ScanWarning::ConstantChannel { channel: "MRI".into(), min: 7.0, max: 7.0 };
        let hint = |reasons| hint_for(&RuntimeError::from(PipelineError::Implausible { reasons })).unwrap();
        assert!(hint(vec![ScanWarning::UnknownOrientation, constant]).contains("`--allow-constant`"));
        assert!(hint(vec![ScanWarning::UnknownOrientation]).contains("`--strict`"));
        let precision = TrainError::Pipeline(PipelineError::Cancelled);
        assert!(hint_for(&precision).is_some());
    }
}
