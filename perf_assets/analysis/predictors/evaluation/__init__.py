"""Judging predictors on what was held out, beside their peers."""
