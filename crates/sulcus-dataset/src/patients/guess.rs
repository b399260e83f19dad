//! Guesses from the names of the cases which of them are of one patient.
//!
//! Names such as `LIDC-IDRI-0686_R_3` and `Image_01L` number the patient first and then the lesion, the visit, the slice or the
//! side. A guess is clear only where a number of groups, their sizes and the words in the names speak for patients and against
//! hospitals, scanners and data sets, which are numbered in the same way.

use std::collections::{BTreeMap, BTreeSet};

/// What the names suggest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Guess {
    /// Each case is a patient of its own.
    None,
    /// The patient of each case.
    Clear(BTreeMap<String, String>),
    /// These two cases may be of one patient.
    Unclear([String; 2]),
}

const SIDES: &[&str] = &["l", "r", "left", "right", "lt", "rt", "od", "os"];
/// What is numbered within a patient.
const PARTS: &[&str] = &[
    "slice",
    "sl",
    "frame",
    "nodule",
    "lesion",
    "tumor",
    "tumour",
    "eye",
    "visit",
    "session",
    "ses",
    "scan",
    "time",
    "timepoint",
    "tp",
    "day",
    "week",
    "month",
    "series",
    "roi",
    "view",
    "crop",
    "patch",
    "run",
    "phase",
];
/// Parts without a number.
const STAGES: &[&str] = &["pre", "post", "bl", "fu", "baseline", "followup"];
const PATIENTS: &[&str] = &["patient", "pat", "subject", "subj", "sub", "p", "case", "id"];
/// What several patients have in common.
const COMMON: &[&str] = &[
    "site", "center", "centre", "hospital", "scanner", "vendor", "batch", "dataset", "task", "cohort", "fold",
    "split", "train", "test",
];

/// With fewer groups, or more cases per group, the common part of the names may be a hospital rather than a patient.
const MIN_PATIENTS: usize = 5;
const MAX_MEAN_CASES: usize = 10;
/// More groups than a data set has hospitals, so the groups are patients.
const MANY_PATIENTS: usize = 20;

pub(super) fn guess(names: &BTreeSet<&str>) -> Guess {
    let split: Vec<(&str, Vec<Part>)> = names.iter().map(|name| (*name, parts(name))).collect();
    let Some(rule) = Rule::of(&split) else { return Guess::None };
    let mut groups: BTreeMap<String, Vec<(&str, Option<&str>)>> = BTreeMap::new();
    for (name, parts) in &split {
        let (patient, index) = rule.apply(name, parts);
        groups.entry(patient).or_default().push((name, index));
    }
    let Some(example) = groups.values().find_map(|cases| match cases.as_slice() {
        [(one, _), (other, _), ..] => Some([(*one).to_owned(), (*other).to_owned()]),
        _ => None,
    }) else {
        return Guess::None;
    };
    if !rule.by_side && !indices_repeat(&groups) {
        return Guess::None;
    }
    let few_each = groups.len() >= MIN_PATIENTS && names.len() <= MAX_MEAN_CASES * groups.len();
    if rule.by_side || rule.names_a_part || few_each || groups.len() >= MANY_PATIENTS {
        let of_case = groups.into_iter().flat_map(|(patient, cases)| {
            cases.into_iter().map(move |(case, _)| (case.to_owned(), patient.clone()))
        });
        return Guess::Clear(of_case.collect());
    }
    if groups.len() > 2 { Guess::Unclear(example) } else { Guess::None }
}

/// Whether most cases have an index that other patients have too. Numbers that run through all cases are not indices within a
/// patient.
fn indices_repeat(groups: &BTreeMap<String, Vec<(&str, Option<&str>)>>) -> bool {
    let mut groups_with: BTreeMap<&str, usize> = BTreeMap::new();
    for cases in groups.values() {
        let own: BTreeSet<&str> = cases.iter().filter_map(|(_, index)| *index).collect();
        own.into_iter().for_each(|index| *groups_with.entry(index).or_default() += 1);
    }
    let indices = || groups.values().flatten().filter_map(|(_, index)| *index);
    let repeated = indices().filter(|index| groups_with.get(index).is_some_and(|groups| *groups > 1)).count();
    2 * repeated >= indices().count()
}

/// A part of a name between separators.
#[derive(Debug, Clone, Copy)]
struct Part<'a> {
    text: &'a str,
    /// Where it ends in the name, in bytes.
    end: usize,
}

impl Part<'_> {
    /// Its letters before the first digit, in lower case.
    fn word(&self) -> String {
        self.text.chars().take_while(|c| !c.is_ascii_digit()).collect::<String>().to_lowercase()
    }

    fn has_digit(&self) -> bool {
        self.text.contains(|c: char| c.is_ascii_digit())
    }

    /// Whether it is a date such as `19960909`.
    fn is_date(&self) -> bool {
        let is_number = self.text.len() == 8 && self.text.bytes().all(|b| b.is_ascii_digit());
        is_number && (self.text.starts_with("19") || self.text.starts_with("20"))
    }

    fn is_side(&self) -> bool {
        SIDES.contains(&self.text.to_lowercase().as_str())
    }

    /// Whether it may number something within a patient: `3`, `R2`, `frame01`, `b`, `post`. Longer numbers identify.
    fn is_index(&self) -> bool {
        const MAX_DIGITS: usize = 8;
        let word = self.word();
        let digits = self.text.get(word.len()..).unwrap_or_default();
        let is_number = (1..=MAX_DIGITS).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        let is_letter = self.text.len() == 1 && self.text.bytes().all(|b| b.is_ascii_alphabetic());
        is_number || is_letter || STAGES.contains(&word.as_str())
    }
}

/// The parts of a name. A letter that follows the digits at the end, as in `01L`, is a part of its own.
fn parts(name: &str) -> Vec<Part<'_>> {
    let mut found = Vec::new();
    let mut start = 0;
    for text in name.split(['_', '-', ' ']) {
        let end = start + text.len();
        if !text.is_empty() {
            found.push(Part { text, end });
        }
        start = end + 1;
    }
    if let Some(last) = found.last().copied()
        && let Some((letter_at, letter)) = last.text.char_indices().next_back()
        && letter.is_ascii_alphabetic()
        && let Some((number, suffix)) = last.text.split_at_checked(letter_at)
        && number.ends_with(|c: char| c.is_ascii_digit())
    {
        found.pop();
        found.push(Part { text: number, end: last.end - suffix.len() });
        found.push(Part { text: suffix, end: last.end });
    }
    found
}

/// How a patient is read from a name.
#[derive(Debug)]
struct Rule {
    /// The parts that name the side, by position.
    sides: Vec<usize>,
    /// The last part that identifies the patient; `None` if names have different numbers of parts, and a last part that is an
    /// index is removed from each.
    patient: Option<usize>,
    /// The part that is an index within the patient.
    index: Option<usize>,
    /// Whether the sides alone tell cases of a patient apart.
    by_side: bool,
    /// Whether the names contain a word for a patient or for something within a patient.
    names_a_part: bool,
}

impl Rule {
    fn of(names: &[(&str, Vec<Part<'_>>)]) -> Option<Self> {
        let length = names.first()?.1.len();
        if names.iter().any(|(_, parts)| parts.len() != length) {
            return Some(Self { sides: vec![], patient: None, index: None, by_side: false, names_a_part: false });
        }
        let at = |position: usize| names.iter().filter_map(move |(_, parts)| parts.get(position));
        let varies = |position: &usize| at(*position).map(|part| part.text).collect::<BTreeSet<_>>().len() > 1;
        let words = |position: usize| at(position).map(Part::word).collect::<BTreeSet<String>>();
        // The word of a part; of a number the word before it, as in `sub-01`.
        let is_called = |position: usize, known: &[&str]| {
            let own = words(position);
            let before = position.checked_sub(1).filter(|before| !at(*before).any(Part::has_digit));
            let found = before.filter(|_| own.contains("")).map_or(own, &words);
            found.iter().all(|word| known.contains(&word.as_str()))
        };
        let is_own_word = |word: &str| word.len() > 1 && !STAGES.contains(&word);
        let varying: Vec<usize> = (0..length).filter(varies).collect();
        let (sides, numbers): (Vec<usize>, Vec<usize>) =
            varying.into_iter().partition(|position| at(*position).all(Part::is_side));
        let is_date = |position: usize| at(position).all(Part::is_date);
        let index = numbers.split_last().and_then(|(index, before)| {
            // A visit, or its date, is within a patient too.
            let is_within = |position: &usize| is_called(*position, PARTS) || is_date(*position);
            let patient = before.iter().rev().find(|position| !is_within(position))?;
            let is_index = at(*index).all(Part::is_index)
                && words(*index).iter().filter(|word| is_own_word(word)).count() <= 1
                && !is_called(*index, PATIENTS);
            let is_patient = at(*patient).all(Part::has_digit) && !is_called(*patient, COMMON);
            (is_index && is_patient).then_some((*patient, *index))
        });
        let patient = match index {
            Some((patient, _)) => patient,
            None => *numbers.last()?,
        };
        let by_side = !sides.is_empty();
        if !by_side && index.is_none() {
            return None;
        }
        let index = index.map(|(_, index)| index);
        let names_a_part = is_called(patient, PATIENTS) || index.is_some_and(|index| is_called(index, PARTS));
        Some(Self { sides, patient: Some(patient), index, by_side, names_a_part })
    }

    /// The patient in a name, and the index of the case within the patient.
    fn apply<'a>(&self, name: &'a str, parts: &[Part<'a>]) -> (String, Option<&'a str>) {
        let Some(last) = self.patient else {
            return match parts {
                [before @ .., index]
                    if index.is_index()
                        && !PATIENTS.contains(&index.word().as_str())
                        && before.iter().any(Part::has_digit) =>
                {
                    let end = before.last().map_or(0, |part| part.end);
                    (name.get(..end).unwrap_or(name).to_owned(), Some(index.text))
                }
                _ => (name.to_owned(), None),
            };
        };
        let kept: Vec<&Part<'_>> = parts
            .iter()
            .enumerate()
            .filter(|(at, _)| *at <= last && !self.sides.contains(at))
            .map(|(_, p)| p)
            .collect();
        let index = self.index.and_then(|index| parts.get(index)).map(|part| part.text);
        let whole = self.sides.iter().all(|side| *side > last);
        let end = kept.last().map_or(0, |part| part.end);
        let patient = match name.get(..end).filter(|_| whole) {
            Some(start) => start.to_owned(),
            None => kept.iter().map(|part| part.text).collect::<Vec<_>>().join("_"),
        };
        (patient, index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: impl IntoIterator<Item = String>) -> Guess {
        let names: BTreeSet<String> = names.into_iter().collect();
        guess(&names.iter().map(String::as_str).collect())
    }

    /// The names `first_second`, for example, for both counted from 1.
    fn numbered(patients: usize, cases: usize, name: impl Fn(usize, usize) -> String) -> Vec<String> {
        let name = &name;
        (1..=patients).flat_map(|p| (1..=cases).map(move |c| name(p, c))).collect()
    }

    /// The number of patients, and the patient of the first case.
    fn clear(names: Vec<String>) -> (usize, String) {
        match of(names.clone()) {
            Guess::Clear(of_case) => {
                let patients: BTreeSet<&String> = of_case.values().collect();
                (patients.len(), of_case[&names[0]].clone())
            }
            other => panic!("{other:?}: {names:?}"),
        }
    }

    #[test]
    fn lesions_visits_slices_and_sides_are_of_one_patient() {
        for (names, patients, first) in [
            (numbered(8, 3, |p, c| format!("LIDC-IDRI-{p:04}_{c}")), 8, "LIDC-IDRI-0001"),
            (numbered(8, 3, |p, c| format!("LIDC-IDRI-{p:04}_R_{c}")), 8, "LIDC-IDRI-0001"),
            (numbered(4, 2, |p, c| format!("Image_{p:02}{}", ["L", "R"][c - 1])), 4, "Image_01"),
            (numbered(4, 2, |p, c| format!("{}_knee_{p:02}", ["left", "right"][c - 1])), 4, "knee_01"),
            (numbered(9, 4, |p, c| format!("900{p}_{}_V0{}", ["LEFT", "RIGHT"][c % 2], c / 3)), 9, "9001"),
            (numbered(3, 2, |p, c| format!("patient{p:03}_frame{c:02}")), 3, "patient001"),
            (numbered(2, 40, |p, c| format!("sub-{p:02}_ses-{c}_T1w")), 2, "sub-01"),
            (numbered(7, 2, |p, c| format!("BraTS-GLI-{p:05}-{c:03}")), 7, "BraTS-GLI-00001"),
            (numbered(30, 20, |p, c| format!("TCGA_CS_{p:04}_199609{:02}_{c}", 10 + p % 3)), 30, "TCGA_CS_0001"),
            (numbered(4, 6, |p, c| format!("case{p}_day{}_slice_{c:04}", c % 2)), 4, "case1"),
            (numbered(6, 2, |p, c| format!("case{p}{}", ["a", "b"][c - 1])), 6, "case1"),
            (numbered(6, 2, |p, c| format!("P{p}_{c}")), 6, "P1"),
            (numbered(6, 2, |p, c| format!("P{p:02}_{}", ["pre", "post"][c - 1])), 6, "P01"),
        ] {
            assert_eq!(clear(names), (patients, first.to_owned()));
        }
        // Only some patients have a second case.
        let mut names = numbered(8, 1, |p, _| format!("P{p:02}"));
        names.extend(numbered(6, 2, |p, c| format!("P{p:02}_{}", c + 1)));
        assert_eq!(clear(names), (8, "P01".to_owned()));
    }

    #[test]
    fn names_of_one_number_suggest_nothing() {
        for names in [
            numbered(40, 1, |p, _| format!("hippocampus_{p:03}")),
            numbered(40, 1, |p, _| format!("case{p:06}")),
            numbered(3, 1, |p, _| format!("patient{p:02}")),
            numbered(40, 1, |p, _| format!("BraTS20_Training_{p:03}")),
            numbered(40, 1, |p, _| format!("sub-{p:02}_ses-1_T1w")),
            numbered(40, 1, |p, _| format!("1.3.6.1.4.1.14519.5.2.1.6279.6001.{}", 1_000_003 * p)),
            vec!["only".into()],
        ] {
            assert_eq!(of(names.clone()), Guess::None, "{names:?}");
        }
    }

    #[test]
    fn hospitals_and_running_numbers_are_no_patients() {
        for names in [
            numbered(3, 30, |p, c| format!("site{}_{c:03}", ["A", "B", "C"][p - 1])),
            numbered(6, 5, |p, c| format!("site{p}_{c:03}")),
            numbered(6, 5, |p, c| format!("center_{p}_case_{c:03}")),
            numbered(6, 5, |p, c| format!("H{p}_P{c:03}")),
            numbered(6, 5, |p, c| format!("{p:03}_S_{:04}", 100 * p + c)),
            numbered(2, 60, |p, c| format!("{}_train_{c:04}", ["ct", "mr"][p - 1])),
        ] {
            assert_eq!(of(names.clone()), Guess::None, "{names:?}");
        }
    }

    #[test]
    fn few_large_groups_are_unclear() {
        let names = numbered(4, 30, |p, c| format!("C{p}_{c:03}"));
        assert_eq!(of(names), Guess::Unclear(["C1_001".into(), "C1_002".into()]));
    }
}
