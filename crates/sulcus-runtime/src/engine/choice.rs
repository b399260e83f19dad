use std::fmt;
use std::str::FromStr;

/// The software that runs a network.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Engine {
    /// On processors with AVX2 or AVX-512 the native engine, where it runs the model; for models in 8-bit integers on processors with AMX. For
    /// other models, on other processors, and on GPUs, ONNX Runtime; without it a built-in engine.
    #[default]
    Auto,
    /// ONNX Runtime, loaded at run time.
    Ort,
    /// The embedded pure-Rust engine for any graph.
    Tract,
    /// The engine of this project for the graphs that Sulcus exports, on its own kernels, on the processor.
    Native,
    /// An engine of the caller, by its name; see [`EngineFactory`](crate::EngineFactory).
    Custom(&'static str),
}

/// An unknown engine name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an engine: expected auto, native, ort or tract")]
pub struct UnknownEngine(String);

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "ort" => Ok(Self::Ort),
            "tract" => Ok(Self::Tract),
            "native" => Ok(Self::Native),
            other => Err(UnknownEngine(other.to_owned())),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Engine {
    /// `auto`, `native`, `ort`, `tract`, or the name of a custom engine.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ort => "ort",
            Self::Tract => "tract",
            Self::Native => "native",
            Self::Custom(name) => name,
        }
    }
}
