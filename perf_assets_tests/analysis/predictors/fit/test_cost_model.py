"""Costs and trees: what a handful of runs may decide. On a small world of known costs."""

import numpy as np
import pandas as pd
import pytest

from perf_assets.analysis.predictors.fit.cost_model import PULLS, fit_cost_model
from perf_assets.analysis.predictors.fit.forest import Forest
from perf_assets.analysis.predictors.fit.thresholds import best_threshold


def mixed_costs(factor):
    """True costs of 1 each; two groups hardly use the third, the few runs of a third group are ``factor``
    times off."""
    random = np.random.default_rng(0)
    mixes = {"a": (1, 0.1, 0.05), "b": (0.1, 1, 0.05), "few": (0.1, 0.1, 1)}
    groups = np.repeat([*mixes], [100, 100, 4])
    sizes = np.exp(random.normal(0, 1, (204, 1)) + random.normal(0, 0.2, (204, 3)))
    terms = pd.DataFrame([mixes[group] for group in groups] * sizes, columns=["macs", "traffic", "launches"])
    y = terms.sum(axis=1) * np.where(groups == "few", factor, 1) * np.exp(random.normal(0, 0.05, 204))
    prior = {name: (name, 1.0) for name in terms}
    return fit_cost_model(terms, terms, y.to_numpy(), groups, prior, trees=0).coefficients


@pytest.mark.parametrize("factor", [0.05, 2, 5, 20])
def test_an_odd_handful_of_runs_decides_no_cost(factor):
    assert mixed_costs(factor) == pytest.approx(np.ones(3), abs=0.1)


def test_a_handful_that_agrees_tells_its_cost():
    assert mixed_costs(1.3)[2] == pytest.approx(1.3, rel=0.15)


def test_what_one_network_leaves_open_is_as_expected_for_others():
    """Two costs that grow together: their sum is determined, how it divides is not."""
    random = np.random.default_rng(1)
    macs = np.linspace(1, 10, 40)
    terms = pd.DataFrame({"macs": macs, "traffic": macs * np.exp(random.normal(0, 0.02, 40))})
    y = terms.sum(axis=1).to_numpy() * np.exp(random.normal(0, 0.02, 40))
    prior = {name: (name, 1.0) for name in terms}
    model = fit_cost_model(terms, terms, y, np.full(40, "one"), prior, pull=PULLS[0], elsewhere=True, trees=0)
    other = pd.DataFrame({"macs": [5.0], "traffic": [0.0]})
    assert model.physics(terms) == pytest.approx(y, rel=0.06)
    assert abs(model.physics(other)[0] - 5) > 1
    assert model.physics(other, np.array([True])) == pytest.approx(5, rel=0.02)


def test_flat_trees_predict_what_the_forest_predicts():
    from sklearn.ensemble import ExtraTreesRegressor

    random = np.random.default_rng(0)
    x = random.normal(size=(300, 5)).astype(np.float32)
    forest = ExtraTreesRegressor(20, random_state=0).fit(x, x[:, 0] * x[:, 1])
    fresh = random.normal(size=(5000, 5)).astype(np.float32)
    assert np.allclose(Forest.of(forest).predict(fresh), forest.predict(fresh))


def test_best_threshold_divides():
    assert 2 < best_threshold(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, False, True, True])) < 3
    assert best_threshold(np.array([1.0, 2.0]), np.array([True, True])) < 1
