"""The choice of validation samples in `fit`."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

__all__ = ["split"]


def split(p: Any, n_samples: int, classes: np.ndarray | None, rng: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return indices of the samples for validation and for training, by the parameters of the estimator `p`.

    Parameters
    ----------
    p : estimator
        Its `validation_fraction` is a number or a splitter; without `shuffle`, a fraction means the last samples.
    n_samples : int
    classes : ndarray of shape (n_samples,), optional
        The class of each sample, to stratify random fractions and splitters.
    rng : RandomState
    """
    choice, samples = p.validation_fraction, np.arange(n_samples)
    lone = _only_ones_of_their_class(classes) if classes is not None else np.zeros(n_samples, bool)
    if not isinstance(choice, Real):
        rest, part = _last_split(choice, n_samples, classes)
    elif p.shuffle and n_samples - lone.sum() > 1:
        stratify = None if classes is None else classes[~lone]
        rest, part = train_test_split(samples[~lone], test_size=choice, random_state=rng, stratify=stratify)
        rest = np.concatenate([rest, samples[lone]])
    else:
        # Without shuffling, samples may be in the order of time: validate on the last ones.
        at = n_samples - math.ceil(float(choice) * n_samples)
        rest, part = samples[:at], samples[at:]
    if len(part) < 2:
        raise ValueError(
            f"The validation set is too small, {len(part)} sample(s). Increase validation_fraction="
            f"{choice} or the number of samples, {n_samples}."
        )
    if len(rest) == 0:
        raise ValueError(f"validation_fraction={choice} of {n_samples} samples leaves none to train on.")
    return np.sort(part), np.sort(rest)


def _only_ones_of_their_class(classes: np.ndarray) -> np.ndarray:
    """Which samples have a class that no other has: they can't be divided, and are trained on."""
    _, index, counts = np.unique(classes, return_inverse=True, return_counts=True)
    result: np.ndarray = counts[index] == 1
    return result


def _last_split(splitter: Any, n_samples: int, classes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The last split of a splitter: for time series the one with the longest past."""
    splits = list(splitter.split(np.zeros((n_samples, 1)), classes))
    if not splits:
        raise ValueError(f"validation_fraction={splitter!r} gave no split of {n_samples} samples.")
    rest, part = (np.asarray(indices) for indices in splits[-1])
    if np.intersect1d(rest, part).size:
        raise ValueError(
            f"validation_fraction={splitter!r} gave a split in which samples are used for both training and validation."
        )
    return rest, part
