"""Regression trees as plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

SEED = 0
"""Of everything random in a fit."""


@dataclass
class Forest:
    """Regression trees as flat arrays: predicts what the fitted trees predicted, with nothing to unpickle."""

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray

    @classmethod
    def grown(cls, x: np.ndarray, y: np.ndarray, trees: int, leaf: int) -> Forest:
        """Extremely randomised trees fitted to features of shape (n, features) and values of shape (n,).

        Args:
            x: the features.
            y: the values.
            trees: their number.
            leaf: fewest rows of a leaf.
        """
        return cls.of(ExtraTreesRegressor(trees, min_samples_leaf=leaf, random_state=SEED).fit(x, y))

    @classmethod
    def of(cls, model: ExtraTreesRegressor) -> Forest:
        """The arrays of a fitted scikit-learn forest, its trees one behind the other."""
        trees = [estimator.tree_ for estimator in model.estimators_]
        roots = np.cumsum([0, *(tree.node_count for tree in trees[:-1])])
        feature = np.concatenate([tree.feature for tree in trees])
        leaf = feature < 0

        def shifted(children: Sequence[np.ndarray]) -> np.ndarray:
            nodes = np.concatenate([part + root for part, root in zip(children, roots, strict=True)])
            # A leaf is its own child, so that walking on from it stays there.
            return np.where(leaf, np.arange(len(nodes)), nodes).astype(np.int32)

        return cls(
            roots.astype(np.int32),
            np.where(leaf, 0, feature).astype(np.int32),
            np.concatenate([tree.threshold for tree in trees]),
            shifted([tree.children_left for tree in trees]),
            shifted([tree.children_right for tree in trees]),
            np.concatenate([tree.value[:, 0, 0] for tree in trees]),
        )

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Mean over the trees, shape (n,), of features of shape (n, features)."""
        # Configurations that differ in what trees do not see walk down them once.
        x, back = np.unique(np.ascontiguousarray(x, dtype=np.float32), axis=0, return_inverse=True)
        result = np.empty(len(x))
        children = np.stack([self.right, self.left], axis=1).ravel()
        # Parts whose nodes stay in the processor's cache.
        for start in range(0, len(x), 512):
            part = x[start : start + 512]
            first_value = np.arange(len(part))[:, None] * part.shape[1]
            nodes = np.broadcast_to(self.roots, (len(part), len(self.roots)))
            while True:
                goes_left = part.ravel().take(first_value + self.feature.take(nodes)) <= self.threshold.take(
                    nodes
                )
                following = children.take(2 * nodes + goes_left)
                if np.array_equal(following, nodes):
                    break
                nodes = following
            result[start : start + 512] = self.value.take(nodes).mean(axis=1)
        return result[back.ravel()]

    def arrays(self) -> dict[str, np.ndarray]:
        """Name → array, as :class:`Forest` takes them."""
        return dict(vars(self))
