//! Callers that take their time, to hold what the server has few of.

use super::*;

/// How long the server waits in these tests.
const READ: Duration = Duration::from_millis(500);
const CONFIG: &str = "server: {read_timeout: 500ms}\n";

/// Sends `start`, then `piece` again and again, until the server ends it. Returns what it said and how long it took.
fn trickle(t: &Target, start: &str, piece: &str) -> (String, Duration) {
    let begin = now();
    let mut socket = TcpStream::connect(t.server.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    socket.write_all(start.as_bytes()).unwrap();
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    while begin.elapsed() < Duration::from_secs(20) {
        match socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => said.extend_from_slice(&buffer[..n]),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                if said.is_empty() && socket.write_all(piece.as_bytes()).is_err() {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    (String::from_utf8_lossy(&said).into_owned(), begin.elapsed())
}

#[test]
fn a_caller_that_trickles_is_given_up() {
    let t = Target::start(CONFIG);
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\n");
    for (case, start, piece) in [
        ("nothing at all", "", ""),
        ("half of what HTTP/2 opens with", "PRI * HTTP/2", ""),
        ("one byte", "P", ""),
        ("half a head", head.as_str(), ""),
        ("a head that never ends", head.as_str(), "x: y\r\n"),
        ("a request line that never ends", "GET /", "a"),
    ] {
        let (said, took) = trickle(&t, start, piece);
        assert!(took >= READ && took < READ * 30, "{case}: given up after {took:?}: {said}");
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{case}: {said}");
    }
    for (path, code) in [
        (CHAT, "deadline_exceeded"),
        (COMPLETIONS, "deadline_exceeded"),
        (RESPONSES, "deadline_exceeded"),
        (MESSAGES, "timeout_error"),
        (PIPELINE, "deadline_exceeded"),
    ] {
        for (case, length, piece) in
            [("content-length: 1000\r\n", "{", ""), ("content-length: 1000\r\n", "{", " ")]
        {
            let start = format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{case}\r\n{length}");
            let (said, took) = trickle(&t, &start, piece);
            assert!(took >= READ, "{path} {case}: {took:?}");
            t.assert_refused(path, &Answer::of(&said), 408, code, case);
        }
    }
    // A keep-alive connection that falls silent is closed without a word.
    let (said, _) = trickle(&t, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", "");
    assert_eq!(said.matches("HTTP/1.1").count(), 1, "{said}");
    t.assert_unharmed("slow callers");
}

#[test]
fn a_body_that_is_slow_but_steady_is_taken_and_its_time_counts() {
    let read = Duration::from_secs(3);
    let t = Target::start("server: {read_timeout: 3s}\n");
    let text = "x".repeat(8_192);
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let mut socket = TcpStream::connect(t.server.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).unwrap();
    for piece in body.as_bytes().chunks(1_024) {
        socket.write_all(piece).unwrap();
        // The pace is what is tested: longer together than the server waits for a silent caller.
        std::thread::park_timeout(read / 6);
    }
    let answer = Answer::of(&read_all(&mut socket));
    assert_eq!(answer.status, 200);
    let id = answer.head.lines().find_map(|l| l.strip_prefix("x-request-id: ")).unwrap();
    let (_, _, record) = t.server.ask("GET", &format!("/v1/requests/{id}"), &[], "");
    let record: Json = serde_json::from_str(&record).unwrap();
    let total = record["total_us"].as_u64().map(Duration::from_micros);
    assert!(total >= Some(read), "the upload took longer than {read:?}: {record}");
    t.assert_unharmed("a steady caller");
}

#[test]
fn bodies_that_stand_still_take_no_more_room_than_there_is_and_small_ones_come_through() {
    let t = Target::start("server: {read_timeout: 60s, limits: {body: 200kb, bodies: 200kb}}\n");
    let head =
        format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 190000\r\n\r\n");
    let held = vec![b' '; 150_000];
    let mut sockets: Vec<TcpStream> = Vec::new();
    for _ in 0..2 {
        let mut socket = TcpStream::connect(t.server.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(&held).unwrap();
        sockets.push(socket);
    }
    t.assert_unharmed("a full room");
    // One of the two at least does not fit beside the other, and is told so; whoever is there then may finish.
    let (first, second) = (sockets.remove(0), sockets.remove(0));
    let (said, received) = std::sync::mpsc::sync_channel(64);
    for mut socket in [first, second] {
        let said = said.clone();
        std::thread::spawn(move || {
            let _ = said.send(Answer::of(&read_all(&mut socket)));
        });
    }
    let refused = received.recv_timeout(Duration::from_secs(20)).unwrap();
    t.assert_refused(CHAT, &refused, 429, "overloaded", "no room");
    assert!(refused.head.contains("retry-after: 2"), "{refused:?}");
}

#[test]
fn a_document_is_not_taken_apart_for_longer_than_its_run_may_take() {
    let config = "server: {listen: '127.0.0.1:0'}\npipelines:\n  first:\n    input: document\n    output: text\n    \
        budget: {total: 1ms}\n    stages:\n      - draft: {extractive: {sentences: 1}}\n";
    let server = Server::with(config);
    let page = format!("<html><body>{}</body></html>", "<p>A sentence of some words.</p>".repeat(100_000));
    let html = [("content-type", "text/html")];
    let (status, _, body) = server.ask("POST", "/v1/pipelines/first", &html, &page);
    assert_eq!((status, body.contains("deadline_exceeded")), (504, true), "{body}");
    assert!(body.contains("taken apart"), "{body}");
}

#[test]
fn many_silent_connections_do_not_keep_others_out() {
    let t = Target::start(CONFIG);
    let idle: Vec<TcpStream> = (0..500).map(|_| TcpStream::connect(t.server.address).unwrap()).collect();
    t.assert_unharmed("500 connections that say nothing");
    drop(idle);
}
