//! SNOMED CT codes of anatomical structures (PS3.16, CID 7150 and CID 7166 for categories and types). Unlisted names get
//! the code of tissue, which is correct for every structure.

/// A coded term: value, scheme, meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Code {
    pub(super) value: &'static str,
    pub(super) scheme: &'static str,
    pub(super) meaning: &'static str,
}

const fn sct(value: &'static str, meaning: &'static str) -> Code {
    Code { value, scheme: "SCT", meaning }
}

const fn dcm(value: &'static str, meaning: &'static str) -> Code {
    Code { value, scheme: "DCM", meaning }
}

const TISSUE: Code = sct("85756007", "Tissue");
const STRUCTURE: Code = sct("91723000", "Anatomical Structure");
const SUBSTANCE: Code = sct("91720002", "Body Substance");
const ABNORMAL: Code = sct("49755003", "Morphologically Abnormal Structure");

pub(super) const SEGMENTATION: Code = dcm("113076", "Segmentation");
pub(super) const SOURCE_IMAGE: Code = dcm("121322", "Source image for image processing operation");

/// Words that must all occur in the name, category, type. The first match is used.
const KNOWN: &[(&[&str], Code, Code)] = &[
    (&["hippocamp"], STRUCTURE, sct("5366008", "Hippocampus")),
    (&["amygdala"], STRUCTURE, sct("4958002", "Amygdala")),
    (&["thalamus"], STRUCTURE, sct("42695009", "Thalamus")),
    (&["caudate"], STRUCTURE, sct("11000004", "Caudate Nucleus")),
    (&["putamen"], STRUCTURE, sct("89278009", "Putamen")),
    (&["pallid"], STRUCTURE, sct("14738005", "Globus Pallidus")),
    (&["accumbens"], STRUCTURE, sct("427667007", "Nucleus Accumbens")),
    (&["cerebell", "white"], TISSUE, sct("33060004", "Cerebellar White Matter")),
    (&["cerebell", "cortex"], STRUCTURE, sct("25991003", "Cerebellar Cortex")),
    (&["cerebellum"], STRUCTURE, sct("113305005", "Cerebellum")),
    (&["brainstem"], STRUCTURE, sct("119238007", "Brain Stem")),
    (&["lateral", "ventricle"], STRUCTURE, sct("66720007", "Lateral Ventricle")),
    (&["cerebral", "white"], TISSUE, sct("68523003", "Cerebral White Matter")),
    (&["cerebral", "grey"], TISSUE, sct("40146001", "Cerebral Gray Matter")),
    (&["white", "matter"], TISSUE, sct("389080008", "White Matter")),
    (&["grey", "matter"], TISSUE, sct("389081007", "Gray Matter")),
    (&["cerebrospinal"], SUBSTANCE, sct("65216001", "Cerebrospinal Fluid")),
    (&["csf"], SUBSTANCE, sct("65216001", "Cerebrospinal Fluid")),
    (&["tumour"], ABNORMAL, sct("108369006", "Neoplasm")),
    (&["tumor"], ABNORMAL, sct("108369006", "Neoplasm")),
    (&["neoplasm"], ABNORMAL, sct("108369006", "Neoplasm")),
    (&["oedema"], ABNORMAL, sct("79654002", "Edema")),
    (&["edema"], ABNORMAL, sct("79654002", "Edema")),
    (&["necro"], ABNORMAL, sct("6574001", "Necrosis")),
    (&["lesion"], ABNORMAL, sct("52988006", "Lesion")),
    (&["brain"], STRUCTURE, sct("12738006", "Brain")),
];

/// The category and the type of the structure with this name.
pub(super) fn of_structure(name: &str) -> (Code, Code) {
    let name = name
        .to_lowercase()
        .replace("gray", "grey")
        .replace("brain stem", "brainstem")
        .replace("brain-stem", "brainstem");
    let known = KNOWN.iter().find(|(words, ..)| words.iter().all(|word| name.contains(word)));
    known.map_or((TISSUE, TISSUE), |(_, category, kind)| (*category, *kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_map_to_snomed_codes() {
        let kind = |name| of_structure(name).1.meaning;
        assert_eq!(kind("Left-Hippocampus"), "Hippocampus");
        assert_eq!(kind("gray matter"), "Gray Matter");
        assert_eq!(kind("Brain-Stem"), "Brain Stem");
        assert_eq!(kind("Anterior"), "Tissue");
    }
}
