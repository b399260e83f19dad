/// Whether values of a graph can have a network's name before theirs.
pub(crate) fn is_network_name(name: &str) -> bool {
    const MAX_LENGTH: usize = 64;
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !name.is_empty() && name.len() <= MAX_LENGTH && name.chars().all(fits)
}
