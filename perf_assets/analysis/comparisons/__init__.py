"""Is one thing faster than another, and since when? Verdicts that may be "cannot tell"."""
