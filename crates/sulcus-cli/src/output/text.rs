//! Numbers and names as text for people.

use std::borrow::Cow;

/// A number with its noun, such as `1 case` or `3 cases`.
pub(crate) fn count(number: usize, singular: &str) -> String {
    format!("{number} {singular}{}", if number == 1 { "" } else { "s" })
}

/// A duration, such as `850 ms`, `12.5 s`, `3 min 05 s` or `1 h 30 min`.
pub(crate) fn human_secs(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1000.0)
    } else if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        let whole = seconds.round() as u64;
        if whole < 3600 {
            format!("{} min {:02} s", whole / 60, whole % 60)
        } else {
            format!("{} h {:02} min", whole / 3600, whole / 60 % 60)
        }
    }
}

/// A size, in powers of ten.
pub(crate) fn human_bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// A number with at most three decimals.
pub(crate) fn rounded(value: f64) -> String {
    format!("{}", (value * 1000.0).round() / 1000.0)
}

/// A number with seven significant digits, which is what single precision holds: 0.4999999999999985 is shown as 0.5.
pub(crate) fn significant(value: f64) -> String {
    let shortened = format!("{value:.6e}").parse().unwrap_or(value);
    format!("{shortened}")
}

/// Values with a separator between them.
pub(crate) fn join<T: ToString>(values: &[T], separator: &str) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(separator)
}

/// Text without control characters, which could move the cursor, change colours or set the title of a terminal: each is
/// written as `\u001b` is, which in JSON means the same character. Characters that reverse the direction of text are
/// escaped too, since they can disguise a file name. Line breaks and tabs stay.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let unsafe_char = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(unsafe_char) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if unsafe_char(c) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_line_breaks_stay() {
        assert_eq!(printable("Größe\t1\n2"), "Größe\t1\n2");
        assert_eq!(printable("\u{1b}[2Jname\r\u{7f}"), r"\u001b[2Jname\u000d\u007f");
        assert_eq!(printable("a\u{9b}31m\u{202e}gnp"), r"a\u009b31m\u202egnp");
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        let value = serde_json::json!({"name": "a\u{9b}\u{7f}\u{202e}\u{1b}b"});
        let text = value.to_string();
        let shown = printable(&text);
        assert!(!shown.contains(char::is_control));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn rounding_errors_are_not_shown() {
        for (value, text) in [
            (0.499_999_999_999_998_5, "0.5"),
            (0.699_999_988_079_071, "0.7"),
            (1.0, "1"),
            (0.0, "0"),
            (-92_000.5, "-92000.5"),
            (1e-8, "0.00000001"),
            (433_042.063, "433042.1"),
        ] {
            assert_eq!(significant(value), text);
        }
        assert_eq!(significant(f64::NAN), "NaN");
        assert_eq!(significant(f64::INFINITY), "inf");
    }
}
