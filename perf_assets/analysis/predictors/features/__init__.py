"""From runs and shapes to designs: the terms of cost that a fit weighs."""
