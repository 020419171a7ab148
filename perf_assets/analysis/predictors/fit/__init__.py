"""Fitting a target: cost model, forests, intervals, and where an answer is a guess."""
