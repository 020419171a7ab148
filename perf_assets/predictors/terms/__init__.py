"""Terms of cost: quantities that cost time or memory in proportion, by formulas over the shapes of a network.

``memory`` for all runs; of time, ``device`` where tensors stay on the accelerator and ``staged`` where the host stages
each convolution. Each module holds its terms and, beside them, what a unit of each is expected to cost; ``priors``
chooses among these. Units are in the names: ``_g`` is 10^9 multiply-accumulates, ``_mib`` is MiB of 32-bit floats.
"""
