"""Words with one meaning in every table, spec and message. A set of words that two places need stands here,
once."""

STAGES = ("inference", "training")
"""What a profiled step does. The stages of a sweep are other words: see ``measuring/sweeps/grid.py``."""

MEASUREMENT_VERDICTS = ("stable", "unstable", "throttled", "contended", "too_short", "host_bound")
"""How far to trust one measurement."""

COMPARISON_VERDICTS = ("faster", "slower", "better", "worse", "same", "cannot tell")
"""What a comparison says of the second thing: of times and rates faster or slower, of memory, energy and accuracy
better or worse."""

CUDNN_ALGORITHMS = {
    "implicit gemm": 0,
    "implicit precomp gemm": 1,
    "gemm": 2,
    "direct": 3,
    "fft": 4,
    "fft tiling": 5,
    "winograd": 6,
    "winograd nonfused": 7,
}
"""Convolution algorithms by name, with their numbers in cudnnConvolutionFwdAlgo_t."""

ALGORITHMS = ("guess", *CUDNN_ALGORITHMS, "onednn")
"""Algorithms that a profile can ask for; ``guess`` is the framework's own choice."""

THROUGHPUT_TOLERANCE_PER_S = 0.0051
THROUGHPUT_TOLERANCE_SHARE = 1e-5
"""Two sources tell the same throughput where they differ by no more than one of both: tools print two decimals or six
digits. In SQL it is the macro ``same_throughput``."""
