"""What drives what: edges and effects of the causal graphs. Columns with unit and meaning; no code."""

from perf_assets.schema.columns import FLAG, JSON, Column, count, number, table, text

CAUSAL_EDGES = table(
    "causal_edges",
    "An edge of a causal graph as one method found it, or an effect of one column on another as one method "
    "measured it.",
    text("graph", "name of the graph: the tool whose runs it is of, or what the configuration calls it"),
    text("source", "the cause: a column of cleaned_runs, or oom or failed, which are read from status"),
    text("target", "what it acts on"),
    text("kind", "directed, undirected (one of the two acts on the other), or effect"),
    text(
        "method",
        "of edges tiered_score or pc; of effects adjustment, double_ml, placebo (levels shuffled: must be "
        "0) or"
        " randomised (pairs of runs that differ in the source alone)",
    ),
    text(
        "contrast", "what the effect compares: two levels of the source, or one standard deviation more of it"
    ),
    number("frequency", "", "share of the random half-samples with this edge; NULL for effects"),
    Column(
        "confirmed",
        FLAG,
        "",
        "true where both methods have the edge in enough half-samples; NULL for effects",
    ),
    number("effect", "", "change of the target, in unit; of an edge its largest contrast"),
    number("effect_lower", "", "lower end of the 95 % interval, in unit"),
    number("effect_upper", "", "upper end of the 95 % interval, in unit"),
    text(
        "unit",
        "unit of the effect: % of the target where its logarithm was used, percentage points of shares",
    ),
    count("n", "runs (of randomised: pairs) behind the row"),
    text("verdict", "what the second opinion says of the first one"),
    text("source_tier", "configuration, resources, performance or outcome, or as configured"),
    text("target_tier", "likewise"),
    text("source_kind", "category, number (a setting with numbers for levels), quantity or flag"),
    text("condition", "SQL that chose the runs besides the settings (perf-assets causal --where)"),
    Column("settings", JSON, "", "tool, tiers, filters and numbers of the search"),
    text("snapshot", "hash of the runs and the settings: 16 hex digits"),
)
