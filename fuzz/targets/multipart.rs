//! Uploads as a form: any bytes under any boundary.
#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8])| {
    let (boundary, bytes) = input;
    for content_type in [format!("multipart/form-data; boundary={boundary}"), "multipart/form-data; boundary=X".into()] {
        let body = bytes::Bytes::copy_from_slice(bytes);
        let _ = futures_executor::block_on(gateway::form(&content_type, body));
    }
});
