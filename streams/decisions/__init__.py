"""Pure functions of values: what to retry, what a watermark becomes, what may be forgotten."""
