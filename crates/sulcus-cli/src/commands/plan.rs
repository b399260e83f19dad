//! `sulcus plan`: describes a data set and plans a training on it.

use sulcus_dataset::SplitChoice;
use sulcus_model::AxisRange;
use sulcus_plan::{DeviceKind, Fingerprint, Plan, PlanFile, TrainConfig};
use sulcus_train::device_kind;
use sulcus_volume::GridUnit;

use super::train::config;
use super::train::progress::TrainingProgress;
use crate::args::values::FoldChoice;
use crate::args::{PlanArgs, SplitArgs};
use crate::error::{CliError, Context};
use crate::interrupt::Interrupt;
use crate::output::rules::{normalisation, orientation, spacing};
use crate::output::{self, Ui, count, join, rounded};

pub(crate) fn run(args: &PlanArgs, ui: Ui) -> Result<(), CliError> {
    let dataset = config::open_dataset(&args.dataset, &args.split)?;
    let mut config = config::of_choices(&args.choices)?;
    config.time_budget_secs = args.time_budget.map(|t| t.as_secs_f64());
    let interrupt = Interrupt::listen()?;
    let mut progress = TrainingProgress::new(ui, &interrupt);
    let file = sulcus_train::plan(&dataset, &cases(&args.split)?, &config, &mut progress);
    progress.finish();
    let file = file.context("planning")?;
    if let Some(path) = &args.output {
        file.write(path).context("writing the plan")?;
    }
    if args.json {
        output::line(file.to_json().context("writing the plan")?)?;
    } else {
        print(&file, &config)?;
    }
    match &args.output {
        Some(path) => {
            let folds = if is_for_all_folds(&args.split) { " --fold all" } else { "" };
            ui.note(format_args!(
                "next: sulcus train {} -o RUN{folds} --plan {}",
                args.dataset.display(),
                path.display()
            ))
        }
        None => {
            ui.note("`-o plan.json` writes the plan to a file, which can be edited before `sulcus train --plan`")
        }
    }
    Ok(())
}

fn is_for_all_folds(split: &SplitArgs) -> bool {
    split.fold == Some(FoldChoice::All)
}

/// The cases from which the plan is made: the training cases of one fold, or for all folds all cases, as in nnU-Net.
fn cases(split: &SplitArgs) -> Result<SplitChoice, CliError> {
    if !is_for_all_folds(split) {
        return Ok(config::split_choice(split));
    }
    if split.splits.is_some() {
        return Err(CliError::usage(
            "`--fold all` plans from all cases, whatever the folds are: leave out --splits",
        ));
    }
    Ok(SplitChoice::All)
}

fn print(file: &PlanFile, config: &TrainConfig) -> Result<(), CliError> {
    let PlanFile { dataset, fingerprint, plan, .. } = file;
    let mut rows = vec![("data set", dataset.clone())];
    rows.extend(data_rows(fingerprint));
    output::fields(&rows)?;
    output::line("")?;
    output::fields(&plan_rows(plan, config, device_kind(&config.device)))?;
    output::line("")?;
    for sentence in &plan.why {
        output::line(format_args!("- {sentence}"))?;
    }
    Ok(())
}

fn data_rows(data: &Fingerprint) -> Vec<(&'static str, String)> {
    let mut intensities = Vec::new();
    for channel in &data.channels {
        intensities.push(match &channel.foreground {
            None => format!("{}: no foreground", channel.name),
            Some(f) => format!(
                "{}: {} ± {}, median {}, {} to {} (0.5th to 99.5th percentile {} to {})",
                channel.name,
                rounded(f.mean),
                rounded(f.sd),
                rounded(f.median),
                rounded(f.min),
                rounded(f.max),
                rounded(f.percentile_00_5),
                rounded(f.percentile_99_5)
            ),
        });
    }
    let size = |ml: Option<[f64; 3]>, pixels: Option<[f64; 3]>| {
        let unit = if ml.is_some() { "ml" } else { "pixels" };
        let [min, median, max] = ml.or(pixels).unwrap_or_default().map(rounded);
        format!("median {median} {unit} ({min} to {max})")
    };
    let volume = |label: &sulcus_dataset::LabelVolumes| {
        let size = size(label.ml, label.pixels);
        format!("{} {}: in {}, {size}", label.value, label.name, count(label.cases, "case"))
    };
    let region = |region: &sulcus_dataset::RegionVolumes| {
        let size = size(region.ml, region.pixels);
        format!("{} {:?}: in {}, {size}", region.name, region.values, count(region.cases, "case"))
    };
    let mut rows = vec![
        ("cases", data.cases.to_string()),
        ("shape (R, A, S)", range(&data.shape)),
        match data.unit {
            GridUnit::Pixel => ("spacing", "not stated: the unit is the pixel".to_owned()),
            _ => ("spacing in mm", range(&data.spacing_mm)),
        },
        ("orientations", data.orientations.join(", ")),
        ("non-zero box", format!("{:.0} % of the median scan", 100.0 * data.crop_ratio)),
        ("foreground", intensities.join("\n")),
        ("labels", data.labels.iter().map(volume).collect::<Vec<_>>().join("\n")),
    ];
    if !data.regions.is_empty() {
        rows.push(("regions", data.regions.iter().map(region).collect::<Vec<_>>().join("\n")));
    }
    rows
}

fn plan_rows(plan: &Plan, config: &TrainConfig, kind: DeviceKind) -> Vec<(&'static str, String)> {
    let network = &plan.network;
    let stages: Vec<String> = network
        .stages
        .iter()
        .map(|s| {
            let (stride, kernel) = (times(&s.stride), times(&s.kernel));
            format!("{} maps, {} × kernel {kernel}, stride {stride}", s.channels, s.convolutions)
        })
        .collect();
    vec![
        (
            "network",
            format!(
                "{}, {}-D, {:.1} M parameters",
                network.name,
                network.dimensions.count(),
                plan.parameters() as f64 / 1e6
            ),
        ),
        ("stages", stages.join("\n")),
        ("orientation", orientation(plan.orientation, plan.crop)),
        ("spacing", spacing(&plan.spacing)),
        ("normalisation", plan.normalisation.iter().map(normalisation).collect::<Vec<_>>().join(", ")),
        ("patch", times(&plan.patch)),
        ("batch", plan.batch_size.to_string()),
        ("memory", format!("about {:.1} GB", plan.memory_bytes(config, kind) as f64 / 1e9)),
    ]
}

/// Minimum, maximum and median along three axes.
fn range(range: &AxisRange) -> String {
    let triple = |t: [f64; 3]| times(&t.map(rounded));
    if range.min == range.max {
        triple(range.median)
    } else {
        format!("{} to {}, median {}", triple(range.min), triple(range.max), triple(range.median))
    }
}

fn times<T: ToString>(values: &[T]) -> String {
    join(values, " × ")
}
