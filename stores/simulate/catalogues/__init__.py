"""Label catalogues of simulated stars, in the layouts of APOGEE, SAGA, PASTEL and the DESI Milky Way Survey.

Each has the noise, offsets, flags, blanks and repeated stars of its kind, so that readers of the true catalogues
can be tested against the truth. Amplitudes stand in docs/population.md.
"""

from __future__ import annotations

from stores.simulate.catalogues.apogee import write_apogee
from stores.simulate.catalogues.desi_mws import write_mwsall
from stores.simulate.catalogues.pastel import write_pastel
from stores.simulate.catalogues.saga import write_saga

__all__ = ["write_apogee", "write_mwsall", "write_pastel", "write_saga"]
