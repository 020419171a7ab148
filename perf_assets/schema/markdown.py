"""Documentation that is printed from the schema."""

from __future__ import annotations

from perf_assets.schema.tables import TABLES, VIEWS


def tables_markdown() -> str:
    """``docs/tables.md``: every table and view with its columns."""
    parts = [
        "# Tables of perf.duckdb\n",
        "Printed from `perf_assets/schema/` by `make docs`. Absent values are NULL; times are UTC.\n",
    ]
    for table in [*TABLES.values(), *VIEWS.values()]:
        kind = " (view)" if table.name in VIEWS else ""
        parts.append(f"\n## {table.name}{kind}\n\n{table.description}\n")
        if table.key:
            parts.append(f"\nKey: {', '.join(f'`{name}`' for name in table.key)}\n")
        parts.append("\n| column | type | unit | meaning |\n|---|---|---|---|\n")
        parts.extend(
            f"| `{column.name}` | {column.type} | {column.unit} | {column.description} |\n"
            for column in table.columns
        )
    return "".join(parts)
