"""Notes: what heads-train says of stores, stars and labels that it was given for nothing, or lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stores.command import say

if TYPE_CHECKING:
    from heads.adapters import Adapter
    from heads.head import Head
    from heads.sources import Source


def tell_unread(name: str, own: Mapping[str, Any], replayed: Mapping[str, Any]) -> None:
    """Say which stores were named that an input does not read.

    own, replayed: paths by kind of store
    """
    from heads.inputs import FLAGS, unread

    flags = [FLAGS[kind] for kind in unread(name, own)]
    flags += [FLAGS[kind].replace("--", "--replay-") for kind in unread(name, replayed)]
    for flag in flags:
        say(f"note: the head reads the input {name}; {flag} is not used.")


def tell_shape_of_base(strategies: Sequence[Adapter], base: Head, seeds: int, widths: Sequence[int]) -> None:
    """Say which options of new networks are of no use, as all strategies keep those of the base."""
    from heads.training import TrainOptions

    usual = TrainOptions()
    given = (
        ("--seeds", seeds, (usual.seeds, len(base.members))),
        ("--widths", tuple(widths), (usual.widths, tuple(base.network.widths))),
    )
    if all(one.from_base for one in strategies):
        for flag in (flag for flag, asked, same in given if asked not in same):
            say(f"note: an adapted head keeps the members of its base and their layers; {flag} is not used.")


def replays(strategies: Sequence[Adapter], given: bool) -> bool:
    """Whether there are stars of the source survey to replay; says where they are of no use, or lacking.

    given: whether any were named
    """
    wanting = [one.name for one in strategies if one.replays]
    if given and not wanting:
        say(f"note: the strategy '{strategies[0].name}' replays no stars; those of --replay-labels are not read.")
    if wanting and not given:
        say(
            f"note: the strategy '{' and '.join(wanting)}' replays stars of the source survey, and --replay-labels "
            "names none: it goes without, and may forget the kinds of stars that are in the source only."
        )
    return given and bool(wanting)


def usual_targets(wanted: tuple[str, ...], sources: Sequence[Source]) -> tuple[str, ...]:
    """Those of the usual labels that sources have, all if they have none; says which they lack."""
    from heads.sources import labelled

    found = labelled(sources, wanted)
    if found in ((), wanted):
        return wanted
    lacking = " or ".join(name for name in wanted if name not in found)
    say(f"note: the labels have no {lacking}; the head is for {', '.join(found)}.")
    return found


def tell_unknown(unknown: Sequence[str], base: str) -> None:
    """Say which labels an adapted head has from its base alone."""
    if unknown:
        them = "it" if len(unknown) == 1 else "them"
        say(
            f"note: none of the stars to learn from has a label {' or '.join(unknown)}; the head gives {them} as "
            f"'{base}' does, with its uncertainties."
        )
