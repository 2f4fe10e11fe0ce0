#!/usr/bin/env python3
"""What watching costs: two gateways on one core in turns, one that watches nothing and one that does.

    cargo build --release && cargo build --release -p loadtest
    python3 benches/watching.py --keep 10% --pairs 12

Core 0 is the gateways', core 1 the generator's; nothing else should run. Needs Python 3 alone.
Prints each pair, then medians of the pairs' ratios with the interval that holds the median in
at least 95 % of cases by their order alone (of fewer than six pairs: all that there are).
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request
from math import comb
from pathlib import Path

FEATURES = ", ".join(f'"f{i}"' for i in range(16))
OFF = f"features = [{FEATURES}]\n[monitor]\ndrift = false\n"
ON = f"features = [{FEATURES}]\n"
LABELS = 'task = "classification"\n[labels]\nkeep = "{}"\n[groups.g]\ncolumn = "f0"\nvalues = ["0", "1"]\n'
UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}


def serve(binary: Path, folder: Path, port: int, alerts: str) -> subprocess.Popen:
    at = lambda n: f"127.0.0.1:{port + n}"
    settings = {
        "SERVER_THREADS": "1",
        "SERVER_LISTEN": at(0),
        "GRPC_LISTEN": at(1),
        "ADMIN_LISTEN": at(2),
        "ALERTS_ENABLED": alerts,
    }
    env = os.environ | {f"FORESHADOW_{name}": value for name, value in settings.items()}
    command = ["taskset", "-c", "0", binary, "serve", "--models", folder / "models", "--state", folder / "state"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://{at(0)}/v1/models/mlp", timeout=1)
            return process
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the gateway is not ready after a minute")


def load(loadtest: Path, rows: Path, port: int, *more: str) -> tuple[float, float]:
    """CPU per request and the p99 of the service time, in microseconds."""
    url = f"http://127.0.0.1:{port}/predict/mlp"
    command = ["taskset", "-c", "1", loadtest, "run", "--url", url, "--rows", rows]
    command += ["--connections", "32", "--warmup", "500ms", *more]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    cpu = re.search(r"server\s+([\d.]+) (us|ms) of CPU", text)
    p99 = re.search(r"service time\s+(?:[\d.]+ \w+\s+){2}([\d.]+) (\w+)", text)
    if "4xx 0, 5xx 0" not in text or not cpu or not p99:
        raise SystemExit(text)
    return tuple(float(found[1]) * UNITS[found[2]] for found in (cpu, p99))


def told(name: str, pairs: list[tuple[float, float]]) -> str:
    ratios = sorted(on / off for off, on in pairs)
    n, left = len(ratios), 0
    while left < (n - 1) // 2 and 2 * sum(comb(n, i) for i in range(left + 1)) / 2**n <= 0.05:
        left += 1
    left = max(left - 1, 0)
    off, on = (statistics.median(side) for side in zip(*pairs))
    middle = statistics.median(ratios)
    return f"{name}: {off:.1f} -> {on:.1f} us, {middle:.2f} ({ratios[left]:.2f} to {ratios[n - 1 - left]:.2f})"


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--keep", help="the share of answers kept for labels; without it drift alone is on")
    asked.add_argument("--pairs", type=int, default=12)
    asked.add_argument("--rate", default="8000", help="requests a second of the open loop")
    asked.add_argument("--target", type=Path, default=Path("target/release"), help="where both programs are")
    args = asked.parse_args()
    loadtest, binary = args.target / "loadtest", args.target / "foreshadow"
    with tempfile.TemporaryDirectory() as root:
        running, ports = [], {}
        for place, (name, text) in enumerate({"off": OFF, "on": (LABELS.format(args.keep) if args.keep else "")}.items()):
            model = Path(root, name, "models/mlp")
            layers = ["--layers", "16,64,64,10"]
            subprocess.run([loadtest, "model", *layers, "--output", model / "1"], check=True, stdout=subprocess.DEVNULL)
            (model / "model.toml").write_text(text if name == "off" else ON + text)
            ports[name] = 8100 + 10 * place
            running.append(serve(binary, Path(root, name), ports[name], name))
        rows = Path(root, "rows.json")
        shutil.copy(Path(root, "off/models/mlp/sample.json"), rows)
        try:
            # Bins are learnt from the first rows.
            for port in ports.values():
                load(loadtest, rows, port, "--closed", "--for", "3s")
            time.sleep(3)
            found = []
            for pair in range(args.pairs):
                turns = list(ports.items())[:: -1 if pair % 2 else 1]
                full = {name: load(loadtest, rows, port, "--closed", "--for", "2s") for name, port in turns}
                open_ = {name: load(loadtest, rows, port, "--rate", args.rate, "--for", "4s") for name, port in turns}
                found.append([(of["off"][i], of["on"][i]) for of, i in ((full, 0), (open_, 0), (open_, 1))])
                print(*(f"{off:.1f} -> {on:.1f}" for off, on in found[-1]), sep=" | ", flush=True)
            names = ("CPU per request, saturated", f"CPU per request at {args.rate}/s", f"p99 at {args.rate}/s")
            for name, pairs in zip(names, zip(*found)):
                print(told(name, list(pairs)))
        finally:
            for process in running:
                process.terminate()
                process.wait()


if __name__ == "__main__":
    main()
