"""Trains the sample models and writes them into the repository beside this file.

    python models/train.py            train, write every version, print the quality
    python models/train.py --check    train, compare with what is committed, write nothing

Needs Python 3.11 and requirements.txt. The same machine gives the same bytes;
another one gives the same answers within the tolerance of `--check`.
"""

from __future__ import annotations

import os
import sys

# Before numpy loads: one thread, so that sums are always taken in one order.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
# This folder is a model repository: a __pycache__ here would look like a model.
sys.dont_write_bytecode = True

import argparse
import hashlib
import subprocess
import tomllib
from pathlib import Path

import numpy as np

import train_churn
import train_digits
from artifact import Sample, answers, quality, to_bytes, write

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-4


def code_commit() -> str | None:
    """The last commit of the training code, marked when the code differs from it."""
    code = ["--", "*.py", "requirements.txt"]
    try:
        commit = git("log", "-1", "--format=%H", *code)
        dirty = git("status", "--porcelain", *code)
    except (OSError, subprocess.CalledProcessError):
        return None
    return (f"{commit}-dirty" if dirty else commit) if commit else None


def git(*arguments: str) -> str:
    run = subprocess.run(
        ["git", "-C", str(HERE), *arguments], check=True, capture_output=True, text=True
    )
    return run.stdout.strip()


def samples() -> list[Sample]:
    """Trains everything."""
    made = [train_churn.sample(), train_digits.sample()]
    declared = tomllib.loads((HERE / "churn" / "model.toml").read_text())["features"]
    if declared != train_churn.FEATURES:
        raise ValueError(f"churn/model.toml names {declared}, the data has {train_churn.FEATURES}")
    return made


def report(sample: Sample) -> None:
    """Prints the true quality of each version, and how often it differs from version 1."""
    first = None
    for version in sample.versions:
        artifact = to_bytes(sample.name, version)
        label, _ = answers(artifact, sample.truth.x)
        first = label if first is None else first
        figures = quality(artifact, sample.truth)
        shown = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
        differs = np.mean(label != first)
        print(
            f"{sample.name} {version.number}: {len(artifact):>6} bytes  {shown}"
            f"  differs from version 1 on {differs:.1%}"
        )


def check(sample: Sample) -> bool:
    """Compares each retrained version with the committed one; says how it went."""
    whole = True
    for version in sample.versions:
        home = HERE / sample.name / str(version.number)
        committed = (home / "model.onnx").read_bytes()
        faults = faults_of(committed, home, to_bytes(sample.name, version), sample.check_rows)
        print(f"{sample.name} {version.number}: {'; '.join(faults) or 'ok'}")
        whole = whole and not faults
    return whole


def faults_of(committed: bytes, home: Path, trained: bytes, rows: np.ndarray) -> list[str]:
    """What is wrong with a committed artifact, seen from a retrained one."""
    faults = []
    digest = f"sha256:{hashlib.sha256(committed).hexdigest()}"
    stated = tomllib.loads((home / "version.toml").read_text())["artifact_digest"]
    if stated != digest:
        faults.append(f"version.toml states {stated}, model.onnx has {digest}")
    old_label, old = answers(committed, rows)
    new_label, new = answers(trained, rows)
    if old.shape != new.shape:
        return [*faults, f"shape {new.shape}, committed {old.shape}"]
    worst = float(np.max(np.abs(old - new)))
    if not worst <= TOLERANCE:
        faults.append(f"answers differ by {worst:.2e}, more than {TOLERANCE:.0e}")
    # A label may turn only where its probabilities are as good as equal.
    ordered = np.sort(old, axis=1)
    decided = ordered[:, -1] - ordered[:, -2] > 2 * TOLERANCE
    turned = int(np.sum((old_label != new_label) & decided))
    if turned:
        faults.append(f"{turned} of {len(rows)} labels differ")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description="Trains the sample models.")
    parser.add_argument(
        "--check", action="store_true", help="compare with the committed models, write nothing"
    )
    arguments = parser.parse_args()
    made = samples()
    if arguments.check:
        return 0 if all([check(sample) for sample in made]) else 1
    commit = code_commit()
    for sample in made:
        write(HERE, sample, commit)
        report(sample)
    return 0


if __name__ == "__main__":
    sys.exit(main())
