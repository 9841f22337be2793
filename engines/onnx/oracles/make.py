"""Records which of ONNX's golden cases (the fixture `onnx-testdata`) ONNX Runtime itself passes: `cases.txt`.

    pip install onnxruntime==1.32.0 onnx==1.22.0 numpy
    python engines/onnx/oracles/make.py ~/.cache/forebay/fixtures/onnx-testdata.tar

A case passes when every output of every data set is the recorded one: equal, or within 1e-3 and 1e-7 for floats, as ONNX's
own runner has it. A line is the case and, where it cannot be asked over the protocol, why: `sequence` and `optional` values,
and `type` for elements that the protocol has no type for (bfloat16, complex numbers).
"""

import pathlib
import sys
import tarfile
import tempfile

import numpy
import onnx
import onnxruntime
from onnx import numpy_helper

OPTIONS = onnxruntime.SessionOptions()
OPTIONS.intra_op_num_threads = 1
OPTIONS.log_severity_level = 4
onnxruntime.set_default_logger_severity(4)


def value(path, info):
    """A recorded value, read as the model declares it."""
    kind = info.type.WhichOneof("value")
    data = path.read_bytes()
    if kind == "tensor_type":
        return numpy_helper.to_array(onnx.TensorProto.FromString(data))
    if kind == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))


def same(got, wanted):
    if isinstance(wanted, list):
        return isinstance(got, list) and len(got) == len(wanted) and all(map(same, got, wanted))
    if wanted is None or got is None:
        return wanted is got
    got, wanted = numpy.asarray(got), numpy.asarray(wanted)
    if got.shape != wanted.shape or got.dtype != wanted.dtype and got.dtype.kind not in "OU":
        return False
    if got.dtype.kind in "fc":
        return numpy.allclose(got, wanted, rtol=1e-3, atol=1e-7, equal_nan=True)
    return bool((got == wanted).all())


def passes(folder, model):
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), OPTIONS, ["CPUExecutionProvider"])
    infos = {i.name: i for i in model.graph.input}
    names = [i.name for i in session.get_inputs()]
    for data in sorted(folder.glob("test_data_set_*")):
        given = [n for n in (i.name for i in model.graph.input) if n in names]
        feed = {n: value(data / f"input_{at}.pb", infos[n]) for at, n in enumerate(given) if (data / f"input_{at}.pb").exists()}
        got = session.run(None, feed)
        for at, info in enumerate(model.graph.output):
            if not same(got[at], value(data / f"output_{at}.pb", info)):
                return False
    return True


KNOWN = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}


def why_not(model):
    """What the protocol cannot carry of a case."""
    for info in [*model.graph.input, *model.graph.output]:
        kind = info.type.WhichOneof("value")
        if kind == "sequence_type":
            return "sequence"
        if kind != "tensor_type":
            return "optional"
        if info.type.tensor_type.elem_type not in KNOWN:
            return "type"
    return None


def main(archive):
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        lines = []
        for path in sorted(pathlib.Path(folder).rglob("model.onnx")):
            try:
                model = onnx.load(str(path), load_external_data=False)
                if not passes(path.parent, model):
                    continue
            except Exception:
                continue
            name = str(path.parent.relative_to(folder))
            reason = why_not(model)
            lines.append(f"{name} {reason}" if reason else name)
    pathlib.Path(__file__).with_name("cases.txt").write_text("\n".join(lines) + "\n")
    print(len(lines), "cases pass,", sum(" " in line for line in lines), "of them beyond the protocol")


main(sys.argv[1])
