//! The comparisons with other projects. They are run manually, because they need gigabytes of Python packages and a
//! machine without other load. Their output belongs into tests/peers/RESULTS.md.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::{python, setup, step};

/// Number of threads of both programs.
const THREADS: &str = "2";
/// Number of runs of each program. The fastest run is used, because slower ones were disturbed.
const RUNS: usize = 5;

/// Runs every comparison and prints its table.
///
/// # Errors
/// If the Python environment cannot be created, or a comparison fails.
pub(crate) fn all(root: &Path) -> Result<(), String> {
    let scripts = root.join("tests").join("peers");
    let python = python::environment("peers", &scripts.join("requirements.txt"))?;
    let tables = [training(root, &scripts, &python)?, prediction(root, &scripts, &python)?];
    println!("\n{}", tables.join("\n"));
    Ok(())
}

/// Milliseconds per training step of Sulcus and of PyTorch.
fn training(root: &Path, scripts: &Path, python: &Path) -> Result<String, String> {
    let theirs = step::timed("PyTorch's training step", || {
        step::capture(Command::new(python).arg(scripts.join("pytorch_step.py")).args(["--threads", THREADS]))
    })?;
    let ours = step::timed("our training step", || {
        step::capture(step::cargo().current_dir(root).env("RAYON_NUM_THREADS", THREADS).args([
            "bench",
            "--quiet",
            "--workspace",
            "--bench",
            "step",
        ]))
    })?;
    let mut table =
        String::from("| network | Sulcus, ms a step | PyTorch, ms a step | ratio |\n| --- | --- | --- | --- |\n");
    for line in theirs.lines() {
        let line: Value =
            serde_json::from_str(line).map_err(|e| format!("reading the output of the PyTorch script: {e}"))?;
        let case = line.get("case").and_then(Value::as_str).ok_or("the PyTorch script printed no case")?;
        let theirs = number(&line, "ms")?;
        let ours = fastest_ms(&ours, case).ok_or_else(|| format!("the bench has no case {case}"))?;
        table += &format!("| {case} | {ours:.0} | {theirs:.0} | {:.2} |\n", ours / theirs);
    }
    Ok(table)
}

/// Seconds from starting the program to the written mask, for Sulcus and a Python script, and the number of voxels in
/// which the masks differ.
fn prediction(root: &Path, scripts: &Path, python: &Path) -> Result<String, String> {
    let model = root.join("models").join("hippocampus").join("model.onnx");
    let library = setup::all()?.onnx_runtime.ok_or("the comparison of predictions needs ONNX Runtime")?;
    step::run(step::cargo().current_dir(root).args(["build", "--release", "--workspace", "--bin", "sulcus"]))?;
    let program = step::target_folder(root).join("release").join("sulcus");
    let scratch = std::env::temp_dir().join(format!("sulcus-peers-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).map_err(|e| format!("making {}: {e}", scratch.display()))?;
    let (our_mask, their_mask) = (scratch.join("ours.nii.gz"), scratch.join("theirs.nii.gz"));
    let mut table = String::from(
        "| scan | Sulcus, s | Python (nibabel + onnxruntime), s | ratio | voxels that differ |\n| --- | --- | --- | --- | --- |\n",
    );
    for scan in scans(root) {
        let ours = fastest("our prediction", || {
            let mut command = Command::new(&program);
            command.args(["predict", "-m"]).arg(&model).arg(&scan).arg("-o").arg(&our_mask);
            command.args(["--engine", "ort", "--threads", THREADS, "--ort-lib"]).arg(&library);
            command
        })?;
        let theirs = fastest("Python's prediction", || {
            let mut command = Command::new(python);
            command.arg(scripts.join("python_predict.py")).arg(&model).arg(&scan).arg(&their_mask);
            command
        })?;
        let compared = step::capture(
            Command::new(python).arg(scripts.join("compare_masks.py")).arg(&our_mask).arg(&their_mask),
        )?;
        let compared: Value =
            serde_json::from_str(&compared).map_err(|e| format!("reading the output of the comparison: {e}"))?;
        let (different, voxels) = (number(&compared, "different")?, number(&compared, "voxels")?);
        let name = scan.strip_prefix(root).unwrap_or(scan.file_name().map_or(&scan, Path::new));
        table += &format!(
            "| {} | {ours:.2} | {theirs:.2} | {:.2} | {different} of {voxels} |\n",
            name.display(),
            ours / theirs
        );
    }
    std::fs::remove_dir_all(&scratch).map_err(|e| format!("removing {}: {e}", scratch.display()))?;
    Ok(table)
}

/// The bundled case, and a whole head if the development data is beside the clone.
fn scans(root: &Path) -> Vec<PathBuf> {
    let bundled = root.join("examples").join("data").join("case").join("image.nii.gz");
    let beside = root.with_file_name("shared").join("data").join("mni152");
    let mut heads: Vec<PathBuf> = std::fs::read_dir(&beside)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains("t1")))
        .collect();
    heads.sort();
    if heads.is_empty() {
        println!("without a whole head: there is none in {}", beside.display());
    }
    heads.truncate(1);
    [bundled].into_iter().chain(heads).collect()
}

/// Seconds of the fastest of several runs.
fn fastest(name: &str, command: impl Fn() -> Command) -> Result<f64, String> {
    step::timed(name, || {
        let mut best = f64::INFINITY;
        for _ in 0..RUNS {
            let begun = Instant::now();
            step::capture(&mut command())?;
            best = best.min(begun.elapsed().as_secs_f64());
        }
        Ok(best)
    })
}

fn number(line: &Value, key: &str) -> Result<f64, String> {
    line.get(key).and_then(Value::as_f64).ok_or_else(|| format!("a comparison printed no number '{key}'"))
}

/// The fastest run of `case` in divan's table, in milliseconds.
fn fastest_ms(table: &str, case: &str) -> Option<f64> {
    let line = table.lines().find(|line| line.split_whitespace().any(|word| word == case))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != case).skip(1);
    let value: f64 = words.next()?.parse().ok()?;
    let unit = match words.next()? {
        "ns" => 1e-6,
        "µs" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        _ => return None,
    };
    Some(value * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIVAN: &str = "\
Timer precision: 20 ns
step                          fastest       │ slowest       │ median        │ mean          │ samples │ iters
╰─ step                                     │               │               │               │         │
   ├─ unet2d-lite_48x64       158.2 ms      │ 171.1 ms      │ 160.5 ms      │ 161 ms        │ 7       │ 7
   ╰─ unet2d-classic_64x64    1.512 s       │ 1.603 s       │ 1.52 s        │ 1.53 s        │ 7       │ 7
";

    #[test]
    fn fastest_runs_are_parsed_in_any_unit() {
        assert_eq!(fastest_ms(DIVAN, "unet2d-lite_48x64"), Some(158.2));
        assert_eq!(fastest_ms(DIVAN, "unet2d-classic_64x64"), Some(1512.0));
    }

    #[test]
    fn case_without_a_measurement_is_an_error() {
        assert_eq!(fastest_ms(DIVAN, "unet2d-classic"), None);
        assert_eq!(fastest_ms("", "step"), None);
    }
}
