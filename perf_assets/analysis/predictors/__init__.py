"""What a network will cost on a device before anybody runs it: latency, memory, energy, and whether it fits.

``features``: ``configurations`` reads what was measured, ``shapes`` finds networks, ``design`` counts ``terms``
and ``costs`` says what they should cost; ``layers`` does so for single convolutions. ``fit``: ``predictor`` fits
a ``cost_model`` to all rows and again without each group, so ``intervals`` says how sure an answer is and
``applicability`` when it is none. ``evaluation`` scores it beside its peers, ``serve`` keeps, loads and asks.
``constants`` are the numbers that nothing was fitted to. The formula stands in ``docs/predicting.md``.
"""
