use serde::{Deserialize, Serialize};
use sulcus_volume::{Label, LabelTable};

/// A step that changes a mask after the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Postprocess {
    /// Keeps the largest connected component (26 neighbours) of all voxels that have one of these labels. The other
    /// components become background.
    KeepLargestComponent {
        /// The labels, which form components together.
        labels: Vec<Label>,
    },
    /// As `KeepLargestComponent`, but where several components are the largest, all of them are kept, as nnU-Net does.
    KeepLargestComponents {
        /// The labels, which form components together.
        labels: Vec<Label>,
    },
}

impl Postprocess {
    /// The labels whose components it keeps or removes.
    pub fn labels(&self) -> &[Label] {
        match self {
            Self::KeepLargestComponent { labels } | Self::KeepLargestComponents { labels } => labels,
        }
    }

    /// Checks that the step names labels and that the table contains them.
    ///
    /// # Errors
    /// A sentence that describes the problem.
    pub(crate) fn check(&self, table: &LabelTable) -> Result<(), String> {
        let labels = self.labels();
        if labels.is_empty() {
            return Err("a postprocessing step names no label".into());
        }
        match labels.iter().find(|label| table.get(**label).is_none()) {
            Some(unknown) => Err(format!("a postprocessing step names label {unknown}, which the table lacks")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_names_labels_of_the_table() {
        let table = LabelTable::from_names([(1, "one".to_owned())]).unwrap();
        let check = |labels: Vec<Label>| Postprocess::KeepLargestComponent { labels }.check(&table);
        assert!(check(vec![1]).is_ok());
        assert!(check(vec![1, 3]).unwrap_err().contains("label 3"));
        assert!(check(Vec::new()).unwrap_err().contains("no label"));
    }
}
