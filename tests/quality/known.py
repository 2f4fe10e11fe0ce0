"""Prints the known answers in the tests of src/analysis/quality/ and of
src/analysis/fairness/, by scikit-learn, numpy and mpmath.

    pip install numpy==2.4.6 scikit-learn==1.9.1 mpmath==1.4.1
    python tests/quality/known.py
"""

import mpmath
import numpy as np
from sklearn import metrics

mpmath.mp.dps = 40


def binary(n):
    """Truth, probability of the positive class."""
    i = np.arange(n)
    part = ((7919 * i) % 10007) / 10007
    p = part * part
    p[i % 101 == 0] = 1.0
    p[i % 97 == 0] = 0.0
    return (((104729 * i + 17) % 1009) / 1009 < p * 0.8 + 0.1).astype(int), p


def several(n, classes):
    """Truth, answer, probabilities."""
    i = np.arange(n)
    weights = np.stack([1 + (i * (31 + 17 * c)) % 101 for c in range(classes)], axis=1)
    p = weights / weights.sum(axis=1, keepdims=True)
    answer = p.argmax(axis=1)
    return np.where((i * i + 7 * i) % 11 < 6, answer, (i * 5 + 3) % classes), answer, p


def numbers(n, base):
    """Truth, answer."""
    i = np.arange(n, dtype=np.int64)
    truth = base + ((7919 * i) % 1000) / 1000
    return truth, truth + ((104729 * i) % 997 - 400.0) / 5000


def calibration_error(p, true):
    bins = np.minimum((p * 10).astype(int), 9)
    each = [np.flatnonzero(bins == b) for b in range(10)]
    return sum(len(rows) / len(p) * abs(true[rows].mean() - p[rows].mean()) for rows in each if len(rows))


def classes(name, truth, answer, p):
    labels = list(range(p.shape[1]))
    print(f"\n// {name}: accuracy, macro F1, log loss, Brier, calibration error; precision, recall, F1 by class")
    if p.shape[1] == 2:
        calibration = calibration_error(p[:, 1], truth)
        print("// AUC", repr(float(metrics.roc_auc_score(truth, p[:, 1]))))
    else:
        calibration = calibration_error(p.max(axis=1), (truth == answer).astype(int))
    print([float(x) for x in (
        metrics.accuracy_score(truth, answer),
        metrics.f1_score(truth, answer, average="macro"),
        metrics.log_loss(truth, p, labels=labels),
        metrics.brier_score_loss(truth, p, labels=labels),
        calibration,
    )])
    found = [f(truth, answer, average=None, labels=labels) for f in (metrics.precision_score, metrics.recall_score, metrics.f1_score)]
    print(np.array(found).T.tolist())


def estimate(p, answer):
    tp, fp = p[answer == 1].sum(), (1 - p[answer == 1]).sum()
    fn, tn = p[answer == 0].sum(), (1 - p[answer == 0]).sum()
    print("// estimate: accuracy, precision, recall, F1")
    print([float(x) for x in ((tp + tn) / len(p), tp / (tp + fp), tp / (tp + fn), 2 * tp / (2 * tp + fp + fn))])


def radius(values, alpha):
    """Waudby-Smith et al., theorem 2.2, narrowest for 1,000 rows."""
    n, twice = len(values), -2 * np.log(alpha)
    rho = (twice + np.log(twice + 1)) / 1000
    return values.std() * np.sqrt(2 * (n * rho + 1) / (n * n * rho) * np.log(np.sqrt(n * rho + 1) / alpha))


def regression(name, truth, answer, alpha=0.05):
    e = answer - truth
    print(f"\n// {name}: MAE, bias, RMSE, R², radii of MAE and bias at {alpha}")
    print([float(x) for x in (
        metrics.mean_absolute_error(truth, answer),
        e.mean(),
        metrics.root_mean_squared_error(truth, answer),
        metrics.r2_score(truth, answer),
        radius(np.abs(e), alpha),
        radius(e, alpha),
    )])


def interval(count, of, alpha):
    half = mpmath.mpf(1) / 2

    def excess(p):
        power = (count * mpmath.log(p) if count else 0) + ((of - count) * mpmath.log(1 - p) if of > count else 0)
        return mpmath.log(mpmath.beta(count + half, of - count + half) / mpmath.pi) - power + mpmath.log(alpha)

    def end(outside):
        inside = mpmath.mpf(count) / of
        outside = mpmath.mpf(outside)
        for _ in range(130):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if excess(middle) >= 0 else (middle, outside)
        return float(outside)

    return 0.0 if count == 0 else end(0), 1.0 if count == of else end(1)


def fairness(thresholds):
    rates = []
    print("\n// selection rate, TPR, FPR, PPV by group")
    for group, threshold in enumerate(thresholds):
        truth, p = (values[group :: len(thresholds)] for values in binary(6000))
        answer = (p >= threshold).astype(int)
        recall, precision = (f(truth, answer) for f in (metrics.recall_score, metrics.precision_score))
        rates.append([answer.mean(), recall, 1 - metrics.recall_score(truth, answer, pos_label=0), precision])
        print([float(x) for x in rates[-1]])
    rates = np.array(rates)
    print("// ranges, ratio of the first")
    print(np.ptp(rates, axis=0).tolist(), float(rates[:, 0].min() / rates[:, 0].max()))


truth, p = binary(2000)
answer = (p >= 0.4).astype(int)
classes("two classes", truth, answer, np.stack([1 - p, p], axis=1))
estimate(p, answer)
classes("four classes", *several(1500, 4))
print("// estimate", repr(float(several(1500, 4)[2].max(axis=1).mean())))
regression("numbers", *numbers(1000, -0.3))
regression("a million numbers", *numbers(1_000_000, 1e6))

print("\n// Proportion: count, of, level, lower, upper")
for count, of, alpha in [
    (0, 1, 0.05), (1, 1, 0.05), (3, 10, 0.05), (0, 100, 0.01), (63, 127, 0.05), (64, 64, 0.05), (950, 1000, 0.05),
    (50, 100_000, 0.001), (999_000, 1_000_000, 0.05), (10**12 // 3, 10**12, 0.05), (7, 10**15, 1e-12),
]:
    lower, upper = interval(count, of, alpha)
    print(f"({count}, {of}, {alpha!r}, {lower!r}, {upper!r}),")

fairness([0.4, 0.3, 0.6])


def misses(draw, mean, alpha=0.05, runs=2000, rows=3000):
    """How often the interval of a mean error ever misses, looked at from 100 rows on."""
    x, n = draw((runs, rows)), np.arange(1, rows + 1)
    means = x.cumsum(axis=1) / n
    deviations = np.sqrt((x * x).cumsum(axis=1) / n - means * means)
    twice = -2 * np.log(alpha)
    rho = (twice + np.log(twice + 1)) / 1000
    radii = deviations * np.sqrt((n * rho + 1) * (np.log(n * rho + 1) + twice) / rho) / n
    return float((np.abs(means - mean) > radii)[:, 99:].any(axis=1).mean())


random = np.random.default_rng(1)
print("\n// of the README: misses of mean errors at 0.05")
print("normal", misses(lambda size: random.normal(size=size), 0))
print("exponential", misses(lambda size: random.exponential(size=size), 1))
for sigma in (1, 1.5):
    print("log-normal", sigma, misses(lambda size: random.lognormal(sigma=sigma, size=size), np.exp(sigma**2 / 2)))
