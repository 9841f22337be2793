//! Keys that are none, were some, or are far too much.

use super::*;

#[test]
fn a_key_that_is_not_valid_is_refused_alike_whatever_is_wrong_with_it() {
    let t = Target::start("auth: {required: true}\n");
    let key = |args: &[&str]| -> Json {
        let out = forebay(t.server.folder.path()).arg("--json").arg("key").args(args).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).unwrap()
    };
    let good = key(&["create", "--name", "good", "--tenant", "t"]);
    let expired = key(&["create", "--name", "old", "--tenant", "t", "--expires", "1s"]);
    let revoked = key(&["create", "--name", "bad", "--tenant", "t"]);
    key(&["revoke", revoked["id"].as_str().unwrap()]);
    let secret = |k: &Json| k["key"].as_str().unwrap().to_owned();
    let good = secret(&good);
    let models = |header: &str, value: &str| {
        t.head(&format!(
            "GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}: {value}\r\n\r\n"
        ))
    };
    let until = |key: &str, status: u16| {
        let begin = now();
        while models("x-api-key", key).status != status {
            assert!(begin.elapsed() < Duration::from_secs(20), "it never was {status}");
        }
    };
    until(&good, 200);
    until(&secret(&expired), 401);
    let flipped = format!("{}{}", &good[..good.len() - 1], if good.ends_with('a') { 'b' } else { 'a' });
    let cases = [
        secret(&expired),
        secret(&revoked),
        flipped,
        good.to_uppercase(),
        format!("{good}x"),
        good[..10].to_owned(),
        "sk-whatever".into(),
        "fbk_".into(),
        "fbk__".into(),
        "x".repeat(20_000),
        "\u{fc}".into(),
        "' or 1=1 --".into(),
        "..".into(),
    ];
    let mut messages = Vec::new();
    for case in &cases {
        for (header, value) in [("authorization", format!("Bearer {case}")), ("x-api-key", case.clone())] {
            let a = models(header, &value);
            t.assert_refused("/v1/models", &a, 401, "invalid_key", case);
            if !case.is_empty() && case.is_ascii() {
                assert!(!a.body.contains(case.as_str()) || case == "..", "the key is not echoed: {a:?}");
                messages.push(a.body);
            }
        }
    }
    messages.dedup();
    assert_eq!(messages.len(), 1, "nothing tells a revoked key from one that never was: {messages:?}");
    for value in ["Basic dTpw", "Bearer", "bearer ", ""] {
        let a = models("authorization", value);
        t.assert_refused("/v1/models", &a, 401, "invalid_key", value);
    }
    let chat = r#"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"x"}]}"#;
    let with = [("x-api-key", cases[0].as_str())];
    t.assert_refused(CHAT, &t.post(CHAT, &with, chat.as_bytes()), 401, "invalid_key", "expired");
    t.assert_refused(
        MESSAGES,
        &t.post(MESSAGES, &with, chat.as_bytes()),
        401,
        "authentication_error",
        "expired",
    );
    t.assert_refused(PIPELINE, &t.post(PIPELINE, &with, b"x"), 401, "invalid_key", "expired");
    assert_eq!(
        t.post(CHAT, &[("x-api-key", &good)], chat.as_bytes()).status,
        200,
        "the good key still opens"
    );
}

#[test]
fn an_open_server_takes_a_placeholder_and_never_a_revoked_key() {
    let t = Target::start("");
    let chat = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
    for header in ["sk-placeholder", "\u{fc}", "x"] {
        assert_eq!(t.post(CHAT, &[("x-api-key", header)], chat.as_bytes()).status, 200, "{header}");
    }
}
