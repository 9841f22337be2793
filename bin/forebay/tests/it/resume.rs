//! Readers that come back to where they were: every event once, of one call, over HTTP and WebSocket.

use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::replay::{CHAT, chat, header, left, script, upstream};
use crate::server::{Server, dechunk, read_until};
use crate::socket::{self, Socket};

/// The events of a stream: their ids and their data.
fn events(stream: &str) -> Vec<(u64, Json)> {
    let event = |e: &str| {
        let field = |name: &str| e.lines().find_map(|l| l.strip_prefix(name));
        let data = field("data: ")?;
        Some((field("id: ")?.parse().ok()?, serde_json::from_str(data).unwrap_or_else(|_| json!(data))))
    };
    // What was cut off in the middle of an event is no event.
    let whole = stream.rfind("\n\n").map_or("", |end| &stream[..end]);
    whole.split("\n\n").filter_map(event).collect()
}

/// The text that native events or OpenAI's chunks make.
fn text(events: &[(u64, Json)]) -> String {
    let of = |e: &Json| match e["type"].as_str() {
        Some("delta") => e["text"].as_str().map(str::to_owned),
        Some(_) => None,
        None => e["choices"][0]["delta"]["content"].as_str().map(str::to_owned),
    };
    events.iter().filter_map(|(_, e)| of(e)).collect()
}

#[track_caller]
fn consecutive(events: &[(u64, Json)]) {
    let ids: Vec<u64> = events.iter().map(|e| e.0).collect();
    assert!(!ids.is_empty() && ids.windows(2).all(|w| w[1] == w[0] + 1), "each once, in order: {ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_broke_is_read_to_its_end_and_asked_again_whole() {
    let up = upstream(json!({"tokens": 60, "faults": [{"fault": {"cut": {"after_tokens": 10}}}]})).await;
    let server = Server::start(&up.base_url(), "");
    let ask = |more: &[(&str, &str)]| {
        let headers = [&[("idempotency-key", "k"), ("forebay-resume", "30s")], more].concat();
        server.ask("POST", CHAT, &headers, &chat(true))
    };
    let (_, _, broken) = ask(&[]);
    let broken = events(&broken);
    assert!(broken.last().unwrap().1["error"].is_object(), "{broken:?}");
    let third = broken[2].0.to_string();
    let (_, _, rest) = ask(&[("last-event-id", &third)]);
    assert_eq!(events(&rest), broken[3..].to_vec(), "its end can be read");
    assert_eq!(up.log().len(), 1);
    up.set_script(script(json!({"tokens": 60}))).unwrap();
    let (_, head, whole) = ask(&[]);
    assert_eq!((header(&head, "idempotent-replayed"), up.log().len()), (None, 2), "a repeat is another try");
    assert!(whole.contains("[DONE]"));
    // Of the first answer nothing is told behind that: never half of one and half of the other.
    let (status, _, gone) = ask(&[("last-event-id", &third)]);
    assert_eq!((status, gone.contains("not_resumable")), (410, true), "{gone}");
}

/// Reads until some text came, and leaves.
fn cut(mut socket: TcpStream, up_to: &str) -> String {
    read_until(&mut socket, up_to)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_was_cut_off_reads_on_and_has_the_whole_text_of_one_call() {
    let wanted = (0..200).map(|n| format!("word {n}")).collect::<Vec<_>>().join(" ");
    let up = upstream(json!({"token_interval": 2, "text": wanted})).await;
    let server = Server::start(&up.base_url(), "");
    let native = ("/v1/pipelines/shout", "One sentence of a document.".to_owned(), "event: delta");
    for (n, (path, body, begun)) in [native, (CHAT, chat(true), "content\":\"")].into_iter().enumerate() {
        let (name, calls) = (format!("key {n}"), up.log().len());
        let mut headers = vec![
            ("idempotency-key", name.as_str()),
            ("forebay-resume", "30s"),
            ("accept", "text/event-stream"),
        ];
        let kind = if path == CHAT { "application/json" } else { "text/plain" };
        headers.push(("content-type", kind));
        let first = cut(server.open("POST", path, &headers, body.as_bytes()), begun);
        let id = header(&first.to_lowercase(), "x-request-id").unwrap().to_owned();
        let mut got = events(&dechunk(first.split_once("\r\n\r\n").unwrap().1));
        let last = got.last().unwrap().0.to_string();
        // Cut off again, by the request's id this time, and by the same request the rest of the way.
        let by_id = format!("/v1/requests/{id}/events");
        let again = [("last-event-id", last.as_str())];
        let some = cut(server.open("GET", &by_id, &again, b""), "id: ");
        assert!(some.starts_with("HTTP/1.1 200"), "{some}");
        let mut on = headers.clone();
        on.push(("last-event-id", &last));
        let (status, head, rest) = server.ask("POST", path, &on, &body);
        assert_eq!((status, header(&head, "x-request-id")), (200, Some(id.as_str())), "{rest}");
        assert_eq!(header(&head, "forebay-resume"), Some("30000ms"));
        got.extend(events(&rest));
        consecutive(&got);
        assert_eq!(text(&got), wanted);
        assert_eq!(up.log().len(), calls + 1, "one call");
        // Behind the end there is nothing, and whoever has all of it is told so.
        let end = got.last().unwrap().0.to_string();
        assert_eq!(server.ask("GET", &by_id, &[("last-event-id", &end)], "").0, 204);
        let (_, _, all) = server.ask("GET", &by_id, &[], "");
        assert_eq!(events(&all), got, "and all of it from the first on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_on_without_a_reader_for_as_long_as_was_asked_and_no_longer() {
    let up = upstream(json!({"token_interval": 10, "tokens": 6_000})).await;
    let server = Server::start(&up.base_url(), "");
    let headers = [("idempotency-key", "k"), ("forebay-resume", "500ms")];
    let mut first = server.open("POST", CHAT, &headers, chat(true).as_bytes());
    read_until(&mut first, "content\":\"");
    let sent = up.wait_for_arrival(1).await.unwrap().tokens_sent;
    drop(first);
    let on = tokio::time::timeout(Duration::from_secs(10), up.wait_for_tokens(1, sent + 20)).await;
    assert!(on.unwrap().unwrap().end.is_none(), "it goes on");
    left(&up, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_waits_for_no_reader_to_come_back() {
    let up = upstream(json!({"token_interval": 10, "tokens": 6_000})).await;
    let mut server = Server::start(&up.base_url(), "server: {drain: 600s}\n");
    let headers = [("idempotency-key", "k"), ("forebay-resume", "5m")];
    let mut first = server.open("POST", CHAT, &headers, chat(true).as_bytes());
    read_until(&mut first, "content\":\"");
    drop(first);
    server.terminate();
    left(&up, 1).await;
    assert!(tokio::task::spawn_blocking(move || server.wait()).await.unwrap().success());
}

/// Opens a socket with headers in its upgrade.
async fn connect(server: &Server, headers: &[(&'static str, &str)]) -> Socket {
    let url = format!("ws://{}/v1/pipelines/shout", server.address);
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    connect_async(request).await.unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_was_lost_is_read_on_over_another_and_over_http() {
    let up = upstream(json!({"token_interval": 5, "tokens": 200})).await;
    let server = Server::start(&up.base_url(), "");
    let headers = [("idempotency-key", "k"), ("forebay-resume", "30s")];
    let mut socket = connect(&server, &headers).await;
    socket::say(&mut socket, json!({"input": "One sentence of a document."})).await;
    let mut got = Vec::new();
    while got.iter().filter(|e: &&Json| e["type"] == "delta").count() < 3 {
        got.push(socket::next(&mut socket).await);
    }
    drop(socket);
    let id = got[0]["id"].as_str().unwrap().to_owned();
    let last = got.last().unwrap()["event_id"].clone();
    // Another reads from the beginning meanwhile, and a third by the key.
    let mut whole = connect(&server, &[]).await;
    socket::say(&mut whole, json!({"type": "resume", "id": id})).await;
    let mut joined = connect(&server, &headers).await;
    socket::say(&mut joined, json!({"input": "One sentence of a document."})).await;
    let mut socket = connect(&server, &[]).await;
    socket::say(&mut socket, json!({"type": "resume", "id": id, "last_event_id": last})).await;
    got.extend(socket::rest(&mut socket).await);
    assert_eq!(socket::rest(&mut whole).await, got);
    assert_eq!(socket::rest(&mut joined).await, got);
    let ids: Vec<u64> = got.iter().map(|e| e["event_id"].as_u64().unwrap()).collect();
    assert!(ids.windows(2).all(|w| w[1] == w[0] + 1), "{ids:?}");
    assert_eq!(got.last().unwrap()["type"], "done");
    let (_, _, over_http) = server.ask("GET", &format!("/v1/requests/{id}/events"), &[], "");
    let over_http: Vec<(u64, Json)> = events(&over_http);
    assert_eq!(over_http.iter().map(|e| e.0).collect::<Vec<_>>(), ids);
    assert_eq!(up.log().len(), 1, "one call");
    // What is not kept is refused by an event.
    let mut socket = connect(&server, &[]).await;
    let none = "req_00000000000000000000000000000000";
    socket::say(&mut socket, json!({"type": "resume", "id": none, "last_event_id": 1})).await;
    let refused = socket::rest(&mut socket).await;
    assert_eq!((refused.len(), &refused[0]["code"]), (1, &json!("not_resumable")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_may_say_itself_that_its_streams_can_be_read_on_in() {
    let up = upstream(json!({"token_interval": 5, "tokens": 200})).await;
    let p = "  kept:\n    resume: 30s\n    input: text\n    stages:\n      - answer: {generate: {model: m, prompt_text: '{{ input }}'}}\n";
    let server = Server::start(&up.base_url(), p);
    let headers = [("content-type", "text/plain"), ("accept", "text/event-stream")];
    let first = cut(server.open("POST", "/v1/pipelines/kept", &headers, b"a text"), "event: delta");
    assert_eq!(header(&first.to_lowercase(), "forebay-resume"), Some("30000ms"));
    let id = header(&first.to_lowercase(), "x-request-id").unwrap().to_owned();
    let (status, _, all) = server.ask("GET", &format!("/v1/requests/{id}/events"), &[], "");
    let all = events(&all);
    assert_eq!(status, 200);
    consecutive(&all);
    assert_eq!((&all[0].1["id"], &all.last().unwrap().1["type"]), (&json!(id), &json!("done")));
    assert_eq!(up.log().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_over_the_socket_stops_a_kept_run_for_everybody_who_reads_it() {
    let up = upstream(json!({"token_interval": 10, "tokens": 6_000})).await;
    let server = Server::start(&up.base_url(), "");
    let mut socket = connect(&server, &[("forebay-resume", "5m")]).await;
    socket::say(&mut socket, json!({"input": "One sentence of a document."})).await;
    let id = socket::next(&mut socket).await["id"].as_str().unwrap().to_owned();
    while socket::next(&mut socket).await["type"] != "delta" {}
    let mut other = connect(&server, &[]).await;
    socket::say(&mut other, json!({"type": "resume", "id": id})).await;
    socket::next(&mut other).await;
    socket::say(&mut socket, json!({"type": "cancel"})).await;
    for socket in [&mut socket, &mut other] {
        let events = socket::rest(socket).await;
        let [.., error, done] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!((&error["code"], &error["partial"]), (&json!("cancelled"), &json!(true)));
        assert_eq!(
            (&done["type"], done["usage"]["output_tokens"].as_u64() > Some(0)),
            (&json!("done"), true)
        );
    }
    left(&up, 1).await;
}
