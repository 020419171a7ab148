"""What a network will cost on a device before anybody runs it: latency, memory, energy, and whether it fits.

``design`` turns measured runs and layer tables into terms of cost, ``cost_model`` fits them, ``intervals`` says how
sure an answer is and when to give none, ``evaluate`` scores methods on networks that were held out, ``predictor``
puts these together, ``artifacts`` keeps fitted predictors as JSON and arrays, ``plan`` answers questions of capacity.
"""
