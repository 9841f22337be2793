//! What is too large: refused early, and never in memory as a whole.

use super::*;

const HUNDRED_MB: usize = 100_000_000;

#[test]
fn a_body_that_says_it_is_too_large_is_refused_unread() {
    let t = Target::start("");
    for (path, code) in [
        (CHAT, "too_large"),
        (COMPLETIONS, "too_large"),
        (RESPONSES, "too_large"),
        (MESSAGES, "request_too_large"),
        (PIPELINE, "too_large"),
    ] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {HUNDRED_MB}\r\n\r\n"
        );
        // The refusal comes although nothing of the body was sent.
        let mut socket = TcpStream::connect(t.server.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.write_all(head.as_bytes()).unwrap();
        let mut first = vec![0; 16_384];
        let n = socket.read(&mut first).unwrap();
        let mut said = String::from_utf8_lossy(&first[..n]).into_owned();
        if !said.contains("\r\n\r\n{") {
            let n = socket.read(&mut first).unwrap();
            said += &String::from_utf8_lossy(&first[..n]);
        }
        t.assert_refused(path, &Answer::of(&said), 413, code, "nothing sent");
        drop(socket);
        // A client that sends it all before it reads gets to read the refusal.
        let a = t.within_memory(16 << 20, path, || {
            let body = vec![b'x'; HUNDRED_MB];
            let mut socket = t.server.open("POST", path, &[], &body);
            Answer::of(&read_all(&mut socket))
        });
        t.assert_refused(path, &a, 413, code, "100 MB with its length");
    }
    t.assert_unharmed("100 MB");
}

#[test]
fn a_body_of_unknown_length_is_cut_off_at_the_limit() {
    let t = Target::start("server: {limits: {body: 8mb}}\n");
    let chunk = [b"100000\r\n".to_vec(), vec![b'x'; 1 << 20], b"\r\n".to_vec()].concat();
    for (path, code) in [
        (CHAT, "too_large"),
        (COMPLETIONS, "too_large"),
        (RESPONSES, "too_large"),
        (MESSAGES, "request_too_large"),
        (PIPELINE, "too_large"),
    ] {
        let a = t.within_memory(48 << 20, path, || {
            let mut socket = TcpStream::connect(t.server.address).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
            );
            socket.write_all(head.as_bytes()).unwrap();
            for _ in 0..100 {
                if socket.write_all(&chunk).is_err() {
                    break;
                }
            }
            let _ = socket.write_all(b"0\r\n\r\n");
            Answer::of(&read_all(&mut socket))
        });
        t.assert_refused(path, &a, 413, code, "100 MB in chunks");
    }
    t.assert_unharmed("100 MB in chunks");
}

#[test]
fn a_caller_without_a_key_makes_the_server_keep_nothing() {
    let t = Target::start("auth: {required: true}\n");
    let body = vec![b'x'; 30_000_000];
    for (path, code) in [
        (CHAT, "invalid_key"),
        (COMPLETIONS, "invalid_key"),
        (RESPONSES, "invalid_key"),
        (MESSAGES, "authentication_error"),
        (PIPELINE, "invalid_key"),
    ] {
        let a = t.within_memory(8 << 20, path, || t.post(path, &[], &body));
        t.assert_refused(path, &a, 401, code, "30 MB without a key");
    }
    assert_eq!(t.server.ask("GET", "/healthz", &[], "").0, 200);
}

#[test]
fn a_body_that_is_small_on_the_wire_is_not_large_in_memory() {
    let t = Target::start("");
    let many = |item: &str| {
        format!(r#"{{"model":"m","max_tokens":5,"messages":[{}1]}}"#, item.repeat(30_000_000 / item.len()))
    };
    for item in ["[],", "{},", "1,", "{\"a\":{}},"] {
        let body = many(item);
        for (path, code) in [(CHAT, "too_large"), (MESSAGES, "request_too_large")] {
            let a = t.within_memory(96 << 20, item, || t.post(path, &[], body.as_bytes()));
            t.assert_refused(path, &a, 413, code, item);
        }
        let native = body.replacen("messages", "input", 1);
        let a = t.within_memory(96 << 20, item, || {
            t.post(PIPELINE, &[("content-type", "application/json")], native.as_bytes())
        });
        t.assert_refused(PIPELINE, &a, 413, "too_large", item);
    }
    // Long text is another matter, whatever its punctuation.
    let text = "a, b: [c] {d}\\\" ".repeat(500_000);
    let body = format!(r#"{{"model":"m","max_tokens":5,"messages":[{{"role":"user","content":"{text}"}}]}}"#);
    assert_eq!(t.post(CHAT, &[], body.as_bytes()).status, 200);
    t.assert_unharmed("millions of values");
}
