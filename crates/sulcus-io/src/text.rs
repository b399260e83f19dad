//! Text for messages.

/// A shape: `2 × 3 × 4`.
pub(crate) fn shape_text(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" × ")
}

/// A short excerpt of a text from a file, on one line.
#[cfg(any(feature = "text-formats", feature = "label-tables"))]
pub(crate) fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    let short: String = text.chars().take(MAX_CHARS).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(MAX_CHARS).is_some() { format!("`{short}…`") } else { format!("`{short}`") }
}
