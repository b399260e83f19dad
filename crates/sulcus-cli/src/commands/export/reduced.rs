//! Models in a reduced precision: value ranges are measured on training cases, the loss of Dice on held-out cases.

use std::collections::BTreeMap;

use sulcus_metrics::Summary;
use sulcus_model::{Calibration, ModelSpec, Precision, QuantizationReport};
use sulcus_onnx::precision::{ValueRange, calibration_model, to_half, to_int8};
use sulcus_onnx::{read_spec, with_spec};
use sulcus_pipeline::{Predictor, Tensor};
use sulcus_runtime::ort::{OnnxRuntime, OrtMeasurements, OrtPredictor};
use sulcus_runtime::{Device, Engine, SegmentOptions, Segmenter, TractPredictor};
use sulcus_train::{Run, RunData};

use super::engines::{Engines, tile_shape};
use super::request::{ExportRequest, reduction_line};
use crate::error::{CliError, Context};
use crate::output::{Ui, printable};

/// The model in a reduced precision, and its loss of Dice.
///
/// # Errors
/// When the data set is missing, the run held out no case, an engine is missing or fails, or the mean Dice drops by
/// [`QuantizationReport::MAX_DICE_LOSS`] or more.
pub(super) fn reduce(
    run: &Run,
    kind: Precision,
    request: &ExportRequest<'_>,
    fp32: &[u8],
    engines: &Engines,
    ui: Ui,
) -> Result<(Vec<u8>, QuantizationReport), CliError> {
    let runtime = engines.runtime.as_ref();
    if kind == Precision::Int8 && runtime.is_none() {
        return Err(CliError::failed(
            "int8 models run in ONNX Runtime only, which was not found, so the loss of Dice cannot be measured",
        )
        .hint(
            "`sulcus runtime install` fetches it, `--ort-lib` names a library, `sulcus doctor` lists the places",
        ));
    }
    if run.manifest().split.validation.is_empty() {
        return Err(CliError::failed(format_args!(
            "the run held out no case, so the loss of Dice in {kind} cannot be measured: {}",
            run.folder().display()
        ))
        .hint("export it with `--precision fp32`, or train with `--fold 0`"));
    }
    let data = run.data(request.data).context("opening the data set")?;
    let spec = read_spec(fp32).context("reading the exported file")?;
    let (graph, calibration) = match (kind, runtime) {
        (Precision::Int8, Some(runtime)) => to_int8_calibrated(&data, &spec, fp32, runtime, ui)?,
        _ => (to_half(fp32).context("exporting")?, None),
    };
    let mut spec = {
        let loading = "loading the exported file";
        let predictor: Box<dyn Predictor> = match runtime {
            Some(runtime) => Box::new(OrtPredictor::new(runtime, &graph, Device::Cpu, None).context(loading)?),
            None => Box::new(TractPredictor::new(&graph, &tile_shape(&spec), None).context(loading)?),
        };
        run.model_spec(request.weights, &*predictor).context("describing the model")?
    };
    let candidate = with_spec(&graph, &spec).context("exporting")?;
    let engine = if runtime.is_some() { Engine::Ort } else { Engine::Tract };
    let segmenters = [engines.segmenter(engine, fp32)?, engines.segmenter(engine, &candidate)?];
    let [_, reduced] = &segmenters;
    reduced.replay_golden().context(format_args!("replaying the golden case of the {kind} model in {engine}"))?;
    let ([dice_fp32, dice], cases) = score(&data, &segmenters, ui)?;
    let reduction = QuantizationReport { kind, dice_fp32, dice, cases, calibration };
    accept(&reduction)?;
    spec.precision = Some(reduction);
    let bytes = with_spec(&candidate, &spec).context("exporting")?;
    Ok((bytes, reduction))
}

/// Refuses a reduced precision that loses too much Dice.
fn accept(reduction: &QuantizationReport) -> Result<(), CliError> {
    if reduction.is_acceptable() {
        return Ok(());
    }
    let kind = reduction.kind;
    let refused = CliError::failed(format_args!(
        "{kind} loses too much Dice: {}; the loss must stay below {}; no file was written",
        reduction_line(reduction),
        QuantizationReport::MAX_DICE_LOSS
    ));
    Err(refused.hint(match kind {
        Precision::Int8 => "`--precision fp16` loses less; a longer training makes a network less sensitive",
        _ => "export it with `--precision fp32`",
    }))
}

/// Measures the ranges of activations on tiles of training cases, and writes the graph in 8 bits.
fn to_int8_calibrated(
    data: &RunData<'_>,
    spec: &ModelSpec,
    fp32: &[u8],
    runtime: &OnnxRuntime,
    ui: Ui,
) -> Result<(Vec<u8>, Option<Calibration>), CliError> {
    let (tiles, calibration) = data.calibration(spec).context("reading training cases")?;
    let ranges = measure(fp32, &tiles, runtime, ui)?;
    Ok((to_int8(fp32, &ranges).context("exporting")?, Some(calibration)))
}

fn measure(
    fp32: &[u8],
    tiles: &[Tensor],
    runtime: &OnnxRuntime,
    ui: Ui,
) -> Result<BTreeMap<String, ValueRange>, CliError> {
    let measuring = "measuring the ranges of activations";
    let (graph, outputs) = calibration_model(fp32).context(measuring)?;
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

/// Mean foreground Dice of each model over the held-out cases, predicted as `sulcus predict` does, and the number of cases.
fn score(data: &RunData<'_>, models: &[Segmenter; 2], ui: Ui) -> Result<([f64; 2], usize), CliError> {
    let cases = data.held_out().context("reading the held-out cases")?;
    let bar = ui.bar(cases.len() as u64);
    let mut scores = [Vec::new(), Vec::new()];
    for case in &cases {
        bar.set_message(printable(&case.name).into_owned());
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
        // The tolerance of NSD is irrelevant: only Dice is used.
        Summary::new(scores, sulcus_metrics::DEFAULT_NSD_MM).mean_dice().ok_or_else(|| {
            CliError::failed("the held-out cases have no structure, so the loss of Dice cannot be measured")
        })
    };
    let [fp32, reduced] = scores;
    Ok(([mean(fp32)?, mean(reduced)?], cases.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_of_two_thousandths_is_refused_with_both_scores_and_a_hint() {
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
        insta::assert_snapshot!(message, @"int8 loses too much Dice: mean Dice 0.8784 in int8, 0.8805 in fp32, over 42 held-out cases; ranges from 128 tiles of 32 training cases; the loss must stay below 0.002; no file was written");
        assert!(hint.contains("`--precision fp16` loses less"));
        assert_eq!(refusal(with(Precision::Fp16, 0.5)).1, "export it with `--precision fp32`");
    }
}
