use serde::Deserialize;
use serde::de::IgnoredAny;

/// The format version of packs. Files with one network have an older version, so that older programs can read them.
pub const PACK_VERSION: u32 = 8;

/// Whether the JSON says that it is a pack of the version that this code reads.
pub(crate) fn is_pack(json: &str) -> bool {
    #[derive(Deserialize)]
    struct Kind {
        format_version: u32,
        recipe: IgnoredAny,
    }
    serde_json::from_str::<Kind>(json).is_ok_and(|kind| {
        let Kind { format_version, recipe: IgnoredAny } = kind;
        format_version == PACK_VERSION
    })
}
