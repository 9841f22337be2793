//! The upstream: OpenAI chat completions from the plan in the prompt. One thread, no JSON parser, one write an answer.
//!
//! A body without its whole prompt is a 400, and counted: what a gateway drops on the way is seen. `GET /counts` tells
//! how many requests there were.

use std::cell::Cell;
use std::io::Write as _;
use std::rc::Rc;
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use crate::args::Args;
use crate::plan::Plan;
use crate::wire::{self, Chunks, Head, Length};
use crate::{Result, block_on};

#[derive(Default)]
struct Counts {
    whole: Cell<u64>,
    streamed: Cell<u64>,
    wrong: Cell<u64>,
    /// Places new streams in their interval, so that they do not all speak at once.
    phase: Cell<u64>,
}

fn one_more(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// Serves until it is killed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let address = args.text("listen", "127.0.0.1:9100").to_owned();
    block_on(async move {
        let listener = TcpListener::bind(&address).await?;
        println!("listening on {address}");
        let local = LocalSet::new();
        let counts = Rc::new(Counts::default());
        local
            .run_until(async move {
                loop {
                    let (stream, _) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    let counts = counts.clone();
                    tokio::task::spawn_local(async move {
                        // A caller that leaves is no fault of the mock.
                        let _ = serve(stream, &counts).await;
                    });
                }
            })
            .await
    })
}

async fn serve(mut stream: TcpStream, counts: &Counts) -> Result<()> {
    let (mut buffer, mut body, mut out) = (Vec::with_capacity(4 << 10), Vec::new(), Vec::new());
    loop {
        let head = loop {
            if let Some(head) = wire::head(&buffer) {
                break head;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let used = read_body(&mut stream, &mut buffer, &mut body, head).await?;
        let get = buffer.starts_with(b"GET");
        buffer.drain(..used);
        out.clear();
        if get {
            tell(&mut out, counts);
        } else if let Some(plan) = Plan::find(&body) {
            if memmem::find(&body, br#""stream":true"#).is_some()
                || memmem::find(&body, br#""stream": true"#).is_some()
            {
                one_more(&counts.streamed);
                speak(&mut stream, &mut out, plan, counts).await?;
                continue;
            }
            one_more(&counts.whole);
            answer(&mut out, plan);
        } else {
            one_more(&counts.wrong);
            let text = r#"{"error":{"message":"the prompt is not whole","type":"invalid_request_error"}}"#;
            write_whole(&mut out, "400 Bad Request", text);
        }
        stream.write_all(&out).await?;
    }
}

/// Reads the body behind the head into `body`; says how many bytes of the buffer it and the head took.
async fn read_body(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    body: &mut Vec<u8>,
    head: Head,
) -> Result<usize> {
    body.clear();
    match head.length {
        Length::Bytes(n) => {
            let end = head.end + n;
            while buffer.len() < end {
                if stream.read_buf(buffer).await? == 0 {
                    return Err("cut in mid-body".into());
                }
            }
            body.extend_from_slice(buffer.get(head.end..end).unwrap_or_default());
            Ok(end)
        }
        Length::Chunked => {
            let mut chunks = Chunks::default();
            chunks.feed(buffer.get(head.end..).unwrap_or_default(), body);
            while !chunks.ended {
                buffer.clear();
                if stream.read_buf(buffer).await? == 0 {
                    return Err("cut in mid-body".into());
                }
                chunks.feed(buffer, body);
            }
            Ok(buffer.len())
        }
    }
}

fn write_whole(out: &mut Vec<u8>, status: &str, body: &str) {
    // Writing to a vector does not fail.
    let _ = write!(
        out,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
}

fn tell(out: &mut Vec<u8>, counts: &Counts) {
    let (whole, streamed, wrong) = (counts.whole.get(), counts.streamed.get(), counts.wrong.get());
    write_whole(out, "200 OK", &format!(r#"{{"whole":{whole},"streamed":{streamed},"wrong":{wrong}}}"#));
}

fn answer(out: &mut Vec<u8>, plan: Plan) {
    let (text, prompt, made) = (plan.text(), plan.size / 4, plan.tokens);
    let total = prompt + made;
    let body = format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"mock-1","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":{prompt},"completion_tokens":{made},"total_tokens":{total}}}}}"#
    );
    write_whole(out, "200 OK", &body);
}

fn event(out: &mut Vec<u8>, json: &str) {
    let _ = write!(out, "{:x}\r\ndata: {json}\n\n\r\n", json.len() + 8);
}

fn piece(out: &mut Vec<u8>, delta: &str, finish: &str) {
    event(
        out,
        &format!(
            r#"{{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"mock-1","choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}],"usage":null}}"#
        ),
    );
}

/// A streamed answer: every event a chunk, every due event a write.
async fn speak(stream: &mut TcpStream, out: &mut Vec<u8>, plan: Plan, counts: &Counts) -> Result<()> {
    out.extend_from_slice(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    piece(out, r#"{"role":"assistant","content":""}"#, "null");
    let paced = plan.interval_ms > 0;
    if paced {
        stream.write_all(out).await?;
        out.clear();
        let phase = counts.phase.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        counts.phase.set(phase);
        tokio::time::sleep(Duration::from_millis((phase >> 32) % plan.interval_ms)).await;
    }
    let mut every = tokio::time::interval(Duration::from_millis(plan.interval_ms.max(1)));
    for n in 0..plan.tokens {
        if paced {
            every.tick().await;
        }
        piece(out, &format!(r#"{{"content":"{}"}}"#, Plan::token(n)), "null");
        if paced {
            stream.write_all(out).await?;
            out.clear();
        }
    }
    piece(out, "{}", r#""stop""#);
    let (prompt, made) = (plan.size / 4, plan.tokens);
    let total = prompt + made;
    event(
        out,
        &format!(
            r#"{{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"mock-1","choices":[],"usage":{{"prompt_tokens":{prompt},"completion_tokens":{made},"total_tokens":{total}}}}}"#
        ),
    );
    event(out, "[DONE]");
    out.extend_from_slice(b"0\r\n\r\n");
    stream.write_all(out).await?;
    Ok(())
}
