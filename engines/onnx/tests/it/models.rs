//! Models that people use.

use std::sync::Arc;

use contract::{Clock, Deadline, SystemClock};
use predict::batch::{Batcher, Settings, probe};
use predict::{Artifact, Backend, DataType, LoadSettings, Model, Tensor};
use serde_json::Value as Json;

use crate::fixtures::{fixture, runtime};

fn load(file: &str) -> Option<Box<dyn Model>> {
    let (runtime, path) = (runtime()?, fixture(file)?);
    Some(runtime.load(&Artifact::File(path), &LoadSettings::default()).unwrap())
}

/// The first and the last 1024 bytes, as magika wants them; 256 where there is none.
fn magika_input(files: &[&[u8]]) -> Tensor {
    let one = |f: &&[u8]| {
        let trimmed = f.trim_ascii();
        let part = |bytes: &[u8], at_end: bool| {
            let mut out = vec![256i32; 1_024];
            let n = bytes.len().min(1_024);
            let from = if at_end { bytes.len() - n } else { 0 };
            let to = if at_end { 1_024 - n } else { 0 };
            bytes[from..from + n].iter().enumerate().for_each(|(i, b)| out[to + i] = (*b).into());
            out
        };
        [part(trimmed, false), part(trimmed, true)].concat()
    };
    let all: Vec<i32> = files.iter().flat_map(one).collect();
    Tensor::of(DataType::Int32, vec![files.len() as i64, 2_048], all).unwrap()
}

#[test]
fn magika_tells_files_apart_and_together_as_alone() {
    let Some(mut model) = load("magika.onnx") else { return };
    assert_eq!(model.signature().inputs[0].datatype, DataType::Int32);
    assert_eq!(probe::shares(&mut *model), probe::Found::Shares);
    assert!(model.bytes() >= 3_000_000, "{}", model.bytes());
    let rust = include_bytes!("models.rs").as_slice();
    let text = "It was the best of times, it was the worst of times, it was the age of wisdom. ".repeat(30);
    let files = [rust, text.as_bytes(), br#"{"a": [1, 2, 3], "b": {"c": null, "d": "e"}}"#];
    let best = |t: &Tensor| -> Vec<usize> {
        let values = t.values::<f32>().unwrap().to_vec();
        let wide = values.len() / t.rows();
        let top = |row: &[f32]| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        values.chunks(wide).map(top).collect()
    };
    let together = best(&model.run(&[magika_input(&files)], &[0]).unwrap()[0]);
    let alone: Vec<usize> =
        files.iter().flat_map(|f| best(&model.run(&[magika_input(&[f])], &[0]).unwrap()[0])).collect();
    assert_eq!(together, alone);
    assert!(together[0] != together[1] && together[1] != together[2] && together[0] != together[2]);
}

#[test]
fn a_model_with_a_state_goes_on_from_it_and_is_never_shared() {
    let Some(mut model) = load("silero-vad.onnx") else { return };
    let signature = model.signature().clone();
    let names: Vec<&str> = signature.inputs.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["input", "state", "sr"]);
    assert_ne!(probe::shares(&mut *model), probe::Found::Shares);
    let rate = Tensor::of(DataType::Int64, vec![], vec![16_000i64]).unwrap();
    let tone = |from: usize| {
        let one = |n: usize| (n as f32 * 0.07).sin() * (n as f32 * 0.011).cos();
        Tensor::of(DataType::Fp32, vec![1, 576], (from..from + 576).map(one).collect::<Vec<_>>()).unwrap()
    };
    let mut state = Tensor::of(DataType::Fp32, vec![2, 1, 128], vec![0f32; 256]).unwrap();
    let mut said = Vec::new();
    for step in 0..4 {
        let out = model.run(&[tone(step * 512), state, rate.clone()], &[0, 1]).unwrap();
        said.push(out[0].values::<f32>().unwrap()[0]);
        state = out[1].clone();
        assert_eq!(state.shape(), [2, 1, 128]);
    }
    assert!(said.iter().all(|p| (0.0..=1.0).contains(p)), "{said:?}");
    let fresh = Tensor::of(DataType::Fp32, vec![2, 1, 128], vec![0f32; 256]).unwrap();
    let again = model.run(&[tone(3 * 512), fresh, rate], &[0]).unwrap();
    assert_ne!(again[0].values::<f32>().unwrap()[0], said[3]);
}

/// A model of `oracles/`, with what ONNX Runtime's own Python says of some rows.
fn own(name: &str) -> Option<(Box<dyn Model>, Vec<Tensor>, Json)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/oracles/");
    let model =
        runtime()?.load(&Artifact::File(format!("{folder}{name}.onnx").into()), &LoadSettings::default());
    let golden: Json = serde_json::from_str(include_str!("../../oracles/models.json")).unwrap();
    let golden = golden[name].clone();
    let model = model.unwrap();
    let read = |f: &predict::Field| {
        let given = &golden["inputs"][&f.name];
        let shape = given["shape"].as_array().unwrap().iter().map(|d| d.as_i64().unwrap()).collect();
        predict::protocol::v2::data(f.datatype, shape, &given["data"].to_string()).unwrap()
    };
    let inputs = model.signature().inputs.iter().map(read).collect();
    Some((model, inputs, golden["outputs"].clone()))
}

/// Runs it and holds it to what is recorded.
fn holds(name: &str) -> Option<Box<dyn Model>> {
    let (mut model, inputs, wanted) = own(name)?;
    let fields = model.signature().outputs.clone();
    let all: Vec<usize> = (0..fields.len()).collect();
    let got = model.run(&inputs, &all).unwrap();
    for (field, got) in fields.iter().zip(got) {
        assert!(field.takes_shape(got.shape()), "{field} gave {:?}", got.shape());
        let wanted = predict::protocol::v2::data(
            field.datatype,
            got.shape().to_vec(),
            &wanted[&field.name].to_string(),
        );
        let wanted = wanted.unwrap();
        match field.datatype {
            DataType::Fp32 => {
                let (a, b) = (got.values::<f32>().unwrap(), wanted.values::<f32>().unwrap());
                assert!(
                    a.iter().zip(b.iter()).all(|(x, y)| (x - y).abs() <= 1e-6),
                    "{field}: {a:?} and not {b:?}"
                );
            }
            _ => assert_eq!(got, wanted, "{field}"),
        }
    }
    Some(model)
}

#[test]
fn a_classifiers_maps_are_a_column_for_each_class() {
    let Some(mut model) = holds("words") else { return };
    let outputs: Vec<String> = model.signature().outputs.iter().map(ToString::to_string).collect();
    assert_eq!(outputs, ["output_label BYTES[?]", "output_probability FP32[?, 3]"]);
    assert_eq!(model.metadata().properties["columns.output_probability"], r#"["high", "low", "middle"]"#);
    // An output alone, and in another order.
    let row = Tensor::of(DataType::Fp32, vec![1, 3], vec![0.1f32, 0.2, 0.3]).unwrap();
    assert_eq!(model.run(std::slice::from_ref(&row), &[1]).unwrap()[0].shape(), [1, 3]);
    assert_eq!(model.run(&[row], &[1, 0]).unwrap()[1].shape(), [1]);
    assert_eq!(probe::shares(&mut *model), probe::Found::Shares);
}

#[test]
fn text_and_numbers_come_as_a_tensor_for_each_column() {
    let Some(mut model) = holds("columns") else { return };
    assert_eq!(probe::shares(&mut *model), probe::Found::Shares);
    let scored = predict::protocol::scoring::csv(b"miles,carrier\n100,AA\n2500,DL\n").unwrap();
    let inputs = scored.bind(model.signature(), model.metadata()).unwrap();
    assert_eq!(inputs[0].strings().collect::<Vec<_>>(), [b"AA", b"DL"]);
    assert_eq!(model.run(&inputs, &[0]).unwrap()[0].shape(), [2]);
}

#[test]
fn boosted_trees_are_shared_though_their_file_says_one_row() {
    let Some(mut model) = holds("trees") else { return };
    assert_eq!(model.signature().outputs[0].to_string(), "label INT64[?]");
    assert_eq!(probe::shares(&mut *model), probe::Found::Shares);
}

#[test]
fn a_model_of_fixed_rows_takes_those() {
    let Some(mut model) = load("logreg-iris.onnx") else { return };
    assert_eq!(model.signature().inputs[0].to_string(), "float_input FP32[3, 2]");
    assert_eq!(probe::shares(&mut *model), probe::Found::Fixed);
    let rows = Tensor::of(DataType::Fp32, vec![3, 2], vec![5.1f32, 3.5, 6.3, 2.5, 6.0, 3.0]).unwrap();
    assert_eq!(model.run(&[rows], &[1]).unwrap()[0].shape(), [3, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_callers_of_a_real_model_each_have_their_own_answer() {
    let (Some((model, ..)), Some((mut alone, ..))) = (own("trees"), own("trees")) else { return };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let settings = Settings { inline: std::time::Duration::ZERO, ..Settings::default() };
    let batcher = Arc::new(Batcher::start("trees", vec![model], settings, clock.clone()).unwrap());
    let mut all = Vec::new();
    for caller in 0..64 {
        let (batcher, clock) = (batcher.clone(), clock.clone());
        all.push(pipeline::task::spawn("caller", async move {
            let mut got = Vec::new();
            for n in 0..20 {
                let row = (0..20).map(|f| ((caller * 31 + n * 7 + f * 3) % 41) as f32 / 10.0 - 2.0).collect();
                let x = Tensor::of::<f32>(DataType::Fp32, vec![1, 20], row).unwrap();
                let until = Deadline::from_now(clock.now(), std::time::Duration::from_secs(60));
                let done = batcher.run(vec![x.clone()], Arc::new([0, 1]), until).await.unwrap();
                got.push((x, done.outputs));
            }
            got
        }));
    }
    for caller in all {
        for (x, outputs) in caller.await.unwrap() {
            assert_eq!(outputs, alone.run(&[x], &[0, 1]).unwrap());
        }
    }
    let counts = batcher.counts();
    assert_eq!(counts.answered, 64 * 20);
    assert!(counts.all_runs().runs < 64 * 20, "nothing was ever run together");
}
