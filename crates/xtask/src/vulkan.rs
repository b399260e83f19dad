//! Runs the checks of `tests/gpu` on a Vulkan device, above all the comparison of networks with those on the processor. Uses a GPU if there is one, else
//! SwiftShader, the software implementation of Vulkan that is part of Chromium.

use std::path::{Path, PathBuf};

use crate::step;

/// Folders in which packages of Chromium have SwiftShader's manifest.
const SWIFT_SHADER: [&str; 4] = [
    "/usr/lib/chromium/vk_swiftshader_icd.json",
    "/usr/lib64/chromium-browser/vk_swiftshader_icd.json",
    "/opt/google/chrome/vk_swiftshader_icd.json",
    "/snap/chromium/current/usr/lib/chromium-browser/vk_swiftshader_icd.json",
];

/// Checks that measure time, which takes many minutes on a software device and is meaningless there.
const SLOW_IN_SOFTWARE: &str = "steps-fp32,steps-bf16,steps-nnunet,steps-nnunet-bf16,forms";

/// The variables that select the drivers of Vulkan's loader: the newer and the older name.
const DRIVERS: [&str; 2] = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];

/// Runs the comparison, which needs its own build of Burn, or reports what it lacks.
///
/// # Errors
/// If the build or the comparison fails.
pub(crate) fn all(root: &Path) -> Result<(), String> {
    let said = DRIVERS.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let driver = if said || has_gpu() {
        None
    } else {
        match swift_shader(&SWIFT_SHADER.map(PathBuf::from)) {
            Some(manifest) => Some(manifest),
            None => {
                println!(
                    "not run: there is no GPU and no SwiftShader. Install Debian's packages chromium and libvulkan1, or name a \
                     driver's manifest in {}",
                    DRIVERS[0]
                );
                return Ok(());
            }
        }
    };
    let mut command = step::cargo();
    command.current_dir(root).args(["run", "--release", "-p", "sulcus-tests", "--features", "vulkan"]);
    command.args(["--example", "gpu_check", "--", "--device", "vulkan", "--budget", "3600", "--patience", "20"]);
    command.args(["--output", "target/gpu-check.jsonl", "--skip", SLOW_IN_SOFTWARE]);
    if let Some(manifest) = driver {
        for name in DRIVERS {
            command.env(name, &manifest);
        }
    }
    step::run(&mut command)
}

/// Whether there is hardware that a Vulkan driver may support. On systems other than Linux, the loader decides.
fn has_gpu() -> bool {
    !cfg!(target_os = "linux")
        || Path::new("/dev/nvidia0").exists()
        || std::fs::read_dir("/dev/dri")
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("renderD"))
}

/// The first manifest that exists. Mesa's software renderer is never used: its version in Debian 12 crashes.
fn swift_shader(manifests: &[PathBuf]) -> Option<PathBuf> {
    manifests.iter().find(|manifest| manifest.is_file()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_manifest_is_not_used() {
        let missing = PathBuf::from("/no/such/folder/vk_swiftshader_icd.json");
        assert_eq!(swift_shader(std::slice::from_ref(&missing)), None);
        let there = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert_eq!(swift_shader(&[missing, there.clone()]), Some(there));
    }
}
