"""The command's parts, one per file: its arguments, its examples and what it does.

`add` of each is given the parser to add itself to. Heavy packages are imported when a command runs, not before.
"""
