//! The examples in C and C++: compiled, linked, run on a real scan, and checked for memory errors and leaks.

use std::path::{Path, PathBuf};
use std::process::Command;

use sulcus_model::label_hash;
use sulcus_runtime::{Engine, SELF_TEST_MODEL, SegmentOptions};

use crate::common::{bundled_scan, engines, rust_builder, shipped_model};

/// The folder of the library that cargo has built for these tests. The library's name has no hash, so it is the test's own.
fn library_folder() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_path_buf()
}

/// The dynamic library.
pub(crate) fn library() -> PathBuf {
    use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
    let library = library_folder().join(format!("{DLL_PREFIX}sulcus_capi{DLL_SUFFIX}"));
    assert!(library.is_file(), "cargo did not build {}", library.display());
    library
}

/// The system libraries that the static library needs on Linux: `cargo rustc -p sulcus-capi -- --print native-static-libs`.
const SYSTEM_LIBRARIES: [&str; 7] = ["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"];

const C: (&str, &str, &str) = ("cc", "segment.c", "-std=c99");
const CPP: (&str, &str, &str) = ("c++", "segment.cpp", "-std=c++17");

#[derive(Clone, Copy, PartialEq)]
enum Link {
    Dynamic,
    Static,
}

/// Skips the test unless a program is installed.
fn require(program: &str) {
    if !Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success()) {
        sulcus_harness::skip(format_args!("{program} is not installed"));
    }
}

/// Skips the test unless a compiler with the options of cc is installed.
fn require_compiler(compiler: &str) {
    if cfg!(windows) {
        sulcus_harness::skip("there is no compiler with the options of cc");
    }
    require(compiler);
}

/// Compiles an example with all warnings as errors. Skips the test without a compiler.
fn build(folder: &Path, (compiler, source, standard): (&str, &str, &str), link: Link, flags: &[&str]) -> PathBuf {
    require_compiler(compiler);
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = folder.join(format!("{}-{}", compiler.replace('+', "p"), flags.len()));
    let mut command = Command::new(compiler);
    command.args([standard, "-g", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]).args(flags);
    command.arg("-I").arg(crate_folder.join("include"));
    command.arg(crate_folder.join("examples").join(source)).arg("-o").arg(&program);
    match link {
        Link::Static => command.arg(library_folder().join("libsulcus_capi.a")).args(SYSTEM_LIBRARIES),
        Link::Dynamic => {
            let folder = library().parent().unwrap().to_path_buf();
            command.arg("-pthread").arg("-L").arg(&folder).arg("-lsulcus_capi");
            command.arg(format!("-Wl,-rpath,{}", folder.display()))
        }
    };
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    program
}

fn output(command: &mut Command) -> String {
    // The program must not depend on the variables of the tests.
    let output = command.env_remove("SULCUS_ORT_LIB").env_remove("ORT_DYLIB_PATH").output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}

/// Runs an example with each engine and compares its output and its mask with those from Rust.
fn compare(program: &Path, folder: &Path) {
    let scan = sulcus_io::read_scan(&bundled_scan()).unwrap().image;
    for (engine, library) in engines() {
        let rust = rust_builder(engine, library.as_deref()).model(shipped_model()).build().unwrap();
        let expected = rust.segment(&scan, SegmentOptions::default()).unwrap();
        assert!(
            expected.label_volumes().iter().all(|volume| volume.voxels > 500),
            "{:?}",
            expected.label_volumes()
        );

        let mask = folder.join(format!("{engine}.nii.gz"));
        let mut command = Command::new(program);
        command.args([&shipped_model(), &bundled_scan(), &mask]).arg(engine.name()).args(library);
        let stdout = output(&mut command);
        let version = env!("CARGO_PKG_VERSION");
        let mut lines = vec![
            format!("sulcus {version}: Hippocampus in {engine} on cpu"),
            "golden case: the recorded mask".to_owned(),
            "35 x 53 x 36 voxels of 1 x 1 x 1 mm".to_owned(),
        ];
        lines.extend(
            expected
                .label_volumes()
                .iter()
                .map(|v| format!("{} = {}: {} voxels, {:.3} ml", v.name, v.value, v.voxels, v.ml.unwrap())),
        );
        let tiles = expected.tiles;
        lines.push(format!("stopped after {} of {tiles} tiles", tiles.div_ceil(2)));
        let printed: Vec<&str> = stdout.lines().filter(|line| !line.starts_with("refused: ")).collect();
        assert_eq!(printed, lines, "{engine}");

        let (written, _) = sulcus_io::read_labels(&mask).unwrap();
        assert_eq!(label_hash(&written), label_hash(&expected.labels), "{engine}: the mask");
        std::fs::remove_file(&mask).unwrap();
    }
}

#[test]
fn c_example_gives_the_masks_of_rust() {
    let folder = tempfile::tempdir().unwrap();
    let program = build(folder.path(), C, Link::Dynamic, &[]);
    compare(&program, folder.path());
}

#[test]
fn cpp_example_gives_the_masks_of_rust() {
    let folder = tempfile::tempdir().unwrap();
    let program = build(folder.path(), CPP, Link::Dynamic, &[]);
    compare(&program, folder.path());
}

#[test]
fn programs_of_the_readme_compile() {
    require_compiler("cc");
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("readme.c");
    let page = include_str!("../../README.md");
    let programs: Vec<&str> = page.split("```c\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert_eq!(programs.len(), 2);
    for program in programs {
        std::fs::write(&source, program).unwrap();
        let mut command = Command::new("cc");
        command.args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I"]);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include")).arg(&source);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn c_example_links_statically() {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        sulcus_harness::skip("the system libraries of the static library are known only for Linux with glibc");
    }
    let folder = tempfile::tempdir().unwrap();
    let program = build(folder.path(), C, Link::Static, &[]);
    run_checked(&mut Command::new(&program), folder.path());
}

/// Runs an example with the self-test model on tract, which is quick even under valgrind.
fn run_checked(command: &mut Command, folder: &Path) {
    let model = folder.join("self-test.onnx");
    std::fs::write(&model, SELF_TEST_MODEL).unwrap();
    let mask = folder.join("mask.nii.gz");
    let stdout = output(command.args([&model, &bundled_scan(), &mask]).arg("tract"));
    assert!(stdout.contains("self-test in tract on cpu") && stdout.contains("stopped after"), "{stdout}");
    let scan = sulcus_io::read_scan(&bundled_scan()).unwrap().image;
    let expected = rust_builder(Engine::Tract, None).model_bytes(SELF_TEST_MODEL).build().unwrap();
    let expected = expected.segment(&scan, SegmentOptions::default()).unwrap();
    let (written, _) = sulcus_io::read_labels(&mask).unwrap();
    let different = written.data().iter().zip(expected.labels.data()).filter(|(a, b)| a != b).count();
    // Valgrind lacks the wider vector instructions, so the order of additions differs.
    assert!(different * 10_000 <= written.data().len(), "{different} voxels differ");
}

#[test]
fn valgrind_finds_no_memory_error_and_no_leak() {
    let folder = tempfile::tempdir().unwrap();
    require("valgrind");
    for language in [C, CPP] {
        let program = build(folder.path(), language, Link::Dynamic, &[]);
        let mut command = Command::new("valgrind");
        command.args([
            "--quiet",
            "--error-exitcode=99",
            "--leak-check=full",
            "--show-leak-kinds=definite,indirect",
        ]);
        command.args(["--errors-for-leak-kinds=definite,indirect", "--num-callers=40"]);
        let known = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/capi/valgrind.supp");
        command.arg(format!("--suppressions={}", known.display())).arg(&program);
        run_checked(&mut command, folder.path());
    }
}

#[test]
fn address_sanitizer_finds_no_memory_error_and_no_leak() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    if !cfg!(target_os = "linux") {
        sulcus_harness::skip("the flags of the sanitizer are those of compilers on Linux");
    }
    require("cc");
    // A compiler can lack the sanitizer's libraries, and the leak check needs ptrace, which a container may forbid.
    let probe = folder.path().join("probe.c");
    std::fs::write(&probe, "int main(void) { return 0; }\n").unwrap();
    let program = folder.path().join("probe");
    let compiled = Command::new("cc").args(flags).arg(&probe).arg("-o").arg(&program).output().unwrap();
    if !compiled.status.success() || !Command::new(&program).output().unwrap().status.success() {
        sulcus_harness::skip("the compiler's address sanitizer does not run here");
    }
    for language in [C, CPP] {
        let program = build(folder.path(), language, Link::Dynamic, &flags);
        run_checked(Command::new(&program).env("ASAN_OPTIONS", "detect_leaks=1"), folder.path());
    }
}
