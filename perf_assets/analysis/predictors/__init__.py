"""What a network will cost on a device before anybody runs it: latency, memory, energy, and whether it fits.

``configurations`` reads what was measured, ``networks`` finds shapes; ``design`` turns both into ``terms`` of
cost and ``layers`` does so for single convolutions. ``cost_model`` fits costs and trees, ``fitting`` does
that again with something left out, by what is new (``novelty``): so ``intervals`` says how sure an answer is,
and ``known`` when it is a guess. ``predictor`` is the result, ``evaluate`` scores it beside its peers
(``baselines``), ``artifacts`` keeps it as JSON and arrays, ``bundle`` fits, loads and asks those of a data
folder, ``plan`` answers questions of capacity.
"""
