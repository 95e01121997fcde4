"""Embeddings: pre-train a spectral transformer on spectra stores, and turn spectra into vectors with it.

`embed.pretrain` trains, `embed.run` embeds, `embed.probe` measures what embeddings carry. Files here are also
run as scripts, so none may have the name of another module.
"""
