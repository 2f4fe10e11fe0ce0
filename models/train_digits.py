"""Handwritten digits: real data, the set that is bundled with scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from artifact import Dataset, Sample, Version

SEED = 20250902
HELD_OUT_SHARE = 0.3
SAMPLE_ROWS = 50
GOLDEN_ROWS = 4


def forest(data: Dataset) -> RandomForestClassifier:
    """A random forest, kept small."""
    model = RandomForestClassifier(
        n_estimators=9, max_leaf_nodes=48, random_state=SEED, n_jobs=1
    )
    return model.fit(data.x, data.y)


def network(data: Dataset) -> MLPClassifier:
    """A network of 64, 48 and 10 units."""
    model = MLPClassifier((48,), alpha=0.1, batch_size=64, max_iter=60, tol=0.0, random_state=SEED)
    with warnings.catch_warnings():
        # A fixed number of epochs is what is wanted.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # In float64, rounding differences between machines stay far below
        # what the check tolerates; in float32 they would grow over the epochs.
        return model.fit(data.x.astype(np.float64), data.y)


def versions(train: Dataset, held_out: Dataset) -> list[Version]:
    return [
        Version(1, forest(train), train, held_out, {
            "author": "m.okafor@example.org",
            "training_run": "digits-forest-0003",
            "created": "2025-08-18T08:15:00Z",
            "seed": SEED,
            "notes": "A small random forest on raw pixels.",
        }),
        Version(2, network(train), train, held_out, {
            "author": "l.brandt@example.org",
            "training_run": "digits-network-0005",
            "created": "2025-09-22T11:40:00Z",
            "seed": SEED,
            "notes": "One hidden layer of 48 units on raw pixels; a fifth of version 1's errors.",
        }),
    ]


def sample() -> Sample:
    """Splits the digits and trains the versions; the same every time."""
    x, y = load_digits(return_X_y=True)
    rows = Dataset(x.astype(np.float32), y.astype(np.int64))
    train_x, test_x, train_y, test_y = train_test_split(
        rows.x, rows.y, test_size=HELD_OUT_SHARE, random_state=SEED, stratify=rows.y
    )
    train, held_out = Dataset(train_x, train_y), Dataset(test_x, test_y)
    return Sample(
        name="digits",
        versions=versions(train, held_out),
        instances=[[int(pixel) for pixel in row] for row in held_out.x[:SAMPLE_ROWS]],
        golden_rows=held_out.x[-GOLDEN_ROWS:],
        check_rows=rows.x,
        truth=held_out,
    )
