"""Benchmarks of spectrabridge: each measures in one run what it compares, and says with what it was measured.

`python -m benchmarks.speed` measures how fast things are. Results are printed as a table and written as JSON
with the versions, the machine and the commit, so that a number in the documentation can be made again.
"""
