"""Networks to profile: a zoo by name, pruning, and what a network costs by its shapes alone.

``analytic`` needs no torch; ``zoo``, ``features`` and ``pruning`` do.
"""
