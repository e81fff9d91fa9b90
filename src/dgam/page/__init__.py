"""The report: one HTML file that needs nothing else, of a run, its scores and its videos."""
