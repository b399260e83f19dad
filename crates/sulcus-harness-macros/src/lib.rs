//! The attribute `#[test]` of `sulcus-harness`. A crate of its own, because cargo wants procedural macros apart.

use proc_macro::{TokenStream, TokenTree};

/// Adds a function to the tests of its target. `sulcus-harness` runs them.
///
/// The function takes no arguments and returns `()` or a `Result`.
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, function: TokenStream) -> TokenStream {
    if !arguments.is_empty() {
        return error("#[test] takes no arguments");
    }
    let Some(name) = name_of(&function) else { return error("#[test] belongs on a function") };
    let submission = format!(
        "::sulcus_harness::submit! {{
            ::sulcus_harness::Test::new(::core::module_path!(), \"{name}\", || {{
                ::sulcus_harness::Finished::into_result({name}())
            }})
        }}"
    );
    match submission.parse::<TokenStream>() {
        Ok(submission) => function.into_iter().chain(submission).collect(),
        Err(_) => error("#[test] cannot be applied to this function"),
    }
}

/// The identifier after the first `fn` outside of brackets.
fn name_of(function: &TokenStream) -> Option<String> {
    let mut tokens = function.clone().into_iter();
    tokens.find(|token| matches!(token, TokenTree::Ident(word) if word.to_string() == "fn"))?;
    match tokens.next()? {
        TokenTree::Ident(name) => Some(name.to_string()),
        _ => None,
    }
}

fn error(message: &str) -> TokenStream {
    format!("::core::compile_error!({message:?});").parse().unwrap_or_default()
}
