"""Sweeps, one per file: a literal `SWEEP`, its docstring naming the table or figure it feeds."""
