"""SpectralConfig: everything that defines a spectral transformer, saved beside its weights as config.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PretrainedConfig

from stores.errors import ModelError, OptionError

# one dial for size: width, layers, heads of the encoder; width, layers of the decoder
SIZES: dict[str, dict[str, int]] = {
    "tiny": {"width": 192, "layers": 4, "heads": 6, "decoder_width": 128, "decoder_layers": 1},
    "small": {"width": 384, "layers": 6, "heads": 6, "decoder_width": 192, "decoder_layers": 2},
    "base": {"width": 768, "layers": 6, "heads": 12, "decoder_width": 384, "decoder_layers": 2},
}


class SpectralConfig(PretrainedConfig):
    """Options of `SpectralTransformer`.

    patch_size: pixels a token, without overlap
    step: pixel width of the grid in log10 wavelength; positions are counted in such pixels
    width, layers, heads: of the encoder; decoder_width, decoder_layers: of the decoder
    pooled_layers: numbers, from 1, of the layers whose patches' means are the embedding, in this order; the last layer
        has to be the last of them (the default: it alone)
    noise_floor: relative flux error added to the noise in the loss, so that bright stars do not rule it
    objective: of its pre-training (see embed.objective), which decides what it has beside the encoder: `masked` the
        decoder, `views` a network with `readout_width` hidden units that reads the spectrum from the embedding
    grid: the grid of the training spectra, as text; other ranges with the same step work too
    preprocessing: how the training spectra were prepared (see stores.Preparation), with its fingerprint
    """

    model_type = "spectrabridge"

    def __init__(
        self,
        patch_size: int = 20,
        step: float = 1e-4,
        width: int = 384,
        layers: int = 6,
        heads: int = 6,
        mlp_ratio: int = 4,
        decoder_width: int = 192,
        decoder_layers: int = 2,
        noise_floor: float = 0.03,
        objective: str = "masked",
        readout_width: int = 512,
        grid: str = "lrs",
        preprocessing: dict[str, Any] | None = None,
        pooled_layers: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        if width % heads or (width // heads) % 2:
            raise ModelError(f"width {width} cannot be shared evenly among {heads} heads; change one of them.")
        pooled = [layers] if pooled_layers is None else list(pooled_layers)
        if pooled != sorted(set(pooled)) or pooled[-1:] != [layers] or pooled[0] < 1:
            raise ModelError(f"pooled_layers {pooled} must rise from 1 or more to {layers}, the last layer.")
        self.patch_size = patch_size
        self.step = step
        self.width = width
        self.layers = layers
        self.heads = heads
        self.mlp_ratio = mlp_ratio
        self.decoder_width = decoder_width
        self.decoder_layers = decoder_layers
        self.noise_floor = noise_floor
        self.objective = objective
        self.readout_width = readout_width
        self.grid = grid
        self.preprocessing = preprocessing
        self.pooled_layers = pooled
        super().__init__(**kwargs)

    @property
    def embedding_width(self) -> int:
        """Length of an embedding."""
        return self.width * len(self.pooled_layers)

    @classmethod
    def of_size(cls, size: str, **kwargs: Any) -> SpectralConfig:
        """The options of a size by name: tiny, small (about 10 million weights) or base."""
        if size not in SIZES:
            raise OptionError(f"size '{size}' is unknown; known ones are {', '.join(SIZES)}.")
        options: dict[str, Any] = {**SIZES[size], **kwargs}
        # halfway up, the patches still hold what the last layer has given up (docs/models.md)
        options.setdefault("pooled_layers", sorted({max(1, options["layers"] // 2), options["layers"]}))
        return cls(**options)
