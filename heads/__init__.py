"""Heads: from spectra or embeddings to stellar parameters.

This package holds the networks and adapters that turn rows of a spectra or an embedding store, joined with
labels by id, into stellar parameters. It imports `stores` and never `embed`: what it needs of a model lies in
the embedding store.
"""
