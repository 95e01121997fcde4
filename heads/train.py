"""heads-train: labels and stores of one survey -> a head; with --adapter, a head of one survey -> another survey.

    heads-train --input spectra --store lamost.zarr --labels lamost.parquet --targets teff,logg,feh --out lamost-head
    heads-train --input fused --store desi.zarr --embeddings desi-embeddings.zarr --labels apogee:allStar.fits \\
        --adapter kriging --base lamost-head --out desi-head
    heads-train ... --adapter auto --base lamost-head --out desi-head       # picks a strategy for each label

Labels are a table of stores-labels, or KIND:FILE as stores-labels takes them. Stars of the part `test` are never
trained on; how the head does on them is printed and kept. HEAD/ holds the head (heads.head) and curves.png.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stores.command import run_command, say
from stores.errors import OptionError

if TYPE_CHECKING:
    from heads.inputs import InputStores
    from heads.sample import Sample
    from heads.training import Outcome, TrainOptions
    from stores.labels import Labels

AUTO = "auto"
TEST = "test"


@dataclass(kw_only=True)
class HeadTrainOptions:
    """Train a head on the labelled stars of a store, or take one to another survey."""

    input: str = "spectra"
    """What it learns from: spectra, embedding or fused."""
    store: tuple[Path, ...] = ()
    """Spectra stores."""
    embeddings: tuple[Path, ...] = ()
    """Embedding stores, in the same order."""
    labels: tuple[str, ...] = ()
    """Labels of each store: a table of stores-labels, or KIND:FILE as there."""
    targets: str = "teff,logg,feh,alphafe"
    """Labels to learn, separated by commas."""
    out: Path
    """Folder of the head."""
    adapter: str | None = None
    """Strategy that takes --base to these stars; auto picks one for each label."""
    base: Path | None = None
    """The head to start from."""
    replay_store: tuple[Path, ...] = ()
    """Spectra stores of the source survey, for strategies that replay its stars."""
    replay_embeddings: tuple[Path, ...] = ()
    """Embedding stores of the source survey."""
    replay_labels: tuple[str, ...] = ()
    """Labels of the source survey."""
    teff_range: tuple[float, float] | None = None
    """Only stars whose label teff lies in this range, K."""
    shares: tuple[float, ...] = ()
    """How much each store counts as a whole; every spectrum counts alike without."""
    seeds: int = 5
    """Members of the ensemble."""
    seed: int = 0
    """Seed of weights, folds and order."""
    balance: float = 0.5
    """How much rare [Fe/H] count: 0 every star alike, 1 every [Fe/H] alike."""
    overwrite: bool = False
    """Replace a head of that name."""

    @property
    def target_names(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.targets.split(",") if name.strip())

    def check(self) -> None:
        """Refuse what cannot work before anything heavy is loaded."""
        if not self.target_names:
            raise OptionError("--targets names no label; give some, such as feh,teff.")
        if (self.adapter is None) != (self.base is None):
            raise OptionError("--adapter and --base go together: a strategy, and the head that it starts from.")
        if self.out.exists() and not self.overwrite:
            raise OptionError(f"'{self.out}' exists; choose another --out or add --overwrite.")
        if self.out.is_file():
            raise OptionError(f"'{self.out}' is a file; name a folder with --out.")
        counts = {len(paths) for paths in (self.store, self.embeddings) if paths}
        if len(counts) != 1:
            raise OptionError(
                "name the stores with --store, --embeddings or both, as many of the one as of the other."
            )
        count = counts.pop()
        if len(self.labels) != count:
            raise OptionError(f"--labels names {len(self.labels)} tables for {count} stores; give one for each.")
        if self.shares and (len(self.shares) != count or min(self.shares) <= 0):
            raise OptionError("--shares needs a number above 0 for each store.")
        for path in (*self.store, *self.embeddings, *self.replay_store, *self.replay_embeddings):
            if not path.exists():
                raise OptionError(f"'{path}' does not exist; check the path.")


def train(options: HeadTrainOptions) -> int:
    """Train or adapt, judge on the stars kept apart, save; returns the exit status."""
    options.check()
    from heads.training import TrainOptions

    how = TrainOptions(seeds=options.seeds, seed=options.seed, balance=options.balance)
    if options.base is not None:
        return _adapt(options, how)
    stores, samples = _samples(options.input, options.store, options.embeddings, options.labels, options)
    training, test = _parts(samples, options)
    say(f"{len(training)} spectra of {_stars(training)} stars to learn from, {len(test)} kept apart.")
    from heads.training import train_head

    outcome = train_head(training, stores.identity, how, _watch("training"))
    return _finish(outcome, options, training, test)


def _adapt(options: HeadTrainOptions, how: TrainOptions) -> int:
    from heads.auto import adapt_auto
    from heads.bundle import load_head
    from heads.head import Head
    from heads.training import adapt_head

    assert options.base is not None
    assert options.adapter is not None
    base = load_head(options.base)
    if not isinstance(base, Head):
        raise OptionError(f"'{options.base}' joins several heads; start from a single one.")
    name = base.identity["input"]
    stores, samples = _samples(name, options.store, options.embeddings, options.labels, options, base.targets)
    stores.refuse_unlike(base.identity)
    training, test = _parts(samples, options)
    say(f"{len(training)} spectra of {_stars(training)} stars to learn from, {len(test)} kept apart.")
    replay = None
    if options.replay_labels:
        _, old = _samples(
            name, options.replay_store, options.replay_embeddings, options.replay_labels, options, base.targets
        )
        replay, _ = _parts(old, options, shares=False)
    if options.adapter == AUTO:
        chosen = adapt_auto(base, training, how, replay=replay, watch=_watch)
        print(chosen.table())
        chosen.head.about.update(_about(options, training, test, chosen.head))
        chosen.head.save_pretrained(options.out)
        say(f"'{options.out}': {', '.join(f'{label} by {name}' for label, name in chosen.picked.items())}.")
        return 0
    outcome = adapt_head(base, training, options.adapter, how, replay=replay, watch=_watch(options.adapter))
    return _finish(outcome, options, training, test)


def _finish(outcome: Outcome, options: HeadTrainOptions, training: Sample, test: Sample) -> int:
    from heads.curves import draw

    head = outcome.head
    head.about.update(_about(options, training, test, head))
    head.about["weights"] = {"trained": outcome.trained, "total": outcome.total}
    head.about["history"] = asdict(outcome.history)
    head.save_pretrained(options.out)
    if outcome.history.step:
        draw(outcome.history, options.out / "curves.png")
    say(f"{outcome.trained:,} of {outcome.total:,} weights trained.")
    say(f"'{options.out}': a head for {', '.join(head.targets)}.")
    return 0


def _about(options: HeadTrainOptions, training: Sample, test: Sample, head: Any) -> dict[str, Any]:
    """How a head was made and how it does on stars kept apart, which is printed too."""
    from heads.score import score_table, scores

    found = scores(head, test) if len(test) else {}
    if found:
        print(score_table(found))
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()}
    plain = {name: [str(one) for one in value] if isinstance(value, tuple) else value for name, value in plain.items()}
    return {
        "options": plain,
        "spectra": len(training),
        "stars": _stars(training),
        "labelled": {t: int(n) for t, n in zip(training.targets, _known(training), strict=True)},
        "test": found,
    }


def _known(sample: Sample) -> list[int]:
    import numpy as np

    return [int(n) for n in np.isfinite(sample.y).sum(axis=0)]


def _stars(sample: Sample) -> int:
    import numpy as np

    return len(np.unique(sample.star))


def _samples(
    name: str,
    spectra: tuple[Path, ...],
    embeddings: tuple[Path, ...],
    labels: tuple[str, ...],
    options: HeadTrainOptions,
    targets: tuple[str, ...] | None = None,
) -> tuple[InputStores, list[tuple[Sample, Labels]]]:
    """The samples of all stores, which have to be alike, with the labels that each was joined with."""
    import numpy as np

    from heads.inputs import InputStores
    from heads.sample import Sample

    found: list[tuple[Sample, Labels]] = []
    first: InputStores | None = None
    for number, spec in enumerate(labels):
        store = spectra[number] if spectra else None
        embedding = embeddings[number] if embeddings else None
        stores = InputStores.open(name, store, embedding)
        first = first or stores
        stores.refuse_unlike(first.identity)
        known = _labels(spec, stores)
        sample = Sample.join(stores, known, targets or options.target_names)
        if options.teff_range is not None:
            low, high = options.teff_range
            teff = known.values["teff"][np.searchsorted(known.id, sample.id)]
            sample = sample.take(np.flatnonzero((teff > low) & (teff < high)))
        found.append((sample, known))
    if first is None:
        raise OptionError("no store was named; name one with --store or --embeddings.")
    return first, found


def _labels(spec: str, stores: InputStores) -> Labels:
    """A table of labels, or those of a catalogue for the store, split as stores-labels does."""
    from stores.labels import Labels

    if Path(spec).exists() or ":" not in spec:
        return Labels.load(spec)
    from stores.labelling import LabelOptions, label_store

    return label_store(stores.main, LabelOptions(path=stores.main.path, catalogue=(spec,), out=Path("labels.parquet")))


def _parts(
    samples: list[tuple[Sample, Labels]], options: HeadTrainOptions, shares: bool = True
) -> tuple[Sample, Sample]:
    """All stars to learn from, and those kept apart."""
    import numpy as np

    from heads.sample import Sample

    learn, keep = [], []
    for sample, labels in samples:
        apart = np.zeros(len(sample), dtype=bool)
        if TEST in labels.parts:
            apart = np.isin(sample.id, labels.id[labels.in_part(TEST)])
        learn.append(sample.take(np.flatnonzero(~apart)))
        keep.append(sample.take(np.flatnonzero(apart)))
    given = options.shares if shares and options.shares else None
    training, test = Sample.concatenated(learn, given), Sample.concatenated(keep)
    # a star of one survey may be in another one's test part
    clean = ~_same_sky(training, test)
    return training.take(np.flatnonzero(clean)), test


def _same_sky(one: Sample, other: Sample) -> Any:
    """(n,) True for spectra whose star is in the other sample too, by position."""
    import numpy as np

    from stores.stars import same_stars

    star = same_stars(np.concatenate([one.ra, other.ra]), np.concatenate([one.dec, other.dec]))
    return np.isin(star[: len(one)], star[len(one) :])


def _watch(what: str) -> Any:
    from stores.progress import progress

    return lambda steps: progress(steps, what, unit="step", total=len(steps))


def main() -> None:
    """Entry point of heads-train."""
    run_command(HeadTrainOptions, train, "heads-train")


if __name__ == "__main__":
    main()
