"""Writes the sets that tests/real.rs draws rows from: scikit-learn's bundled ones, each
row with the score that a model gave it that had not seen it, its label and its group.

    pip install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
    python tests/real/sets.py

cancer.csv    Breast Cancer Wisconsin (Diagnostic), Wolberg et al. 1995, UCI, CC BY 4.0:
              16 of 30 features; is it malignant?
wine.csv      Wine, Aeberhard & Forina 1991, UCI, CC BY 4.0; is it of the second cultivar?
diabetes.csv  442 patients, Efron, Hastie, Johnstone & Tibshirani 2004; is the progression
              above the median?
digits.csv    Optical Recognition of Handwritten Digits, Alpaydin & Kaynak 1998, UCI,
              CC BY 4.0: every other row, the 16 pixels that vary most; is it odd?

`score` is the probability by which a logistic regression answers yes, out of ten folds.
Groups are halves by a feature, as alike as a feature of the set makes them: those with
more of it are `b`. Of the patients it is the sex that the set calls 1, whose cases the model
finds less often.
"""

import csv
import pathlib

import numpy as np
from sklearn import datasets
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDER = pathlib.Path(__file__).parent
# The means, and six of the errors.
CANCER = [*range(10), 10, 11, 14, 16, 18, 19]


def above_median(values):
    return values > np.median(values)


def write(name, features, values, label, group):
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = StratifiedKFold(10, shuffle=True, random_state=0)
    score = cross_val_predict(model, values, label, cv=folds, method="predict_proba")[:, 1]
    rounded = np.round(score, 3)
    assert ((rounded > 0.5) == (score > 0.5)).all()
    with open(FOLDER / f"{name}.csv", "w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow([*(feature.replace(" ", "_") for feature in features), "score", "label", "group"])
        for row, *rest in zip(values, rounded, label, group):
            numbers = [f"{value:.4g}" for value in (*row, rest[0])]
            out.writerow([*numbers, int(rest[1]), "b" if rest[2] else "a"])
    wrong = (score > 0.5) != label
    for part in (False, True):
        of = group == part
        print(f"{name} {'ab'[part]}: {of.sum()} rows, {label[of].mean():.1%} yes, {wrong[of].mean():.1%} wrong")


cancer = datasets.load_breast_cancer()
values = cancer.data[:, CANCER]
names = [str(cancer.feature_names[at]) for at in CANCER]
write("cancer", names, values, cancer.target == 0, above_median(values[:, names.index("mean fractal dimension")]))

wine = datasets.load_wine()
names = [name.replace("/", "_") for name in wine.feature_names]
write("wine", names, wine.data, wine.target == 1, above_median(wine.data[:, names.index("proanthocyanins")]))

diabetes = datasets.load_diabetes(scaled=False)
progressed = above_median(diabetes.target)
write("diabetes", diabetes.feature_names, diabetes.data, progressed, diabetes.data[:, 1] == 1)

digits = datasets.load_digits()
data, target = digits.data[::2], digits.target[::2]
pixels = np.sort(np.argsort(-data.var(axis=0), kind="stable")[:16])
names = [str(digits.feature_names[at]) for at in pixels]
values = data[:, pixels]
write("digits", names, values, target % 2 == 1, above_median(values[:, names.index("pixel_4_4")]))
