#![no_main]

use std::sync::Once;

/// The JPEG and JPEG 2000 decoders are external crates, called in a wrapper that turns their panics into errors of the
/// file, so such a panic is not a finding. The panic hook of the fuzzer would abort before the wrapper catches it.
fn let_decoders_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let abort = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let file = info.location().map(|location| location.file()).unwrap_or_default();
            if !["jpeg-decoder-", "hayro-jpeg2000-"].iter().any(|decoder| file.contains(decoder)) {
                abort(info);
            }
        }));
    });
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let_decoders_panic();
    sulcus_fuzz::targets::dicom(data);
});
