//! ONNX's golden cases: each that ONNX Runtime's own Python passes (`oracles/cases.txt`), but for those that the protocol cannot
//! ask.

use std::collections::HashMap;
use std::io::Read;

use half::f16;
use predict::{Artifact, Backend, DataType, LoadSettings, Tensor};
use prost::Message;

use crate::fixtures::{fixture, runtime};
use crate::proto::{self, ModelProto};

const CASES: &str = include_str!("../../oracles/cases.txt");

/// Within what ONNX's own runner allows.
fn same(got: &Tensor, wanted: &Tensor) -> bool {
    let near = |x: f64, y: f64| x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= 1e-7 + 1e-3 * y.abs();
    macro_rules! near {
        ($type:ty, $wide:expr) => {{
            let (a, b) = (got.values::<$type>().unwrap(), wanted.values::<$type>().unwrap());
            a.iter().zip(b.iter()).all(|(x, y)| near($wide(*x), $wide(*y)))
        }};
    }
    if got.shape() != wanted.shape() || got.datatype() != wanted.datatype() {
        return false;
    }
    match got.datatype() {
        DataType::Fp16 => near!(u16, |x| f16::from_bits(x).to_f64()),
        DataType::Fp32 => near!(f32, f64::from),
        DataType::Fp64 => near!(f64, f64::from),
        _ => got.data() == wanted.data(),
    }
}

/// Runs every data set of a case.
fn case(name: &str, files: &HashMap<String, Vec<u8>>, runtime: &dyn Backend) -> Result<(), String> {
    let bytes = &files[&format!("{name}/model.onnx")];
    let graph = ModelProto::decode(&**bytes).unwrap().graph.unwrap();
    let model = runtime.load(&Artifact::Content(bytes.clone().into()), &LoadSettings::default());
    let mut model = model.map_err(|e| e.to_string())?;
    let mut sets: Vec<&str> = files
        .keys()
        .filter_map(|k| k.strip_prefix(name)?.strip_prefix('/')?.split_once('/'))
        .map(|(s, _)| s)
        .collect();
    sets.sort_unstable();
    sets.dedup();
    for set in sets {
        let recorded = |kind: &str, at: usize| {
            files.get(&format!("{name}/{set}/{kind}_{at}.pb")).map(|b| proto::tensor(b))
        };
        let signature = model.signature().clone();
        // Those that have a value of their own in the model are no inputs to a session.
        let given: Vec<&str> = graph
            .input
            .iter()
            .map(|i| i.name.as_str())
            .filter(|n| signature.inputs.iter().any(|f| f.name == *n))
            .collect();
        let by_name = |n: &String| recorded("input", given.iter().position(|g| g == n)?);
        let inputs: Vec<Tensor> = signature.inputs.iter().filter_map(|f| by_name(&f.name)).collect();
        let all: Vec<usize> = (0..signature.outputs.len()).collect();
        let got = model.run(&inputs, &all).map_err(|e| e.to_string())?;
        for (at, got) in got.iter().enumerate() {
            let wanted = recorded("output", at).ok_or("no recorded output")?;
            if !same(got, &wanted) {
                return Err(format!("{set}: output {at}: {got:?} and not {wanted:?}"));
            }
        }
    }
    Ok(())
}

#[test]
fn every_case_that_onnx_runtime_passes_passes() {
    let (Some(runtime), Some(archive)) = (runtime(), fixture("onnx-testdata.tar")) else { return };
    let mut files = HashMap::new();
    let mut archive = tar::Archive::new(std::fs::File::open(archive).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().trim_start_matches("./").to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(path, bytes);
    }
    let (asked, beyond): (Vec<&str>, Vec<&str>) = CASES.lines().partition(|line| !line.contains(' '));
    let failed: Vec<String> = asked
        .iter()
        .filter_map(|name| case(name, &files, &runtime).err().map(|why| format!("{name}: {why}")))
        .collect();
    eprintln!("{} cases asked, {} beyond the protocol, {} failed", asked.len(), beyond.len(), failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
