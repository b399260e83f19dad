//! What to do about errors of the training crates, in terms of the command line. Their own messages name no options.

use std::error::Error;

use sulcus_dataset::DatasetError;
use sulcus_plan::PlanError;
use sulcus_train::{DeviceError, PrecisionError, TrainError};

/// After a training that was stopped.
pub(crate) const STOPPED: &str = "the state is saved; the same command with `--resume` goes on from here";

/// The hint for the first error in the chain of sources that has one.
pub(crate) fn hint(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(hint) = of_one(error) {
            return Some(hint);
        }
        next = error.source();
    }
    None
}

fn of_one(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<TrainError>() {
        return of_train(error);
    }
    if let Some(error) = error.downcast_ref::<DatasetError>() {
        return of_dataset(error);
    }
    if let Some(error) = error.downcast_ref::<PlanError>() {
        return of_plan(error);
    }
    error.downcast_ref::<DeviceError>().and_then(of_device)
}

fn of_train(error: &TrainError) -> Option<String> {
    let text = match error {
        TrainError::Dataset(error) => return of_dataset(error),
        TrainError::Plan(error) => return of_plan(error),
        TrainError::Device(error) => return of_device(error),
        TrainError::Precision(PrecisionError::NoGain { .. }) => {
            "leave --precision out, or train with --device cuda"
        }
        TrainError::RunExists { .. } => "`--resume` continues the run, another `-o` starts a new one",
        TrainError::DataChanged { .. } => "start a new run with another `-o`",
        TrainError::RunData { .. } => {
            "`--data DIR` names the folder where the data set lies now, as it was when the run was trained"
        }
        TrainError::Overflow { .. } => "`--precision bf16` or `--precision fp32` avoids the overflow",
        TrainError::FoldNotFinished { .. } => "`--resume` continues the cross-validation",
        TrainError::NotACrossValidation { .. } => "`--fold all` starts a cross-validation",
        _ => return None,
    };
    Some(text.to_owned())
}

fn of_dataset(error: &DatasetError) -> Option<String> {
    match error {
        DatasetError::SingleCase { .. } => Some("`--all` trains on the case without holding it out".to_owned()),
        DatasetError::EmptyFold { .. } => Some("`--all` trains on all cases without holding any out".to_owned()),
        _ => None,
    }
}

fn of_plan(error: &PlanError) -> Option<String> {
    match error {
        PlanError::Memory(_) => Some("`--memory` says how much memory there is".to_owned()),
        _ => None,
    }
}

fn of_device(error: &DeviceError) -> Option<String> {
    match error {
        DeviceError::NotCompiled { feature, .. } => {
            Some(format!("build it with `cargo build --release --features {feature}`"))
        }
        DeviceError::Absent { found, .. } if found.is_empty() => Some("`--device cpu` always works".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn hint_is_found_inside_of_transparent_errors() {
        let error = TrainError::from(DatasetError::SingleCase { root: PathBuf::from("data") });
        assert!(hint(&error).unwrap().contains("--all"));
        let error = TrainError::from(PlanError::Memory("it does not fit".into()));
        assert!(hint(&error).unwrap().contains("--memory"));
        assert_eq!(hint(&TrainError::Config("no".into())), None);
    }
}
