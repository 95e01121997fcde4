"""Which embeddings tell most of the stars and least of the instrument.

    python -m benchmarks.embeddings --data ../shared/data --out results --models untrained tiny-views RUN

Every model is compared with the first principal components of the spectra (`pca64`), by ridge regressions
 (a) within real LAMOST spectra, cross-validated by star,
 (b) from real LAMOST to real MILES stars, whose labels come from elsewhere,
 (c) from the LAMOST twin to the DESI twin, whose labels are true, at S/N 20 and 50,
and by how well a spectrum finds the same star again: as seen by the other twin among all twin stars, and among real
repeated LAMOST observations. Results are written as a table, JSON and a figure.
"""
