"""What is worked out from published tables: comparisons, predictors, causal graphs, plots, reports."""
