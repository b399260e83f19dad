//! Fewer bits, if they cost next to nothing: ranges from training cases, the price from held-out ones.

use std::collections::BTreeMap;

use sulcus_metrics::Summary;
use sulcus_model::{Calibration, ModelSpec, Precision, QuantizationReport};
use sulcus_onnx::precision::{ValueRange, to_half, to_int8, with_ranges};
use sulcus_onnx::{read_spec, with_spec};
use sulcus_pipeline::{Predictor, Tensor};
use sulcus_runtime::ort::{OnnxRuntime, OrtLibrary, OrtMeasurements, OrtPredictor};
use sulcus_runtime::{Device, Engine, SegmentOptions, Segmenter, TractPredictor};
use sulcus_train::{Run, RunData};

use crate::error::{CliError, Context};
use crate::exporting::{Wanted, reduction_line};
use crate::ui::Ui;

/// The same model in fewer bits, and what they cost.
///
/// # Errors
/// When the data set is not there, the run held no case out, an engine is missing or fails, or the mean Dice drops by
/// [`QuantizationReport::MAX_DICE_LOSS`] or more.
pub(super) fn reduce(
    run: &Run,
    wanted: &Wanted<'_>,
    whole: &[u8],
    runtime: Option<&OnnxRuntime>,
    library: &OrtLibrary,
    ui: Ui,
) -> Result<(Vec<u8>, QuantizationReport), CliError> {
    let kind = wanted.precision;
    if kind == Precision::Int8 && runtime.is_none() {
        return Err(CliError::failed(
            "int8 models run in ONNX Runtime alone, which was not found, so what the model would cost cannot be measured",
        )
        .hint("`sulcus runtime install` fetches it, `--ort-lib` names one, `sulcus doctor` lists the places"));
    }
    if run.manifest().split.validation.is_empty() {
        return Err(CliError::failed(format_args!(
            "the run was trained on every case and held none out, so nothing says what {kind} costs: {}",
            run.folder().display()
        ))
        .hint("export it in fp32, or train with `--fold 0`"));
    }
    let data = run.data(wanted.data).context("opening the data set")?;
    let spec = read_spec(whole).context("reading the exported file")?;
    let (graph, calibration) = match (kind, runtime) {
        (Precision::Int8, Some(runtime)) => in_bytes(&data, &spec, whole, runtime, ui)?,
        _ => (to_half(whole).context("exporting")?, None),
    };
    let mut spec = {
        let shape = [&[1, spec.channels.len()], spec.patch.as_slice()].concat();
        let loading = "loading the exported file";
        let predictor: Box<dyn Predictor> = match runtime {
            Some(runtime) => Box::new(OrtPredictor::new(runtime, &graph, Device::Cpu, None).context(loading)?),
            None => Box::new(TractPredictor::new(&graph, &shape, None).context(loading)?),
        };
        run.model_spec(wanted.weights, &*predictor).context("describing the model")?
    };
    let candidate = with_spec(&graph, &spec).context("exporting")?;
    let engine = if runtime.is_some() { Engine::Ort } else { Engine::Tract };
    let [whole, reduced] = [whole, &candidate].map(|bytes| {
        let builder = Segmenter::builder().model_bytes(bytes).engine(engine).device(Device::Cpu);
        builder.ort_library(library.clone()).build().context("loading the exported file")
    });
    let ([dice_fp32, dice], cases) = score(&data, &[whole?, reduced?], ui)?;
    let reduction = QuantizationReport { kind, dice_fp32, dice, cases, calibration };
    accept(&reduction)?;
    spec.precision = Some(reduction);
    let bytes = with_spec(&candidate, &spec).context("exporting")?;
    Ok((bytes, reduction))
}

/// The gate: what costs too much is not written.
fn accept(reduction: &QuantizationReport) -> Result<(), CliError> {
    if reduction.is_acceptable() {
        return Ok(());
    }
    let kind = reduction.kind;
    let refused = CliError::failed(format_args!(
        "{kind} costs too much: {}; the loss must stay below {}; nothing was written",
        reduction_line(reduction),
        QuantizationReport::MAX_DICE_LOSS
    ));
    Err(refused.hint(match kind {
        Precision::Int8 => {
            "`--precision fp16` keeps more; longer training makes a network that is less easily upset"
        }
        _ => "export it in fp32",
    }))
}

/// Measures how the values between layers spread over real tiles, and writes the graph in 8 bits.
fn in_bytes(
    data: &RunData<'_>,
    spec: &ModelSpec,
    whole: &[u8],
    runtime: &OnnxRuntime,
    ui: Ui,
) -> Result<(Vec<u8>, Option<Calibration>), CliError> {
    let (tiles, calibration) = data.calibration(spec).context("reading training cases")?;
    let ranges = measure(whole, &tiles, runtime, ui)?;
    Ok((to_int8(whole, &ranges).context("exporting")?, Some(calibration)))
}

fn measure(
    whole: &[u8],
    tiles: &[Tensor],
    runtime: &OnnxRuntime,
    ui: Ui,
) -> Result<BTreeMap<String, ValueRange>, CliError> {
    let measuring = "measuring the values between layers";
    let (graph, outputs) = with_ranges(whole).context(measuring)?;
    let mut engine = OrtMeasurements::new(runtime, &graph).context(measuring)?;
    let mut ranges: BTreeMap<String, ValueRange> = BTreeMap::new();
    let bar = ui.bar(tiles.len() as u64);
    bar.set_message("measuring");
    for tile in tiles {
        let found: BTreeMap<String, f32> = engine.measure(tile).context(measuring)?.into_iter().collect();
        for output in &outputs {
            let ends = (found.get(&output.low), found.get(&output.high));
            let range = match ends {
                (Some(low), Some(high)) => ValueRange::new(*low, *high),
                _ => None,
            };
            let range = range.ok_or_else(|| {
                CliError::failed(format_args!("{measuring}: `{}` is not finite for a training case", output.value))
            })?;
            ranges.entry(output.value.clone()).and_modify(|all| *all = all.union(range)).or_insert(range);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(ranges)
}

/// Mean foreground Dice of each model over the held-out cases, predicted as `sulcus predict` does, and their number.
fn score(data: &RunData<'_>, models: &[Segmenter; 2], ui: Ui) -> Result<([f64; 2], usize), CliError> {
    let cases = data.held_out().context("reading the held-out cases")?;
    let bar = ui.bar(cases.len() as u64);
    let mut scores = [Vec::new(), Vec::new()];
    for case in &cases {
        bar.set_message(case.name.clone());
        let scan = data.read(case).context("reading a held-out case")?;
        for (model, scores) in models.iter().zip(&mut scores) {
            let found = model
                .segment(&scan.image, SegmentOptions::default())
                .context(format_args!("predicting the case {}", case.name))?;
            scores.push(data.score(model.spec(), &scan, &found.labels).context("scoring")?);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mean = |scores| {
        // Any distance will do: only overlap is looked at.
        Summary::new(scores, sulcus_metrics::DEFAULT_NSD_MM).mean_dice().ok_or_else(|| {
            CliError::failed("the held-out cases have no structure, so nothing says what fewer bits cost")
        })
    };
    let [whole, reduced] = scores;
    Ok(([mean(whole)?, mean(reduced)?], cases.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_of_two_thousandths_is_refused_with_both_figures_and_what_to_do() {
        let with = |kind, dice| QuantizationReport {
            kind,
            dice_fp32: 0.8805,
            dice,
            cases: 42,
            calibration: Some(Calibration { cases: 32, tiles: 128 }),
        };
        assert!(accept(&with(Precision::Int8, 0.8801)).is_ok());
        assert!(accept(&with(Precision::Int8, 0.8786)).is_ok());
        let refusal = |reduction: QuantizationReport| match accept(&reduction) {
            Err(CliError::Failed { message, hint }) => (message, hint.unwrap()),
            other => panic!("expected a failure, found {other:?}"),
        };
        let (message, hint) = refusal(with(Precision::Int8, 0.8784));
        insta::assert_snapshot!(message, @"int8 costs too much: mean Dice 0.8784 in int8, 0.8805 in fp32, over 42 held-out cases; ranges from 128 tiles of 32 training cases; the loss must stay below 0.002; nothing was written");
        assert!(hint.contains("`--precision fp16` keeps more"));
        assert_eq!(refusal(with(Precision::Fp16, 0.5)).1, "export it in fp32");
    }
}
