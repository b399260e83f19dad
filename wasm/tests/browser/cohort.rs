//! The review of a cohort: its cases one after the other, verdicts, notes, and the CSV file of them.

use sulcus_io::{Compression, encode_labels};
use sulcus_volume::LabelMap;

use super::features::{check_drawn, data, scene_of, used};
use super::{Case, borrowed};

/// A list of three cases: `b`, the worst, with a mask that differs much from the truth, `a` with one that differs little, and `c`
/// without a score.
fn list(scoring: bool, dice: [&str; 2]) -> Vec<u8> {
    let file = |name: &str| format!(r#"[{{"address":"data/{name}","name":"{name}"}}]"#);
    let case = |name: &str, dice: &str, mask: &str| {
        let [image, mask, truth] = ["image.nii.gz", mask, "truth.nii.gz"].map(file);
        format!(
            r#"{{"name":"{name}","image":{image},"mask":{mask},"truth":{truth},"map":[],"dice":{dice},"confidence":null,"problem":null}}"#
        )
    };
    let cases =
        [case("a", dice[0], "mask.nii.gz"), case("b", dice[1], "far.nii.gz"), case("c", "null", "mask.nii.gz")];
    format!(r#"{{"format":"sulcus.cases","format_version":1,"scoring":{scoring},"cases":[{}]}}"#, cases.join(","))
        .into_bytes()
}

fn files(list: Vec<u8>) -> Vec<(&'static str, Vec<u8>)> {
    let case = Case::load();
    let mut far = case.truth.data().to_vec();
    far.rotate_right(5);
    let far = LabelMap::new(*case.truth.geometry(), far).unwrap();
    let far = encode_labels(&far, &case.like, &case.names, Compression::Gzip).unwrap();
    case.files().into_iter().chain([("far.nii.gz", far), ("cases.json", list)]).collect()
}

const QUERY: &str = "cases=data/cases.json";
const HELP: &str = "
    const names = () => [...document.querySelectorAll('#cohort-list tbody button')].map((b) => b.textContent).join(' ');
    const verdicts = () => [...document.querySelectorAll('#cohort-list tbody tr')].map((row) => row.lastChild.getAttribute('aria-label')).join(' | ');
    const opened = async (name) => { await until(() => document.body.dataset.openCase === name && $('#busy').hidden); await rest(); };
    await until(() => document.body.dataset.openCase);
    const fetched = (name) => performance.getEntriesByType('resource').filter((entry) => entry.name.endsWith('/data/' + name)).length;
";

#[test]
fn worst_case_is_shown_first_and_the_next_is_ready() {
    let files = files(list(false, ["0.9", "0.5"]));
    let script = format!(
        "{HELP}
         note('names', names());
         note('open', document.body.dataset.openCase);
         note('head', [...document.querySelectorAll('#cohort-list th')].map((th) => th.textContent).join(' '));
         await until(() => fetched('mask.nii.gz') === 1);
         note('ready', String(fetched('far.nii.gz')));
         await key('j');
         await opened('a');
         // The case after this one has the same files, which are fetched again for it.
         note('mask', $('#labels tbody tr').cells[3].textContent);
         await key('k');
         await opened('b');
         await set('cohort-order', 1);
         note('byname', names());"
    );
    let page = used("cohort", QUERY, &borrowed(&files), &script);
    assert_eq!(page.text("error"), "");
    assert_eq!((data(&page, "names"), data(&page, "open")), ("b a c".into(), "b".into()));
    assert_eq!(data(&page, "head"), "Case Dice Verdict");
    assert_eq!((data(&page, "ready"), data(&page, "byname")), ("1".into(), "a b c".into()));
    let shown = [files[0].clone(), files[3].clone(), files[2].clone()];
    check_drawn(&page, &scene_of(&shown));
}

#[test]
fn verdicts_and_notes_are_given_by_keys_and_saved_as_csv() {
    let files = files(list(false, ["0.9", "0.5"]));
    let script = format!(
        "{HELP}
         await key('r');
         await opened('a');
         await key('e');
         note('focus', document.activeElement.id);
         await set('cohort-note', 'tail is cut, \"again\"\\nsee T2');
         await key('y', {{}}, $('#cohort-note'));
         await key('Enter', {{}}, $('#cohort-note'));
         note('typed', verdicts() + ' ' + document.activeElement.tagName);
         await key('y');
         await opened('c');
         await key('y');
         await key('y');
         note('live', $('#live').textContent);
         note('progress', $('#cohort-progress').textContent);
         $('#cohort-save').click();
         note('csv', await saved[0].text());
         await key('j');
         note('last', $('#live').textContent);
         await key('k');
         await opened('a');
         note('again', $('#cohort-note').value + $('#cohort-accept').getAttribute('aria-pressed'));"
    );
    let page = used("cohort-verdicts", QUERY, &borrowed(&files), &script);
    assert_eq!(page.text("error"), "");
    assert_eq!(data(&page, "focus"), "cohort-note");
    assert_eq!(data(&page, "typed"), "rejected | with a note | open CANVAS", "keys in the note are text");
    assert_eq!(data(&page, "live"), "Case 3 of 3: c; dice –; open");
    assert_eq!(data(&page, "progress"), "2 of 3 reviewed");
    let csv = data(&page, "csv").replace("&quot;", "\"").replace('\r', "");
    assert_eq!(
        csv,
        "case,verdict,note,dice,confidence\nb,rejected,,0.5,\na,accepted,\"tail is cut, \"\"again\"\"\nsee T2\",0.9,\nc,,,,\n"
    );
    assert!(data(&page, "last").starts_with("This is the last case"));
    assert_eq!(data(&page, "again").replace("&quot;", "\""), "tail is cut, \"again\"\nsee T2true");
}

#[test]
fn saved_review_is_restored_and_other_files_are_refused() {
    let files = files(list(false, ["0.9", "0.5"]));
    let script = format!(
        "{HELP}
         const drop = (text, name = 'review.csv') => {{
           const data = new DataTransfer();
           data.items.add(new File([text], name));
           $('#views').dispatchEvent(new DragEvent('drop', {{ dataTransfer: data, bubbles: true, cancelable: true }}));
         }};
         const refused = async () => {{ await until(() => $('#error').textContent && $('#busy').hidden); const text = $('#error').textContent; $('#error').textContent = ''; return text; }};
         drop('\\ufeffcase,verdict,note,dice\\r\\na,accepted,\"x, \"\"y\"\"\",1\\r\\nb,rejected,,\\r\\n');
         await until(() => verdicts().includes('accepted'));
         note('restored', verdicts());
         await key('j');
         await opened('a');
         note('note', $('#cohort-note').value);
         drop('case,verdict,note\\nz,accepted,\\na,,\\n');
         note('unknown', await refused());
         note('partly', verdicts());
         drop('case,verdict,note\\na,toString,\\n');
         note('wrong', await refused());
         drop('case,verdict,note\\na,accepted,\"no end\\n');
         note('damaged', await refused());
         drop('case,verdict\\na,accepted\\n');
         note('columns', await refused());
         note('kept', verdicts());"
    );
    let page = used("cohort-restored", QUERY, &borrowed(&files), &script);
    assert_eq!(data(&page, "restored"), "rejected | accepted, with a note | open");
    assert_eq!(data(&page, "note").replace("&quot;", "\""), "x, \"y\"");
    assert!(data(&page, "unknown").contains("cases that are not here: z"), "{}", data(&page, "unknown"));
    assert_eq!(
        (data(&page, "partly"), data(&page, "kept")),
        ("rejected | open | open".into(), "rejected | open | open".into())
    );
    for (name, reason) in [
        ("wrong", "the verdict of a is toString"),
        ("damaged", "quotation mark"),
        ("columns", "this is no review"),
    ] {
        assert!(data(&page, name).contains(reason), "{}", data(&page, name));
    }
}

#[test]
fn scores_that_come_later_change_the_order_and_not_the_open_case() {
    let files = files(list(true, ["null", "null"]));
    let later = String::from_utf8(list(false, ["0.9", "0.5"])).unwrap();
    let script = format!(
        "{HELP}
         note('before', names() + ' ' + $('#cohort-progress').textContent + ' ' + $('#cohort-order').hidden);
         const fetchBefore = window.fetch;
         window.fetch = async (...all) => (String(all[0]).endsWith('cases.json') ? new Response('{later}') : fetchBefore(...all));
         await until(() => names() === 'b a c');
         note('open', document.body.dataset.openCase + ' ' + $('#cohort-progress').textContent);
         note('current', $('[aria-current]').textContent);"
    );
    let page = used("cohort-scoring", QUERY, &borrowed(&files), &script);
    assert_eq!(page.text("error"), "");
    assert_eq!(data(&page, "before"), "a b c 0 of 3 reviewed; the cases are being scored true");
    assert_eq!((data(&page, "open"), data(&page, "current")), ("a 0 of 3 reviewed".into(), "a".into()));
}

#[test]
fn missing_files_and_unsaved_corrections_are_told() {
    let mut files = files(list(false, ["0.9", "0.5"]));
    files.retain(|(name, _)| *name != "far.nii.gz");
    let script = format!(
        "{HELP}
         note('missing', $('#error').textContent);
         note('image', String(!$('.zone[data-role=\"0\"] .close').hidden));
         await key('j');
         await opened('a');
         note('gone', $('#error').textContent);
         await openTools();
         tool('brush').click();
         await pointer('down', 0.5, 0.5);
         await pointer('up', 0.5, 0.5);
         await key('j');
         note('unsaved', $('#error').textContent + document.body.dataset.openCase);
         await key('j');
         await opened('c');"
    );
    let page = used("cohort-missing", QUERY, &borrowed(&files), &script);
    assert_eq!(page.text("error"), "");
    assert!(data(&page, "missing").starts_with("far.nii.gz: could not be loaded"), "{}", data(&page, "missing"));
    assert_eq!((data(&page, "image"), data(&page, "gone")), ("true".into(), String::new()));
    let unsaved = data(&page, "unsaved");
    assert!(
        unsaved.starts_with("The mask has corrections that are not saved") && unsaved.ends_with('a'),
        "{unsaved}"
    );
}
