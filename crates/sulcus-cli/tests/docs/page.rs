//! The console blocks of a Markdown page.

use std::fmt;

const BLOCK: &str = "```console";
/// Stands for any number of lines.
const GAP: &str = "…";

/// A page, divided into parts so that output can be replaced.
pub(crate) struct Page {
    /// The text before each block, and the text after the last block.
    texts: Vec<String>,
    pub(crate) blocks: Vec<Block>,
}

pub(crate) struct Block {
    pub(crate) treatment: Treatment,
    pub(crate) steps: Vec<Step>,
}

#[derive(PartialEq, Eq)]
pub(crate) enum Treatment {
    Exact,
    NumbersVary,
    NotRun,
}

/// A command and its output.
pub(crate) struct Step {
    pub(crate) command: String,
    pub(crate) output: Vec<String>,
}

impl Page {
    pub(crate) fn parse(text: &str) -> Self {
        let mut page = Self { texts: vec![String::new()], blocks: Vec::new() };
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let before = page.texts.last_mut().unwrap();
            *before += &format!("{line}\n");
            if line != BLOCK {
                continue;
            }
            let treatment = Treatment::of(before);
            let mut steps: Vec<Step> = Vec::new();
            for line in lines.by_ref().take_while(|line| *line != "```") {
                match line.strip_prefix("$ ") {
                    Some(command) => steps.push(Step { command: command.to_owned(), output: Vec::new() }),
                    None => steps.last_mut().expect("a block starts with a command").output.push(line.to_owned()),
                }
            }
            page.blocks.push(Block { treatment, steps });
            page.texts.push("```\n".to_owned());
        }
        page
    }
}

impl Treatment {
    /// The treatment given in the comment before a block. `before` ends with the first line of the block.
    fn of(before: &str) -> Self {
        let comment = before.lines().rev().nth(1).and_then(|line| line.strip_prefix("<!-- test: "));
        match comment.and_then(|comment| comment.strip_suffix(" -->")) {
            None => Self::Exact,
            Some("numbers vary") => Self::NumbersVary,
            Some(other) if other.starts_with("not run, ") => Self::NotRun,
            Some(other) => panic!("unknown treatment of a block: {other}"),
        }
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, text) in self.texts.iter().enumerate() {
            f.write_str(text)?;
            for Step { command, output } in self.blocks.get(i).iter().flat_map(|block| &block.steps) {
                writeln!(f, "$ {command}")?;
                for line in output {
                    writeln!(f, "{line}")?;
                }
            }
        }
        Ok(())
    }
}

fn is_gap(line: &str) -> bool {
    line.trim() == GAP
}

/// Whether the lines equal those of the page, in which a gap stands for any lines.
pub(crate) fn matches(page: &[String], printed: &[String]) -> bool {
    match page.split_first() {
        None => printed.is_empty(),
        Some((gap, rest)) if is_gap(gap) => (0..=printed.len()).any(|skipped| matches(rest, &printed[skipped..])),
        Some((line, rest)) => {
            printed.split_first().is_some_and(|(first, more)| first == line && matches(rest, more))
        }
    }
}

/// The lines with the gap of the page: as many lines before and after it as on the page.
pub(crate) fn with_gaps_of(page: &[String], printed: Vec<String>) -> Vec<String> {
    let Some(first) = page.iter().position(|line| is_gap(line)) else { return printed };
    let after = page[first..].iter().filter(|line| !is_gap(line)).count();
    if first + after >= printed.len() {
        return printed;
    }
    let tail = printed[printed.len() - after..].iter().cloned();
    printed[..first].iter().cloned().chain([page[first].clone()]).chain(tail).collect()
}

/// The printed lines, but those of the page where both are the same after `mask`: a port or a time that varies is no reason
/// to change a page.
pub(crate) fn keeping_equal_lines<M: PartialEq>(
    page: &[String],
    printed: Vec<String>,
    mask: impl Fn(&str) -> M,
) -> Vec<String> {
    let choose = |(i, line): (usize, String)| match page.get(i) {
        Some(shown) if mask(shown) == mask(&line) => shown.clone(),
        _ => line,
    };
    printed.into_iter().enumerate().map(choose).collect()
}

#[test]
fn page_round_trips() {
    let text = "# A\n\n```sh\nnot this\n```\n\n<!-- test: numbers vary -->\n```console\n$ a\n1\n$ b\n```\nend\n```console\n$ c\n```\n";
    let page = Page::parse(text);
    assert_eq!(page.to_string(), text);
    let steps: Vec<_> =
        page.blocks.iter().flat_map(|b| &b.steps).map(|s| (s.command.as_str(), s.output.len())).collect();
    assert_eq!(steps, [("a", 1), ("b", 0), ("c", 0)]);
    assert!(page.blocks[0].treatment == Treatment::NumbersVary && page.blocks[1].treatment == Treatment::Exact);
}

#[test]
fn gap_stands_for_any_lines() {
    let lines = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert!(matches(&lines("a … d"), &lines("a b c d")));
    assert!(matches(&lines("…"), &[]));
    assert!(!matches(&lines("a … d"), &lines("a b c")));
    assert!(!matches(&lines("a b"), &lines("a b c")));
    assert_eq!(with_gaps_of(&lines("a … d"), lines("1 2 3 4 5")), lines("1 … 5"));
    assert_eq!(with_gaps_of(&lines("a d"), lines("1 2 3")), lines("1 2 3"));
}

#[test]
fn blessed_page_keeps_lines_that_differ_in_masked_values() {
    let lines = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let without_port = |line: &str| line.split(':').next().unwrap().to_owned();
    assert_eq!(
        keeping_equal_lines(&lines("at:8080 3 … old"), lines("at:4711 4 … new"), without_port),
        lines("at:8080 4 … new")
    );
}
