"""heads-train: labels and stores of one survey -> a head; with --adapter, a head of one survey -> another survey.

    heads-train --input spectra --store lamost.zarr --labels lamost.parquet --targets teff,logg,feh --out lamost-head
    heads-train --input fused --store desi.zarr --embeddings desi-embeddings.zarr --labels apogee:allStar.fits \\
        --out desi-head
    heads-train --store real.zarr twin.zarr --labels real.parquet twin.parquet --shares 2 1 \\
        --calibrate-on real.zarr --out both-head
    heads-train --store desi.zarr --labels desi.parquet --adapter kriging --base lamost-head --out desi-head
    heads-train --store desi.zarr --labels desi.parquet --adapter auto --base lamost-head --out desi-head

Labels are a table of stores-labels, or KIND:FILE as stores-labels takes them, one for each store. Stars of the part
`test` are never trained on; how the head does on them is printed and kept. HEAD/ holds the head (heads.head) and
curves.png. `auto` picks a strategy for each label by the stars to learn from alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heads.notes import replays, tell_shape_of_base, tell_unknown, tell_unread, usual_targets
from heads.ranges import parse_ranges, tell_outside
from stores.command import run_command, say
from stores.errors import OptionError
from stores.location import Location, Url, resolved
from stores.place import place_at

if TYPE_CHECKING:
    from heads.adapters import Adapter
    from heads.bundle import Bundle
    from heads.head import Head
    from heads.sample import Sample
    from heads.sources import Parts, Source
    from heads.training import TrainOptions

AUTO = "auto"
UNCHANGED = "zero_shot"  # the strategy that leaves a head as it is
INPUT = "spectra"
TARGETS = "teff,logg,feh,alphafe"


@dataclass(kw_only=True)
class HeadTrainOptions:
    """Train a head on the labelled stars of stores, or take one to another survey."""

    input: str | None = None
    """What it learns from: spectra (the default), embedding or fused; with --base, what the base learned from."""
    store: tuple[Location, ...] = ()
    """Spectra stores, paths or URLs."""
    embeddings: tuple[Location, ...] = ()
    """Embedding stores, in the same order."""
    labels: tuple[str, ...] = ()
    """Labels of each store: a table of stores-labels, or KIND:FILE as there."""
    targets: str | None = None
    """Labels to learn, separated by commas (default: those of teff,logg,feh,alphafe that there are); with --base,
    those of the base."""
    out: Path
    """Folder of the head."""
    adapter: str | None = None
    """Strategy that takes --base to these stars; auto picks one for each label."""
    base: Path | None = None
    """The head to start from: a folder, or the name of a built-in one."""
    replay_store: tuple[Location, ...] = ()
    """Spectra stores of the source survey, for strategies that replay its stars."""
    replay_embeddings: tuple[Location, ...] = ()
    """Embedding stores of the source survey."""
    replay_labels: tuple[str, ...] = ()
    """Labels of the source survey."""
    teff_range: tuple[float, float] | None = None
    """Only stars whose label teff lies in this range, K; the others teach the head to flag such stars."""
    ranges: tuple[str, ...] = ()
    """LABEL=LOW:HIGH such as logg=0:5: leave out stars with a label outside; those without that label stay."""
    shares: tuple[float, ...] = ()
    """How much each store counts as a whole; every spectrum counts alike without."""
    calibrate_on: tuple[Location, ...] = ()
    """Those of the stores whose stars set the uncertainties, such as the real ones; all without."""
    epochs: float | None = None
    """Passes over the stars, if not the strategy's own number."""
    learning_rate: float | None = None
    """The largest one, if not the strategy's own."""
    batch_size: int | None = None
    """Stars in a batch, if not the strategy's own number."""
    seeds: int = 5
    """Members of a new ensemble; an adapted one has those of its base."""
    widths: tuple[int, ...] = (1024, 512, 64)
    """Widths of the layers of a new network: narrower ones train faster and weigh less."""
    seed: int = 0
    """Seed of weights, folds and order."""
    balance: float = 0.5
    """How much rare [Fe/H] count: 0 every star alike, 1 every [Fe/H] alike."""
    model: str | None = None
    """Where the model of --base lies, for a strategy that adapts it, if not where it lay then."""
    overwrite: bool = False
    """Replace a head of that name."""

    @property
    def target_names(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in (self.targets or TARGETS).split(",") if name.strip())

    @property
    def calibrates(self) -> tuple[bool, ...] | None:
        """Which of the stores set the uncertainties, None for all. Raises OptionError for a path of none of them."""
        if not self.calibrate_on:
            return None
        given = [paths for paths in (self.store, self.embeddings) if paths]
        places = [{resolved(path) for path in paths} for paths in zip(*given, strict=True)]
        for path in self.calibrate_on:
            if not any(resolved(path) in place for place in places):
                raise OptionError(f"--calibrate-on '{path}' is none of the stores to learn from; name some of them.")
        wanted = {resolved(path) for path in self.calibrate_on}
        return tuple(bool(place & wanted) for place in places)

    def check(self) -> None:
        """Refuse what cannot work before anything heavy is loaded."""
        names = self.target_names
        if not names or len(set(names)) < len(names):
            raise OptionError(f"--targets '{self.targets}' must name some labels, each once, such as feh,teff.")
        if (self.adapter is None) != (self.base is None):
            raise OptionError("--adapter and --base go together: a strategy, and the head that it starts from.")
        if self.model is not None and self.base is None:
            raise OptionError("--model says where the model of a --base lies; leave it out.")
        if self.out.name in ("", ".."):
            raise OptionError(f"--out '{self.out}' names no folder of its own; give it a name, such as lamost-head.")
        if self.out.is_file():
            raise OptionError(f"'{self.out}' is a file; name a folder with --out.")
        if self.out.exists() and not self.overwrite:
            raise OptionError(f"'{self.out}' exists; choose another --out or add --overwrite.")
        around = next(parent for parent in self.out.absolute().parents if parent.exists())
        if not around.is_dir():
            raise OptionError(f"'{around}' is a file; choose another --out.")
        self._check_numbers()
        count = _count(self.store, self.embeddings, self.labels)
        if self.shares and (len(self.shares) != count or not min(self.shares) > 0):
            raise OptionError(f"--shares needs a number above 0 for each of the {count} stores.")
        _ = self.calibrates
        if not self.widths or min(self.widths) < 1:
            raise OptionError(f"--widths {' '.join(map(str, self.widths))} must be some numbers of 1 or more.")
        if self.replay_store or self.replay_embeddings or self.replay_labels:
            if self.base is None:
                raise OptionError("--replay-labels is for taking a --base to another survey; leave it out.")
            _count(self.replay_store, self.replay_embeddings, self.replay_labels, "--replay-")
        if self.teff_range is not None and not self.teff_range[0] < self.teff_range[1]:
            raise OptionError(f"--teff-range {self.teff_range[0]:g} {self.teff_range[1]:g} must rise.")
        parse_ranges(self.ranges)
        for path in (*self.store, *self.embeddings, *self.replay_store, *self.replay_embeddings):
            if not place_at(path).exists():
                raise OptionError(f"'{path}' does not exist; check the path.")

    def _check_numbers(self) -> None:
        """Refuse numbers that cannot work, by the names of their options."""
        numbers = (("seeds", self.seeds, 1), ("seed", self.seed, 0), ("batch-size", self.batch_size, 2))
        for name, number, least in numbers:
            if number is not None and number < least:
                raise OptionError(f"--{name} {number} must be {least} or more.")
        for name, rate in (("epochs", self.epochs), ("learning-rate", self.learning_rate)):
            if rate is not None and not 0 < rate < math.inf:
                raise OptionError(f"--{name} {rate:g} must be a number above 0.")
        if not 0 <= self.balance <= 1:
            raise OptionError(f"--balance {self.balance:g} must lie between 0 and 1.")


def _count(
    spectra: Sequence[Path | Url], embeddings: Sequence[Path | Url], labels: Sequence[str], flag: str = "--"
) -> int:
    """How many stores there are; refuses counts that do not fit."""
    counts = {len(paths) for paths in (spectra, embeddings) if paths}
    if len(counts) != 1:
        raise OptionError(
            f"name the stores with {flag}store, {flag}embeddings or both, as many of the one as of the other."
        )
    count = counts.pop()
    if len(labels) != count:
        raise OptionError(
            f"{flag}labels names {len(labels)} tables for {count} store{'s' if count > 1 else ''}; give one for each."
        )
    return count


def train(options: HeadTrainOptions) -> int:
    """Train or adapt, judge on the stars kept apart, save; returns the exit status."""
    options.check()
    from heads.folder import refuse_folder
    from heads.sources import open_all, parts
    from heads.training import TrainOptions

    refuse_folder(options.out)
    how = TrainOptions(
        seeds=options.seeds,
        seed=options.seed,
        widths=options.widths,
        balance=options.balance,
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        batch_size=options.batch_size,
    )
    base = None if options.base is None else _base(options, options.base)
    start = None if base is None else _start(options, base)
    name, identity = (options.input or INPUT, None) if start is None else (start.identity["input"], start.identity)
    tell_unread(
        name,
        {"spectra": options.store, "embeddings": options.embeddings},
        {"spectra": options.replay_store, "embeddings": options.replay_embeddings},
    )
    strategies = _strategies(options)
    if base is not None:
        tell_shape_of_base(strategies, base, options.seeds, options.widths)
    sources = open_all(name, options.store, options.embeddings, options.labels, identity)
    old: list[Source] = []
    if replays(strategies, bool(options.replay_labels)):
        old = open_all(name, options.replay_store, options.replay_embeddings, options.replay_labels, identity)
    targets = options.target_names if base is None else base.targets
    if base is None and options.targets is None:
        targets = usual_targets(targets, sources)
    found = parts(
        sources,
        targets,
        replay=old,
        shares=options.shares or None,
        calibrate=options.calibrates,
        teff_range=options.teff_range,
        ranges=parse_ranges(options.ranges),
        partial=base is not None,
    )
    _tell(found)
    calibrates = options.calibrates or [True] * len(sources)
    about: dict[str, Any] = {
        "sources": [source.about for source in sources],
        "calibrated_on": [
            str(source.stores.main.path) for source, one in zip(sources, calibrates, strict=True) if one
        ],
    }
    if base is None or start is None:
        from heads.training import train_head

        outcome = train_head(found.training, sources[0].stores.identity, how, _watch("training"))
        head = replace(_guarded(outcome.head, found, how.seed), about=outcome.told)
        return _finish(head, options, found, about)
    bends = any(one.from_base for one in strategies)
    before = {name: value for name, value in base.about.items() if name != "history"}
    about |= {
        "base": {"path": str(options.base), "fingerprint": base.fingerprint, "about": before},
        "replay": [source.about for source in old],
        "outside_base": tell_outside(base, str(options.base), found.training) if bends else {},
    }
    # heads of earlier versions remember no more than the fingerprint of their preparation
    start = replace(start, identity={**start.identity, "preprocessing": sources[0].stores.identity["preprocessing"]})
    start = _guarded(start, found, how.seed)
    return _finish(_adapted(start, options, how, found), options, found, about)


def _guarded(head: Head, found: Parts, seed: int) -> Head:
    """With what tells stars beyond its temperatures, if there are enough of them to learn from."""
    if found.border is None or not found.border.teaches or "spectrum" in found.training.blocks:
        return head
    from heads.guard import Guard

    say(f"{len(found.border.beyond)} spectra of hotter or cooler stars teach it to flag such ones.")
    learn = Guard.of if head.guard is None else head.guard.taught
    guard = learn(found.training, found.border, head.scalings, seed, _watch("hotter, cooler"))
    return replace(head, guard=guard)


def _base(options: HeadTrainOptions, folder: Path) -> Head:
    """The head to start from. Raises OptionError for one that does not do, or options that it contradicts."""
    from difflib import get_close_matches

    from heads.adapters import load_adapters
    from heads.bundle import load_head
    from heads.head import Head
    from heads.library import find_head

    known = [AUTO, *load_adapters()]
    if options.adapter not in known:
        meant = get_close_matches(str(options.adapter), known, n=1)
        hint = f" (perhaps you meant {meant[0]})" if meant else ""
        raise OptionError(f"--adapter '{options.adapter}' is unknown{hint}; known ones are {', '.join(known)}.")
    base = load_head(find_head(folder))
    if not isinstance(base, Head):
        raise OptionError(f"'{folder}' joins several heads; start from a single one.")
    if base.adapter is not None:
        raise OptionError(f"'{folder}' was adapted by '{base.adapter}' already; start from the one before.")
    if options.targets is not None and set(options.target_names) != set(base.targets):
        raise OptionError(
            f"'{folder}' gives {', '.join(base.targets)}; leave --targets out: what the labels lack stays as it is."
        )
    if options.input not in (None, base.identity["input"]):
        raise OptionError(f"'{folder}' reads the input {base.identity['input']}, not {options.input}; leave it out.")
    return base


def _start(options: HeadTrainOptions, base: Head) -> Head:
    """The base, with its model where the strategy adapts that. Raises as `encoding` does, OptionError for --model."""
    from heads.adapters import get_adapter
    from heads.encoder import encoding

    if options.adapter != AUTO and get_adapter(str(options.adapter)).encodes:
        return encoding(base, options.model)
    if options.model is not None:
        raise OptionError(f"the strategy '{options.adapter}' does not adapt the model of a head; leave --model out.")
    return base


def _strategies(options: HeadTrainOptions) -> list[Adapter]:
    """The one that was asked for, or all where each label gets its own; none without a base."""
    from heads.adapters import load_adapters

    if options.adapter is None:
        return []
    known = load_adapters()
    return list(known.values()) if options.adapter == AUTO else [known[options.adapter]]


def _adapted(base: Head, options: HeadTrainOptions, how: TrainOptions, found: Parts) -> Head | Bundle:
    """The base, taken to other stars, with what is told of its training."""
    from heads.adapters import get_adapter
    from heads.auto import adapt_auto, joined
    from heads.training import adapt_head

    assert options.adapter is not None
    base = replace(base, about={})
    known = found.training.known_targets
    unknown = [target for target in base.targets if target not in known]
    tell_unknown(unknown, str(options.base))
    if options.adapter == AUTO:
        chosen = adapt_auto(base, found.training, how, replay=found.replay, watch=_watch)
        print(chosen.table())
        say(f"picked: {', '.join(f'{label} by {name}' for label, name in chosen.picked.items())}.")
        return chosen.head
    if unknown and get_adapter(options.adapter).encodes:
        raise OptionError(
            f"'{options.adapter}' needs stars with every label of '{options.base}', and none has {unknown[0]}; add "
            "labels of it, or take another strategy."
        )
    outcome = adapt_head(
        base, found.training, options.adapter, how, replay=found.replay, watch=_watch(options.adapter)
    )
    if not unknown or options.adapter == UNCHANGED:
        return replace(outcome.head, about=outcome.told)
    # nothing holds a label that no star has while the weights that all labels share move
    kept = adapt_head(base, found.training, UNCHANGED, how)
    picked = {target: options.adapter if target in known else UNCHANGED for target in base.targets}
    return joined({options.adapter: outcome, UNCHANGED: kept}, picked)


def _finish(head: Head | Bundle, options: HeadTrainOptions, found: Parts, about: dict[str, Any]) -> int:
    """Judge, save and say what was made."""
    from heads.bundle import Bundle
    from heads.folder import filling
    from heads.score import score_table, scores

    measured = scores(head, found.test) if len(found.test) else {}
    if any(measured.values()):
        print(score_table(measured))
    told = {"options": asdict(options), **about, **_counts(found.training), "test": measured}
    if found.border is not None and len(found.border.apart):
        told["beyond"] = _beyond(head, found.border.apart)
    head.about = plain({**told, **head.about})
    with filling(options.out) as folder:
        head.write(folder)
        parts = head.heads if isinstance(head, Bundle) else {options.out.name: head}
        for name, part in parts.items():
            _draw(part, folder / "parts" / name if isinstance(head, Bundle) else folder)
    for name, part in parts.items():
        weights = part.about["weights"]
        say(f"'{name}': {weights['trained']:,} of {weights['total']:,} weights of a member trained.")
    say(f"'{options.out}': a head for {', '.join(head.targets)}.")
    return 0


def _beyond(head: Head | Bundle, apart: Sample) -> dict[str, int]:
    """How many spectra of stars hotter or cooler than those of the head are flagged, of those kept apart."""
    from stores.flags import Flag

    flags = head.predict_sample(apart).flags
    flagged = int(((flags & int(Flag.OUTSIDE_LABELS | Flag.OUT_OF_DISTRIBUTION)) != 0).sum())
    say(f"of {len(apart)} spectra kept apart of stars outside that --teff-range, {flagged} are flagged.")
    return {"spectra": len(apart), "flagged": flagged}


def _draw(head: Head, folder: Path) -> None:
    """The curves of a head that has any."""
    from heads.curves import draw
    from heads.fit import History

    history = History(**head.about["history"])
    if history.step:
        draw(history, folder / "curves.png")


def _tell(found: Parts) -> None:
    """How many spectra there are for what."""
    import numpy as np

    counts = _counts(found.training)
    kept = f"{len(found.test)} kept apart" if len(found.test) else "none kept apart, as none is in a part 'test'"
    replayed = "" if found.replay is None else f", {len(found.replay)} of the source survey to replay"
    say(f"{counts['spectra']} spectra of {counts['stars']} stars to learn from, {kept}{replayed}.")
    calibrating = found.training.take(np.flatnonzero(found.training.calibrates))
    if len(calibrating) == len(found.training):
        return
    say(f"{len(calibrating)} of the spectra to learn from set the uncertainties.")
    if lacking := [name for name, number in _counts(calibrating)["labelled"].items() if not number]:
        say(f"note: none of those has a label {' or '.join(lacking)}; there all stars set them.")


def _counts(sample: Sample) -> dict[str, Any]:
    """Spectra, stars, and spectra with each label."""
    import numpy as np

    labelled = dict(zip(sample.targets, np.isfinite(sample.y).sum(axis=0).tolist(), strict=True))
    return {"spectra": len(sample), "stars": len(np.unique(sample.star)), "labelled": labelled}


def plain(value: Any) -> Any:
    """A value as JSON holds it: paths as text, what is no number as null."""
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _watch(what: str) -> Any:
    from stores.progress import progress

    return lambda steps: progress(steps, what, unit="step", total=len(steps))


def main() -> None:
    """Entry point of heads-train."""
    run_command(HeadTrainOptions, train, "heads-train", go_on="run the same command again")


if __name__ == "__main__":
    main()
