"""Stars as several papers have measured them: each paper has offsets of its own, and stars are in one or more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stores.simulate.population import Stars
from stores.spectrum import Float


@dataclass(frozen=True)
class Literature:
    """Measurements of stars by papers, a row each, sorted by star.

    star, paper: (m,) index of the star and of the paper; values: (m, 5) labels as measured; errors: (m, 5)
    """

    star: NDArray[np.int64]
    paper: NDArray[np.int64]
    values: Float
    errors: Float

    @classmethod
    def of(
        cls, stars: Stars, random: np.random.Generator, *, papers: int, more: float, offset: Float, scatter: Float
    ) -> Literature:
        """Every star in one paper and in `more` others on average (Poisson).

        offset, scatter: (5,) standard deviations of labels from paper to paper, and from star to star in one
        """
        n = len(stars)
        offsets = offset * random.normal(size=(papers, 5))
        share = random.dirichlet(np.full(papers, 2.0))  # of stars: long papers and short ones
        order = np.argsort(random.random((n, papers)) ** (1 / share), axis=1)[:, ::-1]
        count = np.minimum(1 + random.poisson(more, n), papers)
        star = np.repeat(np.arange(n), count)
        paper = order[star, np.arange(len(star)) - np.repeat(np.cumsum(count) - count, count)]
        errors = scatter * random.uniform(0.7, 1.5, (len(star), 5))
        values = stars.labels[star] + offsets[paper] + errors * random.normal(size=errors.shape)
        return cls(star, paper, values, errors)


def text(values: Float, form: str, given: NDArray[np.bool_] | bool = True) -> list[str]:
    """Numbers (n,) as text, blank where not given."""
    shown = np.broadcast_to(given, np.shape(values))
    return [form.format(value) if show else "" for value, show in zip(values, shown, strict=True)]
