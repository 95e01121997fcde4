"""python -m benchmarks.speed --device cuda [--sizes small base] [--batches 64 256 1024 4096] [--record]

Embedding and pre-training on a GPU (or, to try it, any other device) by size, batch and torch.compile, in one run with
what bounds them: the rate at which the card multiplies large matrices, and the rate at which a store gives spectra.

- embedding: from arrays in memory to arrays in memory, as embed-spectra does it, copies included
- pre-training: the step of embed-pretrain with `--objective views`, its views, loss, gradients and AdamW included; its
  batch is in memory
- views: what of such a step is spent before the model, on views and masks

Cards multiply in bfloat16 (autocast, as `--precision bfloat16` and accelerate do it), a CPU in float32. Operations are
those of benchmarks/speed/flops.py, counted on the very batch; the share is of the measured product of matrices in the
same precision. Stores are read from the page cache, so `of store` is the least share of a disk's rate that is needed.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.speed.machine import processor
from benchmarks.speed.stores import spectra, write
from stores.errors import OptionError
from stores.grid import Grid
from stores.spectra import SpectraStore

if TYPE_CHECKING:
    from embed.pretrain import Run

SIZES = ("small", "base")
BATCHES = (64, 256, 1024, 4096)
TARGETS = {("embedding", "base"): 0.5, ("pre-training", "base"): 0.4}  # share of the rate of products
SIDE = {"cuda": 8192}  # of the matrices that are multiplied
PRODUCTS = 10  # of them, one after the other, before a look at the clock
WARM_UP = 3  # calls that are not timed: what is compiled, chosen and cached happens there
COMPILER = "inductor"
EDGE = 40  # pixels that one spectrum in ten lacks, as where its velocity has moved its end off the grid


@dataclass(frozen=True)
class Card:
    """What bounds the models: flops, a second, of products of matrices; spectra, a second, from a store."""

    name: str
    precision: str
    flops: float
    spectra: float


@dataclass(frozen=True)
class Trial:
    """One thing on the device.

    seconds: median of a call, None if it does not fit into the memory of the device
    flops: operations of a call
    megabytes: most that was allocated on a GPU
    """

    task: str
    size: str
    compiled: bool
    batch: int
    seconds: float | None
    flops: int = 0
    megabytes: float = 0.0


def usable_card(device: str) -> str:
    """The device, if it is there and multiplies in bfloat16. Raises OptionError."""
    import torch

    from embed.embedder import usable_device

    if ":" in device:
        raise OptionError(f"--device {device} must be a kind alone; CUDA_VISIBLE_DEVICES chooses among several GPUs.")
    wanted = usable_device(device, lambda: "cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and not torch.cuda.is_bf16_supported():
        raise OptionError(f"device '{wanted}' does not multiply in bfloat16, which is what is measured; use another.")
    return wanted


def measure_device(device: str, sizes: Sequence[str], batches: Sequence[int], repeats: int) -> dict[str, Any]:
    """The card and all trials, as JSON; prints each as it is done.

    Raises OptionError for a device that is not there.
    """
    if not batches or min(batches) < 2:
        raise OptionError("--batches needs some numbers of 2 or more.")
    device = usable_card(device)
    gpu = device == "cuda"
    precision = "bfloat16" if gpu else "float32"
    grid, rows = Grid.parse("lrs"), max(2048, round(1.1 * max(batches)))  # some are held out of training
    trials = []
    with tempfile.TemporaryDirectory() as folder:
        store = write(Path(folder) / "spectra.zarr", grid, edged(spectra(grid, rows)))
        card = Card(_name(device), precision, product_rate(device, precision, repeats), read_rate(store, repeats))
        print(title(card), flush=True)
        for size in sizes:
            for compiled in (False, True) if gpu else (False,):
                for trial in _trials(store, size, compiled, sorted(batches), device, precision, repeats):
                    trials.append(trial)
                    print(line(trial, card), flush=True)
    return {"card": asdict(card), "trials": [as_record(trial, card) for trial in trials]}


def product_rate(device: str, precision: str, repeats: int) -> float:
    """Floating-point operations a second of products of large square matrices."""
    import torch

    side = SIDE.get(device, 1024)
    one, other = (torch.randn(side, side, device=device).to(getattr(torch, precision)) for _ in range(2))
    out = torch.empty_like(one)

    def multiply() -> None:
        for _ in range(PRODUCTS):
            torch.mm(one, other, out=out)
        _finish(device)

    return PRODUCTS * 2 * side**3 / _seconds(multiply, repeats)


def read_rate(store: SpectraStore, repeats: int) -> float:
    """Spectra a second, flux and ivar, read in order."""
    return len(store) / _seconds(lambda: [store.read(name) for name in ("flux", "ivar")], repeats)


def _trials(
    store: SpectraStore,
    size: str,
    compiled: bool,
    batches: Sequence[int],
    device: str,
    precision: str,
    repeats: int,
) -> Iterator[Trial]:
    """Those of one model: batches of a task from the smallest on, until one does not fit."""
    import torch

    for task, trials in {"embedding": embedding, "pre-training": pretraining}.items():
        for batch in batches:
            torch.compiler.reset()
            if device == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(device)
            try:
                yield from trials(store, size, compiled, batch, device, precision, repeats)
            except torch.OutOfMemoryError:
                yield Trial(task, size, compiled, batch, None)
                break


def embedding(
    store: SpectraStore, size: str, compiled: bool, batch: int, device: str, precision: str, repeats: int
) -> list[Trial]:
    """Batches through the backend of embed-spectra; the model is an untrained one of that size."""
    import torch

    from benchmarks.speed.embed import untrained
    from benchmarks.speed.flops import counted
    from embed.backend import TorchBackend

    model = untrained(size)
    rows = slice(0, batch)
    flux, ivar = store.read("flux", rows), store.read("ivar", rows)
    plain = TorchBackend(model, store.grid.start, device, precision)
    with counted(model.model) as found:
        plain(flux, ivar)
    backend = plain
    if compiled:
        faster: Any = torch.compile(model.model, backend=COMPILER)
        backend = TorchBackend(replace(model, model=faster), store.grid.start, device, precision)
    seconds = _seconds(lambda: backend(flux, ivar), repeats)
    return [Trial("embedding", size, compiled, batch, seconds, found.forward, _megabytes(device))]


def pretraining(
    store: SpectraStore, size: str, compiled: bool, batch: int, device: str, precision: str, repeats: int
) -> list[Trial]:
    """Steps of embed-pretrain, and the views and masks of such steps by themselves."""
    import torch

    from benchmarks.speed.flops import counted
    from embed.masking import random_mask
    from embed.model import valid_patches

    with _started(store, size, compiled, batch, device, precision) as run:
        flux, ivar = run.tensors(*run.batches.batch(0))
        generator = torch.Generator().manual_seed(0)
        model = run.accelerator.unwrap_model(run.model, keep_torch_compile=False)
        with run.accelerator.autocast(), counted(model) as found:
            run.objective.loss(model, run.config, flux, ivar, generator)
        done = 0

        def step() -> float:
            nonlocal done
            run.batches.batch(done)  # reads what the step needs, which then is in memory
            begun = time.perf_counter()
            run.step(done)  # ends with the loss as a number, so that nothing is left to do on the device
            done += 1
            return time.perf_counter() - begun

        taken = [step() for _ in range(WARM_UP + repeats)][WARM_UP:]
        megabytes = _megabytes(device)

        def views() -> None:
            parts = [run.objective.augmentation(flux, ivar, generator) for _ in range(2)]  # type: ignore[union-attr]
            seen = torch.cat([part[1] for part in parts])
            random_mask(valid_patches(seen, run.config.patch_size), run.options.mask_ratio, generator)
            _finish(device)

        before = _seconds(views, repeats)
    return [
        Trial(
            "pre-training", size, compiled, batch, statistics.median(taken), found.forward + found.backward, megabytes
        ),
        Trial("views", size, compiled, batch, before),
    ]


@contextmanager
def _started(store: SpectraStore, size: str, compiled: bool, batch: int, device: str, precision: str) -> Iterator[Run]:
    """A run of embed-pretrain that is set up; accelerate's state, of which a process has one, is that of this run."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    from embed.pretrain import PretrainOptions, start_run

    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        cpu=device == "cpu",
        mixed_precision="bf16" if precision == "bfloat16" else "no",
        dynamo_backend=COMPILER if compiled else "no",
    )
    wanted: Any = size
    out = Path(str(store.path)).with_name("run")  # where nothing is written: that is for validations
    try:
        yield start_run(
            PretrainOptions(stores=(str(store.path),), out=out, size=wanted, batch_size=batch), accelerator
        )
    finally:
        accelerator.free_memory()
        AcceleratorState._reset_state(reset_partial_state=True)


def edged(values: dict[str, Any]) -> dict[str, Any]:
    """The columns, with one spectrum in ten that lacks its first pixels, so that batches have patches to pass over."""
    for name in ("flux", "ivar"):
        values[name][::10, :EDGE] = 1.0 if name == "flux" else 0.0
    return values


def as_record(trial: Trial, card: Card) -> dict[str, Any]:
    """A trial with what follows from it; None where it did not fit, and a share where there is none.

    share: of the card's rate of products; of_store: of the rate of a store, above 1 where that cannot keep up
    """
    rate = None if trial.seconds is None else trial.batch / trial.seconds
    share = None if trial.seconds is None or not trial.flops else trial.flops / trial.seconds / card.flops
    target = TARGETS.get((trial.task, trial.size))
    return {
        **asdict(trial),
        "spectra_per_second": rate,
        "share": share,
        "of_store": None if rate is None else rate / card.spectra,
        "target": target,
        "reached": None if share is None or target is None else share >= target,
    }


def best(trials: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The fastest trial of each task and size."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for trial in trials:
        if trial["spectra_per_second"] is None or trial["task"] == "views":
            continue
        held = found.setdefault((trial["task"], trial["size"]), trial)
        if trial["spectra_per_second"] > held["spectra_per_second"]:
            found[trial["task"], trial["size"]] = trial
    return list(found.values())


def title(card: Card) -> str:
    """The card and the heads of the columns."""
    return (
        f"{card.name}: {card.flops / 1e12:.2f} TFLOP/s in products of {card.precision} matrices; "
        f"a store gives {card.spectra:,.0f} spectra/s\n"
        f"{'task':<12}  {'size':<5}  {'compiled':<8}  {'batch':>5}  {'spectra/s':>10}  {'TFLOP/s':>8}  "
        f"{'share':>6}  {'target':>6}  {'of store':>8}  {'MB':>7}"
    )


def line(trial: Trial, card: Card) -> str:
    """A trial as text."""
    record = as_record(trial, card)
    start = f"{trial.task:<12}  {trial.size:<5}  {'yes' if trial.compiled else 'no':<8}  {trial.batch:>5}  "
    if trial.seconds is None:
        return start + "does not fit into the memory of the device"
    share = "" if record["share"] is None else f"{record['share']:.0%}"
    rate = "" if record["share"] is None else f"{trial.flops / trial.seconds / 1e12:.2f}"
    target = "" if record["target"] is None else f"{record['target']:.0%}"
    return (
        f"{start}{record['spectra_per_second']:>10,.0f}  {rate:>8}  {share:>6}  {target:>6}  "
        f"{record['of_store']:>8.2f}  {trial.megabytes:>7.0f}"
    )


def _seconds(action: Callable[[], object], repeats: int) -> float:
    """Median of repeats after a warm-up; the action has to leave nothing to do on the device."""
    for _ in range(WARM_UP):
        action()
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def _finish(device: str) -> None:
    import torch

    if device != "cpu":
        getattr(torch, device).synchronize()


def _megabytes(device: str) -> float:
    import torch

    return torch.cuda.max_memory_allocated(device) / 2**20 if device == "cuda" else 0.0


def _name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device == "cuda" else processor()
