//! What the name of a file says about its role.

use crate::settings::Role;

const TRUTH: [&str; 9] =
    ["truth", "gt", "groundtruth", "reference", "ref", "manual", "annotation", "labelstr", "labelsts"];
const MASK: [&str; 6] = ["mask", "pred", "prediction", "predicted", "predictions", "auto"];

const MAP: [&str; 9] = [
    "probabilities",
    "probability",
    "probs",
    "prob",
    "softmax",
    "uncertainty",
    "entropy",
    "confidence",
    "heatmap",
];

/// Whether the name of a file says that its values are a map over an image, as in `case_001_probabilities.nii.gz`. The folder
/// does not count.
pub fn names_a_map(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or_default();
    file.split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| MAP.iter().any(|map| word.eq_ignore_ascii_case(map)))
}

/// The role of a label map according to its name and folder, such as `labelsTr/case_001.nii.gz` or `case_001_pred.nii.gz`. The
/// last word that says anything decides.
pub fn role_from_name(name: &str) -> Option<Role> {
    let name = name.to_ascii_lowercase();
    let role = |word: &str| match word {
        _ if TRUTH.contains(&word) => Some(Role::Truth),
        _ if MASK.contains(&word) => Some(Role::Mask),
        _ => None,
    };
    name.split(|c: char| !c.is_ascii_alphanumeric()).filter_map(role).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_name_decide_and_parts_of_words_do_not() {
        let cases = [
            ("labelsTr/case_001.nii.gz", Some(Role::Truth)),
            ("case_001_GT.nii.gz", Some(Role::Truth)),
            ("truth.nii", Some(Role::Truth)),
            ("case-pred.nii.gz", Some(Role::Mask)),
            ("labelsTr/case_pred.nii.gz", Some(Role::Mask)),
            ("refined.nii.gz", None),
            ("masks_of_gtx.nii.gz", None),
            ("", None),
        ];
        for (name, role) in cases {
            assert_eq!(role_from_name(name), role, "{name}");
        }
    }

    #[test]
    fn maps_are_recognised_by_their_own_names() {
        for name in ["case_probabilities.nii.gz", "out/a-Entropy.nii", "confidence.nrrd"] {
            assert!(names_a_map(name), "{name}");
        }
        for name in ["probabilities/case_001.nii.gz", "t1_map.nii", "probe.nii.gz", ""] {
            assert!(!names_a_map(name), "{name}");
        }
    }
}
