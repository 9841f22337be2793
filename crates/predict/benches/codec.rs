//! What it costs to read a request's numbers out of JSON, and to write an answer's. `cargo bench -p forebay-predict --bench codec`.
//!
//! The way shipped is `request` (an envelope by `serde_json`, elements by `protocol::v2::data`); beside it stand `serde_json` and
//! `sonic-rs` into typed vectors, and `serde_json` into values, which is what a server without care would do.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use predict::protocol::{Answer, v2};
use predict::{DataType, Tensor};
use serde::Deserialize;

#[derive(Deserialize)]
struct Typed {
    inputs: Vec<Input>,
}

#[derive(Deserialize)]
struct Input {
    data: Vec<f32>,
}

fn values(n: usize) -> Vec<f32> {
    let mut state = 7u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from_bits(0x3f80_0000 | state >> 9) * 8.0 - 12.0
    };
    (0..n).map(|_| next()).collect()
}

fn body(rows: usize) -> Bytes {
    let numbers: Vec<String> = values(rows * 20).iter().map(f32::to_string).collect();
    let json = format!(
        r#"{{"id":"1","inputs":[{{"name":"x","shape":[{rows},20],"datatype":"FP32","data":[{}]}}]}}"#,
        numbers.join(",")
    );
    json.into()
}

fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("read");
    for rows in [1, 64, 10_000] {
        let body = body(rows);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::new("request", rows), &body, |b, body| {
            b.iter(|| v2::request(black_box(body), None).unwrap().inputs.len());
        });
        group.bench_with_input(BenchmarkId::new("serde_json_typed", rows), &body, |b, body| {
            b.iter(|| serde_json::from_slice::<Typed>(black_box(body)).unwrap().inputs.remove(0).data.len());
        });
        group.bench_with_input(BenchmarkId::new("sonic_rs_typed", rows), &body, |b, body| {
            b.iter(|| sonic_rs::from_slice::<Typed>(black_box(body)).unwrap().inputs.remove(0).data.len());
        });
        group.bench_with_input(BenchmarkId::new("serde_json_values", rows), &body, |b, body| {
            b.iter(|| serde_json::from_slice::<serde_json::Value>(black_box(body)).unwrap());
        });
    }
    group.finish();
}

fn write(c: &mut Criterion) {
    let mut group = c.benchmark_group("write");
    for rows in [1, 64, 10_000] {
        let tensor = Tensor::of(DataType::Fp32, vec![rows as i64, 2], values(rows * 2)).unwrap();
        let list = values(rows * 2);
        group.bench_with_input(BenchmarkId::new("answer", rows), &tensor, |b, t| {
            let outputs = vec![("y", t.clone(), false)];
            let answer = Answer { model: "trees", version: "1", id: Some("1"), outputs };
            b.iter(|| v2::answer(black_box(&answer)).unwrap());
        });
        group.bench_with_input(BenchmarkId::new("serde_json", rows), &list, |b, list| {
            b.iter(|| serde_json::to_vec(black_box(list)).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, read, write);
criterion_main!(benches);
