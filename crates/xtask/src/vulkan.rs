//! Networks on a Vulkan device against the same networks on the processor. A GPU where there is one, else SwiftShader,
//! the software Vulkan that comes with Chromium.

use std::path::{Path, PathBuf};

use crate::step;

/// Where packages of Chromium keep SwiftShader's manifest.
const SWIFT_SHADER: [&str; 4] = [
    "/usr/lib/chromium/vk_swiftshader_icd.json",
    "/usr/lib64/chromium-browser/vk_swiftshader_icd.json",
    "/opt/google/chrome/vk_swiftshader_icd.json",
    "/snap/chromium/current/usr/lib/chromium-browser/vk_swiftshader_icd.json",
];

/// The variables that choose the drivers of Vulkan's loader: the newer and the older name.
const DRIVERS: [&str; 2] = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];

/// Runs the comparison, which needs its own build of Burn, or names what is missing for it.
///
/// # Errors
/// When the build or the comparison fails.
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
    command.current_dir(root).args(["test", "--release", "-p", "sulcus-train", "--features", "vulkan"]);
    command.args(["--test", "vulkan", "--", "--show-output", "--test-threads", "1"]);
    if let Some(manifest) = driver {
        for name in DRIVERS {
            command.env(name, &manifest);
        }
    }
    step::run(&mut command)
}

/// Whether there is hardware that a Vulkan driver may know. Elsewhere than on Linux the loader is left to find out.
fn has_gpu() -> bool {
    !cfg!(target_os = "linux")
        || Path::new("/dev/nvidia0").exists()
        || std::fs::read_dir("/dev/dri")
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("renderD"))
}

/// The first manifest that is there. Mesa's software renderer is never taken: its version in Debian 12 crashes.
fn swift_shader(manifests: &[PathBuf]) -> Option<PathBuf> {
    manifests.iter().find(|manifest| manifest.is_file()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_that_is_not_there_is_not_taken() {
        let missing = PathBuf::from("/no/such/folder/vk_swiftshader_icd.json");
        assert_eq!(swift_shader(std::slice::from_ref(&missing)), None);
        let there = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert_eq!(swift_shader(&[missing, there.clone()]), Some(there));
    }
}
