"""Holds the gateway to its OpenAPI documents, with schemathesis.

    tests/clients/openapi [--requests 10000]

Starts the real program and sends it at least that many requests, half of them
to the inference API and half to the admin API: no status that is not
documented, no 5xx, no reply against its schema, and nothing accepted that the
document forbids (or the reverse). What was found is printed with a curl line.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support import gateway, models

HERE = Path(__file__).parent
# Where each API describes itself.
DOCUMENTS = {"inference": "/v2/openapi.json", "admin": "/v1/openapi.json"}
# Examples for each operation in a round; the seed differs by round.
EXAMPLES_MAX = 400
ROUNDS_MAX = 50


def run(base: str, document: str, seed: int, examples: int, folder: Path) -> tuple[int, int]:
    """One run; how many requests it sent, and its exit code."""
    command = [
        Path(sys.executable).with_name("schemathesis"),
        *("--config-file", HERE / "schemathesis.toml"),
        *("run", base + document),
        *("--phases", "examples,coverage,fuzzing"),
        *("--seed", str(seed), "--max-examples", str(examples)),
    ]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        print(done.stdout, flush=True)
    sent = re.search(r"^\s*(\d+) generated", done.stdout, re.MULTILINE)
    return int(sent[1]) if sent else 0, done.returncode


def test(name: str, base: str, wanted: int, examples: int, folder: Path) -> bool:
    """Runs until so many requests were sent; whether all was well."""
    sent = 0
    for seed in range(1, ROUNDS_MAX + 1):
        more, code = run(base, DOCUMENTS[name], seed, examples, folder)
        sent += more
        print(f"{name}: {sent} requests after round {seed}", flush=True)
        if code != 0 or more == 0:
            return False
        if sent >= wanted:
            return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description="Holds the gateway to its OpenAPI documents.")
    parser.add_argument("--requests", type=int, default=10_000, help="at least, to both APIs together")
    parser.add_argument("--examples", type=int, default=EXAMPLES_MAX, help="for an operation, a round")
    parser.add_argument("--api", choices=DOCUMENTS, action="append", help="only this one")
    arguments = parser.parse_args()
    names = arguments.api or list(DOCUMENTS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "models").mkdir()
        served = gateway.start(models.repository(folder / "models"), folder / "state")
        wanted = -(-arguments.requests // len(names))

        def each(api: str) -> bool:
            return test(api, f"http://{served.addresses[api]}", wanted, arguments.examples, folder)

        with ThreadPoolExecutor(len(names)) as pool:
            good = list(pool.map(each, names))
        code = served.stop()
    passed = sum(good)
    print(f"{passed} passed, {len(good) - passed} failed")
    return 0 if all(good) and code == 0 else 1


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUTF8", "1")
    sys.exit(main())
