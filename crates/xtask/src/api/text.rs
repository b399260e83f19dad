//! Items as lines of text.

use proc_macro2::{Group, TokenStream, TokenTree};
use quote::ToTokens;

/// The function with its public path as its name, without its body.
pub(super) fn signature(signature: &syn::Signature, path: &str) -> String {
    let words = [
        signature.constness.map(|_| "const "),
        signature.asyncness.map(|_| "async "),
        signature.unsafety.map(|_| "unsafe "),
    ];
    let before: String = words.into_iter().flatten().collect();
    let generics = between(&signature.generics.params, "<", ">");
    let bounds = between(&signature.generics.where_clause, " ", "");
    let output = between(&signature.output, " ", "");
    // `mut` before an argument does not concern the caller.
    let inputs = format!("({})", short(&signature.inputs)).replace("(mut ", "(").replace(", mut ", ", ");
    format!("pub {before}fn {path}{generics}{inputs}{output}{bounds}")
}

pub(super) fn is_non_exhaustive(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident("non_exhaustive"))
}

/// The traits that a type derives.
pub(super) fn derives(attributes: &[syn::Attribute]) -> impl Iterator<Item = String> {
    let lists = attributes.iter().filter(|attribute| attribute.path().is_ident("derive"));
    lists.filter_map(|attribute| attribute.meta.require_list().ok()).flat_map(|list| {
        let names = list.tokens.to_string();
        names.split(',').map(|name| name.replace(' ', "")).filter(|name| !name.is_empty()).collect::<Vec<_>>()
    })
}

/// Tokens between two texts; nothing if there are none.
pub(super) fn between(tokens: &impl ToTokens, before: &str, after: &str) -> String {
    let text = short(tokens);
    if text.is_empty() { text } else { format!("{before}{text}{after}") }
}

/// The spacing of `to_string` and its replacement, in this order.
const SPACING: &[(&str, &str)] = &[
    (" :: ", "::"),
    (":: ", "::"),
    (" ::", "::"),
    (" < ", "<"),
    ("< ", "<"),
    (" >", ">"),
    (" ,", ","),
    (" ;", ";"),
    (" :", ":"),
    (" (", "("),
    ("->(", "-> ("),
    (",(", ", ("),
    ("=(", "= ("),
    ("& ", "&"),
    ("? ", "?"),
    ("! ", "!"),
    (", }", " }"),
    (",)", ")"),
    (",>", ">"),
];

/// Tokens with the usual spacing, without attributes.
pub(super) fn short(tokens: &impl ToTokens) -> String {
    let text = without_attributes(tokens.to_token_stream()).to_string();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = SPACING.iter().fold(text, |text, (from, to)| text.replace(from, to));
    text.trim_end_matches(',').to_owned()
}

/// Docs and other attributes of fields and arguments are not part of a signature.
fn without_attributes(tokens: TokenStream) -> TokenStream {
    let mut kept = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(mark) if mark.as_char() == '#' => {
                tokens.next_if(|next| matches!(next, TokenTree::Group(_)));
            }
            TokenTree::Group(group) => {
                let inner = without_attributes(group.stream());
                kept.push(TokenTree::Group(Group::new(group.delimiter(), inner)));
            }
            other => kept.push(other),
        }
    }
    kept.into_iter().collect()
}
