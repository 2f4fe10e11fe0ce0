"""The matrix: one line per model, and the data sets it is trained on.

(model, "data set, ...", options...) makes one exported model per data set.
Options: `name` where the class's own does not say enough, `zipmap=True` for an
output of dictionaries (skl2onnx's default), `export` for the converter's
options, `opset` where a converter knows only older ones.
"""

from catboost import CatBoostClassifier, CatBoostRegressor
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.compose import ColumnTransformer
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA, IncrementalPCA, KernelPCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import *
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.feature_selection import *
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import *
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.model_selection import GridSearchCV, TunedThresholdClassifierCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import *
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import *
from sklearn.random_projection import GaussianRandomProjection
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR, NuSVC, NuSVR, OneClassSVM
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor
from xgboost import XGBClassifier, XGBRegressor, XGBRFClassifier, XGBRFRegressor

ALL = "binary, multi, words"
TREES = {"n_estimators": 8, "max_depth": 5, "random_state": 0}
SEED = {"random_state": 0}
MLP = {"hidden_layer_sizes": (16, 8), "max_iter": 60, **SEED}
CAT = {"iterations": 10, "depth": 4, "verbose": 0, "thread_count": 1, "allow_writing_files": False, "random_seed": 0}
LGBM = {"n_estimators": 10, "n_jobs": 1, "verbose": -1, **SEED}
XGB = {"n_estimators": 10, "max_depth": 4, "n_jobs": 1, **SEED}


def logistic():
    return LogisticRegression(max_iter=500)


def customers(model):
    """What a churn model looks like: each kind of column in its own way."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    columns = ColumnTransformer([
        ("numbers", numbers, ["age", "income"]),
        ("words", OneHotEncoder(handle_unknown="ignore"), ["plan", "city"]),
        ("counts", StandardScaler(), ["calls"]),
    ])
    return make_pipeline(columns, model)


def ordinal(model):
    columns = ColumnTransformer([
        ("words", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["plan", "city"]),
        ("numbers", SimpleImputer(), ["age", "income"]),
    ], sparse_threshold=0)
    return make_pipeline(columns, model)


LINES = [
    # Linear classifiers.
    (logistic(), ALL + ", breast_cancer"),
    (logistic(), "binary, two_words, words, double", {"zipmap": True}),
    (LogisticRegressionCV(Cs=3, cv=3, max_iter=300, l1_ratios=(0,), use_legacy_attributes=False), ALL),
    (SGDClassifier(loss="log_loss", **SEED), ALL),
    (SGDClassifier(**SEED), ALL, {"name": "SGDClassifier-hinge"}),
    (SGDClassifier(loss="modified_huber", **SEED), "binary, multi", {"name": "SGDClassifier-huber"}),
    (Perceptron(**SEED), ALL),
    (PassiveAggressiveClassifier(**SEED), ALL),
    (RidgeClassifier(), ALL + ", labels"),
    (RidgeClassifierCV(), ALL),
    (LinearDiscriminantAnalysis(), ALL + ", wine"),
    (QuadraticDiscriminantAnalysis(), ALL + ", iris"),
    (SGDOneClassSVM(**SEED), "features"),
    # Support vectors.
    (SVC(), ALL),
    (SVC(probability=True, **SEED), ALL, {"name": "SVC-probability"}),
    (SVC(kernel="poly", probability=True, **SEED), "binary, multi", {"name": "SVC-poly"}),
    (SVC(kernel="linear"), "binary, multi", {"name": "SVC-linear"}),
    (SVC(kernel="sigmoid"), "binary, multi", {"name": "SVC-sigmoid"}),
    (SVC(probability=True, **SEED), "two_words", {"zipmap": True}),
    (NuSVC(probability=True, **SEED), ALL),
    (LinearSVC(**SEED), ALL),
    (make_pipeline(StandardScaler(), SVC(probability=True, **SEED)), "breast_cancer"),
    (SVR(), "regression"),
    (SVR(kernel="poly"), "regression", {"name": "SVR-poly"}),
    (NuSVR(), "regression"),
    (LinearSVR(**SEED), "regression"),
    (OneClassSVM(), "features"),
    # Trees and their ensembles.
    (DecisionTreeClassifier(max_depth=6, **SEED), ALL + ", labels"),
    (ExtraTreeClassifier(max_depth=6, **SEED), ALL),
    (RandomForestClassifier(**TREES), ALL + ", labels, digits"),
    (RandomForestClassifier(**TREES), "binary, words", {"zipmap": True}),
    (ExtraTreesClassifier(**TREES), ALL),
    (GradientBoostingClassifier(**TREES), ALL),
    (HistGradientBoostingClassifier(max_iter=10, **SEED), ALL + ", holes"),
    (AdaBoostClassifier(n_estimators=8, **SEED), ALL),
    (BaggingClassifier(n_estimators=4, **SEED), ALL),
    (BaggingClassifier(logistic(), n_estimators=4, **SEED), "binary", {"name": "BaggingClassifier-logistic"}),
    (DecisionTreeRegressor(max_depth=6, **SEED), "regression, regressions"),
    (ExtraTreeRegressor(max_depth=6, **SEED), "regression, regressions"),
    (RandomForestRegressor(**TREES), "regression, regressions, diabetes"),
    (ExtraTreesRegressor(**TREES), "regression, regressions"),
    (GradientBoostingRegressor(**TREES), "regression"),
    (HistGradientBoostingRegressor(max_iter=10, **SEED), "regression"),
    (AdaBoostRegressor(n_estimators=8, **SEED), "regression"),
    (BaggingRegressor(n_estimators=4, **SEED), "regression"),
    (IsolationForest(n_estimators=8, **SEED), "features"),
    (RandomTreesEmbedding(n_estimators=3, max_depth=3, **SEED), "features"),
    # Ensembles of different models.
    (VotingClassifier([("a", logistic()), ("b", GaussianNB())], voting="soft", flatten_transform=False), ALL),
    (VotingClassifier([("a", logistic()), ("b", GaussianNB())], flatten_transform=False), "binary, multi", {"name": "VotingClassifier-hard"}),
    (StackingClassifier([("a", logistic()), ("b", RandomForestClassifier(**TREES))], logistic(), cv=3), ALL),
    (VotingRegressor([("a", LinearRegression()), ("b", RandomForestRegressor(**TREES))]), "regression"),
    (StackingRegressor([("a", Ridge()), ("b", RandomForestRegressor(**TREES))], Ridge(), cv=3), "regression"),
    (CalibratedClassifierCV(logistic(), cv=3), ALL),
    (CalibratedClassifierCV(RandomForestClassifier(**TREES), method="isotonic", cv=3), "binary, multi", {"name": "CalibratedClassifierCV-isotonic"}),
    (OneVsRestClassifier(logistic()), ALL + ", labels"),
    (OneVsOneClassifier(logistic()), "multi, words"),
    (MultiOutputClassifier(logistic()), "labels"),
    (MultiOutputRegressor(Ridge()), "regressions"),
    (GridSearchCV(logistic(), {"C": [0.1, 1]}, cv=3), "binary"),
    (TunedThresholdClassifierCV(logistic(), cv=3), "binary"),
    # Naive Bayes, neighbours, Gaussian processes, networks.
    (GaussianNB(), ALL),
    (BernoulliNB(), ALL),
    (MultinomialNB(), "counts"),
    (ComplementNB(), "counts"),
    (CategoricalNB(), "codes"),
    (KNeighborsClassifier(), ALL),
    (KNeighborsClassifier(weights="distance", metric="manhattan"), "multi", {"name": "KNeighborsClassifier-distance"}),
    (KNeighborsClassifier(), "binary", {"name": "KNeighborsClassifier-cdist", "export": {"optim": "cdist"}}),
    (KNeighborsRegressor(), "regression, regressions"),
    (KNeighborsRegressor(weights="distance"), "regression", {"name": "KNeighborsRegressor-distance"}),
    (KNeighborsTransformer(n_neighbors=3), "features"),
    (NearestNeighbors(n_neighbors=3, radius=None), "features"),
    (RadiusNeighborsClassifier(radius=30.0), "binary"),
    (RadiusNeighborsRegressor(radius=30.0), "regression"),
    (LocalOutlierFactor(novelty=True), "features"),
    (NeighborhoodComponentsAnalysis(n_components=3, max_iter=10, **SEED), "binary"),
    (GaussianProcessClassifier(RBF(2.0), optimizer=None), "binary, multi"),
    (GaussianProcessClassifier(RBF(2.0), optimizer=None), "double"),
    (GaussianProcessRegressor(RBF(2.0) + WhiteKernel(1.0), optimizer=None), "regression, double_regression"),
    (MLPClassifier(**MLP), ALL + ", labels, digits"),
    (MLPClassifier(activation="logistic", **MLP), "binary", {"name": "MLPClassifier-logistic"}),
    (MLPRegressor(**MLP), "regression, regressions"),
    # Linear regression.
    (LinearRegression(), "regression, regressions, diabetes, double_regression"),
    (Ridge(), "regression, regressions"),
    (RidgeCV(), "regression"),
    (Lasso(), "regression"),
    (LassoCV(cv=3), "regression"),
    (ElasticNet(), "regression"),
    (ElasticNetCV(cv=3), "regression"),
    (Lars(), "regression"),
    (LarsCV(cv=3), "regression"),
    (LassoLars(), "regression"),
    (LassoLarsCV(cv=3), "regression"),
    (LassoLarsIC(), "regression"),
    (OrthogonalMatchingPursuit(), "regression"),
    (OrthogonalMatchingPursuitCV(cv=3), "regression"),
    (BayesianRidge(), "regression"),
    (ARDRegression(), "regression"),
    (HuberRegressor(max_iter=500), "regression"),
    (TheilSenRegressor(max_subpopulation=50, **SEED), "regression"),
    (RANSACRegressor(**SEED), "regression"),
    (QuantileRegressor(), "regression"),
    (SGDRegressor(**SEED), "regression"),
    (PassiveAggressiveRegressor(**SEED), "regression"),
    (PoissonRegressor(), "amounts"),
    (GammaRegressor(), "amounts"),
    (TweedieRegressor(power=1.5, link="log"), "amounts"),
    (MultiTaskElasticNet(), "regressions"),
    (MultiTaskElasticNetCV(cv=3), "regressions"),
    (MultiTaskLasso(), "regressions"),
    (MultiTaskLassoCV(cv=3), "regressions"),
    (PLSRegression(2), "regression, regressions"),
    # Clusters and mixtures.
    (KMeans(3, n_init=1, **SEED), "features"),
    (MiniBatchKMeans(3, n_init=1, **SEED), "features"),
    (GaussianMixture(3, **SEED), "features, double_features", {"opset": 18}),
    (BayesianGaussianMixture(n_components=3, **SEED), "double_features", {"opset": 18}),
    # Columns into other columns.
    (StandardScaler(), "features"),
    (MinMaxScaler(clip=True), "features"),
    (MaxAbsScaler(), "features"),
    (RobustScaler(), "features"),
    (Normalizer(), "features"),
    (Binarizer(), "features"),
    (PowerTransformer(), "features"),
    (QuantileTransformer(n_quantiles=50, **SEED), "features"),
    (KBinsDiscretizer(4, encode="ordinal"), "features", {"name": "KBinsDiscretizer-ordinal"}),
    (KBinsDiscretizer(4, encode="onehot-dense"), "features"),
    (PolynomialFeatures(2), "features"),
    (FunctionTransformer(), "features"),
    (PCA(3), "features"),
    (PCA(3, whiten=True), "features", {"name": "PCA-whiten"}),
    (IncrementalPCA(3), "features"),
    (KernelPCA(3, kernel="rbf"), "features"),
    (TruncatedSVD(3, **SEED), "features"),
    (GaussianRandomProjection(3, **SEED), "features"),
    (SimpleImputer(), "holes"),
    (SimpleImputer(strategy="most_frequent"), "holes", {"name": "SimpleImputer-frequent"}),
    (SimpleImputer(missing_values="red", strategy="constant", fill_value="none"), "categories", {"name": "SimpleImputer-words"}),
    (KNNImputer(n_neighbors=3), "holes"),
    (OneHotEncoder(handle_unknown="ignore"), "codes, categories"),
    (OneHotEncoder(drop="first"), "categories", {"name": "OneHotEncoder-drop"}),
    (OrdinalEncoder(), "codes, categories"),
    (TargetEncoder(cv=3, **SEED), "codes, categories"),
    (VarianceThreshold(), "features"),
    (SelectKBest(k=3), "binary"),
    (SelectPercentile(percentile=40), "binary"),
    (SelectFpr(), "binary"),
    (SelectFdr(), "binary"),
    (SelectFwe(), "binary"),
    (GenericUnivariateSelect(mode="k_best", param=3), "binary"),
    (SelectFromModel(logistic()), "binary"),
    (RFE(logistic(), n_features_to_select=3), "binary"),
    (RFECV(logistic(), cv=3), "binary"),
    (TfidfVectorizer(lowercase=False), "texts"),
    (CountVectorizer(ngram_range=(1, 2), lowercase=False), "texts"),
    (TfidfTransformer(), "counts"),
    # Pipelines.
    (customers(logistic()), "table"),
    (customers(logistic()), "table", {"zipmap": True}),
    (customers(RandomForestClassifier(**TREES)), "table", {"name": "customers-forest"}),
    (customers(GradientBoostingClassifier(**TREES)), "table", {"name": "customers-boosting"}),
    (customers(HistGradientBoostingRegressor(max_iter=10, **SEED)), "table_regression", {"name": "customers-regressor"}),
    (ordinal(RandomForestClassifier(**TREES)), "table", {"name": "ordinal-forest"}),
    (ordinal(GradientBoostingClassifier(**TREES)), "table", {"name": "ordinal-boosting", "zipmap": True}),
    (make_pipeline(SimpleImputer(), StandardScaler(), logistic()), "holes"),
    (make_pipeline(SimpleImputer(add_indicator=True), logistic()), "holes", {"name": "indicator"}),
    (make_pipeline(OneHotEncoder(handle_unknown="ignore"), logistic()), "categories, codes"),
    (make_pipeline(OrdinalEncoder(), RandomForestClassifier(**TREES)), "categories"),
    (make_pipeline(PCA(4), logistic()), "multi, digits"),
    (make_pipeline(PolynomialFeatures(2), Ridge()), "regression"),
    (make_pipeline(MinMaxScaler(), KNeighborsClassifier()), "multi"),
    (make_pipeline(KBinsDiscretizer(4, encode="onehot-dense"), logistic()), "binary"),
    (make_pipeline(StandardScaler(), MLPClassifier(**MLP)), "words", {"zipmap": True}),
    (make_pipeline(FeatureUnion([("scaled", StandardScaler()), ("parts", PCA(2))]), logistic()), "multi"),
    (make_pipeline(QuantileTransformer(n_quantiles=20, **SEED), logistic()), "binary"),
    (make_pipeline(TfidfVectorizer(lowercase=False), logistic()), "texts"),
    # Boosting libraries.
    (XGBClassifier(**XGB), "binary, multi, holes, breast_cancer"),
    (XGBClassifier(booster="gblinear", **{**XGB, "max_depth": None}), "binary", {"name": "XGBClassifier-linear"}),
    (XGBRFClassifier(**XGB), "binary"),
    (XGBRegressor(**XGB), "regression, regressions, holes, diabetes"),
    (XGBRegressor(objective="count:poisson", **XGB), "amounts", {"name": "XGBRegressor-poisson"}),
    (XGBRFRegressor(**XGB), "regression"),
    (make_pipeline(StandardScaler(), XGBClassifier(**XGB)), "multi"),
    (LGBMClassifier(**LGBM), ALL + ", holes, breast_cancer"),
    (LGBMClassifier(**LGBM), "binary, words", {"zipmap": True}),
    (LGBMClassifier(boosting_type="dart", **LGBM), "binary", {"name": "LGBMClassifier-dart"}),
    (LGBMRegressor(**LGBM), "regression, holes, diabetes"),
    (LGBMRegressor(objective="poisson", **LGBM), "amounts", {"name": "LGBMRegressor-poisson"}),
    (CatBoostClassifier(**CAT), ALL + ", holes, breast_cancer", {"zipmap": True}),
    (CatBoostRegressor(**CAT), "regression, holes, diabetes"),
    (CatBoostRegressor(loss_function="MultiRMSE", **CAT), "regressions", {"name": "CatBoostRegressor-multi"}),
]

# Estimators with a converter that no line uses, and why.
LEFT_OUT = {
    "DictVectorizer": "takes dictionaries, which are no tensors",
    "FeatureHasher": "takes dictionaries or lists of tokens",
    "KernelCenterer": "takes a kernel matrix; part of KernelPCA, which has a line",
    "LabelBinarizer": "for targets, not for features",
    "LabelEncoder": "for targets, not for features",
    "_ConstantPredictor": "a part of OneVsRestClassifier",
    "CastRegressor": "skl2onnx's own",
    "CastTransformer": "skl2onnx's own",
    "ReplaceTransformer": "skl2onnx's own",
}
