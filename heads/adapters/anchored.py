"""Fine-tuning that may not forget: pulled back to the pre-trained weights, with stars of the source replayed."""

from __future__ import annotations

from dataclasses import replace

from heads.adapters import adapter
from heads.adapters.full import Full
from heads.fit import FitOptions


@adapter("anchored")
class Anchored(Full):
    """Train all weights, pulled towards the pre-trained ones, half of each batch stars of the source survey.

    The pull is that of Li, Grandvalet & Davoine (2018, arXiv:1802.01483),
    decoupled from the gradient as the decay of AdamW.
    """

    replays = True

    @property
    def fit_options(self) -> FitOptions:
        return replace(super().fit_options, pull=5.0)
