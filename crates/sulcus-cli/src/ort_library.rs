//! The places where ONNX Runtime is searched for, from options and environment.

use std::path::Path;

use sulcus_runtime::ort::{NamedLibrary, OrtLibrary, OrtSearch, python_prefixes};

use crate::environment::Environment;

/// `--ort-lib`, `$SULCUS_ORT_LIB`, `$ORT_DYLIB_PATH`, beside the executable, the data folder, Python, the system.
pub(crate) fn search(option: Option<&Path>, environment: &Environment) -> OrtLibrary {
    let named = [
        ("--ort-lib", option),
        ("$SULCUS_ORT_LIB", environment.sulcus_ort_lib.as_deref()),
        ("$ORT_DYLIB_PATH", environment.ort_dylib_path.as_deref()),
    ];
    let named = named.into_iter().filter_map(|(origin, path)| {
        path.map(|path| NamedLibrary { origin: origin.to_owned(), path: path.to_path_buf() })
    });
    let mut prefixes = environment.python_environments.clone();
    for prefix in python_prefixes(environment.path.iter().cloned()) {
        if !prefixes.contains(&prefix) {
            prefixes.push(prefix);
        }
    }
    OrtLibrary::Search(OrtSearch {
        named: named.collect(),
        data_folder: environment.runtime_dir(),
        python_prefixes: prefixes,
        ..OrtSearch::local()
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn option_takes_precedence_over_the_variables() {
        let environment = Environment {
            sulcus_ort_lib: Some(PathBuf::from("/ours")),
            ort_dylib_path: Some(PathBuf::from("/theirs")),
            data_dir: Some(PathBuf::from("/data/sulcus")),
            ..Environment::default()
        };
        let OrtLibrary::Search(search) = search(Some(Path::new("/option")), &environment) else {
            panic!("expected a search");
        };
        let order: Vec<&str> = search.named.iter().map(|named| named.origin.as_str()).collect();
        assert_eq!(order, ["--ort-lib", "$SULCUS_ORT_LIB", "$ORT_DYLIB_PATH"]);
        assert_eq!(search.data_folder, Some(PathBuf::from("/data/sulcus/onnxruntime")));
        assert!(search.system && search.executable_folder.is_some());
    }
}
