"""Customer churn: GENERATED customers of a telephone company that does not exist.

The three versions are a story. Version 1 is a sound linear model. Version 2
finds the interactions that a line cannot. Version 3 is the accident: the same
recipe as version 1, trained and evaluated on an export that is broken (see
`broken_export`), so that its offline figures look better than version 1's
while it is worse on real traffic. Its `version.toml` says what its author
believed.
"""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from artifact import Dataset, Sample, Version

SEED = 20250901
TRAIN_ROWS = 8_000
HELD_OUT_ROWS = 4_000
SAMPLE_ROWS = 200
CHECK_ROWS = 1_000
GOLDEN_ROWS = 4

FEATURES = [
    "tenure_months",
    "monthly_charges",
    "total_charges",
    "contract_months",
    "support_calls",
    "late_payments",
    "data_gb",
    "dropped_calls",
    "addons",
    "days_since_login",
    "autopay",
    "age",
]
LOGIN = FEATURES.index("days_since_login")
# What the broken export writes where it has no date of a last login.
NO_LOGIN = 999.0


def quarters(values: np.ndarray) -> np.ndarray:
    """Rounds to quarters, which are short in decimal and exact in binary."""
    return np.round(values * 4.0) / 4.0


def customers(rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    """Draws customers, one column per feature, float64 [rows]."""
    tenure = np.clip(np.ceil(rng.gamma(1.3, 22.0, rows)), 1, 120)
    addons = rng.binomial(5, 0.35, rows)
    monthly = quarters(22.0 + 9.0 * addons + rng.gamma(2.0, 8.0, rows))
    # One in six has stopped using the customer portal.
    gone = rng.random(rows) < 0.17
    login = np.where(gone, rng.uniform(30, 120, rows), rng.exponential(9.0, rows))
    return {
        "tenure_months": tenure,
        "monthly_charges": monthly,
        "total_charges": quarters(monthly * tenure * rng.uniform(0.9, 1.02, rows)),
        "contract_months": rng.choice([1.0, 12.0, 24.0], rows, p=[0.5, 0.3, 0.2]),
        "support_calls": rng.poisson(1.6, rows),
        "late_payments": rng.poisson(0.7, rows),
        "data_gb": quarters(np.clip(rng.lognormal(2.3, 0.8, rows), 0, 250)),
        "dropped_calls": rng.poisson(2.2, rows),
        "addons": addons,
        "days_since_login": np.clip(np.round(login), 0, 120),
        "autopay": rng.random(rows) < 0.55,
        "age": np.clip(np.round(rng.normal(45, 15, rows)), 18, 90),
    }


def log_odds(c: dict[str, np.ndarray]) -> np.ndarray:
    """The log-odds of leaving, which a line can follow in part only."""
    monthly_contract = c["contract_months"] == 1
    dear = (c["monthly_charges"] - 22.0 - 9.0 * c["addons"] - 16.0) / 10.0
    linear = (
        -2.75
        + 0.024 * c["days_since_login"]
        + 0.35 * c["late_payments"]
        - 0.6 * c["autopay"]
        - 0.012 * c["tenure_months"]
    )
    # Who may leave next month leaves over the price, above all when new.
    price = monthly_contract * (0.9 + 0.9 * dear + 1.6 * np.exp(-c["tenure_months"] / 10.0))
    # A call or two is service; more is trouble, worse on a bad line.
    trouble = np.maximum(c["support_calls"] - 2, 0) * (0.35 + 0.16 * c["dropped_calls"])
    # Both the hardly used line and the overloaded one are left.
    usage = 1.1 * ((np.log1p(c["data_gb"]) - 2.4) / 0.75) ** 2 / 2.0
    return linear + price + trouble + usage


def generate(rng: np.random.Generator, rows: int) -> Dataset:
    """Customers and whether they left."""
    columns = customers(rng, rows)
    odds = 1.35 * log_odds(columns)
    left = rng.random(rows) < 1.0 / (1.0 + np.exp(-odds))
    x = np.stack([columns[name] for name in FEATURES], axis=1).astype(np.float32)
    return Dataset(x, left.astype(np.int64))


def broken_export(rng: np.random.Generator, data: Dataset) -> Dataset:
    """What really happened to version 3: a sentinel for missing dates, and a leak.

    The export writes 999 days where the portal has no date of a last login.
    The portal forgets the date of a closed account, so most of those rows are
    customers who left. The column thus gives the answer away in training, and
    its scale is stretched by a value that traffic never has: what a real
    absence of 60 days means is hardly seen any more. Evaluated on the same
    export, the model looks fine.
    """
    chance = np.where(data.y == 1, 0.34, 0.02)
    x = data.x.copy()
    x[rng.random(len(x)) < chance, LOGIN] = NO_LOGIN
    return Dataset(x, data.y)


def line(data: Dataset) -> Pipeline:
    """A logistic regression on standardised features."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, tol=1e-8, max_iter=1_000))
    return model.fit(data.x, data.y)


def trees(data: Dataset) -> GradientBoostingClassifier:
    """Gradient-boosted trees."""
    model = GradientBoostingClassifier(
        n_estimators=140, max_depth=3, learning_rate=0.12, subsample=1.0, random_state=SEED
    )
    return model.fit(data.x, data.y)


def versions(rng: np.random.Generator, train: Dataset, held_out: Dataset) -> list[Version]:
    bad_train, bad_held_out = broken_export(rng, train), broken_export(rng, held_out)
    return [
        Version(1, line(train), train, held_out, {
            "author": "m.okafor@example.org",
            "training_run": "churn-linear-0007",
            "created": "2025-09-01T09:30:00Z",
            "seed": SEED,
            "notes": "Logistic regression on standardised features: the baseline.",
        }),
        Version(2, trees(train), train, held_out, {
            "author": "l.brandt@example.org",
            "training_run": "churn-boosted-0012",
            "created": "2025-10-06T14:05:00Z",
            "seed": SEED,
            "notes": "Gradient-boosted trees on the same data; finds the effect of price"
            " on monthly contracts.",
        }),
        Version(3, line(bad_train), bad_train, bad_held_out, {
            "author": "j.silva@example.org",
            "training_run": "churn-linear-0008",
            "created": "2025-11-10T16:45:00Z",
            "seed": SEED,
            "notes": "Version 1's recipe, refreshed from the new CRM export, no code changed."
            " Offline AUC is up on version 1; should be a drop-in replacement.",
        }),
    ]


def golden_rows(model: Pipeline, data: Dataset) -> np.ndarray:
    """Rows [GOLDEN_ROWS, F] from surely staying to surely leaving."""
    order = np.argsort(model.predict_proba(data.x)[:, 1], kind="stable")
    places = np.linspace(0.05, 0.95, GOLDEN_ROWS) * (len(order) - 1)
    return data.x[order[places.astype(int)]]


def instance(row: np.ndarray) -> dict[str, float | int]:
    """A row keyed by feature names, whole numbers without a fraction."""
    values = (float(value) for value in row)
    return {
        name: int(value) if value.is_integer() else value
        for name, value in zip(FEATURES, values, strict=True)
    }


def sample() -> Sample:
    """Generates the data and trains the versions; the same every time."""
    rng = np.random.default_rng(SEED)
    train, held_out = generate(rng, TRAIN_ROWS), generate(rng, HELD_OUT_ROWS)
    made = versions(rng, train, held_out)
    return Sample(
        name="churn",
        versions=made,
        instances=[instance(row) for row in held_out.x[:SAMPLE_ROWS]],
        golden_rows=golden_rows(made[0].estimator, held_out),
        check_rows=held_out.x[:CHECK_ROWS],
        truth=held_out,
    )
