//! `sulcus demo`: train, export, predict and score on bundled scans, end to end.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use include_dir::{Dir, include_dir};
use sulcus_dataset::{Dataset, SplitChoice};
use sulcus_metrics::{DEFAULT_NSD_MM, Summary};
use sulcus_pipeline::PipelineError;
use sulcus_plan::TrainConfig;
use sulcus_runtime::ort::OrtLibrary;
use sulcus_runtime::{ErrorKind, SegmentOptions, Segmenter};
use sulcus_train::{Run, TrainOutcome};

use super::export::{self, MODEL};
use super::train::progress::{TrainingProgress, check_outcome};
use crate::args::DemoArgs;
use crate::error::{CliError, Context};
use crate::figure::canvas::Canvas;
use crate::figure::{self, Figure};
use crate::folder_lock::FolderLock;
use crate::interrupt::Interrupt;
use crate::output::{self, Ui, count, human_secs, printable};
use crate::report::{self, Picture};
use crate::scores::{self, ScoreCollector, ScoredLabels, score};
use crate::{allocator, files};

/// Real hippocampus scans, whose licence permits redistribution.
static DATA: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../examples/data/hippocampus");
/// The files of a demo besides its data and masks; a second demo in the same folder replaces them.
const FILES: [&str; 11] = [
    "run.json",
    "plan.json",
    "history.jsonl",
    "curves.svg",
    MODEL,
    "figure.png",
    "report.html",
    "checkpoints/best.ckpt",
    "checkpoints/last.ckpt",
    "checkpoints/samples.json",
    "validation/summary.json",
];
/// Number of cases in the figure: the worst, the median and the best.
const DRAWN: usize = 3;

pub(crate) fn run(args: &DemoArgs, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    let start = Instant::now();
    allocator::keep_freed_memory();
    let folder = args.output.as_path();
    files::ensure_writable(folder)?;
    let _lock = FolderLock::exclusive(folder, FolderLock::RUN)?;
    clear(folder)?;
    let data = folder.join("data");
    unpack(&DATA, &data)?;
    let dataset = Dataset::open(&data).context("opening the bundled data")?;
    let interrupt = Interrupt::listen()?;

    train(&dataset, args, &interrupt, library, ui)?;
    let model = folder.join(MODEL);
    export::write_trained(folder, &model, library, ui)?;
    let run = Run::open(folder).context("reading the run")?;
    let (summary, engine) = predict(&dataset, &run, &model, library, &interrupt, ui)?;
    let figure = draw(&dataset, &run, &summary)?;
    files::write(&folder.join("figure.png"), &figure)?;
    write_report(folder, &run, &summary, engine, figure)?;

    scores::print(&summary, &run.manifest().plan.structures())?;
    output::line(format_args!(
        "mean Dice {} over {} held-out cases",
        score(summary.mean_dice()),
        summary.metric_per_case.len()
    ))?;
    next_commands(folder, &summary, start.elapsed().as_secs_f64(), ui);
    Ok(())
}

/// Removes the files of an earlier demo. A folder with other files is not changed.
fn clear(folder: &Path) -> Result<(), CliError> {
    let mut found = Vec::new();
    files_below(folder, Path::new(""), &mut found)
        .context(format_args!("listing the folder {}", folder.display()))?;
    found.retain(|file| file != Path::new(FolderLock::RUN));
    if found.is_empty() {
        return Ok(());
    }
    found.sort();
    let bundled = DATA.get_file("dataset.json").map(include_dir::File::contents);
    let earlier_demo = std::fs::read(folder.join("data").join("dataset.json")).ok().as_deref() == bundled;
    let other = found.iter().find(|file| !is_of_demo(file));
    if !earlier_demo || other.is_some() {
        let path = other.map_or_else(|| folder.to_path_buf(), |file| folder.join(file));
        return Err(CliError::failed(format_args!(
            "this folder contains files that are not of a demo and are not overwritten: {}",
            path.display()
        ))
        .hint("choose another folder with -o"));
    }
    for file in found {
        let path = folder.join(file);
        std::fs::remove_file(&path)
            .context(format_args!("removing a file of an earlier demo: {}", path.display()))?;
    }
    Ok(())
}

/// All files below `root/part`, relative to `root`; links are not followed.
fn files_below(root: &Path, part: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(root.join(part))? {
        let entry = entry?;
        let inner = part.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            files_below(root, &inner, found)?;
        } else {
            found.push(inner);
        }
    }
    Ok(())
}

/// Whether a demo writes a file of this name, relative to its folder.
fn is_of_demo(file: &Path) -> bool {
    if let Ok(data) = file.strip_prefix("data") {
        return DATA.get_file(data).is_some();
    }
    let is_mask = |name: &Path| DATA.get_file(Path::new("labelsTr").join(name)).is_some();
    let written = FILES.iter().any(|name| file == Path::new(name));
    written || ["masks", "validation"].iter().any(|part| file.strip_prefix(part).is_ok_and(is_mask))
}

fn unpack(from: &Dir<'_>, to: &Path) -> Result<(), CliError> {
    let doing = || format!("unpacking the bundled data into {}", to.display());
    std::fs::create_dir_all(to).context(doing())?;
    for entry in from.dirs() {
        std::fs::create_dir_all(to.join(entry.path())).context(doing())?;
        unpack(entry, to)?;
    }
    for file in from.files() {
        files::write(&to.join(file.path()), file.contents())?;
    }
    Ok(())
}

fn train(
    dataset: &Dataset,
    args: &DemoArgs,
    interrupt: &Interrupt,
    library: &OrtLibrary,
    ui: Ui,
) -> Result<(), CliError> {
    let mut config = TrainConfig::from_preset("unet2d-lite").context("setting up the training")?;
    config.time_budget_secs = Some(args.minutes * 60.0);
    let mut progress = TrainingProgress::new(ui, interrupt).with_preflight(library);
    let outcome = sulcus_train::train(dataset, &SplitChoice::default(), &config, &args.output, &mut progress);
    progress.finish();
    match check_outcome(outcome, "training")? {
        TrainOutcome::Finished { epochs, seconds, .. } => {
            ui.note(format_args!("trained {} in {}", count(epochs, "epoch"), human_secs(seconds)));
            Ok(())
        }
        _ => Err(stopped(&args.output)),
    }
}

fn stopped(folder: &Path) -> CliError {
    CliError::Stopped {
        message: format!("stopped; the state is saved: {}", folder.display()),
        hint: format!(
            "`sulcus train {} -o {} --resume` continues the training",
            folder.join("data").display(),
            folder.display()
        ),
    }
}

/// Predicts the held-out cases with the exported file, and scores them.
fn predict(
    dataset: &Dataset,
    run: &Run,
    model: &Path,
    library: &OrtLibrary,
    interrupt: &Interrupt,
    ui: Ui,
) -> Result<(Summary, String), CliError> {
    let masks = run.folder().join("masks");
    std::fs::create_dir_all(&masks).context(format_args!("making the folder {}", masks.display()))?;
    let segmenter = Segmenter::builder()
        .model(model)
        .ort_library(library.clone())
        .build()
        .context("loading the exported model")?;
    segmenter.notes().iter().for_each(|note| ui.note(note));
    let engine = format!("{} on {}", segmenter.engine(), segmenter.device());
    let held_out = &run.manifest().split.validation;
    ui.note(format_args!("predicting {} held-out cases with {engine}", held_out.len()));

    let plan = &run.manifest().plan;
    let labels = ScoredLabels::Known { structures: plan.structures(), table: plan.labels.clone() };
    let mut scores = ScoreCollector::new(labels, DEFAULT_NSD_MM);
    let bar = ui.bar(held_out.len() as u64);
    for name in held_out {
        bar.set_message(printable(name).into_owned());
        let case = dataset.case(name).ok_or_else(|| CliError::failed(format_args!("no such case: {name}")))?;
        let (image, truth) = (case_image(case)?, &case.label);
        let scan = sulcus_io::read_scan(image).context("reading a scan")?;
        let (truth_mask, _) = sulcus_io::read_labels(truth).context("reading a truth")?;
        let mut observer = |_| if interrupt.asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let found = segmenter.segment(&scan.image, SegmentOptions::default().with_observer(&mut observer));
        let found = match found {
            Err(error) if matches!(error.kind(), ErrorKind::Pipeline(PipelineError::Cancelled)) => {
                return Err(stopped(run.folder()));
            }
            other => other.context("predicting")?,
        };
        let mask = masks.join(format!("{name}.nii.gz"));
        sulcus_io::write_labels(&mask, &found.labels, &scan.metadata, &found.table).context("writing a mask")?;
        let names = [&mask, truth].map(|path| path.display().to_string());
        scores.add(names, &found.labels, &truth_mask).context("scoring")?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok((scores.finish().0, engine))
}

fn case_image(case: &sulcus_dataset::Case) -> Result<&PathBuf, CliError> {
    case.images.first().ok_or_else(|| CliError::failed(format_args!("the case has no image: {}", case.name)))
}

fn draw(dataset: &Dataset, run: &Run, summary: &Summary) -> Result<Vec<u8>, CliError> {
    let order = scores::worst_first(summary);
    let last = order.len().saturating_sub(1);
    let mut picked = vec![0, last / 2, last];
    picked.dedup();
    let mut parts = Vec::new();
    for case in picked.into_iter().take(DRAWN).filter_map(|index| order.get(index)) {
        let name = scores::name_of(case);
        let Some(known) = dataset.case(&name) else { continue };
        let image = sulcus_io::read_scan(case_image(known)?).context("reading a scan")?.image;
        let (truth, _) = sulcus_io::read_labels(&known.label).context("reading a truth")?;
        let (mask, _) = sulcus_io::read_labels(Path::new(&case.prediction_file)).context("reading a mask")?;
        let title = format!("{name}: mean Dice {}", score(case.mean_dice()));
        parts.extend(figure::draw(&Figure {
            title: &title,
            image: Some(&image),
            truth: Some(&truth),
            prediction: Some(&mask),
            labels: &run.manifest().plan.labels,
        }));
    }
    Canvas::stack(&parts, figure::BACKGROUND).png().context("encoding the figure")
}

fn write_report(
    folder: &Path,
    run: &Run,
    summary: &Summary,
    engine: String,
    figure: Vec<u8>,
) -> Result<(), CliError> {
    let mut report = report::of_run(run, Some(summary));
    report.title = "Sulcus demo";
    report.facts.extend([
        ("licence of the data", "Medical Segmentation Decathlon, CC-BY-SA 4.0".to_owned()),
        ("prediction", format!("model.onnx, {engine}")),
    ]);
    report.pictures =
        vec![Picture { caption: "The worst, the median and the best held-out case".to_owned(), png: figure }];
    files::write(&folder.join("report.html"), report::document(&report).as_bytes())
}

fn next_commands(folder: &Path, summary: &Summary, seconds: f64, ui: Ui) {
    let shown = |part: &str| folder.join(part).display().to_string();
    ui.note(format_args!(
        "finished in {}; see {} and {}",
        human_secs(seconds),
        shown("figure.png"),
        shown("report.html")
    ));
    let Some(case) = summary.metric_per_case.first() else { return };
    let name = scores::name_of(case);
    let image = shown(&format!("data/imagesTr/{name}.nii.gz"));
    let (mask, truth) = (shown(&format!("masks/{name}.nii.gz")), shown(&format!("data/labelsTr/{name}.nii.gz")));
    ui.note("next:");
    ui.note(format_args!("  sulcus view {image} --mask {mask} --truth {truth}"));
    ui.note(format_args!("  sulcus predict -m {} {image} -o mask.nii.gz", shown(MODEL)));
    ui.note(format_args!("  sulcus train {} -o run --time-budget 15m", shown("data")));
    ui.note("  sulcus doctor");
}
