"""Layer tables of zoo networks for tests."""

import numpy as np

from perf_assets.measuring.networks import layer_costs, tracing, zoo


def arrays_of(network: str, input_size: int = 64) -> dict[str, np.ndarray]:
    """Columns of a training network's layer table, see :func:`layer_costs.layer_arrays`."""
    model = zoo.build(network, device="meta")
    return layer_costs.layer_arrays(tracing.layer_table(model, input_size, 3, training=True))
