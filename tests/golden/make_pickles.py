"""Make the pickle that later versions must load: ``python -m tests.golden.make_pickles`` writes ``estimators_v1.pkl``.

It must stay as it is as long as pickles of its version are promised to load. It holds fitted estimators, and what they
answered when it was made.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
from sklearn.pipeline import make_pipeline

from fastrnn import RNNClassifier, RNNRegressor, StandardScaler3D
from fastrnn.preprocessing import LagFeatures

PICKLE = Path(__file__).parent / "estimators_v1.pkl"


def main() -> None:
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(length, 2)) for length in (3, 5, 2, 4, 6, 3)]
    y = np.array([x.sum() for x in X])
    made = {"cell": "gru", "units": 2, "max_iter": 2, "tol": None, "random_state": 0, "dtype": "float64"}
    classifier = make_pipeline(StandardScaler3D(), LagFeatures(lags=(0, 1)), RNNClassifier(**made))
    classifier.fit(X, np.where(y > 0, "up", "down"))
    regressor = RNNRegressor(**made).fit(X, y)
    stateful = RNNRegressor(**made, stateful=True)
    stateful.partial_fit(X, y, series=list("abcdef"))
    answers = {
        "classifier": classifier.predict_proba(X),
        "regressor": regressor.predict(X),
        "stateful": stateful.predict(X, series=list("abcdef")),
    }
    found = {"X": X, "y": y, "answers": answers}
    found["estimators"] = {"classifier": classifier, "regressor": regressor, "stateful": stateful}
    PICKLE.write_bytes(pickle.dumps(found, protocol=4))


if __name__ == "__main__":
    main()
