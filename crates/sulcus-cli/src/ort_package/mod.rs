//! ONNX Runtime from a Python wheel: which wheel fits this machine, how it is fetched, and which of its files are needed.
//!
//! No file of a wheel is unpacked or loaded before the SHA-256 of the wheel equals one that was known beforehand: a hash
//! of [`pinned`], or one that the user gave.

pub(crate) mod archive;
pub(crate) mod download;
pub(crate) mod index;
pub(crate) mod pinned;
pub(crate) mod record;

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// The first version that the engine supports.
pub(crate) const MIN_VERSION: &[u32] = &[1, 22];

/// A package of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Package {
    /// For processors.
    Plain,
    /// With NVIDIA's providers.
    Gpu,
    /// With Intel's provider.
    OpenVino,
}

impl Package {
    /// Its name on the index.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "onnxruntime",
            Self::Gpu => "onnxruntime-gpu",
            Self::OpenVino => "onnxruntime-openvino",
        }
    }
}

/// The system for which wheels are chosen, in the terms of Rust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct System {
    pub(crate) os: &'static str,
    pub(crate) arch: &'static str,
}

impl System {
    /// The system that this program was built for.
    pub(crate) const THIS: Self = Self { os: std::env::consts::OS, arch: std::env::consts::ARCH };

    /// Whether a wheel with this platform tag runs on this system.
    fn takes(self, platform: &str) -> bool {
        match (self.os, self.arch) {
            ("linux", arch) => platform.contains("manylinux") && platform.ends_with(arch),
            ("macos", "aarch64") => platform.starts_with("macosx") && platform.ends_with("arm64"),
            ("macos", _) => platform.starts_with("macosx") && platform.ends_with("x86_64"),
            ("windows", "x86_64") => platform == "win_amd64",
            ("windows", "aarch64") => platform == "win_arm64",
            _ => false,
        }
    }
}

/// The release numbers of a version; `None` for versions with letters, which are previews.
pub(crate) fn version_numbers(version: &str) -> Option<Vec<u32>> {
    version.split('.').map(|part| part.parse().ok()).collect()
}

/// A SHA-256 as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hash(String);

impl FromStr for Hash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(digits.to_ascii_lowercase()))
        } else {
            Err("expected the 64 hexadecimal digits of a SHA-256".into())
        }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Passes bytes on to another writer, and hashes and counts them.
pub(crate) struct Hashing<W> {
    to: W,
    digest: Sha256,
    written: u64,
}

impl<W: Write> Hashing<W> {
    pub(crate) fn new(to: W) -> Self {
        Self { to, digest: Sha256::new(), written: 0 }
    }

    /// Number of bytes written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// The hash of all bytes, and the other writer.
    ///
    /// # Errors
    /// If the other writer cannot be flushed.
    pub(crate) fn finish(mut self) -> io::Result<(Hash, W)> {
        self.to.flush()?;
        let hash = Hash(self.digest.finalize().iter().map(|b| format!("{b:02x}")).collect());
        Ok((hash, self.to))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.digest.update(bytes.get(..written).unwrap_or(bytes));
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_compared_by_their_digits() {
        let mut writer = Hashing::new(Vec::new());
        writer.write_all(b"abc").unwrap();
        assert_eq!(writer.written(), 3);
        let (found, _) = writer.finish().unwrap();
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(found, expected.parse().unwrap());
        assert_eq!(found, format!("sha256:{}", expected.to_uppercase()).parse().unwrap());
        for wrong in ["", "ba78", &expected[1..], &format!("{}g", &expected[1..])] {
            assert!(wrong.parse::<Hash>().is_err(), "{wrong}");
        }
    }
}
