"""The report: one HTML page of a comparison, that opens from disk and asks nothing of the network.

    write_report(Results.load(folder), figures, folder / "report.html")

The answer comes first, then the tables, the figures and the settings. Everything is inside the page: its style, its
scripts, plotly.js, the numbers, and the figures' data; only the figures' PNG and PDF files lie beside it.
"""

from benchmarks.report.page import ReportFigure, write_report

__all__ = ["ReportFigure", "write_report"]
