"""Numbers that predictors do not learn: what a unit of work should cost, and how carefully rows are learnt
from.

A unit's cost is only where a fit starts (:mod:`perf_assets.analysis.predictors.fit.cost_model`): measured runs
scale all of them together, then each by itself. So half or twice is near enough, and each has its reason
here.
"""

from __future__ import annotations

# How rows are learnt from.

PRIOR_STRENGTH = 1e-3
"""Mean squared relative error that a coefficient may cost which is off its expected value by the whole of it:
3 % of error. Errors on networks left out of the TX2's runs are flat from a third to ten times of it
(``benchmarks/predictors_ablation.md``)."""

SMALL_GROUP = 0.02
"""Nothing is learnt from networks with fewer than this share of the largest one's rows: a handful of short runs
is below what a power sensor resolves, and trees would take every network alike for one of them."""

JUDGING_GROUP = 0.1
"""Networks with fewer than this share do not judge how new ones are predicted."""

NEW_NETWORK_TREE_WEIGHT = 0.5
"""How far trees are believed of a network that was not measured. Their features name the measured networks, so
half of what they say may be true of those alone; of a measured network they are believed."""

TREES = 100
MOST_ROWS = 4000
"""More rows are thinned evenly within each network: neighbouring input sizes teach the same."""

MIN_ROWS = 8
"""Fewer measured configurations of a device, stage and target are not fitted to: with two networks at four batch sizes
data sheets need but a scale, and how few the networks are shows in the intervals."""

MIN_PAIRS = 20
"""Fewer pairs of power limits are not fitted to: what a limit does has no data sheet to start from."""

FEWEST_LEFT = 6
"""Where something is left out to judge, so many rows have to be left to learn from."""

JUDGED_ROWS = 20
"""Fewer rows of one network at several pruning levels are no split of their own; five times as many allow a random
one."""

MIN_LAYERS = 200
"""Fewer timed convolutions of a device tell too little."""

BELOW_CAP = 0.95
"""Memory nearer to a full device than this says how much there is, not how much is needed."""

# How sure an answer is.

COVERAGE = 0.9
USUAL_DEVIATION = 0.10
USUAL_GROUPS = 3.0
"""By what new networks are usually missed (published mean errors on unseen networks are 11-16 %, those here 5-13
%), and how many observed networks that is worth: two networks that happen to fit alike do not promise that the third does."""
CALIBRATION_TREES = 20
FOLDS = 6
"""Trees, and at most how many fits, that only see how what was left out is missed."""

MOST_PAIRS = 4000
LIMIT_TREES = 60
LIMIT_LEAF = 10
"""Of what other power limits do: at most so many pairs of limits, trees, and fewest pairs of a leaf (errors on left-out
networks of an A40 and a P100 are flat from 10 to 20 and grow below)."""

LOCAL_SHARE = 0.7
"""Part of the scatter within a network that its neighbouring sizes share; the rest is noise. Repeated runs
differ by 1-2 %, networks' own curves by several times that."""
LOCAL_LENGTH = 4.0
"""How far, in the logarithm of sizes, a network's own curve reaches."""
LEARNT_APART = 10.0
"""How much a factor that trees say counts in that distance, beside sizes: a tenth of it as much as e times the
size."""

# When it is none.

SIZE_FACTOR = 3.0
"""How far beyond the measured sizes a configuration may lie."""
DEVICE_FACTOR = 3.0
"""The same of a device's arithmetic and bandwidth."""
WIDEST_FACTOR = 2.0
"""An interval that reaches further than this to either side is no answer."""
SHARE_MARGIN = 0.25
"""How much more of a network's work may be of one kind than of any measured network's."""
OUTLIER_FACTOR = 100.0
"""A value this many times off what the rest of its network suggests is a wrong unit: whole networks stay within
3, layers of a few microseconds within 40."""

# What a unit of work should cost. Shares of peak arithmetic and of bandwidth are of the data sheet's.

ARITHMETIC_SHARES = {
    # What is done and what tiles of matrix kernels round it up to (32 channels by 128 pixels, 64 deep) share
    # one cost: which of them a library pays differs by kernel.
    "macs_g": 0.5,
    "macs_tiles_gemm_g": 0.15,
    "macs_tiles_channels_g": 0.25,
    # A depthwise kernel does one product per value that it loads: some twentieth of peak.
    "macs_depthwise_g": 20.0,
}
TRAFFIC_SHARES = {
    "traffic_mib": 1.0,
    # Unfolded columns mostly stay in caches.
    "traffic_columns_mib": 0.1,
    "traffic_elementwise_mib": 1.0,
    "traffic_pool_mib": 2.0,
}
ELEMENTWISE_ACCESSES = {"batchnorm": 8 / 3, "relu": 5 / 3, "sum": 2.0, "concat": 4 / 3}
"""Reads and writes of a tensor for each of the three passes of a training step. Normalisation reads its input
twice and writes once forward, and reads input and gradient twice and writes once backward; an activation in
place makes two and three accesses, a sum three and three, a concatenation two and two."""
WINOGRAD_SAVING = 2.25
"""How many times fewer products Winograd F(2x2, 3x3) does, where filters are 3x3 with stride 1
(Lavin and Gray, arXiv 1509.09308)."""
LAUNCH_MS = 1 / 6
"""Of one convolution and what goes with it, for each pass: ten kernel launches on a board's slow core."""

RUNTIME_MIB = 1000.0
"""What a CUDA context and its libraries take of a system's memory."""

STAGING_GBPS = 6.5
"""Copies from pageable memory: a PCIe 3.0 or 4.0 link at half of its rate, for the host copies as well."""
STAGED_CALL_MS = 0.25
"""Allocating, copying and freeing five times for one convolution: cudaMalloc and cudaFree take 20-50 us
each."""
ALGORITHM_CALL_MS = 0.05
"""One more allocation: the workspace of an algorithm."""
WORKSPACE_SHARE = 20.0
"""A workspace is written and read in memory fresh from cudaMalloc, at a tenth of the bandwidth."""
SINGLE_IMAGE_SHARE = 0.5
"""Share of peak arithmetic that convolutions of single images reach."""

HOST_ELEMENTWISE_MS = 0.04
"""Of one MiB that four cores of a server write, its source read: 25-50 GB/s, mostly from caches. Two cores of
an EPYC take 0.03-0.06 ms (torch 2.15)."""
HOST_WINDOW_MS = 0.25
"""Of one MiB of window elements that pooling compares: torch's kernel for images by channel takes them one by
one, 1 ns each over four cores. Two shared cores of an EPYC take 1-2.5 ms."""
HOST_LINEAR_MS = 0.03
"""Of one MiB of weights that are read once."""
HOST_CALL_MS = 0.03
"""Of one operation of a framework in Python, hooks included."""

BUSY_POWER_SHARE, WAITING_POWER_SHARE = 0.75, 0.25
"""Power over thermal design power while a device computes, and while it waits for its host with a context open
and clocks up."""
WAITING_TERMS = ("host_", "copied_", "launches", "steps")
"""How names of terms begin during which a device waits."""
HALF_BYTES = ("amp", "float16", "bfloat16", "fp16", "bf16")
"""Precisions that compute in 16 bits."""
