"""The matrix's data sets: name -> a function that makes (x, y).

The last ROWS rows are what the models are asked about, the others what they
are trained on. A y of None is for models that learn without one. A DataFrame
becomes one input per column.
"""

import numpy as np
import pandas as pd
from sklearn import datasets

ROWS = 1000
TRAINING_ROWS = 300
COUNT = ROWS + TRAINING_ROWS


def generated(classes):
    x, y = datasets.make_classification(
        COUNT, 8, n_informative=5, n_redundant=0, n_classes=classes, class_sep=1.0, random_state=classes
    )
    return x.astype(np.float32), y


def binary():
    return generated(2)


def multi():
    return generated(4)


def words():
    x, y = generated(3)
    return x, np.array(["no", "perhaps", "yes"])[y]


def two_words():
    x, y = generated(2)
    return x, np.array(["no", "yes"])[y]


def double():
    x, y = generated(2)
    return x.astype(np.float64), y


def features():
    return generated(3)[0], None


def double_features():
    return generated(3)[0].astype(np.float64), None


def regression(targets=1):
    x, y = datasets.make_regression(COUNT, 8, n_informative=6, n_targets=targets, noise=1.0, random_state=4)
    return x.astype(np.float32), y


def double_regression():
    x, y = regression()
    return x.astype(np.float64), y


def regressions():
    return regression(3)


def amounts():
    """Positive targets, as Gamma and Poisson regression want them."""
    x, y = regression()
    return x, np.exp(y / np.abs(y).max()).astype(np.float32)


def labels():
    """Several labels at once."""
    x, y = datasets.make_multilabel_classification(COUNT, 8, n_classes=3, random_state=5)
    return x.astype(np.float32), y


def counts():
    rng = np.random.default_rng(6)
    x = rng.poisson(2.0, (COUNT, 8)).astype(np.float32)
    return x, (x[:, 0] + x[:, 1] > x[:, 2] + 2).astype(np.int64)


def codes():
    """Categories as small integers."""
    rng = np.random.default_rng(7)
    x = rng.integers(0, 4, (COUNT, 5))
    return x, (x[:, 0] + x[:, 1] > 3).astype(np.int64)


def categories():
    """Categories as words."""
    x, y = codes()
    return np.array(["red", "green", "blue", "a colour"], dtype=object)[x], y


def holes():
    """Numbers, one in ten of which is missing."""
    x, y = generated(2)
    x[np.random.default_rng(8).random(x.shape) < 0.1] = np.nan
    return x, y


def table():
    """A customer table: numbers with holes, whole numbers, words."""
    rng = np.random.default_rng(9)
    age = rng.uniform(18, 90, COUNT).astype(np.float32)
    income = np.exp(rng.normal(10, 0.5, COUNT)).astype(np.float32)
    plan = np.array(["basic", "plus", "premium"], dtype=object)[rng.integers(0, 3, COUNT)]
    city = np.array(["Bern", "Genève", "Zürich", "Basel"], dtype=object)[rng.integers(0, 4, COUNT)]
    calls = rng.poisson(1.5, COUNT)
    y = (age / 90 + (plan == "basic") * 0.5 + calls * 0.2 + rng.normal(0, 0.2, COUNT) > 1.1).astype(np.int64)
    income[rng.random(COUNT) < 0.1] = np.nan
    return pd.DataFrame({"age": age, "income": income, "calls": calls, "plan": plan, "city": city}), y


def table_regression():
    x, y = table()
    return x, (x["age"].to_numpy() * 2.0 + y * 10).astype(np.float32)


def texts():
    rng = np.random.default_rng(10)
    vocabulary = np.array("the service was good bad slow fast and I would come again never price".split())
    x = [" ".join(vocabulary[rng.integers(0, len(vocabulary), rng.integers(3, 12))]) for _ in range(COUNT)]
    y = np.array([int("good" in text or "fast" in text) for text in x])
    return np.array(x, dtype=object).reshape(-1, 1), y


def digits():
    """The images that scikit-learn bundles."""
    x, y = datasets.load_digits(return_X_y=True)
    return x[-COUNT:].astype(np.float32), y[-COUNT:]


def repeated(loader):
    """A bundled set of fewer rows, drawn again with a little noise."""
    x, y = loader(return_X_y=True)
    rng = np.random.default_rng(11)
    at = rng.integers(0, len(x), COUNT)
    return (x[at] * rng.normal(1, 0.02, x[at].shape)).astype(np.float32), y[at]


def breast_cancer():
    return repeated(datasets.load_breast_cancer)


def wine():
    return repeated(datasets.load_wine)


def iris():
    return repeated(datasets.load_iris)


def diabetes():
    return repeated(datasets.load_diabetes)
