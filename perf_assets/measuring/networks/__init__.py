"""Networks to profile: by name or a person's own, pruned or not, and what they cost by their shapes alone.

``names``, ``request`` and ``layer_costs`` need no torch; the others do.
"""
