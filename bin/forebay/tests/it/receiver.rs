//! Somebody that is told by webhooks, and verifies each.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

/// 32 bytes, and their base64.
const KEY: &[u8; 32] = b"0123456789abcdef0123456789abcdef";
pub const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// What webhooks of the registry are signed with.
pub const OF_MLFLOW: &str = "between us";

/// HMAC-SHA256 by its definition, apart from the one under test.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        block.iter_mut().zip(key).for_each(|(b, k)| *b ^= k);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = bytes.chunks(3).flat_map(|c| {
        let n = c.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - c.len()));
        (0..4).map(move |i| match i <= c.len() {
            true => char::from(LETTERS[(n >> (18 - 6 * i)) as usize & 63]),
            false => '=',
        })
    });
    letters.collect()
}

/// What a receiver was told, in the order in which it came: CloudEvents whose `id` is their message's.
pub type Told = Arc<Mutex<Vec<Json>>>;

/// Takes webhooks and verifies each, for as long as the test runs.
pub fn receiver() -> (SocketAddr, Told) {
    answering(|_| 204)
}

/// The same, with an answer of its own to each by how many came before it. Of MLflow's, `id` is that of their delivery.
pub fn answering(status: impl Fn(usize) -> u16 + Send + Sync + 'static) -> (SocketAddr, Told) {
    let status = Arc::new(status);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let told: Told = Arc::default();
    let out = told.clone();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (told, status) = (out.clone(), status.clone());
            // One that is cut by a kill is none.
            std::thread::spawn(move || take(socket.unwrap(), &told, &*status).unwrap_or_default());
        }
    });
    (address, told)
}

fn take(mut socket: TcpStream, told: &Told, status: &dyn Fn(usize) -> u16) -> std::io::Result<()> {
    let mut reader = BufReader::new(socket.try_clone()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) => _ = headers.insert(name.to_lowercase(), value.to_owned()),
            None if line.trim_end().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body)?;
    let of_mlflow = headers.contains_key("x-mlflow-delivery-id");
    let names = match of_mlflow {
        true => ["x-mlflow-delivery-id", "x-mlflow-timestamp", "x-mlflow-signature"],
        false => ["webhook-id", "webhook-timestamp", "webhook-signature"],
    };
    let [id, at, signature] = names.map(|name| &headers[name]);
    let signed = [format!("{id}.{at}.").as_bytes(), &body].concat();
    let key = if of_mlflow { OF_MLFLOW.as_bytes() } else { KEY };
    assert_eq!(*signature, format!("v1,{}", base64(&hmac(key, &signed))), "it does not verify");
    let mut event: Json = serde_json::from_slice(&body).unwrap();
    if of_mlflow {
        event["id"] = json!(id);
    } else {
        assert_eq!((&event["specversion"], &event["id"]), (&json!("1.0"), &json!(id)));
    }
    let before = {
        let mut told = told.lock().unwrap();
        told.push(event);
        told.len() - 1
    };
    let head = format!("HTTP/1.1 {} Said\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", status(before));
    socket.write_all(head.as_bytes())
}
