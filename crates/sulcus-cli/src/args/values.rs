//! Values of options, as text and as types.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use clap::ValueEnum;
use sulcus_dataset::PatientChoice;
use sulcus_model::Normalisation;
use sulcus_plan::{Loss, Optimizer};
use sulcus_train::Weights;
use sulcus_volume::Interpolation;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OptimizerName {
    Adam,
    #[value(name = "adamw")]
    AdamW,
    Sgd,
}

impl From<OptimizerName> for Optimizer {
    fn from(name: OptimizerName) -> Self {
        match name {
            OptimizerName::Adam => Self::Adam,
            OptimizerName::AdamW => Self::AdamW { weight_decay: 1e-2 },
            OptimizerName::Sgd => Self::Sgd { momentum: 0.99, nesterov: true, weight_decay: 3e-5 },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LossName {
    Dice,
    DiceCe,
}

impl From<LossName> for Loss {
    fn from(name: LossName) -> Self {
        match name {
            LossName::Dice => Self::Dice,
            LossName::DiceCe => Self::DiceCe,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NormalisationName {
    MinMax,
    ZScore,
    Percentile,
}

impl From<NormalisationName> for Normalisation {
    fn from(name: NormalisationName) -> Self {
        match name {
            NormalisationName::MinMax => Self::MinMax,
            NormalisationName::ZScore => Self::ZScore,
            NormalisationName::Percentile => Self::Percentile { low: 0.5, high: 99.5 },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TritonDevice {
    /// Every GPU of the server, or its CPU if it has none
    Auto,
    /// The CPU
    Cpu,
    /// Every GPU
    Cuda,
    /// Every GPU, through TensorRT, which compiles the model for each new tile shape
    Tensorrt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckpointName {
    /// The weights with the highest Dice on the held-out cases
    Best,
    /// The weights of the last step
    Last,
}

impl From<CheckpointName> for Weights {
    fn from(name: CheckpointName) -> Self {
        match name {
            CheckpointName::Best => Self::Best,
            CheckpointName::Last => Self::Last,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InterpolationName {
    Nearest,
    Linear,
    Cubic,
}

impl From<InterpolationName> for Interpolation {
    fn from(name: InterpolationName) -> Self {
        match name {
            InterpolationName::Nearest => Self::Nearest,
            InterpolationName::Linear => Self::Linear,
            InterpolationName::Cubic => Self::Cubic,
        }
    }
}

/// Which folds are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FoldChoice {
    /// One fold, counted from 0.
    One(usize),
    /// All folds, one after the other.
    All,
}

pub(crate) fn fold(text: &str) -> Result<FoldChoice, String> {
    match text {
        "all" => Ok(FoldChoice::All),
        _ => {
            text.parse().map(FoldChoice::One).map_err(|_| "expected the number of a fold, from 0, or `all`".into())
        }
    }
}

pub(crate) fn patients(text: &str) -> Result<PatientChoice, Infallible> {
    Ok(match text {
        "none" => PatientChoice::EachCase,
        file => PatientChoice::File(file.into()),
    })
}

pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("expected a whole number".into()),
    }
}

pub(crate) fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("expected a number greater than 0".into()),
    }
}

pub(crate) fn number(text: &str) -> Result<f64, String> {
    text.parse::<f64>().ok().filter(|n| n.is_finite()).ok_or_else(|| "expected a number".into())
}

pub(crate) fn window_step(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(step) if step > 0.0 && step <= 1.0 => Ok(step),
        _ => Err("expected a fraction of the tile size, greater than 0 and at most 1".into()),
    }
}

/// Minutes, from a second to a week.
pub(crate) fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if (1.0 / 60.0..=10_080.0).contains(&minutes) => Ok(minutes),
        _ => Err("expected a number of minutes, such as 2.25".into()),
    }
}

pub(crate) fn preset_name(text: &str) -> Result<String, String> {
    let known = sulcus_plan::preset_names();
    if known.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(format!("known presets are {}", known.join(", ")))
    }
}

/// `800MB`, `8GB`, `1.5GB`: powers of ten.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "expected a size with its unit, such as 800MB or 8GB".to_owned();
    let upper = text.to_ascii_uppercase();
    let (number, unit) = [("MB", 1e6), ("GB", 1e9)]
        .into_iter()
        .find_map(|(unit, size)| Some((upper.strip_suffix(unit)?, size)))
        .ok_or_else(wrong)?;
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let size = number * unit;
    // More than a petabyte is a typing error.
    if (1e6..=1e15).contains(&size) { Ok(size as u64) } else { Err(wrong()) }
}

/// A name in a Triton model repository, which is a folder name, a part of a URL and a label of Triton's metrics.
pub(crate) fn triton_folder(name: &str) -> String {
    let fitting =
        |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c.to_ascii_lowercase() } else { '_' };
    let name: String = name.trim().chars().map(fitting).collect();
    match name.trim_start_matches(['.', '-']) {
        "" => "model".into(),
        name => name.into(),
    }
}

/// `--triton-name`.
pub(crate) fn triton_name(text: &str) -> Result<String, String> {
    if !text.is_empty() && triton_folder(text) == text.to_ascii_lowercase() {
        Ok(text.into())
    } else {
        Err("expected letters, digits, `_`, `-` and `.`, the first one a letter, a digit or `_`".into())
    }
}

/// `90s`, `15m`, `1h30m`, `2.5h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a time with units, such as 90s, 15m or 1h30m".to_owned();
    let mut seconds = 0.0;
    let mut number = String::new();
    for character in text.chars() {
        let unit = match character {
            's' => 1.0,
            'm' => 60.0,
            'h' => 3600.0,
            _ => {
                number.push(character);
                continue;
            }
        };
        let count = number.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0).ok_or_else(wrong)?;
        seconds += count * unit;
        number.clear();
    }
    if !number.is_empty() || seconds <= 0.0 {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// `127.0.0.1`, `::1` or `localhost`. Other host names may resolve to several addresses.
pub(crate) fn host(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        _ => text.parse().map_err(|_| "expected an IP address, such as 127.0.0.1 or 0.0.0.0".into()),
    }
}

/// One of several equal parts of a cohort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Number of the part, from 1.
    pub(crate) number: usize,
    /// Number of parts.
    pub(crate) of: usize,
}

impl Part {
    /// The items of this part: every `of`-th item by name, so that machines which are given the same cases process
    /// different ones.
    pub(crate) fn of<T>(self, mut items: Vec<T>, name: impl FnMut(&T) -> String) -> Vec<T> {
        items.sort_by_cached_key(name);
        items.into_iter().skip(self.number - 1).step_by(self.of).collect()
    }
}

/// `2/8`.
pub(crate) fn part(text: &str) -> Result<Part, String> {
    let numbers = text.split_once('/').and_then(|(k, n)| Some((k.trim().parse().ok()?, n.trim().parse().ok()?)));
    match numbers {
        Some((number, of)) if (1..=of).contains(&number) => Ok(Part { number, of }),
        _ => Err("expected the number of a part and the number of parts, such as 2/8".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_units() {
        for (text, size) in [("8GB", 8_000_000_000), ("1.5gb", 1_500_000_000), ("800 MB", 800_000_000)] {
            assert_eq!(bytes(text).unwrap(), size, "{text}");
        }
        for text in ["", "8", "GB", "-1GB", "0GB", "infGB", "NaNGB", "8TB", "8GiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn parts_cover_every_item_once_in_any_order() {
        let names = |order: &[&str]| order.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let cut = |k, order: &[&str]| Part { number: k, of: 3 }.of(names(order), |n| n.clone());
        assert_eq!(cut(1, &["d", "a", "c", "b"]), ["a", "d"]);
        assert_eq!((cut(2, &["a", "b", "c", "d"]), cut(3, &["c", "d", "b", "a"])), (names(&["b"]), names(&["c"])));
        assert_eq!(part("2/3"), Ok(Part { number: 2, of: 3 }));
        for text in ["", "0/3", "4/3", "1/0", "1", "a/b", "-1/3"] {
            assert!(part(text).is_err(), "{text}");
        }
    }

    #[test]
    fn triton_names_are_folders_and_parts_of_addresses() {
        for (name, folder) in [
            ("Hippocampus", "hippocampus"),
            ("../T1 brain", "_t1_brain"),
            ("..", "model"),
            (" Gehirn ä", "gehirn__"),
        ] {
            assert_eq!(triton_folder(name), folder, "{name}");
        }
        assert_eq!(triton_name("Brain_3.1-a").as_deref(), Ok("Brain_3.1-a"));
        for name in ["", ".", "a/b", "-x", "a b", "é"] {
            assert!(triton_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn times_need_units() {
        for (text, seconds) in [("90s", 90.0), ("15m", 900.0), ("1h30m", 5400.0), ("2.5h", 9000.0)] {
            assert_eq!(duration(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for text in ["", "15", "m", "0s", "-1m", "1d", "infs", "1h30"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
