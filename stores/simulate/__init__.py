"""Twins of surveys with known truth: synthetic stars, observed as an instrument would, in the survey's own format.

population --labels--> emulator --flux--> instrument --> files, catalogues and the truth
                                 `--derivatives--> Cramer-Rao bound of every label of every star
"""

from __future__ import annotations
