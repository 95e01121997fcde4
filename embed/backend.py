"""Backends: what runs a model on arrays. PyTorch on any device; OpenVINO on CPUs, where it is installed.

`choose` times both on spectra of the job. In float32 their embeddings agree to float rounding; those in bfloat16
agree with them to a cosine of 0.999.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stores.errors import ModelError, OptionError

if TYPE_CHECKING:
    import torch

    from embed.load import LoadedModel

CAN = "OPTIMIZATION_CAPABILITIES"  # OpenVINO's name of what a processor can do
TRIED = 64  # spectra that backends are timed on
REPEATS = 3
WORTH = 1.2  # how many times faster another backend has to be
LEAST_SAVED = 15.0  # s that it has to save: what loading and compiling take, and some
AGREEMENT = 0.999  # cosine with PyTorch's embeddings, below which it is not taken

Float32 = NDArray[np.float32]


class Backend(Protocol):
    """A model on a device."""

    name: str

    def __call__(self, flux: Float32, ivar: Float32) -> Float32:
        """Embeddings (n, d) of flux, ivar (n, n_pix), each spectrum with a valid pixel."""
        ...


class TorchBackend:
    """PyTorch, on any device."""

    name = "torch"

    def __init__(self, model: LoadedModel, start: float, device: str, precision: str) -> None:
        network: Any = model.model  # transformers' `to` is typed for other arguments
        self.model = network.to(device)
        self.start = start
        self.device = device
        self.reduced = precision == "bfloat16"

    def __call__(self, flux: Float32, ivar: Float32) -> Float32:
        import torch

        kind = torch.device(self.device).type
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=self.reduced):
            output = self.model(self._tensor(flux), self._tensor(ivar), self.start)
        found: Float32 = output.embedding.float().cpu().numpy()
        return found

    def _tensor(self, array: Float32) -> torch.Tensor:
        import torch

        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(self.device)


class OpenVinoBackend:
    """OpenVINO, on the CPU, with as many threads as PyTorch has."""

    name = "openvino"

    def __init__(self, model: LoadedModel, start: float, device: str, precision: str) -> None:
        refuse_openvino(device)
        if precision == "bfloat16" and "BF16" not in _openvino().Core().get_property("CPU", CAN):
            raise OptionError("openvino has no bfloat16 on this processor; leave --precision out.")
        self.model, self.start, self.precision = model, start, precision
        self._programs: dict[int, Any] = {}  # by number of pixels

    def __call__(self, flux: Float32, ivar: Float32) -> Float32:
        n_pix = flux.shape[1]
        if n_pix not in self._programs:
            self._programs[n_pix] = self._compiled(n_pix)
        found: Float32 = self._programs[n_pix]([_plain(flux), _plain(ivar)])[0]
        return found

    def _compiled(self, n_pix: int) -> Any:
        import torch

        openvino = _openvino()
        hints = {
            # its own choice would be bfloat16 on processors that have it
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[self.precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # of torch, of parts that torch and openvino use
                program = openvino.convert_model(_exported(self.model, self.start, n_pix))
            return openvino.Core().compile_model(program, "CPU", hints)
        except Exception as error:  # torch.export and openvino have no common one for what they cannot do
            reason = str(error).splitlines()[0]
            raise ModelError(
                f"'{self.model.name}' cannot be compiled by openvino ({reason}); use --backend torch."
            ) from None


def _plain(array: Float32) -> Float32:
    return np.ascontiguousarray(array, dtype=np.float32)


def _exported(model: LoadedModel, start: float, n_pix: int) -> Any:
    """The model as a program for batches of any size."""
    import torch

    from embed.encoder import Encoder

    flux, ivar = torch.ones(2, n_pix), torch.ones(2, n_pix)  # one tensor for both would be taken for one input
    size = torch.export.Dim("batch", min=1)
    encoder = Encoder(model.model.to("cpu"), start)
    with torch.no_grad():
        return torch.export.export(encoder, (flux, ivar), dynamic_shapes=({0: size}, {0: size}))


def _openvino() -> Any:
    """OpenVINO, which tells its makers of every model that it converts unless its package for that is missing."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def installed() -> bool:
    """Whether there is OpenVINO."""
    return find_spec("openvino") is not None


def refuse_openvino(device: str) -> None:
    """Raise OptionError where it cannot be used."""
    if device not in ("cpu", "auto"):
        raise OptionError(f"the backend openvino runs on the CPU, not on '{device}'; leave --backend out.")
    if not installed():
        raise OptionError("the backend openvino is not installed; run pip install 'spectrabridge[openvino]'.")


BACKENDS: dict[str, Callable[[LoadedModel, float, str, str], Backend]] = {
    "torch": TorchBackend,
    "openvino": OpenVinoBackend,
}


def choose(model: LoadedModel, start: float, precision: str, count: int, flux: Float32, ivar: Float32) -> str:
    """The backend for `count` spectra on a CPU: torch, unless another saves seconds and agrees with it.

    flux, ivar: (n, n_pix) of some of them, each with a valid pixel
    """
    if not len(flux):
        return "torch"
    wanted, seconds = _timed(TorchBackend(model, start, "cpu", precision), flux, ivar)
    if seconds * count / len(flux) < LEAST_SAVED:
        return "torch"
    try:
        other = OpenVinoBackend(model, start, "cpu", precision)
        found, faster = _timed(other, flux, ivar)
    except (ModelError, OptionError):
        return "torch"
    saved = (seconds - faster) * count / len(flux)
    if seconds < WORTH * faster or saved < LEAST_SAVED or agreement(wanted, found) < AGREEMENT:
        return "torch"
    return "openvino"


def _timed(backend: Backend, flux: Float32, ivar: Float32) -> tuple[Float32, float]:
    """Embeddings, and the least seconds of some calls after a first one."""
    found, taken = backend(flux, ivar), []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        backend(flux, ivar)
        taken.append(time.perf_counter() - begun)
    return found, min(taken)


def agreement(one: Float32, other: Float32) -> float:
    """The least cosine between embeddings (n, d) of the same spectra."""
    length = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / np.maximum(length, np.finfo(np.float32).tiny)).min())
