use sulcus_model::Postprocess;
use sulcus_volume::Label;

use super::PlansError;
use super::json::{Json, parse};

/// The steps of a `postprocessing.json`, which `nnUNetv2_determine_postprocessing` and `nnUNetv2_find_best_configuration` write beside
/// the results of a cross-validation.
///
/// # Errors
/// If it is no such file, or names a function that nnU-Net does not have.
pub(crate) fn postprocessing(text: &str) -> Result<Vec<Postprocess>, PlansError> {
    const KEEP_LARGEST: &str = "remove_all_but_largest_component_from_segmentation";
    let value = parse(text)?;
    let json = Json::new(&value, "");
    let (functions, options) = (json.get("postprocessing_fns")?, json.get("postprocessing_kwargs")?);
    let (names, of_each) = (functions.list()?, options.list()?);
    if names.len() != of_each.len() {
        return Err(options.wrong("a list with an entry for each function"));
    }
    let step = |(name, options): (&Json<'_>, &Json<'_>)| {
        if name.text()? != KEEP_LARGEST {
            return Err(PlansError::unsupported(
                format!("the postprocessing `{}`", name.text()?),
                format!("only nnU-Net's own {KEEP_LARGEST} is known"),
            ));
        }
        if let Some(background) = options.optional("background_label")?
            && background.whole()? != 0
        {
            return Err(background.wrong("0"));
        }
        let mut labels = Vec::new();
        add_labels(&options.get("labels_or_regions")?, &mut labels)?;
        labels.sort_unstable();
        labels.dedup();
        Ok(Postprocess::KeepLargestComponents { labels })
    };
    names.iter().zip(&of_each).map(step).collect()
}

/// A label, a region (a list of labels), or a list of them, all of which form components together.
fn add_labels(json: &Json<'_>, labels: &mut Vec<Label>) -> Result<(), PlansError> {
    if json.value.is_array() {
        // Lists of lists of labels are the deepest.
        return json.list()?.iter().try_for_each(|item| match item.value.is_array() {
            true => item.list()?.iter().try_for_each(|label| add_label(label, labels)),
            false => add_label(item, labels),
        });
    }
    add_label(json, labels)
}

fn add_label(json: &Json<'_>, labels: &mut Vec<Label>) -> Result<(), PlansError> {
    let label = Label::try_from(json.whole()?).map_err(|_| json.wrong("the value of a label"))?;
    labels.push(label);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kwargs: &str) -> Result<Vec<Postprocess>, PlansError> {
        let name = "remove_all_but_largest_component_from_segmentation";
        let names = vec![format!("\"{name}\""); kwargs.matches("labels_or").count()].join(",");
        postprocessing(&format!(
            "{{\"input_folder\": {{}}, \"postprocessing_fns\": [{names}], \"postprocessing_kwargs\": [{kwargs}]}}"
        ))
    }

    #[test]
    fn steps_keep_the_largest_components_of_labels_and_regions() {
        let steps =
            read(r#"{"labels_or_regions": [1, 2]}, {"labels_or_regions": 2}, {"labels_or_regions": [[3, 1], 2]}"#);
        let expected = [vec![1, 2], vec![2], vec![1, 2, 3]];
        assert_eq!(steps.unwrap(), expected.map(|labels| Postprocess::KeepLargestComponents { labels }).to_vec());
        assert_eq!(read("").unwrap(), []);
    }

    #[test]
    fn other_steps_are_refused() {
        let message = |text: &str| postprocessing(text).unwrap_err().to_string();
        insta::assert_snapshot!(message("{}"), @"its entry `postprocessing_fns` must be a list, found null");
        insta::assert_snapshot!(message(r#"{"postprocessing_fns": ["erode"], "postprocessing_kwargs": [{}]}"#), @"the postprocessing `erode` is not supported: only nnU-Net's own remove_all_but_largest_component_from_segmentation is known");
        insta::assert_snapshot!(read(r#"{"labels_or_regions": -1}"#).unwrap_err(), @"its entry `postprocessing_kwargs[0].labels_or_regions` must be a whole number, found -1");
        insta::assert_snapshot!(read(r#"{"labels_or_regions": 1, "background_label": 3}"#).unwrap_err(), @"its entry `postprocessing_kwargs[0].background_label` must be 0, found 3");
    }
}
