//! Replaces values that vary between machines and runs by a word.

use regex_lite::Regex;

use crate::session::Session;

/// On every page: times, paths, ports, and values that depend on the machine.
const ALWAYS: &[(&str, &str)] = &[
    (r#""seconds":\{[^}]*\}"#, r#""seconds":{TIMES}"#),
    (r#""peak_memory_bytes":\d+"#, r#""peak_memory_bytes":N"#),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "DATE"),
    (r"/[0-9a-f]{48}/", "/TOKEN/"),
    (r"\b\d+ min \d+ s\b", "TIME"),
    (r"\b\d+(\.\d+)? (ms|s)\b", "TIME"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"\b\d+ threads?\b", "N threads"),
    (r"\b\d+ processors?\b", "N processors"),
    // Processors with AMX also train in bfloat16.
    (r"Burn flex\); fp32(, bf16)?", "Burn flex); PRECISIONS"),
    (r"in \d+ place\(s\)", "in N place(s)"),
    (r"of \d+(\.\d+)? GB(\.?$| of memory)", "of N GB"),
    (r"within \d\.\de-\d+", "within N"),
    (r"on linux \S+,", "on SYSTEM,"),
    (r"libonnxruntime\.so\.[0-9.]+[0-9]", "LIBRARY"),
    (r"\(version [0-9.]+\)", "(version N)"),
    (r"\bversion [0-9]+\.[0-9.]+:", "version N:"),
];

/// In a training under a time budget, the number of epochs and the scores vary. The number of cases and labels does not.
const NUMBERS: &[(&str, &str)] = &[
    (r" {2,}", "  "),
    (r"[;,] best weights after epoch \d+", ""),
    (r" +\(best\)", ""),
    (r"^epoch +.*", "epoch …"),
    (r"^(all labels|Anterior|Posterior|vessel) .* (\d+)$", "$1 NUMBERS, $2 cases"),
    (r"^(hippocampus_\d+|Image_\d+[LR]) .*", "case NUMBERS"),
    (r"vessel \d+ pixels", "vessel N pixels"),
    (r"hippocampus_\d+", "CASE"),
    (r"(largest component of \w+): .*", "$1 …"),
    (r"\d+ epochs?", "N epochs"),
    (r"^(epochs +)\d+", "$1 N epochs"),
    (r"(Dice[^0-9]*)\d\.\d+", "${1}N"),
    (r"(Anterior|Posterior) \d\.\d+$", "$1 N"),
    (r"\d\.\de-\d+", "N"),
    // A golden case is a part of a scan, whose size depends on the weights.
    (r"\(\d\.\d MB\)", "(N MB)"),
];

pub(crate) struct Masks {
    texts: Vec<(String, &'static str)>,
    patterns: Vec<(Regex, &'static str)>,
}

impl Masks {
    pub(crate) fn new(session: &Session, numbers_vary: bool) -> Self {
        let numbers = if numbers_vary { NUMBERS } else { &[] };
        let patterns = ALWAYS.iter().chain(numbers);
        Self {
            texts: session.paths(),
            patterns: patterns.map(|(pattern, word)| (Regex::new(pattern).unwrap(), *word)).collect(),
        }
    }

    /// The lines with the paths of this machine replaced.
    pub(crate) fn paths(&self, lines: &[String]) -> Vec<String> {
        let replace = |line: &String| {
            self.texts.iter().fold(line.clone(), |line, (path, word)| line.replace(path.as_str(), word))
        };
        lines.iter().map(replace).collect()
    }

    /// The lines with all varying values replaced. If numbers vary, epochs (and a gap among them) become one line.
    pub(crate) fn apply(&self, lines: &[String]) -> Vec<String> {
        let mut masked: Vec<String> = self
            .paths(lines)
            .into_iter()
            .map(|line| {
                self.patterns
                    .iter()
                    .fold(line, |line, (pattern, word)| pattern.replace_all(&line, *word).into_owned())
            })
            .collect();
        masked.dedup_by(|line, before| before == "epoch …" && (line == before || line == "…"));
        masked
    }
}
