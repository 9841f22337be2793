//! The head of a model's file: any bytes, and the same answer however they are read.
#![no_main]
use std::io::Read;

use forebay::gguf;
use libfuzzer_sys::fuzz_target;

/// Gives at most so many bytes at a time.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = self.1.min(out.len());
        self.0.read(out.get_mut(..n).unwrap_or_default())
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = input;
    let whole = gguf::read(bytes);
    assert_eq!(whole, gguf::read(Slow(bytes, usize::from(step).max(1))));
    if let Ok(model) = &whole {
        let kept = [&model.architecture, &model.name, &model.quantization];
        assert!(kept.into_iter().flatten().all(|t| t.len() <= 3 * bytes.len().max(32)), "{model:?}");
    }
});
