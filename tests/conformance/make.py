"""Writes ONNX's own backend tests, as the pinned `onnx` package makes them.

The layout is ONNX's: DIR/<group>/<test>/model.onnx beside
test_data_set_<i>/input_<j>.pb and output_<j>.pb.

    pip install -r requirements.txt && python make.py DIR
"""

import argparse
import pathlib
import shutil
import warnings

import onnx
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases as collect_node
from onnx.backend.test.case.model import collect_testcases as collect_model

warnings.filterwarnings("ignore")
DATA = pathlib.Path(onnx.__file__).parent / "backend" / "test" / "data"
# The package brings these as files; the "real" ones are downloads of 1 GB.
READY_MADE = ["pytorch-converted", "pytorch-operator"]
SUITE = """\
name = "onnx"
title = "ONNX's backend tests (onnx {version})"

[tolerance]
relative = 1e-3  # the tolerances of ONNX's own runner
absolute = 1e-7
"""


def proto(value, info):
    if hasattr(value, "SerializeToString"):
        return value
    kind = info.type.WhichOneof("value")
    make = {
        "map_type": numpy_helper.from_dict,
        "sequence_type": numpy_helper.from_list,
        "optional_type": numpy_helper.from_optional,
    }.get(kind, numpy_helper.from_array)
    return make(value, info.name)


def write(folder, case):
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(case.model.SerializeToString())
    for i, sides in enumerate(case.data_sets):
        data = folder / f"test_data_set_{i}"
        data.mkdir()
        infos = case.model.graph.input, case.model.graph.output
        for side, values, info in zip(("input", "output"), sides, infos):
            for j, value in enumerate(values):
                (data / f"{side}_{j}.pb").write_bytes(proto(value, info[j]).SerializeToString())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=pathlib.Path)
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / "suite.toml").write_text(SUITE.format(version=onnx.__version__))
    cases = collect_node(None) + [case for case in collect_model() if case.kind == "simple"]
    for case in cases:
        write(out / case.kind / case.name, case)
    for group in READY_MADE:
        shutil.copytree(DATA / group, out / group)
    print(f"{sum(1 for _ in out.rglob('model.onnx'))} cases in {out}")


if __name__ == "__main__":
    main()
