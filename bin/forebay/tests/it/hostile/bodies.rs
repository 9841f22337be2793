//! Bodies: broken, of the wrong types, too deep, too many, and documents that are not what they say.

use super::*;

/// One message, so that only what a case adds is wrong.
fn with(more: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}]{more}}}"#)
}

#[test]
fn a_chat_body_that_is_wrong_is_refused_in_the_surface_s_shape() {
    let t = Target::start("");
    let deep = |open: &str, close: &str| {
        format!(r#"{{"model":"m","messages":{}{}}}"#, open.repeat(100_000), close.repeat(100_000))
    };
    let both: Vec<(String, u16)> = [
        "",
        " ",
        "{",
        "[]",
        "null",
        "1",
        "\"x\"",
        "{\"model\"",
        "{\"model\":\"m\"}",
        "\u{0}",
        "{\u{0}}",
        "{'model':'m'}",
        "{\"model\":\"m\",\"messages\":[]}",
        "{\"model\":\"m\",\"messages\":{}}",
        "{\"model\":\"m\",\"messages\":[1]}",
        "{\"model\":\"m\",\"messages\":[[]]}",
        "{\"model\":\"m\",\"messages\":[{}]}",
        "{\"model\":1,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}",
        "{\"model\":\"\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"root\",\"content\":\"x\"}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":7,\"content\":\"x\"}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":7}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[7]}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"\\ud800\"}]}",
    ]
    .into_iter()
    .map(|b| (b.to_owned(), 400))
    .chain(
        [
            "0",
            "-1",
            "1.5",
            "\"a\"",
            "1e400",
            "-0.0",
            "[]",
            "{}",
            "true",
            "18446744073709551615",
            "18446744073709551616",
            "1000000001",
            "1e30",
        ]
        .map(|n| (with(&format!(r#","max_tokens":{n}"#)), 400)),
    )
    .chain(
        ["\"hot\"", "-1", "99", "1e400", "[0]", "NaN"]
            .map(|n| (with(&format!(r#","max_tokens":5,"temperature":{n}"#)), 400)),
    )
    .chain([deep("[", "]"), deep("{\"a\":", "}"), "[".repeat(100_000)].map(|b| (b, 400)))
    .collect();
    for (body, status) in &both {
        let a = t.post(CHAT, &[], body.as_bytes());
        t.assert_refused(CHAT, &a, *status, "invalid_request", body);
        let a = t.post(MESSAGES, &[], body.as_bytes());
        t.assert_refused(MESSAGES, &a, *status, "invalid_request_error", body);
    }
    let bytes = b"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"\xff\xfe\"}]}";
    t.assert_refused(CHAT, &t.post(CHAT, &[], bytes), 400, "invalid_request", "invalid UTF-8");
    t.assert_refused(MESSAGES, &t.post(MESSAGES, &[], bytes), 400, "invalid_request_error", "invalid UTF-8");
    t.assert_refused(
        MESSAGES,
        &t.post(MESSAGES, &[], with("").as_bytes()),
        400,
        "invalid_request_error",
        "no max_tokens",
    );
    for more in [
        r#","stream":"yes""#,
        r#","n":2"#,
        r#","stop":[1]"#,
        r#","seed":"a""#,
        r#","tools":{}"#,
        r#","user":7"#,
        r#","stream_options":1"#,
        r#","response_format":"json""#,
        r#","max_completion_tokens":0"#,
    ] {
        t.assert_refused(CHAT, &t.post(CHAT, &[], with(more).as_bytes()), 400, "invalid_request", more);
    }
    for more in
        [r#","system":7"#, r#","tools":{}"#, r#","tool_choice":{"type":"x"}"#, r#","stop_sequences":{}"#]
    {
        let body = with(&format!(r#","max_tokens":5{more}"#));
        t.assert_refused(
            MESSAGES,
            &t.post(MESSAGES, &[], body.as_bytes()),
            400,
            "invalid_request_error",
            more,
        );
    }
    t.assert_unharmed("wrong bodies");
}

#[test]
fn a_prompt_or_items_that_are_wrong_are_refused_in_their_surface_s_shape() {
    let t = Target::start("");
    let deep = |name: &str, open: &str, close: &str| {
        format!(r#"{{"model":"m","{name}":{}{}}}"#, open.repeat(100_000), close.repeat(100_000))
    };
    for (path, name) in [(COMPLETIONS, "prompt"), (RESPONSES, "input")] {
        let mut cases: Vec<String> =
            ["", "{", "[]", "null", "{\"model\":\"m\"}", "{\u{0}}"].map(str::to_owned).to_vec();
        for value in ["null", "7", "{}", "[]", "[7]", "[[]]", "[null]", "[{}]", "\"\\ud800\"", "[[1,2],[3]]"]
        {
            cases.push(format!(r#"{{"model":"m","{name}":{value}}}"#));
        }
        for more in [
            r#""stream":"yes""#,
            r#""temperature":99"#,
            r#""user":7"#,
            r#""messages":[{"role":"user","content":"x"}]"#,
            r#""tools":{}"#,
            r#""n":2"#,
            r#""logprobs":5"#,
        ] {
            cases.push(format!(r#"{{"model":"m","{name}":"x",{more}}}"#));
        }
        cases.push(deep(name, "[", "]"));
        cases.push(deep(name, "{\"a\":", "}"));
        for body in &cases {
            let a = t.post(path, &[], body.as_bytes());
            t.assert_refused(path, &a, 400, "invalid_request", body);
        }
        let bytes = [format!(r#"{{"model":"m","{name}":""#).as_bytes(), b"\xff\xfe\"}"].concat();
        t.assert_refused(path, &t.post(path, &[], &bytes), 400, "invalid_request", "invalid UTF-8");
        let unknown = format!(r#"{{"model":"nobody","{name}":"x"}}"#);
        t.assert_refused(path, &t.post(path, &[], unknown.as_bytes()), 404, "not_found", "nobody");
        let long = format!(r#"{{"model":"m","{name}":"x","user":"{}"}}"#, "u".repeat(20_000_000));
        t.assert_refused(
            path,
            &t.post(path, &[], long.as_bytes()),
            400,
            "invalid_request",
            "a user of 20 MB",
        );
    }
    for more in [
        r#""previous_response_id":"resp_1""#,
        r#""store":true"#,
        r#""background":true,"stream":true"#,
        r#""background":true,"store":false"#,
        r#""tools":[{"type":"web_search"}]"#,
        r#""text":{"format":7}"#,
        r#""max_output_tokens":0"#,
        r#""metadata":{"a":[]}"#,
    ] {
        let body = format!(r#"{{"model":"m","input":"x",{more}}}"#);
        let a = t.post(RESPONSES, &[], body.as_bytes());
        t.assert_refused(RESPONSES, &a, 400, "invalid_request", &body);
    }
    // Ten thousand items, each of another kind than the one before it, are a conversation.
    let items: Vec<Json> = (0..10_000)
        .map(|n| match n % 3 {
            0 => json!({"role": "user", "content": "x"}),
            1 => json!({"type": "function_call", "call_id": n.to_string(), "name": "f", "arguments": "{}"}),
            _ => json!({"type": "function_call_output", "call_id": (n - 1).to_string(), "output": "x"}),
        })
        .collect();
    let body = json!({"model": "m", "input": items}).to_string();
    assert_eq!(t.post(RESPONSES, &[], body.as_bytes()).status, 200);
    t.assert_unharmed("wrong prompts and items");
}

#[test]
fn an_unknown_model_and_a_name_from_elsewhere_are_not_found() {
    let t = Target::start("");
    for model in ["nobody", "../m", "m\\u0000", "\\u202em", "%2e%2e", "' or 1=1 --", "M"] {
        let body =
            format!(r#"{{"model":"{model}","max_tokens":5,"messages":[{{"role":"user","content":"x"}}]}}"#);
        t.assert_refused(CHAT, &t.post(CHAT, &[], body.as_bytes()), 404, "not_found", model);
        t.assert_refused(MESSAGES, &t.post(MESSAGES, &[], body.as_bytes()), 404, "not_found_error", model);
        let count = t.post("/v1/messages/count_tokens", &[], body.as_bytes());
        t.assert_refused(MESSAGES, &count, 404, "not_found_error", model);
    }
    let long =
        format!(r#"{{"model":"{}","messages":[{{"role":"user","content":"x"}}]}}"#, "m".repeat(5_000_000));
    let a = t.post(CHAT, &[], long.as_bytes());
    t.assert_refused(CHAT, &a, 404, "not_found", "a name of 5 MB");
    assert!(a.body.len() < 1_000, "the name is not echoed");
    t.assert_unharmed("unknown models");
}

#[test]
fn unusual_but_right_bodies_are_answered() {
    let t = Target::start("");
    let many: Vec<Json> =
        (0..10_000).map(|n| json!({"role": (["user", "assistant"][n % 2]), "content": "x"})).collect();
    let many = json!({"model": "m", "max_tokens": 5, "messages": many}).to_string();
    let twice = with(r#","max_tokens":"a","max_tokens":5"#);
    for (case, body) in [
        ("ten thousand messages", many),
        ("a duplicate key: the last counts", twice),
        ("a NUL in the text", with(r#","max_tokens":5,"x":"\u0000""#)),
        ("an enormous limit: what the model can", with(r#","max_tokens":1000000000"#)),
        ("an unknown field", with(r#","max_tokens":5,"whatever":{"a":[1e300,-0.0]}"#)),
    ] {
        for path in [CHAT, MESSAGES] {
            let a = t.post(path, &[], body.as_bytes());
            assert_eq!(a.status, 200, "{path} {case}: {a:?}");
        }
    }
    // The content type is not asked for: SDKs and curl differ in it.
    let a = t.post(CHAT, &[("content-type", "text/plain")], with("").as_bytes());
    assert_eq!(a.status, 200, "{a:?}");
    t.assert_unharmed("unusual bodies");
}

#[test]
fn a_name_of_an_end_user_that_is_no_name_is_refused() {
    let t = Target::start("");
    let long = "u".repeat(20_000_000);
    let a = t.post(CHAT, &[], with(&format!(r#","user":"{long}""#)).as_bytes());
    t.assert_refused(CHAT, &a, 400, "invalid_request", "a user of 20 MB");
    let a = t.post(
        MESSAGES,
        &[],
        with(&format!(r#","max_tokens":5,"metadata":{{"user_id":"{long}"}}"#)).as_bytes(),
    );
    t.assert_refused(MESSAGES, &a, 400, "invalid_request_error", "a user of 20 MB");
    let native = format!(r#"{{"input":"One sentence of some length.","user":"{long}"}}"#);
    let a = t.post(PIPELINE, &[("content-type", "application/json")], native.as_bytes());
    t.assert_refused(PIPELINE, &a, 400, "invalid_request", "a user of 20 MB");
    t.assert_unharmed("a user of 20 MB");
}

#[test]
fn a_prompt_over_every_window_is_a_clear_error_on_every_surface() {
    let t = Target::start("");
    let config = t.server.folder.path().join("forebay.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    let (runtime, handle, upstream) = (t._runtime, t._handle, t.upstream);
    let folder = t.server.kill();
    std::fs::write(&config, text.replace("api_key: sk-test", "api_key: sk-test, context_window: 200"))
        .unwrap();
    let t = Target { server: Server::in_folder(folder), upstream, _handle: handle, _runtime: runtime };
    let long = "A sentence of some words, again and again. ".repeat(500);
    let body =
        json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": long}]}).to_string();
    t.assert_refused(CHAT, &t.post(CHAT, &[], body.as_bytes()), 400, "context_length_exceeded", "long");
    t.assert_refused(MESSAGES, &t.post(MESSAGES, &[], body.as_bytes()), 400, "invalid_request_error", "long");
    for (path, body) in [
        (COMPLETIONS, json!({"model": "m", "prompt": long})),
        (RESPONSES, json!({"model": "m", "input": long})),
    ] {
        let a = t.post(path, &[], body.to_string().as_bytes());
        t.assert_refused(path, &a, 400, "context_length_exceeded", "long");
    }
    let a = t.post(PIPELINE, &[("content-type", "text/plain")], long.as_bytes());
    let body: Json = serde_json::from_str(&a.body).unwrap();
    assert_eq!(
        (a.status, &body["complete"], &body["error"]["code"]),
        (200, &json!(false), &json!("context_length_exceeded")),
        "the draft is kept: {body}"
    );
    t.assert_nothing_leaks(&body["error"].to_string(), "long");
    t.assert_unharmed("a prompt over every window");
}

#[test]
fn a_document_that_is_not_what_it_says_is_refused() {
    let t = Target::start("");
    let bomb = include_bytes!("../../hostile/bomb.pdf");
    let form = |part: &str| format!("--X\r\nContent-Disposition: form-data; {part}\r\n--X--\r\n");
    let multipart = "multipart/form-data; boundary=X";
    let json = "application/json";
    let cases: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("text/plain", b"".to_vec(), 400, "invalid_request"),
        ("text/plain", b" \n\t ".to_vec(), 400, "invalid_document"),
        ("text/plain", b"good \xff bad".to_vec(), 400, "invalid_document"),
        ("text/plain", b"a zero \x00 byte".to_vec(), 400, "invalid_document"),
        ("text/plain", b"\xff\xfe\x00\xd8".to_vec(), 400, "invalid_document"),
        ("text/html", b"<html><script>only</script></html>".to_vec(), 400, "invalid_document"),
        ("application/pdf", b"no PDF at all".to_vec(), 400, "invalid_document"),
        ("application/pdf", b"%PDF-1.7\n%%EOF".to_vec(), 400, "invalid_document"),
        ("application/octet-stream", b"%PDF-1.7 and then noise \xff\x00".to_vec(), 400, "invalid_document"),
        ("application/pdf", bomb.to_vec(), 413, "too_large"),
        ("image/png", b"\x89PNG".to_vec(), 400, "invalid_request"),
        ("application/zip", b"PK\x03\x04".to_vec(), 400, "invalid_request"),
        (json, b"{".to_vec(), 400, "invalid_request"),
        (json, b"[]".to_vec(), 400, "invalid_request"),
        (json, b"{}".to_vec(), 400, "invalid_request"),
        (json, b"{\"input\":7}".to_vec(), 400, "invalid_request"),
        (json, b"{\"input\":\"\"}".to_vec(), 400, "invalid_request"),
        (json, b"{\"input\":\"x\",\"input\":\"y\"}".to_vec(), 400, "invalid_request"),
        (json, b"{\"input\":\"x\",\"stream\":\"yes\"}".to_vec(), 400, "invalid_request"),
        (json, b"{\"input\":\"x\",\"model\":\"m\"}".to_vec(), 400, "invalid_request"),
        (json, b"{\"input\":\"x\",\"media_type\":\"image/png\"}".to_vec(), 400, "invalid_request"),
        (json, b"{\"input\":\"\xff\"}".to_vec(), 400, "invalid_request"),
        (
            json,
            format!("{{\"input\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes(),
            400,
            "invalid_request",
        ),
        ("multipart/form-data", b"x".to_vec(), 400, "invalid_request"),
        (multipart, b"no form".to_vec(), 400, "invalid_request"),
        (multipart, b"--X\r\n\r\n".to_vec(), 400, "invalid_request"),
        (multipart, form("name=\"other\"\r\n\r\nx").into_bytes(), 400, "invalid_request"),
        (multipart, form("name=\"stream\"\r\n\r\ntrue").into_bytes(), 400, "invalid_request"),
        (
            multipart,
            form("name=\"file\"; filename=\"../../etc/passwd.pdf\"\r\n\r\nx").into_bytes(),
            400,
            "invalid_document",
        ),
        (multipart, form("name=\"file\"\r\n\r\n").into_bytes(), 400, "invalid_request"),
    ];
    for (kind, body, status, code) in &cases {
        let case = format!("{kind}: {}", String::from_utf8_lossy(body));
        let a = t.within_memory(160 << 20, &case, || t.post(PIPELINE, &[("content-type", kind)], body));
        t.assert_refused(PIPELINE, &a, *status, code, &case);
    }
    t.assert_unharmed("hostile documents");
}
