//! Specifications of files in which one network uses the mask of another.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up has failed")]

use sulcus_model::{
    FORMAT_VERSION, MaskUse, ModelSpec, NnunetResampling, PreviousNetwork, SpacingRule, SpecError,
};
use sulcus_testing::test_spec;
use sulcus_volume::Label;

fn network() -> ModelSpec {
    test_spec(3).channels(["first", "second"]).labels(&[(1, "one"), (2, "two")]).build()
}

fn cascade(name: &str, spec: ModelSpec) -> ModelSpec {
    let mask = MaskUse::InputChannels { labels: vec![1, 2], resampling: NnunetResampling::DEFAULT_LOGITS };
    let mut next = network();
    next.spacing = SpacingRule::Native;
    next.previous = Some(Box::new(PreviousNetwork { name: name.to_owned(), spec, mask }));
    next.format_version = next.min_format_version();
    next
}

#[test]
fn networks_in_turn_have_their_channels_and_a_version_of_their_own() {
    let two = cascade("low", network());
    assert!(two.check().is_ok(), "{:?}", two.check());
    assert_eq!((two.input_channels(), network().input_channels()), (4, 2));
    assert_eq!(two.format_version, FORMAT_VERSION);
    assert_eq!(ModelSpec::from_json(&two.to_json().unwrap()).unwrap(), two);
    let three = cascade("high", two);
    assert!(three.check().is_ok());
    let names: Vec<&str> = three.previous_networks().map(|network| network.name.as_str()).collect();
    assert_eq!(names, ["high", "low"]);
    assert_eq!(three.previous_networks().next().unwrap().input_name(), "high.image");
}

#[test]
fn networks_that_do_not_fit_are_refused() {
    let refused = |spec: &ModelSpec| match spec.check() {
        Err(SpecError::Invalid(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let change = |change: &dyn Fn(&mut PreviousNetwork)| {
        let mut spec = cascade("low", network());
        change(spec.previous.as_mut().unwrap());
        refused(&spec)
    };
    assert!(change(&|p| p.name = "a b".into()).contains("letters"));
    assert!(change(&|p| p.name = String::new()).contains("letters"));
    assert!(change(&|p| p.spec.patch = vec![7, 7]).contains("of its previous network `low`"));
    assert!(change(&|p| p.spec.channels[0].name = "other".into()).contains("other channels"));
    assert!(change(&|p| p.spec.channels.truncate(1)).contains("other channels"));
    let labels = |labels: &[Label]| MaskUse::InputChannels {
        labels: labels.to_vec(),
        resampling: NnunetResampling::DEFAULT_LOGITS,
    };
    assert!(change(&|p| p.mask = labels(&[])).contains("0 input channels"));
    assert!(change(&|p| p.mask = labels(&[1, 7])).contains("no label 7"));
    assert!(change(&|p| p.mask = labels(&vec![1; 1 << 17])).contains("input channels"));
    let mut deep = network();
    for i in 0..6 {
        deep = cascade(&format!("n{i}"), deep);
    }
    assert!(refused(&deep).contains("too many"));
    assert!(refused(&cascade("low", cascade("low", network()))).contains("too many"));
    let mut old = cascade("low", network());
    old.format_version = 6;
    assert!(refused(&old).contains("format version 7"));
}
