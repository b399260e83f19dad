//! The shipped model gives the answers that are recorded for it, in every engine.

use sulcus_io::{read_labels, read_scan};
use sulcus_pipeline::{CaseScores, DEFAULT_NSD_MM, Summary};
use sulcus_runtime::{Engine, SegmentOptions};
use sulcus_tests::{builder, engines, held_out_cases, shipped_model, shipped_spec};

#[test]
fn the_shipped_model_passes_its_golden_case_in_every_engine() {
    for (engine, builder) in engines() {
        let segmenter = builder.model(shipped_model()).build().unwrap();
        segmenter.replay_golden().unwrap_or_else(|e| panic!("{engine}: {e}"));
    }
}

/// The issue asks for 0.84 over the 42 validation cases; the bundled ones are a part of them.
const LEAST_MEAN_DICE: f64 = 0.84;

#[test]
fn the_shipped_model_finds_the_hippocampus_in_the_bundled_held_out_cases() {
    let spec = shipped_spec().unwrap();
    let structures = spec.structures();
    let segmenter = builder(Engine::Tract).unwrap().model(shipped_model()).build().unwrap();
    let mut scores = Vec::new();
    for (name, image, truth) in held_out_cases().unwrap() {
        let scan = read_scan(&image).unwrap();
        let mask = segmenter.segment(&scan.image, SegmentOptions::default()).unwrap().labels;
        let (truth, _) = read_labels(&truth).unwrap();
        scores
            .push(CaseScores::measure([name.clone(), name], &mask, &truth, &structures, DEFAULT_NSD_MM).unwrap());
    }
    let summary = Summary::new(scores, DEFAULT_NSD_MM);
    assert!(summary.metric_per_case.len() >= 8);
    let dice = summary.mean_dice().unwrap();
    assert!(dice >= LEAST_MEAN_DICE, "mean Dice {dice}");
}

#[test]
fn the_shipped_model_is_small_and_says_where_it_comes_from() {
    assert!(std::fs::metadata(shipped_model()).unwrap().len() <= 8_000_000);
    let spec = shipped_spec().unwrap();
    assert_eq!(spec.training.training_cases, 166);
    assert!(spec.training.validation_dice.unwrap() >= LEAST_MEAN_DICE);
    assert!(spec.golden_case.is_some());
    let names: Vec<&str> = spec.labels.entries().iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["Anterior", "Posterior"]);
}
