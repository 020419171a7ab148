"""Declared grids of configurations: which points there are, in which order, and running them."""
