"""stores-verify: is a store what was written? Reads every byte of it.

    stores-verify desi.zarr && cp -r desi.zarr /archive

Exit status: 0 sound; 1 damaged or unfinished; 2 no store there.
"""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from stores.command import run_command, say
from stores.errors import StoreError
from stores.location import Location
from stores.place import place_at
from stores.progress import progress


@dataclass(kw_only=True)
class VerifyOptions:
    """Read a whole store and tell every fault: files lost, cut or changed, values that cannot be right."""

    path: tyro.conf.Positional[Location]
    """The store."""


def verify(options: VerifyOptions) -> int:
    """Check the store; returns the exit status."""
    from stores.store import open_store

    try:
        store = open_store(options.path, unfinished=True)
    except StoreError as error:
        if not place_at(options.path).exists("shards"):
            raise  # a mistake in the call
        print(error)
        return 1
    faults = 0
    for _, told in progress(store.verify(), "verifying", unit="shard", total=store.n_shards + 1):
        for fault in told:
            print(f"'{store.path}': {fault}.")
        faults += len(told)
    if faults:
        advice = "copy it again from where it is sound, or delete it and run the command that wrote it"
        if not store.complete and faults == 1:
            advice = "run the command that wrote it again to finish it"
        say(f"'{store.path}' has {faults} fault{'s' if faults > 1 else ''}; {advice}.")
        return 1
    shards = f"{store.n_shards} shard{'s' if store.n_shards > 1 else ''}"
    print(f"'{store.path}' is sound: {len(store)} spectra in {shards}, fingerprint {store.fingerprint}.")
    return 0


def main() -> None:
    """Entry point of stores-verify."""
    run_command(VerifyOptions, verify, "stores-verify")


if __name__ == "__main__":
    main()
