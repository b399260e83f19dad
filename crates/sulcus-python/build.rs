//! On macOS the linker must accept the undefined symbols of Python.

fn main() {
    pyo3_build_config::add_extension_module_link_args();
}
