"""Layer tables of zoo networks for tests."""

import numpy as np

from perf_assets.models import analytic, features, zoo


def arrays_of(network: str, input_size: int = 64) -> dict[str, np.ndarray]:
    """Columns of a training network's layer table, see :func:`analytic.layer_arrays`."""
    model = zoo.build(network, device="meta")
    return analytic.layer_arrays(features.layer_table(model, input_size, 3, training=True))
