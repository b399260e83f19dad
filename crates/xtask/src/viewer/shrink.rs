//! Makes the built files smaller with tools from npm, if npm can install them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Speed, make_folder, run, say, tools_folder};

/// A tool: its package, its version and its program.
type Tool = [&'static str; 3];

const BINARYEN: Tool = ["binaryen", "132.0.0", "wasm-opt"];
const ESBUILD: Tool = ["esbuild", "0.28.2", "esbuild"];
/// The WebAssembly features that stable Rust uses for this target and that every browser since 2022 supports. With
/// `--all-features`, wasm-opt could use features that Chromium refuses.
const WASM_FEATURES: [&str; 8] = [
    "--enable-bulk-memory",
    "--enable-bulk-memory-opt",
    "--enable-call-indirect-overlong",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
];

/// Two rounds find more than one. Below 1 KiB is only the end of the stack, which begins at 1 MiB, and a browser fills new memory
/// with zeros.
const WASM_SHRINKING: [&str; 4] = ["-Oz", "-Oz", "--low-memory-unused", "--zero-filled-memory"];
const WASM_SPEEDING: [&str; 8] = [
    "-O3",
    "-O3",
    "--enable-simd",
    "--low-memory-unused",
    "--zero-filled-memory",
    "--strip-debug",
    "--strip-producers",
    "--strip-target-features",
];

/// The program of a tool; `None` if npm cannot install it.
fn program([package, version, program]: Tool) -> Result<Option<PathBuf>, String> {
    let folder = tools_folder()?.join(format!("{package}-{version}"));
    let path = folder.join("node_modules/.bin").join(program);
    if !path.is_file() {
        make_folder(&folder)?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&folder);
        npm.arg(format!("{package}@{version}")).stdout(Stdio::null());
        if let Err(reason) = run(&mut npm) {
            say(&format!("viewer: larger than it could be, because npm could not install {package} ({reason})"));
            return Ok(None);
        }
    }
    Ok(Some(path))
}

/// Shrinks a WebAssembly module, or makes it faster.
pub(super) fn optimise(module: &Path, speed: Speed) -> Result<(), String> {
    let Some(tool) = program(BINARYEN)? else { return Ok(()) };
    let small = module.with_extension("small");
    let passes: &[&str] = match speed {
        Speed::Small => &WASM_SHRINKING,
        Speed::Fast => &WASM_SPEEDING,
    };
    run(Command::new(tool).args(passes).args(WASM_FEATURES).arg(module).arg("-o").arg(&small))?;
    fs::rename(&small, module).map_err(|e| format!("replacing the module: {e}: {}", module.display()))
}

/// Shortens a page: its style, and indentation.
pub(super) fn shorten_page(page: &str) -> Result<String, String> {
    let parts = page.split_once("<style>").and_then(|(before, rest)| Some((before, rest.split_once("</style>")?)));
    let Some((before, (style, after))) = parts else { return Err("the page has no style".to_owned()) };
    let lines = |text: &str| text.lines().map(str::trim_start).collect::<Vec<_>>().join("\n");
    let style = shorten(style, "css")?;
    Ok(format!("{}<style>{}</style>{}\n", lines(before), style.trim(), lines(after)))
}

/// Shortens a script (`js`), names of variables too, or a style (`css`). Without esbuild only comments and indentation are
/// removed.
pub(super) fn shorten(script: &str, language: &str) -> Result<String, String> {
    let Some(tool) = program(ESBUILD)? else { return Ok(without_comments(script)) };
    let fail = |e: std::io::Error| format!("running {}: {e}", tool.display());
    let mut command = Command::new(&tool);
    command.args(["--minify", "--format=esm", "--target=es2022", "--charset=utf8"]);
    command.arg(format!("--loader={language}"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(fail)?;
    let mut input = child.stdin.take().ok_or("esbuild takes no input")?;
    // It reads all of its input before it writes anything.
    input.write_all(script.as_bytes()).map_err(fail)?;
    drop(input);
    let output = child.wait_with_output().map_err(fail)?;
    if !output.status.success() {
        return Err(format!("{} failed ({})", tool.display(), output.status));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("what esbuild wrote is not text: {e}"))
}

/// A script without indentation, empty lines and whole-line comments. Neither our scripts nor those of wasm-bindgen have
/// multi-line strings, in which this would change the meaning.
fn without_comments(script: &str) -> String {
    let mut inside = false;
    let kept = script.lines().map(str::trim).filter(|line| {
        let comment = inside || line.starts_with("/*");
        inside = comment && !line.ends_with("*/");
        !comment && !line.is_empty() && !line.starts_with("//")
    });
    kept.flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_comments_and_indentation_are_removed_from_scripts() {
        let script = "/**\n * What it does.\n */\nexport function f() {\n  // why\n\n  return a / 2; // rest\n}\n/* one line */\nf();\n";
        assert_eq!(without_comments(script), "export function f() {\nreturn a / 2; // rest\n}\nf();\n");
    }
}
