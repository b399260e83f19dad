//! Which models are folds of one configuration.

use sulcus_model::{ModelSpec, NnunetOrigin};

use crate::PipelineError;

/// Checks that every model comes from nnU-Net.
pub(in crate::inference) fn check(specs: &[&ModelSpec]) -> Result<(), PipelineError> {
    match specs.iter().find(|spec| spec.nnunet.is_none()) {
        Some(other) => Err(PipelineError::NotFromNnunet { model: other.name.clone() }),
        None => Ok(()),
    }
}

/// The models of each configuration, in the order in which they were given.
pub(super) fn configurations(specs: &[&ModelSpec]) -> Vec<Vec<usize>> {
    let origin = |model: usize| specs.get(model).and_then(|spec| spec.nnunet.as_ref());
    let same = |a: Option<&NnunetOrigin>, b: Option<&NnunetOrigin>| {
        a.zip(b).is_some_and(|(a, b)| a.has_configuration_of(b))
    };
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for model in 0..specs.len() {
        match groups
            .iter_mut()
            .find(|group| group.first().is_some_and(|first| same(origin(*first), origin(model))))
        {
            Some(group) => group.push(model),
            None => groups.push(vec![model]),
        }
    }
    groups
}
