"""Costs and trees: cases that can be worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from perf_assets.analysis.predictors.fit.cost_model import fit_coefficients, fit_cost_model
from perf_assets.analysis.predictors.fit.forest import Forest
from perf_assets.analysis.predictors.fit.predictor import best_threshold


def test_costs_that_rows_tell_apart_are_found():
    x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    found = fit_coefficients(x, x @ [2.0, 5.0], np.array(["a", "b", "c"]), prior_strength=1e-9)
    assert found == pytest.approx([2, 5], rel=1e-4)


def test_what_rows_leave_open_is_as_expected_and_as_much_slower_as_the_rest():
    """Two costs that come in the same mix everywhere: the sum is three times what is expected."""
    x = np.array([[1.0, 3.0], [2.0, 6.0], [4.0, 12.0]])
    found = fit_coefficients(x, 3 * x.sum(axis=1), np.array(["a", "b", "c"]))
    assert found == pytest.approx([3, 3], rel=1e-6)


def test_no_cost_is_negative():
    x = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 4.0]])
    assert (fit_coefficients(x, np.array([8.0, 4.0, 2.0]), np.array(["a", "b", "c"])) >= 0).all()


def test_networks_weigh_the_same_however_many_rows_they_have():
    """One term, two networks that cost 1 and 3 for a unit of it: the mean of both by relative error,
    sum(1/y) / sum(1/y^2) = (1 + 1/3) / (1 + 1/9) = 1.2."""
    groups = np.array(["one"] * 3 + ["other"] * 300)
    y = np.where(groups == "one", 1.0, 3.0)
    assert fit_coefficients(np.ones((303, 1)), y, groups) == pytest.approx([1.2])


@pytest.mark.parametrize("factor", [0.05, 20])
def test_a_handful_of_runs_decides_nothing(factor):
    terms = pd.DataFrame({"macs": np.append(np.linspace(1, 2, 300), [1.5, 1.6])})
    groups = np.array(["many"] * 300 + ["few"] * 2)
    y = terms["macs"].to_numpy() * np.where(groups == "few", factor, 1.0)
    model = fit_cost_model(terms, terms, y, groups, trees=10)
    assert model.needed(terms, terms) == pytest.approx(terms["macs"].to_numpy(), rel=1e-6)


def test_memory_at_the_cap_says_what_there_is_and_not_what_is_needed():
    terms = pd.DataFrame({"kept": np.arange(1.0, 21.0)})
    model = fit_cost_model(
        terms, terms, np.minimum(terms["kept"], 10.0).to_numpy(), np.full(20, "n"), capped=True, trees=0
    )
    assert model.cap == 10
    assert model.coefficients == pytest.approx([1.0])


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
