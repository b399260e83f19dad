//! What the name of a file says about its role.

use crate::settings::Role;

const TRUTH: [&str; 9] =
    ["truth", "gt", "groundtruth", "reference", "ref", "manual", "annotation", "labelstr", "labelsts"];
const MASK: [&str; 6] = ["mask", "pred", "prediction", "predicted", "predictions", "auto"];

/// The role of a label map according to its name and folder, such as `labelsTr/case_001.nii.gz` or `case_001_pred.nii.gz`. The
/// last word that says anything decides.
pub fn role_from_name(name: &str) -> Option<Role> {
    let name = name.to_ascii_lowercase();
    let role = |word: &str| match word {
        _ if TRUTH.contains(&word) => Some(Role::Truth),
        _ if MASK.contains(&word) => Some(Role::Mask),
        _ => None,
    };
    name.split(|c: char| !c.is_ascii_alphanumeric()).filter_map(role).last()
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
}
