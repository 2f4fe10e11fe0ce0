"""Writes the seed corpus of the target `load`: the committed models, in
fuzz/corpus/load. Run it in the repository's folder: python3 fuzz/seeds.py
"""

import json
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
CORPUS = ROOT / "fuzz" / "corpus" / "load"
LARGEST = 16_384  # bytes; larger files teach a fuzzer little

CORPUS.mkdir(parents=True, exist_ok=True)
seeds = {}
for name in ["cases", "shapes"]:
    for line in (ROOT / "tests" / "data" / "engine" / f"{name}.jsonl").read_text().splitlines():
        case = json.loads(line)
        seeds[case["name"]] = bytes.fromhex(case["model"])
for path in ROOT.glob("models/*/*/model.onnx"):
    seeds["-".join(path.parts[-3:-1])] = path.read_bytes()
seeds = {name: data for name, data in seeds.items() if len(data) <= LARGEST}
for name, data in seeds.items():
    (CORPUS / name).write_bytes(data)
print(f"{len(seeds)} seeds in {CORPUS}")
