"""Pre-train a spectral transformer on spectra stores.

    accelerate launch embed/pretrain.py lamost.zarr --out run --size small --steps 20000
    python embed/pretrain.py lamost.zarr --out run            (one process, no launcher)
    embed-pretrain lamost.zarr --out run                      (the same, installed)

    On CPU the launcher gives a process one thread unless told otherwise; this uses two:
    accelerate launch --cpu --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
        --num_cpu_threads_per_process 2 embed/pretrain.py lamost.zarr --out run
    Two processes on CPU: ACCELERATE_USE_CPU=true OMP_NUM_THREADS=1 torchrun --nproc_per_node 2 embed/pretrain.py ...
    GPUs, of one machine or of several (docs/clusters.md):
    accelerate launch --mixed_precision bf16 --num_processes 8 embed/pretrain.py ...

RUN holds the best model so far (config.json, model.safetensors), `last/` with all that --resume needs,
training.json and loss.png. A store named twice counts twice.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):  # started as a script: import the packages beside embed/, not the files in it
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import tyro

from embed.checkpoint import Checkpoint
from stores.atomic import full_disk_told
from stores.command import run_command, say
from stores.errors import InputError, OptionError
from stores.progress import progress
from stores.provenance import fingerprint, provenance

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from embed.batches import Batches
    from embed.model import SpectralTransformer
    from embed.objective import Masked, Views
    from stores.grid import Grid


@dataclass(kw_only=True)
class PretrainOptions:
    """Pre-train a spectral transformer on spectra stores, without labels."""

    stores: tyro.conf.Positional[tuple[str, ...]]
    """Spectra stores of one grid and preparation; one named twice counts twice."""
    out: Path
    """Folder of the run."""
    size: Literal["tiny", "small", "base"] = "small"
    """Size of the model."""
    steps: int = 20_000
    """Optimiser steps of the whole run."""
    batch_size: int = 256
    """Spectra a step, over all processes."""
    objective: Literal["views", "masked"] = "views"
    """views: see the star through noise, line spread, continuum errors and gaps; masked: predict hidden patches."""
    mask_ratio: float = 0.5
    """Share of a spectrum's patches to hide."""
    mask_ratio_end: float | None = None
    """Share to hide in the end, reached linearly over the second half of the steps, if not --mask-ratio: hiding much
    makes steps cheap, and less in the end shows the model spectra as it will embed them."""
    alignment: float = 0.2
    """Weight of bringing two views of a spectrum together, against reading the spectrum from each."""
    temperature: float = 0.1
    """Of the similarities that bring views together: lower tells closer neighbours apart."""
    learning_rate: float = 1e-3
    """Peak learning rate, after the warm-up and before the cosine decay to a tenth."""
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = 0.05
    """AdamW's weight decay of matrices."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    validate_every: int = 500
    """Steps between validations and checkpoints."""
    validation_rows: int = 1024
    """Held-out spectra in a validation (one spectrum in fifty is held out)."""
    stop_after: int | None = None
    """Save and end after this many steps of this call, for queues with a time limit; go on with --resume."""
    resume: bool = False
    """Go on from the last checkpoint in the folder."""
    seed: int = 0
    """Seed of weights, masks and order."""

    def __post_init__(self) -> None:
        if not self.stores:
            raise OptionError("no spectra store was named; make one with stores-ingest.")
        for name, ratio in (("mask-ratio", self.mask_ratio), ("mask-ratio-end", self.mask_ratio_at(self.steps))):
            if not 0.05 <= ratio <= 0.95:
                raise OptionError(f"--{name} {ratio:g} must lie between 0.05 and 0.95.")
        if self.alignment < 0 or self.temperature <= 0:
            raise OptionError("--alignment must be 0 or more and --temperature above 0.")
        stop_after = 1 if self.stop_after is None else self.stop_after
        if min(self.steps, self.batch_size, self.validate_every, self.validation_rows, stop_after) < 1:
            raise OptionError("--steps, --batch-size, --validate-every, --validation-rows, --stop-after: 1 or more.")
        if self.seed < 0:
            raise OptionError(f"--seed {self.seed} must be 0 or more.")
        Checkpoint(self.out).refuse(resume=self.resume)  # now, before seconds go into loading torch

    @property
    def recipe(self) -> dict[str, Any]:
        """What decides the result; a resumed run must share it."""
        ignored = ("out", "resume", "stop_after")
        return {name: value for name, value in asdict(self).items() if name not in ignored}

    def mask_ratio_at(self, step: int) -> float:
        """Constant for half of the steps, then linear to its end."""
        end = self.mask_ratio if self.mask_ratio_end is None else self.mask_ratio_end
        return self.mask_ratio + (end - self.mask_ratio) * max(0.0, 2 * step / max(1, self.steps) - 1)

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine to a tenth of the peak."""
        warm = max(1, round(self.warmup * self.steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        share = (step - warm) / max(1, self.steps - warm)
        return self.learning_rate * (0.55 + 0.45 * math.cos(math.pi * share))


def pretrain(options: PretrainOptions) -> int:
    """Run or resume a training; returns the exit status."""
    from embed.launch import join_processes, leave_processes

    join_processes()
    try:
        return _pretrain(options)
    finally:
        leave_processes()


def _pretrain(options: PretrainOptions) -> int:
    """The part of one of the processes."""
    from accelerate import Accelerator
    from transformers.utils import logging

    logging.disable_progress_bar()
    accelerator = Accelerator()
    run = start_run(options, accelerator)
    state = run.state
    if accelerator.is_main_process:
        n_weights = sum(p.numel() for p in run.model.parameters())
        say(f"{options.size}: {n_weights:,} weights; {run.batches.n_rows} training spectra on {accelerator.device}.")
    last = options.steps if options.stop_after is None else min(options.steps, state.step + options.stop_after)
    run.until(last)
    if accelerator.is_main_process:
        best = min((entry["validation"] for entry in state.history), default=math.nan)
        done = "done" if state.step == options.steps else f"stopped at step {state.step} of {options.steps}"
        say(f"{done}: best validation loss {best:.4f}; model in '{options.out}'.")
    return 0


def start_run(options: PretrainOptions, accelerator: Accelerator) -> Run:
    """A run with all that its steps need, new or as its last checkpoint left it; nothing is written yet."""
    from embed.batches import Batches, open_stores

    stores = open_stores(options.stores)
    sources = [store.fingerprint for store in stores]
    launch = {"processes": accelerator.num_processes, "mixed_precision": accelerator.mixed_precision}
    recipe = {**options.recipe, **launch, "stores": sources}
    checkpoint = Checkpoint(options.out)
    if options.batch_size % accelerator.num_processes:
        raise OptionError(
            f"--batch-size {options.batch_size} cannot be shared evenly by {accelerator.num_processes} processes."
        )
    model = _new_model(options, stores[0])
    batches = Batches(stores, options.batch_size, options.seed)
    state = _State(recipe)
    if options.resume:
        state = _State(recipe, **checkpoint.load(recipe))
        model = checkpoint.load_model()
    optimizer = _optimizer(model, options)
    if options.resume:
        checkpoint.load_optimizer(optimizer, model)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    objective = _objective(options, stores[0].grid)
    return Run(options, accelerator, wrapped, optimizer, batches, checkpoint, state, objective)


class _State:
    """Where a training stands: steps done and what was measured on the way."""

    def __init__(
        self,
        recipe: dict[str, Any],
        step: int = 0,
        history: list[dict[str, float]] | None = None,
        seconds: float = 0,
    ) -> None:
        self.recipe = recipe
        self.step = step
        self.history = history or []
        self.seconds = seconds

    def as_json(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "history": self.history,
            "recipe": self.recipe,
            "recipe_fingerprint": fingerprint(self.recipe),
            **provenance(),
        }


@dataclass
class Run:
    """The loop, with everything it needs in its hands."""

    options: PretrainOptions
    accelerator: Accelerator
    model: torch.nn.Module
    optimizer: Any
    batches: Batches
    checkpoint: Any
    state: _State
    objective: Masked | Views

    def until(self, last: int) -> None:
        """Train until `last` steps are done."""
        self.losses: list[float] = []
        started = time.monotonic() - self.state.seconds
        for step in self._watched(range(self.state.step, last)):
            self.losses.append(self.step(step))
            self.state.step = step + 1
            if (step + 1) % self.options.validate_every == 0 or step + 1 == last:
                self.state.seconds = time.monotonic() - started
                self._record()

    def _watched(self, steps: range) -> Iterator[int]:
        if not self.accelerator.is_main_process:
            yield from steps
            return
        total, done = self.options.steps, steps.start
        yield from progress(steps, "training", unit="step", total=total, done=done, status=self._status)

    def _status(self) -> str:
        recent = self.losses[-50:]
        return f"loss {sum(recent) / len(recent):.4f}" if recent else ""

    def step(self, step: int) -> float:
        """One optimiser step; everything random in it comes from seed, step and rank."""
        import torch

        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        flux, ivar = self.tensors(*self.batches.batch(step, rank, world))
        generator = torch.Generator().manual_seed(_seed_of(self.options.seed, step, rank))
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate_at(step)
        with self.accelerator.autocast():
            objective = replace(self.objective, mask_ratio=self.options.mask_ratio_at(step))
            loss = objective.loss(self.model, self.config, flux, ivar, generator)
        if not torch.isfinite(loss):
            raise InputError(f"the loss is not finite at step {step}; try a smaller --learning-rate.")
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.options.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())

    def _record(self) -> None:
        """Validate, note it down, save."""
        validation = self._validate()
        entry = {
            "step": self.state.step,
            "loss": sum(self.losses) / len(self.losses),
            "validation": validation,
            "learning_rate": self.options.learning_rate_at(self.state.step - 1),
        }
        self.losses = []
        best = all(validation < other["validation"] for other in self.state.history)
        self.state.history.append(entry)
        if self.accelerator.is_main_process:
            model = self.accelerator.unwrap_model(self.model)
            self.checkpoint.save(model, self.optimizer, self.state.as_json(), best)
            _plot(self.state.history, self.options.out / "loss.png")
        self.accelerator.wait_for_everyone()

    def _validate(self) -> float:
        """Mean loss on held-out spectra, always under the same masks and views."""
        import torch

        flux, ivar = self.batches.validation(self.options.validation_rows)
        generator = torch.Generator().manual_seed(_seed_of(self.options.seed, -1, 0))
        model = self.accelerator.unwrap_model(self.model)
        model.eval()
        objective = replace(self.objective, mask_ratio=self.options.mask_ratio_at(self.options.steps))
        losses = []
        with torch.no_grad():
            for first in range(0, len(flux), 256):
                some = slice(first, first + 256)
                flux_t, ivar_t = self.tensors(flux[some], ivar[some])
                loss = objective.loss(model, self.config, flux_t, ivar_t, generator)
                losses += [float(loss)] * len(flux_t)
        model.train()
        return sum(losses) / len(losses)

    @property
    def config(self) -> Any:
        """The model's SpectralConfig, whatever it is wrapped in."""
        return self.accelerator.unwrap_model(self.model).config

    def tensors(self, *arrays: Any) -> list[torch.Tensor]:
        """Arrays on the device of this process."""
        import torch

        return [torch.from_numpy(array).to(self.accelerator.device, non_blocking=True) for array in arrays]


def _new_model(options: PretrainOptions, store: Any) -> SpectralTransformer:
    from transformers import set_seed

    from embed.config import SpectralConfig
    from embed.model import SpectralTransformer

    set_seed(options.seed)
    preprocessing = store.attributes["preprocessing"]
    config = SpectralConfig.of_size(
        options.size,
        step=store.grid.step,
        grid=str(store.grid),
        preprocessing=preprocessing,
        objective=options.objective,
    )
    return SpectralTransformer(config)


def _objective(options: PretrainOptions, grid: Grid) -> Masked | Views:
    from embed.augment import Augmentation
    from embed.objective import Masked, Views

    if options.objective == "masked":
        return Masked(grid.start, options.mask_ratio)
    views = Augmentation(step=grid.step)
    return Views(grid.start, options.mask_ratio, options.alignment, options.temperature, views)


def _optimizer(model: SpectralTransformer, options: PretrainOptions) -> torch.optim.Optimizer:
    import torch

    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": options.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.95))


def _seed_of(seed: int, step: int, rank: int) -> int:
    return (seed * 1_000_003 + step + 1) * 4096 + rank


def _plot(history: list[dict[str, float]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    steps = [entry["step"] for entry in history]
    axes.plot(steps, [entry["loss"] for entry in history], label="training")
    axes.plot(steps, [entry["validation"] for entry in history], label="validation")
    axes.set(xlabel="step", ylabel="loss: error² / (noise² + floor²)", yscale="log")
    axes.legend()
    with full_disk_told(path):
        FigureCanvasAgg(figure).print_png(path)


def main() -> None:
    """Entry point of embed-pretrain."""
    run_command(PretrainOptions, pretrain, "embed-pretrain", go_on="add --resume to go on")


if __name__ == "__main__":
    main()
