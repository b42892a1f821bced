"""The tables of a report, with all cells as text: `one_run` for one run, `several_runs` to compare runs."""
