//! Convolutions of a U-Net's levels.
fn main() {
    divan::main();
}
