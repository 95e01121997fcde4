"""Request: what is asked of heads-bench, checked before anything heavy is loaded or anything is written."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from benchmarks.regime import REGIMES, Regime
from stores.command import say
from stores.errors import OptionError
from stores.location import Location, resolved
from stores.place import place_at
from stores.provenance import commit

INPUTS = ("spectra", "embedding", "fused")
STRATEGIES = ("scratch", "zero_shot", "residual", "kriging", "lora", "full", "anchored", "auto")
BASELINES = ("ridge_pca64", "knn", "payne")
KNOWN = ("teff", "logg", "feh", "alphafe")  # labels of the suites' stars
STUDY_SIZES = (0, 100, 200, 500, 1000, 2069)
RESULTS, BEGUN = "results.json", "study/request.json"  # in --out
LEAST_TESTED = 20
KEPT_TO_TEST = 0.3  # share of a user's target stars


@dataclass(frozen=True)
class Scale:
    """How large a suite is.

    sizes: target stars to learn from; draws: splits of the target's stars; tested: stars of a split at the most
    source: labelled stars of the source (of `real`: simulated spectra beside the real ones)
    landscape: steps a side of loss landscapes; epochs: over the source's stars, if not the strategy's own number
    """

    sizes: tuple[int, ...]
    adapters: tuple[str, ...]
    source: int
    tested: int
    draws: int = 1
    landscape: int = 15
    epochs: float | None = None


SCALES = {
    "quick": Scale((0, 100), ("zero_shot", "residual", "kriging", "anchored"), 800, 250, landscape=9),
    "twins": Scale((0, 100, 300, 1000), STRATEGIES, 2000, 1000),
    "real": Scale((0, 50, 100, 200), STRATEGIES, 8000, 1_000_000, draws=3, epochs=10),
    "own": Scale(STUDY_SIZES, STRATEGIES, 0, 1_000_000),
}


@dataclass(kw_only=True)
class BenchOptions:
    """Compare heads on spectra, embeddings and both, strategy by strategy, for kinds of stars."""

    regime: tuple[str, ...] = ("all",)
    """metal_rich, metal_poor, very_metal_poor, all, or kinds of your own: 'cool=teff < 5000 and feh > -1'."""
    labels: str | None = None
    """Labels to give, separated by commas, if not teff,logg,feh,alphafe, or those of them that your tables have."""
    inputs: str = ",".join(INPUTS)
    """spectra, embedding, fused."""
    adapters: str | None = None
    """Strategies, if not those of the suite; auto picks one for each label."""
    baselines: str = ",".join(BASELINES)
    """Classical methods to compare with; none for none."""
    sizes: str | None = None
    """Target stars to learn from, such as 0,100,200,500; 0 is the head of the source as it is."""
    seeds: int = 5
    """Members of every head, trained together."""
    draws: int | None = None
    """Random splits of the target's stars into those learned from and those tested."""
    suite: Literal["quick", "twins", "real"] = "quick"
    """Built-in twins, small or at full size, or LAMOST to MILES of --data."""
    data: Path = Path("../shared/data")
    """Folder of real data for --suite real: lamost/ and miles/ in it."""
    source: tuple[Location, ...] = ()
    """Spectra stores of your own to learn from, paths or URLs, in place of a suite."""
    source_labels: tuple[Path, ...] = ()
    """Their labels, tables of stores-labels."""
    target: Location | None = None
    """Spectra store of the survey to go to."""
    target_labels: Path | None = None
    """Its labels."""
    pipelines: tuple[str, ...] = ()
    """What catalogues say of its stars, to compare with: NAME=TABLE of stores-labels, such as SP=sp.parquet."""
    model: str = "tiny-views"
    """Model that embeds the spectra."""
    out: Path = Path("bench")
    """Folder of results, and of all that is made on the way."""
    jobs: int = 0
    """Processes, each with one thread; 0 takes all cores. Results do not depend on it."""
    replicates: int = 300
    """Bootstrap replicates of stars and seeds."""
    resume: bool = False
    """Only go on with what is in --out; without it that is done too, but a new folder is begun where there is none."""
    overwrite: bool = False
    """Take over a folder of other settings; what is computed there is kept, and used again where it fits."""
    record: bool = False
    """Add a line to the leaderboard of the repository."""

    def check(self) -> list[Regime]:
        """The regimes; refuses what cannot work before anything heavy is loaded."""
        own = (self.source, self.source_labels, self.target, self.target_labels)
        if any(own) and not all(own):
            raise OptionError("--source, --source-labels, --target and --target-labels go together; give all four.")
        if len(self.source) != len(self.source_labels):
            raise OptionError("--source-labels needs a table for each --source, in the same order.")
        for path in (*self.source, *self.source_labels, self.target, self.target_labels, *self.tables.values()):
            if path is not None and not place_at(path).exists():
                raise OptionError(f"'{path}' does not exist; check the path.")
        for name, least in (("seeds", 1), ("replicates", 50), ("jobs", 0)):
            if getattr(self, name) < least:
                raise OptionError(f"--{name} {getattr(self, name)} must be {least} or more.")
        if self.draws is not None and self.draws < 1:
            raise OptionError(f"--draws {self.draws} must be 1 or more.")
        if not self.regime:
            raise OptionError(f"--regime names no stars; name {', '.join(REGIMES)} or all.")
        for option in ("labels", "inputs", "adapters", "sizes"):
            if (text := getattr(self, option)) is not None and not names(text):
                raise OptionError(f"--{option} names nothing; name some, or leave it out.")
        _among("--inputs", names(self.inputs), INPUTS)
        if set(names(self.baselines)) - {*BASELINES, "none"}:
            from benchmarks.baselines import load_baselines

            _among("--baselines", names(self.baselines), (*load_baselines(), "none"))
        _ = self.scale
        found = [one for text in self.regime for one in Regime.parse(text)]
        self._check_labels(found)
        self._check_pipelines()
        self._check_sizes()
        if self.kind == "real":
            from benchmarks.suites import RealFiles

            RealFiles.of(self.data)
        if self.record:
            from benchmarks.leaderboard import check_recordable

            check_recordable(commit())
        if self.out.is_file():
            raise OptionError(f"'{self.out}' is a file; name a folder with --out.")
        begun = (self.out / "study").is_dir()
        if self.resume and not begun:
            raise OptionError(f"'{self.out}' holds nothing to go on with; leave --resume out.")
        if not begun and self.out.is_dir() and any(self.out.iterdir()):
            raise OptionError(f"'{self.out}' holds other files; choose another --out.")
        regimes = list({one.name: one for one in found}.values())
        self._check_held(regimes)
        return regimes

    def _check_labels(self, regimes: list[Regime]) -> None:
        """Labels to give must be known of stars of either side, those that regimes ask for of the target's."""
        sides = self._sides
        for label in names(self.labels or ""):
            for whose, known in sides:
                if label not in known:
                    raise OptionError(
                        f"--labels names '{label}', and {whose} {', '.join(known) or 'none'} only; name one of these."
                    )
        whose, known = sides[-1]
        for one in regimes:
            for label in one.names:
                if label not in known:
                    raise OptionError(
                        f"the regime '{one.name}' asks for '{label}', and {whose} {', '.join(known) or 'none'} only; "
                        "name one of these."
                    )
        if not self.targets:
            raise OptionError(
                f"source and target share none of the labels {', '.join(KNOWN)}; name others that both have with "
                "--labels."
            )
        if self.labels is None and (lacking := [label for label in KNOWN if label not in self.targets]):
            left = " or ".join(lacking)
            say(f"note: the labels of source and target do not both have {left}; compared: {', '.join(self.targets)}.")

    def _check_pipelines(self) -> None:
        """Each must say something of a star of the target."""
        if not self.tables:
            return
        if self.target_labels is None:
            raise OptionError("--pipelines are of surveys of your own; give --source and --target, or leave it out.")
        import numpy as np

        from stores.labels import Labels

        stars = Labels.load(self.target_labels).id
        for name, path in self.tables.items():
            table = Labels.load(path)
            table = table.take(np.isin(table.id, stars))
            if not any(np.isfinite(table.values[label]).any() for label in self.targets if label in table.values):
                raise OptionError(
                    f"--pipelines {name}: '{path}' says nothing of {', '.join(self.targets)} of stars in "
                    f"'{self.target_labels}'; make it by stores-labels from the store '{self.target}'."
                )

    def _check_sizes(self) -> None:
        """Stars of a user's target must be left to test, of those that have labels at all."""
        if self.sizes is None or self.target_labels is None:
            return
        import numpy as np

        from stores.labels import Labels

        pool, stars = max(self.scale.sizes), len(np.unique(Labels.load(self.target_labels).star))
        if pool + LEAST_TESTED > stars:
            raise OptionError(
                f"--sizes {pool}: '{self.target_labels}' has {stars} stars, of which at least {LEAST_TESTED} are "
                "tested; ask for smaller ones."
            )

    @cached_property
    def tables(self) -> dict[str, Path]:
        """Labels by the name of a pipeline. Raises OptionError for what is not NAME=TABLE."""
        found: dict[str, Path] = {}
        for text in self.pipelines:
            name, equals, path = (part.strip() for part in text.partition("="))
            if not (name and equals and path):
                raise OptionError(f"--pipelines '{text}' is no NAME=TABLE, such as SP=sp.parquet.")
            if name in found:
                raise OptionError(f"--pipelines names {name} twice; give each table a name of its own.")
            found[name] = Path(path)
        return found

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """The labels to give: those named, else the usual ones that stars of both sides have."""
        if self.labels is not None:
            return names(self.labels)
        return tuple(label for label in KNOWN if all(label in known for _, known in self._sides))

    @cached_property
    def _sides(self) -> list[tuple[str, tuple[str, ...]]]:
        """Whose labels are known, in words, and which: of the sources, and last of the target."""
        if self.target_labels is None:
            return [(f"the stars of the suite '{self.kind}' have", KNOWN)]
        import numpy as np

        from stores.labels import Labels

        found = []
        for paths in (self.source_labels, (self.target_labels,)):
            tables = [Labels.load(path) for path in paths]
            known = [name for one in tables for name in one.names if np.isfinite(one.values[name]).any()]
            shown = " and ".join(f"'{path}'" for path in paths)
            found.append((f"{shown} {'have' if len(paths) > 1 else 'has'}", tuple(dict.fromkeys(known))))
        return found

    def _check_held(self, regimes: list[Regime]) -> None:
        """A folder belongs to the settings of the run that is done in it, or was done last, until told otherwise."""
        if self.overwrite:
            return
        asked, begun, done = self.settings(regimes), _held(self.out / BEGUN), _held(self.out / RESULTS)
        told = differences(begun, asked) if begun is not None else _other(done, asked) if done is not None else ""
        if told and done is not None and begun in (None, done.get("options")):
            raise OptionError(
                f"'{self.out}' holds results of other settings ({told}); choose another --out, or replace them with "
                "--overwrite: what both have in common is not computed again."
            )
        if told:
            raise OptionError(
                f"'{self.out}' was begun with other settings ({told}); give those to go on with it, choose another "
                "--out, or begin anew with --overwrite: what both have in common is not computed again."
            )

    def reported(self, regimes: list[Regime]) -> bool:
        """Whether the folder holds results of these very settings."""
        done = _held(self.out / RESULTS)
        return done is not None and done.get("options") == self.settings(regimes)

    def settings(self, regimes: list[Regime]) -> dict[str, Any]:
        """What results depend on, by option, as JSON holds it."""
        scale = self.scale
        mine = {
            "suite": self.kind,
            "regime": {one.name: one.expression for one in regimes},
            "labels": self.targets,
            "inputs": names(self.inputs),
            "adapters": scale.adapters,
            "baselines": names(self.baselines),
            "sizes": scale.sizes,
            "seeds": self.seeds,
            "draws": scale.draws,
            "model": self.model,
            "replicates": self.replicates,
        }
        if self.kind == "real":
            mine["data"] = self.data.resolve()
        if self.target is not None and self.target_labels is not None:
            mine["source"] = [resolved(path) for path in self.source]
            mine["source-labels"] = [path.resolve() for path in self.source_labels]
            mine["target"], mine["target-labels"] = resolved(self.target), self.target_labels.resolve()
            if self.tables:
                mine["pipelines"] = {name: path.resolve() for name, path in self.tables.items()}
        found: dict[str, Any] = json.loads(json.dumps(mine, default=str))
        return found

    @property
    def kind(self) -> str:
        """The suite, or `own`."""
        return "own" if self.target is not None else self.suite

    @property
    def scale(self) -> Scale:
        """That of the suite, with what the options say otherwise."""
        scale = SCALES[self.kind]
        if self.sizes is not None:
            try:
                sizes = tuple(sorted({int(text) for text in names(self.sizes)}))
            except ValueError:
                raise OptionError(f"--sizes {self.sizes} are no numbers such as 0,100,200.") from None
            if sizes[0] < 0 or any(0 < size < 10 for size in sizes):
                raise OptionError(f"--sizes {self.sizes} must be 0, or 10 and more stars, such as 0,100,200.")
            scale = replace(scale, sizes=sizes)
        if self.adapters is not None:
            from heads.adapters import load_adapters

            known = [name for name, strategy in load_adapters().items() if not strategy.encodes]
            _among("--adapters", names(self.adapters), (*known, "auto"))
            scale = replace(scale, adapters=names(self.adapters))
        return scale if self.draws is None else replace(scale, draws=self.draws)


def differences(held: dict[str, Any], asked: dict[str, Any]) -> str:
    """Settings that are not alike, for people: '--seeds 5, now 3'; empty where all are."""
    told = [
        f"--{name} {_shown(held.get(name))}, now {_shown(asked.get(name))}"
        for name in dict.fromkeys([*asked, *held])
        if held.get(name) != asked.get(name)
    ]
    return "; ".join(told)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(name if REGIMES.get(name) == text else f"{name}={text}" for name, text in value.items())
    return ",".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)


def _other(about: dict[str, Any], asked: dict[str, Any]) -> str:
    """What is different of results."""
    held = about.get("options")
    return differences(held, asked) if held else f"version {about.get('version')} does not say which"


def _held(path: Path) -> dict[str, Any] | None:
    """What is in a file of JSON; None where there is nothing."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def names(text: str) -> tuple[str, ...]:
    """The words between the commas of an option, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _among(option: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise OptionError(f"{option} names '{unknown[0]}'; known are {', '.join(known)}.")
