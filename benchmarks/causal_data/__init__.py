"""Made-up performance data with a known causal graph, for ``benchmarks.causal`` and ``benchmarks.causal_choose``."""
