//! `sulcus predict`: scans in, masks out.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use indicatif::ProgressBar;
use serde::{Serialize, Serializer};
use sulcus_io::{Source, read_scan};
use sulcus_pipeline::{ModelSpec, Progress};
use sulcus_runtime::{LabelVolume, OrtLibrary, SegmentOptions, Segmenter};
use sulcus_volume::{Image, OrientationSource};

use crate::args::PredictArgs;
use crate::cases::{self, BadInput, Case};
use crate::error::{CliError, Context, with_causes};
use crate::ui::{Ui, human_secs};
use crate::{files, output};

/// What follows the case's name in the file of its probabilities.
pub(crate) const PROBABILITIES_SUFFIX: &str = "_probabilities";

pub(crate) fn run(args: &PredictArgs, library: OrtLibrary, ui: Ui) -> Result<(), CliError> {
    let channels = channels_of(&args.models)?;
    let (cases, bad) = cases::find(&args.inputs, channels)?;
    let jobs = plan_outputs(args, cases, bad.len())?;
    let writable = if to_file(&args.output) { files::folder_of(&args.output) } else { args.output.clone() };
    files::ensure_writable(&writable)?;

    let segmenter = load(args, library)?;
    segmenter.notes().iter().for_each(|note| ui.note(note));
    warn_about_mirroring(args, &segmenter, ui);
    ui.note(format_args!("engine {} on {}", segmenter.engine(), segmenter.device()));
    if let [_, _, ..] = args.models.as_slice() {
        ui.note(format_args!("averaging {} models: {}", args.models.len(), names(&args.models).join(", ")));
    }

    let total = jobs.len() + bad.len();
    let mut failed = 0;
    for BadInput { path, error } in &bad {
        failed += 1;
        report_failure(args, ui, path, &format!("{error}: {}", path.display()))?;
    }
    for job in &jobs {
        let bar = ui.bar(1);
        bar.set_message(job.case.name.clone());
        let done = segment(&segmenter, job, args, &bar, ui);
        bar.finish_and_clear();
        match done {
            Ok(line) => report_success(args, ui, &line)?,
            Err(error) => {
                failed += 1;
                report_failure(args, ui, job.input(), &error)?;
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err(CliError::SomeFailed { failed, total, what: "case" }) }
}

/// Names the models whose training makes `--mirror` pointless.
fn warn_about_mirroring(args: &PredictArgs, segmenter: &Segmenter, ui: Ui) {
    let unmirrored = |(path, spec): (_, &ModelSpec)| spec.mirror_axes.is_empty().then_some(path);
    let without: Vec<&PathBuf> = args.models.iter().zip(segmenter.specs()).filter_map(unmirrored).collect();
    if !args.mirror || without.is_empty() {
        return;
    }
    if without.len() == args.models.len() {
        let who = if without.len() == 1 { "the model was" } else { "the models were" };
        ui.warn(format_args!("{who} trained without mirrored slices: --mirror has no effect"));
    } else {
        ui.warn(format_args!(
            "trained without mirrored slices, so --mirror has no effect on: {}",
            names(without).join(", ")
        ));
    }
}

fn names<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Vec<String> {
    paths.into_iter().map(|path| path.display().to_string()).collect()
}

/// A case and where its mask goes.
struct Job {
    case: Case,
    mask: PathBuf,
    probabilities: Option<PathBuf>,
}

impl Job {
    /// What the user knows the case by.
    fn input(&self) -> &Path {
        self.case.files.first().map_or(Path::new(""), PathBuf::as_path)
    }
}

/// Channels of the (first) model: file names are grouped by them, before an engine is started.
fn channels_of(models: &[PathBuf]) -> Result<usize, CliError> {
    let Some(path) = models.first() else { return Ok(1) };
    let bytes = std::fs::read(path).context(format_args!("reading the model {}", path.display()))?;
    let spec = sulcus_onnx::read_spec(&bytes).map_err(|error| {
        CliError::failed(format_args!("the model cannot be used: {}: {}", with_causes(&error), path.display()))
    })?;
    Ok(spec.channels.len())
}

fn load(args: &PredictArgs, library: OrtLibrary) -> Result<Segmenter, CliError> {
    let mut builder = Segmenter::builder()
        .models(&args.models)
        .engine(args.engine)
        .device(args.device)
        .ort_library(library)
        .mirror(args.mirror)
        .step(args.step);
    if let Some(threads) = args.threads {
        builder = builder.threads(threads);
    }
    if let Some(bytes) = args.max_memory {
        builder = builder.max_memory(bytes);
    }
    builder.build().context("loading the model")
}

/// Whether OUT names a mask file rather than a folder.
fn to_file(output: &Path) -> bool {
    !output.is_dir() && cases::case_name(output).is_some()
}

fn plan_outputs(args: &PredictArgs, cases: Vec<Case>, bad: usize) -> Result<Vec<Job>, CliError> {
    let single = to_file(&args.output);
    if single && cases.len() + bad > 1 {
        return Err(CliError::usage(format_args!(
            "-o names one file, but there are {} scans: {}",
            cases.len() + bad,
            args.output.display()
        ))
        .hint("give a folder with -o; each mask keeps its scan's name"));
    }
    if single && !is_writable_name(&args.output) {
        return Err(CliError::usage(format_args!(
            "masks are written as .nii or .nii.gz, so -o must end in one of these: {}",
            args.output.display()
        )));
    }
    let jobs: Vec<Job> = cases
        .into_iter()
        .map(|case| {
            let mask =
                if single { args.output.clone() } else { args.output.join(format!("{}.nii.gz", case.name)) };
            let beside = || {
                let stem = cases::case_name(&mask).unwrap_or_else(|| case.name.clone());
                mask.with_file_name(format!("{stem}{PROBABILITIES_SUFFIX}.nii.gz"))
            };
            Job { probabilities: args.probabilities.then(beside), mask, case }
        })
        .collect();
    for input in jobs.iter().flat_map(|job| &job.case.files) {
        let overwritten = |out: &&PathBuf| files::same_file(input, out);
        if let Some(out) =
            jobs.iter().flat_map(|job| std::iter::once(&job.mask).chain(&job.probabilities)).find(overwritten)
        {
            return Err(CliError::usage(format_args!(
                "the mask would overwrite the scan itself: {}",
                out.display()
            ))
            .hint("choose another file or folder with -o"));
        }
    }
    Ok(jobs)
}

fn is_writable_name(path: &Path) -> bool {
    let name = path.to_string_lossy().to_ascii_lowercase();
    name.ends_with(".nii") || name.ends_with(".nii.gz")
}

/// A line of `--json`.
#[derive(Serialize)]
struct Line {
    input: String,
    output: String,
    /// All that were averaged, in the order in which they were given.
    models: Vec<String>,
    engine: String,
    device: String,
    precision: &'static str,
    seconds: Seconds,
    tiles: usize,
    /// Of the whole process so far; absent where the system doesn't say.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_memory_bytes: Option<u64>,
    #[serde(serialize_with = "by_name")]
    labels: Vec<LabelVolume>,
}

#[derive(Serialize)]
struct Seconds {
    read: f64,
    preprocess: f64,
    infer: f64,
    /// The part of `infer` inside the engine.
    engine: f64,
    postprocess: f64,
    write: f64,
    total: f64,
}

#[derive(Serialize)]
struct FailureLine<'a> {
    input: String,
    error: &'a str,
}

/// `{"Anterior": {"value": 1, "voxels": 10, "ml": 0.01}}`, in the order of the table.
fn by_name<S: Serializer>(labels: &[LabelVolume], to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Amount {
        value: u16,
        voxels: usize,
        ml: f64,
    }
    to.collect_map(labels.iter().map(|l| (&l.name, Amount { value: l.value, voxels: l.voxels, ml: l.ml })))
}

fn segment(
    segmenter: &Segmenter,
    job: &Job,
    args: &PredictArgs,
    bar: &ProgressBar,
    ui: Ui,
) -> Result<Line, String> {
    let start = Instant::now();
    let (image, source) = read_channels(&job.case.files, segmenter.spec().channels.len())?;
    let read = start.elapsed().as_secs_f64();
    if image.geometry().source() == OrientationSource::None {
        bar.suspend(|| {
            ui.warn(format_args!(
                "the file does not say how the patient lies (neither sform nor qform): left and right are unknown, \
                 and the mask may be wrong: {}",
                job.input().display()
            ));
        });
    }

    let mut observer = |progress: Progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        ControlFlow::Continue(())
    };
    let mut options = SegmentOptions::default().with_observer(&mut observer);
    if args.probabilities {
        options = options.with_probabilities();
    }
    let named = |error: &dyn std::error::Error| format!("{}: {}", with_causes(error), job.input().display());
    let found = segmenter.segment_owned(image, options).map_err(|error| named(&error))?;

    let writing = Instant::now();
    sulcus_io::write_labels(&job.mask, &found.labels, &source, &found.table).map_err(|e| with_causes(&e))?;
    if let (Some(path), Some(probabilities)) = (&job.probabilities, &found.probabilities) {
        sulcus_io::write_image(path, probabilities, &source).map_err(|e| with_causes(&e))?;
    }
    Ok(Line {
        input: job.input().display().to_string(),
        output: job.mask.display().to_string(),
        models: names(&args.models),
        engine: found.engine.to_string(),
        device: found.device.to_string(),
        precision: found.precision,
        seconds: Seconds {
            read,
            preprocess: found.seconds.preprocess,
            infer: found.seconds.infer,
            engine: found.seconds.engine,
            postprocess: found.seconds.postprocess,
            write: writing.elapsed().as_secs_f64(),
            total: start.elapsed().as_secs_f64(),
        },
        tiles: found.tiles,
        peak_memory_bytes: found.peak_memory_bytes,
        labels: found.label_volumes(),
    })
}

/// Reads the files of a case, a channel each or all in one, and what the first one says of the grid.
fn read_channels(paths: &[PathBuf], expected: usize) -> Result<(Image, Source), String> {
    let mut first: Option<(Image, Source)> = None;
    let mut stacked = Vec::new();
    for path in paths {
        let read = read_scan(path).map_err(|error| with_causes(&error))?;
        match &first {
            None => first = Some((read.image, read.source)),
            Some((image, _)) => {
                let (one, other) = (image.geometry(), read.image.geometry());
                one.check_same_grid(other).map_err(|error| {
                    format!("the channels of this case do not belong together: {error}: {}", path.display())
                })?;
                if stacked.is_empty() {
                    stacked.extend_from_slice(image.data());
                }
                stacked.extend_from_slice(read.image.data());
            }
        }
    }
    let (image, source) = first.ok_or_else(|| "the case has no file".to_owned())?;
    if stacked.is_empty() {
        return match image.channels() {
            found if found == expected => Ok((image, source)),
            found => Err(format!(
                "the model expects {expected} channel(s), found {found}; give a 4-D file with the channels along its \
                 fourth axis, or one file a channel named CASE_0000, CASE_0001, …: {}",
                paths.first().map(|p| p.display().to_string()).unwrap_or_default()
            )),
        };
    }
    let channels = stacked.len() / image.geometry().voxels();
    let image = Image::new(*image.geometry(), channels, stacked).map_err(|error| error.to_string())?;
    Ok((image, source))
}

fn report_success(args: &PredictArgs, ui: Ui, line: &Line) -> Result<(), CliError> {
    if args.json {
        output::json(line)?;
    }
    let amounts: Vec<String> = line.labels.iter().map(|l| format!("{} {:.2} ml", l.name, l.ml)).collect();
    ui.note(format_args!("{}  {}  in {}", line.output, amounts.join(", "), human_secs(line.seconds.total)));
    Ok(())
}

fn report_failure(args: &PredictArgs, ui: Ui, input: &Path, error: &str) -> Result<(), CliError> {
    if args.json {
        output::json(&FailureLine { input: input.display().to_string(), error })?;
    }
    ui.error(error);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_contract_s_fields_in_its_order() {
        let line = Line {
            input: "a.nii.gz".into(),
            output: "b.nii.gz".into(),
            models: vec!["m.onnx".into()],
            engine: "ort".into(),
            device: "cpu".into(),
            precision: "fp32",
            seconds: Seconds {
                read: 0.5,
                preprocess: 0.25,
                infer: 1.0,
                engine: 0.75,
                postprocess: 0.5,
                write: 0.25,
                total: 2.5,
            },
            tiles: 3,
            peak_memory_bytes: Some(4096),
            labels: vec![
                LabelVolume { name: "Posterior".into(), value: 1, voxels: 10, ml: 0.5 },
                LabelVolume { name: "Anterior".into(), value: 2, voxels: 0, ml: 0.0 },
            ],
        };
        assert_eq!(
            serde_json::to_string(&line).unwrap(),
            r#"{"input":"a.nii.gz","output":"b.nii.gz","models":["m.onnx"],"engine":"ort","device":"cpu","precision":"fp32","seconds":{"read":0.5,"preprocess":0.25,"infer":1.0,"engine":0.75,"postprocess":0.5,"write":0.25,"total":2.5},"tiles":3,"peak_memory_bytes":4096,"labels":{"Posterior":{"value":1,"voxels":10,"ml":0.5},"Anterior":{"value":2,"voxels":0,"ml":0.0}}}"#
        );
    }

    #[test]
    fn only_names_of_volumes_are_files() {
        assert!(to_file(Path::new("x/mask.nii.gz")) && to_file(Path::new("mask.NII")));
        assert!(!to_file(Path::new("masks")) && !to_file(Path::new("masks.out")));
        assert!(!is_writable_name(Path::new("mask.hdr")));
    }
}
