//! `sulcus plan`: what a data set is like, and how it would be trained on.

use sulcus_model::{CropRule, Normalisation, SpacingRule};
use sulcus_train::{Dataset, DeviceKind, Fingerprint, Plan, PlanFile, Range, SplitChoice, TrainConfig};
use sulcus_volume::Orientation;

use crate::args::{PlanArgs, PlanChoices, SplitArgs};
use crate::error::{CliError, Context};
use crate::interrupt::Interrupt;
use crate::training::Watcher;
use crate::ui::{Ui, count};
use crate::values::FoldChoice;
use crate::{memory, output};

/// What is planned for when nobody says what.
pub(crate) const DEFAULT_PRESET: &str = "auto";

pub(crate) fn run(args: &PlanArgs, ui: Ui) -> Result<(), CliError> {
    let dataset = Dataset::open(&args.dataset).context("opening the data set")?;
    let config = config(&args.choices)?;
    let interrupt = Interrupt::listen()?;
    let mut watcher = Watcher::new(ui, &interrupt);
    let made = sulcus_train::plan(&dataset, &split_choice(&args.split), &config, &mut watcher);
    watcher.finish();
    let made = made.context("planning")?;
    if let Some(file) = &args.output {
        made.write(file).context("writing the plan")?;
    }
    if args.json {
        output::line(made.to_json().context("writing the plan")?)?;
    } else {
        print(&made, &config)?;
    }
    match &args.output {
        Some(file) => {
            ui.note(format_args!("next: sulcus train {} -o RUN --plan {}", args.dataset.display(), file.display()))
        }
        None => {
            ui.note("`-o plan.json` keeps the plan, to be changed by hand and used with `sulcus train --plan`")
        }
    }
    Ok(())
}

/// The preset with what was said about it.
pub(crate) fn config(choices: &PlanChoices) -> Result<TrainConfig, CliError> {
    let preset = choices.preset.as_deref().unwrap_or(DEFAULT_PRESET);
    let mut config = TrainConfig::from_preset(preset).map_err(CliError::usage)?;
    choose(choices, &mut config);
    if config.memory_bytes.is_none()
        && DeviceKind::of(&config.device).context("looking for a device")? == DeviceKind::Processor
    {
        config.memory_bytes = memory::for_training();
    }
    Ok(config)
}

/// What was said on the command line; the rest stays.
pub(crate) fn choose(choices: &PlanChoices, config: &mut TrainConfig) {
    config.orientation = choices.orientation.or(config.orientation);
    config.patch = choices.patch.clone().or(config.patch.take());
    config.batch_size = choices.batch_size.or(config.batch_size);
    config.normalisation = choices.normalisation.map(Into::into).or(config.normalisation);
    config.memory_bytes = choices.memory.or(config.memory_bytes);
    if let Some(device) = &choices.device {
        config.device = device.clone();
    }
}

pub(crate) fn split_choice(args: &SplitArgs) -> SplitChoice {
    if args.all {
        SplitChoice::All
    } else {
        let fold = match args.fold {
            Some(FoldChoice::One(fold)) => fold,
            // Planned for the first one, of all.
            Some(FoldChoice::All) | None => 0,
        };
        SplitChoice::HoldOut { splits: args.splits.clone(), fold }
    }
}

fn print(made: &PlanFile, config: &TrainConfig) -> Result<(), CliError> {
    let PlanFile { dataset, fingerprint, plan, .. } = made;
    let mut rows = vec![("data set", dataset.clone())];
    rows.extend(data_rows(fingerprint));
    output::fields(&rows)?;
    output::line("")?;
    let kind = DeviceKind::of(&config.device).context("looking for a device")?;
    output::fields(&plan_rows(plan, config, kind))?;
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
                short(f.mean),
                short(f.sd),
                short(f.median),
                short(f.min),
                short(f.max),
                short(f.percentile_00_5),
                short(f.percentile_99_5)
            ),
        });
    }
    let volume = |label: &sulcus_train::LabelVolumes| {
        let [least, median, greatest] = label.ml.map(short);
        format!(
            "{} {}: in {}, {median} ml in the median ({least} to {greatest})",
            label.value,
            label.name,
            count(label.cases, "case")
        )
    };
    let region = |region: &sulcus_train::RegionVolumes| {
        let [least, median, greatest] = region.ml.map(short);
        format!(
            "{} {:?}: in {}, {median} ml in the median ({least} to {greatest})",
            region.name,
            region.values,
            count(region.cases, "case")
        )
    };
    let mut rows = vec![
        ("cases", data.cases.to_string()),
        ("shape (R, A, S)", range(&data.shape)),
        ("spacing in mm", range(&data.spacing_mm)),
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
    let spacing = match plan.spacing {
        SpacingRule::Native => "each scan's own".to_owned(),
        SpacingRule::Resample { mm, .. } => format!("{} mm", times(&mm.mm().map(short))),
    };
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
        ("orientation", place(plan.orientation, plan.crop)),
        ("spacing", spacing),
        ("normalisation", plan.normalisation.iter().map(normalisation).collect::<Vec<_>>().join(", ")),
        ("patch", times(&plan.patch)),
        ("batch", plan.batch_size.to_string()),
        ("memory", format!("about {:.1} GB", plan.memory_bytes(config, kind) as f64 / 1e9)),
    ]
}

/// Where the network lies in the scan, as people say it.
pub(crate) fn place(orientation: Orientation, crop: CropRule) -> String {
    match crop {
        CropRule::Whole => orientation.to_string(),
        CropRule::Nonzero => format!("{orientation}, the box of what is not zero"),
    }
}

/// The scheme as people say it.
pub(crate) fn normalisation(rule: &Normalisation) -> String {
    match rule {
        Normalisation::MinMax => "min-max".to_owned(),
        Normalisation::ZScore => "z-score".to_owned(),
        Normalisation::ZScoreNonzero => "z-score of the non-zero part".to_owned(),
        Normalisation::Percentile { low, high } => format!("percentiles {low} to {high}"),
        Normalisation::Ct { clip: [low, high], .. } => {
            format!("clipped to {low} to {high}, then data-set z-score")
        }
    }
}

/// Least to greatest with the median of a triple.
pub(crate) fn range(range: &Range) -> String {
    let triple = |t: [f64; 3]| times(&t.map(short));
    if range.min == range.max {
        triple(range.median)
    } else {
        format!("{} to {}, median {}", triple(range.min), triple(range.max), triple(range.median))
    }
}

/// At most three decimals.
pub(crate) fn short(value: f64) -> String {
    format!("{}", (value * 1000.0).round() / 1000.0)
}

fn times<T: ToString>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(" × ")
}
