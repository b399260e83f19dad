use serde::{Deserialize, Serialize};

/// The loss that training minimises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// 1 − soft Dice (Milletari et al. 2016).
    Dice,
    /// Cross-entropy + 1 − soft Dice (Isensee et al. 2021).
    DiceCe,
}

/// The cases over which soft Dice sums before it divides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiceScope {
    /// All patches of the batch together: a class that is small in one patch has little weight there. nnU-Net's choice
    /// for 2-D networks.
    Batch,
    /// Each patch alone, then the mean.
    Case,
}
