//! The wheels that are installed by default, and their expected hashes.

use super::{Hash, Package, System};

/// A wheel of a fixed version with a fixed content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pinned {
    pub(crate) package: Package,
    pub(crate) system: System,
    pub(crate) filename: &'static str,
    sha256: &'static str,
}

impl Pinned {
    pub(crate) fn is(&self, hash: &Hash) -> bool {
        hash.0 == self.sha256
    }

    pub(crate) fn hash(&self) -> Hash {
        Hash(self.sha256.to_owned())
    }
}

const fn wheel(
    package: Package,
    os: &'static str,
    arch: &'static str,
    filename: &'static str,
    sha256: &'static str,
) -> Pinned {
    Pinned { package, system: System { os, arch }, filename, sha256 }
}

/// The newest releases on PyPI on 2026-11-30, with the hashes that `pip install --dry-run --report` names. The library is the
/// same in the wheels for each Python. 1.23.2 is the last release for macOS on x86-64.
const WHEELS: &[Pinned] = &[
    wheel(
        Package::Plain,
        "linux",
        "x86_64",
        "onnxruntime-1.32.0-cp313-cp313-manylinux_2_28_x86_64.whl",
        "02ea12a28c069ea8510093d95a7f6ff8126bfd9fc5c0d3381c03b80fb2b424ba",
    ),
    wheel(
        Package::Plain,
        "linux",
        "aarch64",
        "onnxruntime-1.32.0-cp313-cp313-manylinux_2_28_aarch64.whl",
        "54d02baff2df38777b4c3cc7af326406fe8b8a48f54720f4c446d2d327920a79",
    ),
    wheel(
        Package::Plain,
        "macos",
        "aarch64",
        "onnxruntime-1.32.0-cp313-cp313-macosx_14_0_arm64.whl",
        "27bf5dad46355a8a435c9c4e1556464d99ca834ea44e0f452909712068b8821b",
    ),
    wheel(
        Package::Plain,
        "macos",
        "x86_64",
        "onnxruntime-1.23.2-cp313-cp313-macosx_13_0_x86_64.whl",
        "162f4ca894ec3de1a6fd53589e511e06ecdc3ff646849b62a9da7489dee9ce95",
    ),
    wheel(
        Package::Plain,
        "windows",
        "x86_64",
        "onnxruntime-1.32.0-cp313-cp313-win_amd64.whl",
        "c7f9aa98036ba2a47aa041a4a8c6d0a1f7bfe1bde44c131dcd15ce334f2f148d",
    ),
    wheel(
        Package::Plain,
        "windows",
        "aarch64",
        "onnxruntime-1.32.0-cp313-cp313-win_arm64.whl",
        "29e4b0fdd3bea834ace358bd8c48641266ec327f730363ab0ab5d0ca574d38fe",
    ),
    wheel(
        Package::Gpu,
        "linux",
        "x86_64",
        "onnxruntime_gpu-1.31.1-cp313-cp313-manylinux_2_28_x86_64.whl",
        "f659529e07c21ec6b6179fd1bfaf82ffb7c3dc9c0916e18f6f313f9a690891be",
    ),
    wheel(
        Package::Gpu,
        "linux",
        "aarch64",
        "onnxruntime_gpu-1.31.1-cp313-cp313-manylinux_2_34_aarch64.whl",
        "ca5e4446e271e57e325d7fd41c90707c19c9f9615d1f8499837ee856f5705ad9",
    ),
    wheel(
        Package::Gpu,
        "windows",
        "x86_64",
        "onnxruntime_gpu-1.31.1-cp313-cp313-win_amd64.whl",
        "1a667241591c89c516b43689a0ae38c4d99d0cb45a2220e95a9f822aeb6887c4",
    ),
    wheel(
        Package::OpenVino,
        "linux",
        "x86_64",
        "onnxruntime_openvino-1.24.1-cp313-cp313-manylinux_2_28_x86_64.whl",
        "2c3bb73e68ac27f4891af8a595c1faf574ec68b772e6583c90a0b997a1822782",
    ),
    wheel(
        Package::OpenVino,
        "windows",
        "x86_64",
        "onnxruntime_openvino-1.24.1-cp313-cp313-win_amd64.whl",
        "434bf49aa71393c577a456c9d76c98e6d6958a833fa0876793e3d5437b5a511a",
    ),
];

/// The wheel of a package for a system.
pub(crate) fn pinned(package: Package, system: System) -> Option<&'static Pinned> {
    WHEELS.iter().find(|wheel| wheel.package == package && wheel.system == system)
}

/// The wheel for a system with this hash.
pub(crate) fn with_hash(hash: &Hash, system: System) -> Option<&'static Pinned> {
    WHEELS.iter().find(|wheel| wheel.system == system && wheel.is(hash))
}

#[cfg(test)]
mod tests {
    use super::super::index::tags;
    use super::super::{MIN_VERSION, version_numbers};
    use super::*;

    #[test]
    fn pinned_wheels_fit_their_system_and_are_new_enough() {
        for wheel in WHEELS {
            let [name, version, _, _, platform] = tags(wheel.filename).unwrap();
            assert_eq!(name, wheel.package.name().replace('-', "_"));
            assert!(wheel.system.takes(platform), "{}", wheel.filename);
            assert!(version_numbers(version).unwrap().as_slice() >= MIN_VERSION, "{}", wheel.filename);
            assert_eq!(wheel.sha256.parse(), Ok(wheel.hash()));
            assert_eq!(pinned(wheel.package, wheel.system), with_hash(&wheel.hash(), wheel.system));
        }
        assert_eq!(pinned(Package::Plain, System { os: "freebsd", arch: "x86_64" }), None);
    }
}
