"""Prints the known answers in the tests of src/analysis/drift.rs and of
src/analysis/drift/chi_squared.rs, by numpy, SciPy and scikit-learn's bundled data.

    pip install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 mpmath==1.4.1
    python tests/drift/known.py
"""

import mpmath
import numpy as np
from scipy import stats
from scipy.spatial import distance
from sklearn import datasets

APART = 5
mpmath.mp.dps = 40


def places(values, bounds):
    """Missing, NaN, below, above, other, then the bins."""
    counts = np.zeros(APART + len(bounds) - 1, dtype=int)
    counts[1] = np.isnan(values).sum()
    values = values[~np.isnan(values)]
    counts[2], counts[3] = (values < bounds[0]).sum(), (values > bounds[-1]).sum()
    inside = values[(values >= bounds[0]) & (values <= bounds[-1])]
    counts[APART:] = np.histogram(inside, bounds)[0]
    return counts


def halves(reference, window, bins=10):
    bounds = np.unique(np.quantile(reference, np.linspace(0, 1, bins + 1)))
    return places(reference, bounds), places(window, bounds)


def cases():
    cancer = datasets.load_breast_cancer()
    benign, malignant = cancer.data[cancer.target == 1], cancer.data[cancer.target == 0]
    wine = datasets.load_wine()
    digits = datasets.load_digits()
    diabetes = datasets.load_diabetes()
    holes = diabetes.data[221:, 3].copy()
    holes[::9] = np.nan
    yield "breast_cancer, mean radius: first half, second half", halves(cancer.data[:284, 0], cancer.data[284:, 0])
    yield "breast_cancer, mean radius: benign, malignant", halves(benign[:, 0], malignant[:, 0])
    yield "breast_cancer, mean texture: benign, malignant", halves(benign[:, 1], malignant[:, 1])
    yield "wine, alcohol: every second", halves(wine.data[::2, 0], wine.data[1::2, 0])
    yield "wine, proline: cultivar 0, cultivar 1", halves(wine.data[wine.target == 0, 12], wine.data[wine.target == 1, 12], 5)
    yield "digits, pixel 20: first half, second half", halves(digits.data[:898, 20], digits.data[898:, 20])
    zeros = np.zeros(APART, dtype=int)
    labels = [np.bincount(part, minlength=10) for part in (digits.target[:898], digits.target[898:])]
    yield "digits, labels: first half, second half", tuple(np.concatenate([zeros, part]) for part in labels)
    yield "diabetes, bmi: first half, second half", halves(diabetes.data[:221, 2], diabetes.data[221:, 2])
    yield "diabetes, blood pressure: first half, second half with NaN", halves(diabetes.data[:221, 3], holes)
    yield "made: everything elsewhere", (np.array([0, 0, 0, 0, 0, 1000, 0]), np.array([0, 0, 0, 0, 300, 0, 0]))


def shares(reference, window):
    kept = (reference > 0) | (window > 0)
    p, q = reference[kept] + 0.5, window[kept] + 0.5
    return p / p.sum(), q / q.sum()


def both_tails(k, window, share):
    """As Foreshadow has it: twice the tail on whose side it is."""
    tail = stats.binom.sf(window - 1, k, share) if window > k * share else stats.binom.cdf(window, k, share)
    return min(1.0, 2.0 * tail)


print("// psi, jensen_shannon: reference, window, both")
for name, (reference, window) in cases():
    p, q = shares(reference, window)
    psi = float(np.sum((q - p) * np.log(q / p)))
    js = float(distance.jensenshannon(p, q, base=2) ** 2)
    again = float(stats.entropy(p, (p + q) / 2, base=2) + stats.entropy(q, (p + q) / 2, base=2)) / 2
    assert abs(js - again) < 1e-14
    print(f"// {name}\n(&{reference.tolist()}, &{window.tolist()}, {psi!r}, {js!r}),")

print("\n// χ² of homogeneity, all groups large enough: reference bins, window bins, p")
for reference, window in [
    ([100, 200, 300], [60, 90, 150]),
    ([5000, 3000, 2000], [400, 350, 250]),
    ([2000] * 10, [80, 90, 100, 110, 120, 100, 100, 95, 105, 100]),
]:
    p = stats.chi2_contingency(np.array([reference, window]), correction=False).pvalue
    print(f"(&{reference}, &{window}, {float(p)!r}),")

print("\n// two proportions: reference, window, n, m, p")
for reference, window, n, m in [
    (0, 6, 20000, 200), (400, 12, 20000, 200), (20, 60, 1000, 1000), (3, 2, 500, 700),
    (900, 2, 1000, 1000), (20000, 11000, 1000000, 500000), (0, 1, 300, 300),
]:
    print(f"(({reference}.0, {window}.0), ({n}.0, {m}.0), {both_tails(reference + window, window, m / (n + m))!r}),")

print("\n// χ² survival: x, degrees of freedom, by mpmath; SciPy is within 1e-12 where it is not 0")
worst = 0.0
for dof in (1, 2, 3, 9, 10, 19, 68, 100):
    for x in (1e-9, 0.01, 0.5, 1.0, 0.9 * dof, dof + 2.0, 2.5 * dof, 10.0 * dof, 250.0, 1350.0):
        exact = mpmath.gammainc(mpmath.mpf(dof) / 2, mpmath.mpf(x) / 2, regularized=True)
        worst = max(worst, abs(stats.chi2.sf(x, dof) / float(exact) - 1.0))
        print(f"({x!r}, {dof}, {float(exact)!r}),")
print(f"// SciPy's worst: {worst:.1e}")

print("\n// χ² quantile: alpha, degrees of freedom, SciPy's isf")
for dof in (1, 2, 9, 14, 68):
    for alpha in (0.5, 0.05, 0.01, 1e-6, 1e-12):
        print(f"({alpha!r}, {dof}, {float(stats.chi2.isf(alpha, dof))!r}),")

print("\n// Benjamini and Hochberg: p-values, rejected at 0.05")
for p in [
    [0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205, 0.212, 0.216],
    [0.01, 0.02, 0.03, 0.04, 0.05],
    [0.03, 0.03, 0.5, 0.03],
    [0.02, 0.9, 0.9],
    [0.016, 0.9, 0.9],
]:
    rejected = [bool(q <= 0.05 + 1e-15) for q in stats.false_discovery_control(p)]
    print(f"(&{p}, &{rejected}),")
