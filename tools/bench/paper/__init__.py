"""`fedsparse bench paper`: experiments as files, their runs, tables, figures and verdicts."""
