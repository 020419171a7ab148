"""What became slower, faster, larger or smaller over time. Columns with unit and meaning; no code."""

from perf_assets.schema.columns import FLAG, TIME, Column, count, number, table, text

REGRESSIONS = table(
    "regressions",
    "A run group (runs of one configuration, day and versions) against the groups before it, in one metric.",
    text("configuration", "configuration key: every setting in which the runs are alike, name=value"),
    text("metric", "the column of cleaned_runs, or the percentile of a load level"),
    text("run_group", "day and, where known, revision and versions of the runs"),
    Column("started_at", TIME, "UTC", "start of the group's first run"),
    count(
        "n",
        "values tested: the group's own; where these are fewer than 5, with the nearest before it up to 10",
    ),
    count("baseline_n", "values in the window before them"),
    count("baseline_groups", "run groups in the window: at most 30, none from before the last change point"),
    number("median", "", "median of the tested values, in the metric's unit"),
    number("baseline_median", "", "median of the window, in the metric's unit"),
    number("ratio", "", "tested values to those of the window: the median of all ratios"),
    number("lower", "", "lower end of the 99 % interval of the ratio"),
    number("upper", "", "upper end of the 99 % interval of the ratio"),
    number(
        "detectable", "", "smallest relative change that would be found in 95 of 100 cases; NULL: none would"
    ),
    text("verdict", "faster, slower, better, worse, same or cannot tell"),
    number("p_value", "", "chance of such a difference, after control for all tests of the same day"),
    Column("is_newest", FLAG, "", "true for the newest group of its configuration: these raise alarms"),
    Column(
        "changed_at", TIME, "UTC", "start of the window's first group, where a change point lies before it"
    ),
    text("snapshot", "hash of the values that all rows rest on: 16 hex digits"),
)
