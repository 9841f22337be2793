//! WebSocket frames: in pieces, too large, binary, not UTF-8, unmasked, and no handshake at all.

use super::*;

fn open(t: &Target, path: &str) -> (TcpStream, String) {
    let mut socket = TcpStream::connect(t.server.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    let mut said = Vec::new();
    let mut byte = [0; 1];
    while !said.ends_with(b"\r\n\r\n") && socket.read(&mut byte).unwrap() == 1 {
        said.push(byte[0]);
    }
    (socket, String::from_utf8_lossy(&said).into_owned())
}

/// A masked frame; the mask is zero, so that the payload stands as it is.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        n @ 0..=125 => out.push(0x80 | u8::try_from(n).unwrap()),
        n @ 126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend_from_slice(&u16::try_from(n).unwrap().to_be_bytes());
        }
        n => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out
}

const TEXT: &str = "A first sentence of some length stands here. A second one of some length stands there.";

#[test]
fn input_in_pieces_or_bytes_is_answered_like_any_other() {
    let t = Target::start("");
    let (a, b) = TEXT.as_bytes().split_at(30);
    let pieces = [frame(0x01, a), frame(0x89, b"ping"), frame(0x00, b""), frame(0x80, b)].concat();
    let json = serde_json::json!({"input": TEXT}).to_string();
    for (case, bytes) in [
        ("text", frame(0x81, TEXT.as_bytes())),
        ("JSON", frame(0x81, json.as_bytes())),
        ("binary", frame(0x82, TEXT.as_bytes())),
        ("in pieces, a ping between", pieces),
    ] {
        let (mut socket, head) = open(&t, PIPELINE);
        assert!(head.starts_with("HTTP/1.1 101"), "{case}: {head}");
        socket.write_all(&bytes).unwrap();
        let said = read_all(&mut socket);
        assert!(said.contains(r#""type":"done""#) && said.contains("fine"), "{case}: {said}");
    }
    t.assert_unharmed("sockets");
}

#[test]
fn frames_that_are_wrong_end_their_socket_and_nothing_else() {
    let t = Target::start("server: {limits: {body: 1mb}, read_timeout: 500ms}\n");
    let unmasked = [&[0x81, 2][..], b"hi"].concat();
    let endless: Vec<u8> =
        (0..40).flat_map(|n| frame(if n == 0 { 0x01 } else { 0x00 }, &[b'x'; 50_000])).collect();
    for (case, bytes, told) in [
        ("invalid UTF-8", frame(0x81, b"\xff\xfe"), true),
        ("too large", frame(0x81, &vec![b'x'; 2_000_000]), true),
        ("a length of 2^62", [&[0x81, 0xFF][..], &(1_u64 << 62).to_be_bytes(), &[0; 4]].concat(), true),
        ("pieces that are too large together", endless, true),
        ("unmasked", unmasked, true),
        ("a continuation of nothing", frame(0x80, b"x"), true),
        ("an unknown kind of frame", frame(0x83, b"x"), true),
        ("reserved bits", frame(0xF1, b"x"), true),
        ("a ping that is too long", frame(0x89, &[b'x'; 200]), true),
        ("no HTTP at all", b"GET / HTTP/1.1\r\n\r\n".to_vec(), true),
        ("an empty input", frame(0x81, b""), true),
        ("JSON that is none", frame(0x81, b"{"), true),
        (
            "JSON that is too deep",
            frame(0x81, format!("{{\"input\":{}", "[".repeat(100_000)).as_bytes()),
            true,
        ),
        ("no PDF", frame(0x82, b"%PDF-1.7 no"), true),
        ("nothing, for too long", Vec::new(), true),
        ("goodbye", frame(0x88, b""), false),
    ] {
        let said = t.within_memory(48 << 20, case, || {
            let (mut socket, head) = open(&t, PIPELINE);
            assert!(head.starts_with("HTTP/1.1 101"), "{case}: {head}");
            let _ = socket.write_all(&bytes);
            read_all(&mut socket)
        });
        assert_eq!(said.contains(r#""type":"error""#), told, "{case}: {said}");
        assert!(!said.contains(r#""type":"accepted""#), "{case}: nothing began: {said}");
        t.assert_nothing_leaks(&said, case);
    }
    let (_, head) = open(&t, "/v1/pipelines/none");
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    t.assert_unharmed("wrong frames");
}

#[test]
fn noise_during_a_run_changes_nothing() {
    let t = Target::start("");
    let (mut socket, _) = open(&t, PIPELINE);
    let noise =
        [frame(0x81, TEXT.as_bytes()), frame(0x81, b"{}"), frame(0x82, b"\xff"), frame(0x8A, b"pong")]
            .concat();
    socket.write_all(&noise).unwrap();
    let said = read_all(&mut socket);
    assert!(said.contains(r#""type":"done""#), "{said}");
    t.assert_unharmed("noise");
}
