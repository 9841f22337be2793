//! Price tables: any text.
#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = forebay::prices::read(text);
});
