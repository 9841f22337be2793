//! `traceparent`: any text; what is read is written and read back as the same.
#![no_main]
use contract::TraceContext;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Some(read) = TraceContext::parse(text) else { return };
    let written = read.to_string();
    assert_eq!(TraceContext::parse(&written), Some(read), "{written} from {text}");
    assert_eq!(text.get(3..53), written.get(3..53), "the ids are the caller's");
    let child = read.child([7; 8]);
    assert_eq!((child.trace, child.sampled), (read.trace, read.sampled));
});
