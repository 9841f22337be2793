//! Heads: floods, wrong methods and paths, old versions, and shapes that smuggle requests past a proxy.

use super::*;

const SOON: Duration = Duration::from_secs(2);

#[test]
fn a_wrong_method_or_path_is_refused_in_the_surface_s_shape() {
    let t = Target::start("");
    for (method, path) in [
        ("GET", CHAT),
        ("PUT", CHAT),
        ("OPTIONS", CHAT),
        ("DELETE", MESSAGES),
        ("POST", "/v1/models"),
        ("PATCH", PIPELINE),
        ("POST", "/healthz"),
        ("TRACE", "/metrics"),
        ("POST", "/v1/requests/x"),
        ("BREW", CHAT),
    ] {
        let a = t.head(&format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
        let code = if path == MESSAGES { "invalid_request_error" } else { "invalid_request" };
        t.assert_refused(path, &a, 405, code, method);
        assert!(a.head.contains("\r\nallow: "), "{a:?}");
    }
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v2/chat/completions",
        "/v1/chat/completions/",
        "/v1/messages/none",
        "/v1//models",
        "/.env",
        "/forebay.yaml",
        "/v1/pipelines/none",
        "/v1/pipelines/../../etc/passwd",
        "/v1/pipelines/..%2f..%2fetc%2fpasswd",
        "/v1/pipelines/%ff%fe",
        "/v1/pipelines/%00",
        "/v1/pipelines/shout%2f",
        "/v1/requests/%ff",
        "/v1/requests/req_01900000000070008000000000000000",
    ] {
        let method = if path.starts_with("/v1/pipelines/") { "POST" } else { "GET" };
        let a = t.head(&format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx"
        ));
        let code = if path.starts_with(MESSAGES) { "not_found_error" } else { "not_found" };
        t.assert_refused(path, &a, 404, code, path);
    }
    let a = t.head("GET /v1/requests/..%2f..%2fx HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    t.assert_refused("/v1/requests/", &a, 400, "invalid_request", "no id");
    let a = t.head(&format!("GET {PIPELINE} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
    t.assert_refused(PIPELINE, &a, 400, "invalid_request", "GET without an upgrade");
    let a = t.head("HEAD /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert_eq!((a.status, a.body.as_str()), (200, ""), "HEAD is GET without the body");
    let a = t.head("GET /v1/models?a=%ff&a=1&&&=%00 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert_eq!(a.status, 200, "an odd query is nobody's business: {a:?}");
    let a = t.post(
        &format!("{PIPELINE}?stream=%ff&stream=maybe&x"),
        &[("content-type", "text/plain")],
        b"One sentence here.",
    );
    assert_eq!(a.status, 200, "{a:?}");
    t.assert_unharmed("wrong methods and paths");
}

#[test]
fn a_flood_of_headers_is_refused() {
    let t = Target::start("");
    let flood = |n: usize, size: usize| -> String {
        (0..n).map(|i| format!("x-{i}: {}\r\n", "v".repeat(size))).collect()
    };
    for (case, headers, statuses) in [
        ("many", flood(101, 1), &[431][..]),
        ("ten thousand", flood(10_000, 1), &[431, 0]),
        ("large", flood(1, 100_000), &[431, 0]),
        ("ten megabytes", flood(100, 100_000), &[431, 0]),
        ("a long name", format!("{}: v\r\n", "n".repeat(100_000)), &[431, 400, 0]),
    ] {
        let a = t.within_memory(8 << 20, case, || {
            t.head(&format!("GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n"))
        });
        // 0: the connection was reset under what was still being sent.
        assert!(statuses.contains(&a.status), "{case}: {a:?}");
    }
    let a = t.head(&format!("GET /{} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "a".repeat(100_000)));
    assert!([414, 431, 0].contains(&a.status), "a long target: {a:?}");
    t.assert_unharmed("a flood of headers");
}

#[test]
fn old_and_unusual_requests_are_answered_and_nonsense_is_refused() {
    let t = Target::start("");
    let body = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
    let n = body.len();
    let a = t.head(&format!("POST {CHAT} HTTP/1.0\r\ncontent-length: {n}\r\n\r\n{body}"));
    assert_eq!(a.status, 200, "HTTP/1.0 without a host: {a:?}");
    let a = t.head(&format!("POST http://elsewhere:1{CHAT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {n}\r\n\r\n{body}"));
    assert_eq!(a.status, 200, "an absolute target is served here, never fetched: {a:?}");
    for (case, request) in [
        ("no HTTP", "hello\r\n\r\n".to_owned()),
        ("another protocol", "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}".to_owned()),
        ("a version of the future", "GET / HTTP/9.9\r\nhost: x\r\n\r\n".to_owned()),
        ("a NUL in a header", "GET /healthz HTTP/1.1\r\nhost: x\r\nx: a\0b\r\n\r\n".to_owned()),
        ("a space before the colon", "GET /healthz HTTP/1.1\r\nhost : x\r\n\r\n".to_owned()),
        ("a folded header", "GET /healthz HTTP/1.1\r\nhost: x\r\nx: a\r\n b\r\n\r\n".to_owned()),
        ("CONNECT", "CONNECT 127.0.0.1:22 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned()),
        ("a negative length", format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n")),
        (
            "an enormous length",
            format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999999\r\n\r\n"),
        ),
        (
            "a bad chunk",
            format!(
                "POST {CHAT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n"
            ),
        ),
        (
            "an enormous chunk",
            format!(
                "POST {CHAT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\nx"
            ),
        ),
        ("h2 with nonsense behind", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense and more of it".to_owned()),
    ] {
        let said = t.raw(request.as_bytes(), SOON);
        let status = Answer::of(&said).status;
        assert!(status == 0 || (400..=405).contains(&status), "{case}: {said}");
        t.assert_nothing_leaks(&said, case);
    }
    t.assert_unharmed("nonsense");
}

/// What a proxy and a server could read as different numbers of requests: only ever one answer, or none.
#[test]
fn no_request_is_smuggled() {
    let t = Target::start("");
    let inner = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let post = |headers: &str, body: &str| {
        format!("POST /v1/pipelines/none HTTP/1.1\r\nhost: x\r\n{headers}\r\n{body}")
    };
    let length = inner.len();
    for (case, request) in [
        (
            "both framings",
            post(
                &format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", length + 5),
                &format!("0\r\n\r\n{inner}"),
            ),
        ),
        ("two lengths", post(&format!("content-length: 0\r\ncontent-length: {length}\r\n"), inner)),
        ("a list of lengths", post(&format!("content-length: 0, {length}\r\n"), inner)),
        ("a length with a sign", post("content-length: +0\r\n", inner)),
        ("an encoding in disguise", post("transfer-encoding: xchunked\r\n", &format!("0\r\n\r\n{inner}"))),
        ("chunked, then not", post("transfer-encoding: chunked, identity\r\n", &format!("0\r\n\r\n{inner}"))),
        ("a bare line feed", post(&format!("x: y\ncontent-length: {length}\r\n"), inner)),
    ] {
        let said = t.raw(request.as_bytes(), SOON);
        assert!(
            !said.contains("\r\n\r\nok") || case == "both framings",
            "{case}: the inner request was answered:\n{said}"
        );
        assert!(said.matches("HTTP/1.1 ").count() <= 1 || case == "both framings", "{case}:\n{said}");
        t.assert_nothing_leaks(&said, case);
    }
    t.assert_unharmed("smuggling");
}

#[test]
fn pipelined_requests_are_answered_in_order_and_continue_is_said_when_asked() {
    let t = Target::start("");
    let one = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n{more}\r\n");
    let all = one("/healthz", "") + &one("/nowhere", "") + &one("/healthz", "connection: close\r\n");
    let said = t.raw(all.as_bytes(), SOON);
    let statuses: Vec<&str> = said.split("HTTP/1.1 ").skip(1).map(|a| &a[..3]).collect();
    assert_eq!(statuses, ["200", "404", "200"], "{said}");

    let body = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
    let ask = |length: usize| {
        let mut socket = TcpStream::connect(t.server.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).unwrap();
        let mut first = vec![0; 4096];
        let n = socket.read(&mut first).unwrap();
        (socket, String::from_utf8_lossy(&first[..n]).into_owned())
    };
    let (mut socket, said) = ask(body.len());
    assert!(said.starts_with("HTTP/1.1 100 "), "{said}");
    socket.write_all(body.as_bytes()).unwrap();
    assert_eq!(Answer::of(&read_all(&mut socket)).status, 200);
    let (_socket, said) = ask(100_000_000);
    assert!(said.starts_with("HTTP/1.1 413 "), "refused instead of continued: {said}");
    t.assert_unharmed("pipelining");
}
