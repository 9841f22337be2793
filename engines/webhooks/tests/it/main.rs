//! Webhooks to a receiver on this machine.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::{Secret, SystemClock};
use hmac::{Hmac, Mac as _};
use pipeline::outside::{Asked, Call, Came};
use pipeline::runs::{Deliver, Delivered, Message, Signed};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use webhooks::{Caller, Sealing, Settings, Signer, Webhooks};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn webhooks(allow_private: bool) -> Webhooks {
    let settings = Settings {
        secrets: vec![Secret::new(SECRET)],
        own: None,
        allow_private,
        timeout: Duration::from_secs(5),
        sealing: Sealing::new(|| Ok(vec![Secret::new("of the server")])),
    };
    Webhooks::new(&settings, Arc::new(SystemClock::default())).unwrap()
}

fn message(url: String) -> Message {
    Message {
        id: "msg_1".into(),
        tenant: "gold".into(),
        signed: Signed::Tenant(vec![0]),
        url,
        body: br#"{"a":1}"#.to_vec(),
    }
}

/// Answers one request, and gives what it was.
async fn receive(listener: TcpListener, answer: &'static str) -> String {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut all = Vec::new();
    let mut some = [0; 1024];
    while !all.ends_with(br#"{"a":1}"#) {
        let n = socket.read(&mut some).await.unwrap();
        assert!(n > 0);
        all.extend_from_slice(&some[..n]);
    }
    socket.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8(all).unwrap()
}

async fn deliver(answer: &'static str) -> (Delivered, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let hooks = webhooks(true);
    tokio::join!(hooks.deliver(message(url)), receive(listener, answer))
}

fn header<'a>(request: &'a str, name: &str) -> &'a str {
    let line = request.lines().find_map(|l| l.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("no {name} in {request}"))
}

#[tokio::test]
async fn a_message_carries_its_id_its_time_and_a_signature_over_both() {
    let (came, request) = deliver("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(came, Delivered::Answer { status: 204, retry_after: None });
    assert!(request.starts_with("POST /hook HTTP/1.1"), "{request}");
    assert_eq!(header(&request, "webhook-id"), "msg_1");
    let timestamp: i64 = header(&request, "webhook-timestamp").parse().unwrap();
    let signer = Signer::new(&[Secret::new(SECRET)]).unwrap().of_tenant(&"gold".into(), &[0]);
    assert_eq!(header(&request, "webhook-signature"), signer.sign("msg_1", timestamp, br#"{"a":1}"#));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (came, _) =
        deliver("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(came, Delivered::Answer { status: 302, retry_after: None });
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_is_heard() {
    let (came, _) = deliver("HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(came, Delivered::Answer { status: 503, retry_after: Some(Duration::from_secs(7)) });
}

#[tokio::test]
async fn private_addresses_are_refused_as_they_are_written_and_as_names_resolve() {
    let hooks = webhooks(false);
    for url in [
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://[::ffff:10.0.0.1]/x",
        "https://169.254.169.254/latest",
        "http://93.184.216.34/x",
        "https://user:pass@93.184.216.34/",
        "ftp://93.184.216.34/",
        "/x",
    ] {
        assert!(hooks.check(url).is_err(), "{url}");
    }
    assert!(hooks.check("https://example.com/hook").is_ok());
    // What only a resolver knows to be this machine: a name, and the forms of an address that only the system reads as one.
    for url in ["https://localhost/x", "https://2130706433/x", "https://0x7f.1/x", "https://127.1/x"] {
        // Some systems read the odd forms as no address at all; nobody may have knocked at this machine's door.
        match hooks.deliver(message(url.into())).await {
            Delivered::Forbidden(_) => {}
            Delivered::Unreachable(why) if !why.contains("refused") => assert_ne!(url, "https://localhost/x"),
            came => panic!("{url}: {came:?}"),
        }
    }
}

#[tokio::test]
async fn nothing_is_sent_without_a_signature() {
    let settings = Settings {
        secrets: Vec::new(),
        own: None,
        allow_private: true,
        timeout: Duration::from_secs(5),
        sealing: Sealing::default(),
    };
    let hooks = Webhooks::new(&settings, Arc::new(SystemClock::default())).unwrap();
    assert!(hooks.check("http://127.0.0.1:9/").is_err());
}

#[tokio::test]
async fn the_operators_own_receiver_knows_the_configured_secret_and_nobody_else_needs_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let settings = Settings {
        secrets: vec![Secret::new(SECRET)],
        own: Some(url.clone()),
        allow_private: true,
        timeout: Duration::from_secs(5),
        sealing: Sealing::new(|| Ok(vec![Secret::new("of the server")])),
    };
    let hooks = Webhooks::new(&settings, Arc::new(SystemClock::default())).unwrap();
    let (came, request) =
        tokio::join!(hooks.deliver(message(url)), receive(listener, "HTTP/1.1 204 No Content\r\n\r\n"));
    assert_eq!(came, Delivered::Answer { status: 204, retry_after: None });
    let timestamp: i64 = header(&request, "webhook-timestamp").parse().unwrap();
    let signer = Signer::new(&[Secret::new(SECRET)]).unwrap();
    assert_eq!(header(&request, "webhook-signature"), signer.sign("msg_1", timestamp, br#"{"a":1}"#));
}

fn asked(url: String) -> Asked {
    let headers = vec![("idempotency-key".to_owned(), "effect-7".to_owned())];
    let body = br#"{"a":1}"#.to_vec();
    Asked { method: "POST", url, headers, body, timeout: Duration::from_secs(5), at_most: 8 }
}

fn caller(allow_private: bool) -> Caller {
    Caller::new(allow_private, Arc::new(SystemClock::default()))
}

async fn ask(answer: &'static str) -> (Came, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x?y=1", listener.local_addr().unwrap());
    let caller = caller(true);
    tokio::join!(caller.call(asked(url)), receive(listener, answer))
}

#[tokio::test]
async fn an_answer_is_read_up_to_its_limit_and_a_redirect_is_one() {
    let (came, request) = ask("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n12345678").await;
    let answer =
        |status, body: &[u8], cut| Came::Answer { status, retry_after: None, body: body.to_vec(), cut };
    assert_eq!(came, answer(200, b"12345678", false));
    assert!(request.starts_with("POST /x?y=1 HTTP/1.1"), "{request}");
    assert_eq!(header(&request, "idempotency-key"), "effect-7");
    assert_eq!(
        ask("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123456789").await.0,
        answer(200, b"12345678", true)
    );
    let (came, _) =
        ask("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(came, answer(302, b"", false));
    let (came, _) = ask("HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n").await;
    assert!(
        matches!(came, Came::Answer { status: 503, retry_after: Some(d), .. } if d == Duration::from_secs(7))
    );
    let (came, _) = ask("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123").await;
    assert!(matches!(came, Came::Unreachable(why) if why.contains("broke off")));
}

#[tokio::test]
async fn private_addresses_are_not_asked_by_a_stage_either() {
    for url in [
        "http://127.0.0.1:1/",
        "https://127.0.0.1:1/",
        "https://localhost:1/",
        "https://2130706433/",
        "https://[::1]:1/",
        "https://a@example.com/",
    ] {
        let came = caller(false).call(asked(url.into())).await;
        assert!(matches!(came, Came::Forbidden(_)), "{url}: {came:?}");
    }
    assert!(caller(false).check("https://127.0.0.1/").is_err());
    let mut one = asked("https://1.1.1.1/".into());
    one.headers.push(("x".into(), "a\r\nb: secret".into()));
    assert_eq!(caller(false).call(one).await, Came::Forbidden("a header cannot be sent".into()));
}

#[tokio::test]
async fn an_address_that_is_silent_is_late() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let asked = Asked { timeout: Duration::from_millis(50), ..asked(url) };
    assert_eq!(caller(true).call(asked).await, Came::Late);
}

#[tokio::test]
async fn what_the_registry_tells_is_signed_by_the_webhooks_own_secret_in_mlflows_headers() {
    let none = webhooks(true);
    let sealed = none.seal(&Secret::new("between us"), "w1").unwrap();
    assert!(!sealed.contains("between us"));
    let settings = Settings {
        secrets: Vec::new(),
        own: None,
        allow_private: true,
        timeout: Duration::from_secs(5),
        sealing: Sealing::new(|| Ok(vec![Secret::new("another"), Secret::new("of the server")])),
    };
    // No secret is configured, and the one that sealed it is not the current one any more.
    let hooks = Webhooks::new(&settings, Arc::new(SystemClock::default())).unwrap();
    for secret in [Some(sealed.clone()), None] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let signed = Signed::Registry { webhook: "w1".into(), secret: secret.clone() };
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nthanks";
        let (came, request) =
            tokio::join!(hooks.try_out(Message { signed, ..message(url) }), receive(listener, answer));
        assert_eq!(came, (Delivered::Answer { status: 200, retry_after: None }, "thanks".to_owned()));
        assert_eq!(header(&request, "x-mlflow-delivery-id"), "msg_1");
        assert_eq!(header(&request, "content-type"), "application/json");
        assert!(!request.contains("webhook-id") && !request.contains("between us"));
        let at: i64 = header(&request, "x-mlflow-timestamp").parse().unwrap();
        match secret {
            Some(_) => {
                let mut mac = Hmac::<Sha256>::new_from_slice(b"between us").unwrap();
                mac.update(format!("msg_1.{at}.{{\"a\":1}}").as_bytes());
                let wanted = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
                assert_eq!(header(&request, "x-mlflow-signature"), wanted);
            }
            None => assert!(!request.contains("x-mlflow-signature")),
        }
    }
    // What was sealed for another webhook, or by a key that is not here, is not sent, and tried again later.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    for (webhook, by) in [("w2", &hooks), ("w1", &none)] {
        let of_another = hooks.seal(&Secret::new("between us"), "w1").unwrap();
        let signed = Signed::Registry { webhook: webhook.into(), secret: Some(of_another) };
        let came = by.deliver(Message { signed, ..message(url.clone()) }).await;
        assert!(matches!(&came, Delivered::Unreachable(why) if why.contains("set it again")), "{came:?}");
    }
    let private = Signed::Registry { webhook: "w1".into(), secret: None };
    let came = webhooks(false).deliver(Message { signed: private, ..message(url) }).await;
    assert!(matches!(came, Delivered::Forbidden(_)), "{came:?}");
}
