"""What can go wrong, as a user sees it.

    SpectraBridgeError      every fault that a user can mend; its text is one sentence
    ├── InputError          a file, row or catalogue cannot be used
    ├── StoreError          a store is missing, unfinished, damaged or of another job
    ├── PlaceError          object storage cannot be reached, or refuses
    ├── ModelError          a model directory or its weights cannot be used
    └── OptionError         an option has a value that cannot work

A command prints the sentence and ends with the error's exit status; anything else that is raised is a fault
of the package and shows its traceback.
"""

from __future__ import annotations


class SpectraBridgeError(Exception):
    """A fault that a user can mend: says what, where, and what to do about it."""

    exit_status = 2


class InputError(SpectraBridgeError):
    """A file, row or catalogue that cannot be used."""


class StoreError(SpectraBridgeError):
    """A store that is missing, unfinished, damaged or belongs to another job."""


class PlaceError(SpectraBridgeError):
    """Object storage that cannot be reached, or refuses; says nothing of what lies there."""


class ModelError(SpectraBridgeError):
    """A model directory or weights that cannot be used."""


class OptionError(SpectraBridgeError):
    """An option with a value that cannot work."""
