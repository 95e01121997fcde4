"""Every strategy keeps the same laws: it starts from the head to the bit, trains what it says, and comes back."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heads_made import (
    QUICK,
    SMALL,
    TARGETS,
    WIDTH,
    MadeEncoder,
    make_encoded,
    make_network,
    make_sample,
    make_stars,
)
from torch import Tensor, nn

import heads.adapters
import stores.embedders
from heads import Adapter, Head, adapt_head, adapter, train_head
from heads.adapters import ADAPTERS, count_weights, frozen, get_adapter, load_adapters
from heads.head import plain
from heads.network import HeadNetwork
from heads.sample import Sample
from stores.errors import ModelError, OptionError

BLOCKS = (WIDTH, 4)  # fused
K = len(TARGETS)
IDENTITY = {"input": "embedding", "grid": {"start": 3.6}, "model": {"name": "made", "fingerprint": "f00d"}}


class Shift(nn.Module):
    """Adds a number to each value."""

    def __init__(self, base: HeadNetwork) -> None:
        super().__init__()
        self.base = frozen(base)
        self.shift = nn.Parameter(torch.zeros(base.options.labels))

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.base(x)
        return torch.stack([outputs[..., 0] + self.shift, outputs[..., 1]], dim=-1)


class Made(Adapter):
    """A strategy as a user writes one."""

    def wrap(self, network: HeadNetwork) -> nn.Module:
        return Shift(network)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The strategy, and an encoder behind every head."""

    def load(*model: Any) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return MadeEncoder(WIDTH, WIDTH)

    monkeypatch.setattr(stores.embedders, "find_embedder", lambda name: load)
    before = dict(ADAPTERS)
    adapter("made")(Made)
    yield
    ADAPTERS.clear()
    ADAPTERS.update(before)


NAMES = [*load_adapters(), "made"]


def network_for(name: str, blocks: tuple[int, ...] = BLOCKS, seed: int = 0) -> Any:
    """What a strategy wraps."""
    return (make_encoded if get_adapter(name).encodes else make_network)(blocks, seed)


def width_for(name: str, blocks: Sequence[int] = BLOCKS) -> int:
    """Columns of what it reads: flux and ivar of the pixels, or features."""
    return 2 * blocks[0] if get_adapter(name).encodes else sum(blocks)


def sample_for(name: str, n: int, seed: int) -> Sample:
    sample = make_sample(n, seed)
    if not get_adapter(name).encodes:
        return sample
    flux = sample.blocks["embedding"][0]
    values = np.concatenate([flux, np.ones_like(flux)], axis=1)
    return replace(sample, blocks={"spectrum": (values, np.ones(values.shape, dtype=bool))})


def fitted(name: str, blocks: tuple[int, ...] = BLOCKS, count: int = 2) -> tuple[list[Any], list[Any]]:
    """Networks, and the same wrapped by a strategy and trained for a moment on stars that are off by one."""
    strategy = get_adapter(name)
    networks = [network_for(name, blocks, seed) for seed in range(count)]
    modules = [strategy.wrap(copy.deepcopy(network)) for network in networks]
    stars = make_stars(60, width=width_for(name, blocks))
    stars = replace(stars, y=stars.y + 1.0)
    held = np.zeros((count, len(stars)), dtype=bool)
    if strategy.learns:
        options = replace(QUICK, weight_decay=0.1)
        strategy.fit(modules, stars, held, 0, options=options, replay=None, watch=iter)
    return networks, [module.eval() for module in modules]


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def differ(one: Tensor, other: Tensor) -> bool:
    return one.shape != other.shape or not torch.equal(one, other)


def x_of(name: str, blocks: Sequence[int] = BLOCKS, n: int = 40) -> Tensor:
    return torch.randn(n, width_for(name, blocks), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("blocks", [(WIDTH,), BLOCKS])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_changes_at_first(name: str, blocks: tuple[int, ...]) -> None:
    network, x = network_for(name, blocks), x_of(name, blocks)
    before = network(x)
    module = get_adapter(name).wrap(copy.deepcopy(network)).eval()
    assert torch.equal(module(x), before)
    after = dict(module.named_buffers())
    for key, value in plain(network).named_buffers():
        assert any(k.endswith(key) and torch.equal(v, value) for k, v in after.items()), key


@pytest.mark.parametrize("blocks", [(WIDTH,), BLOCKS])
@pytest.mark.parametrize("name", NAMES)
def test_only_what_it_says_is_trained(name: str, blocks: tuple[int, ...]) -> None:
    strategy = get_adapter(name)
    networks = [network_for(name, blocks, seed) for seed in range(2)]
    before = [state_of(strategy.wrap(copy.deepcopy(network))) for network in networks]
    _, modules = fitted(name, blocks)
    for old, module in zip(before, modules, strict=True):
        new, said = state_of(module), set(strategy.own_state(module))
        if name == "scratch":  # learns its batch statistics too
            said |= {key for key in new if "running" in key or "batches" in key}
        assert set(new) == set(old)
        assert said <= set(new)
        changed = {key for key in new if differ(old[key], new[key])}
        assert changed - said == set()
        if strategy.learns:
            assert changed == said, said - changed
            assert changed


@pytest.mark.parametrize("name", [name for name in NAMES if name != "scratch"])  # that one is kept as a plain network
def test_what_it_learned_comes_back_to_the_bit(name: str, tmp_path: Path) -> None:
    networks, modules = fitted(name)
    strategy, x = get_adapter(name), x_of(name)
    for network, module in zip(networks, modules, strict=True):
        wanted = module(x)
        if strategy.learns:
            assert not torch.equal(wanted, network(x))
        strategy.save(module, tmp_path / "adapter")
        back = strategy.load(copy.deepcopy(network), tmp_path / "adapter")
        assert not back.training
        assert torch.equal(back(x), wanted)
        files = [path for path in (tmp_path / "adapter").rglob("*") if path.is_file()]
        assert {path.suffix for path in files} <= {".safetensors", ".json", ".md"}


@pytest.mark.parametrize("name", NAMES)
def test_merged_it_says_the_same(name: str) -> None:
    networks, modules = fitted(name)
    strategy, x = get_adapter(name), x_of(name)
    for network, module in zip(networks, modules, strict=True):
        wanted = module(x).detach()
        merged = strategy.merge(copy.deepcopy(module))
        assert (merged is None) == (name in ("residual", "kriging", "made"))
        if merged is not None:
            assert type(merged) is type(network)
            assert set(merged.state_dict()) == set(network.state_dict())
            torch.testing.assert_close(merged(x).detach(), wanted, rtol=1e-5, atol=1e-5)


def expected(name: str, network: Any) -> tuple[int, int]:
    """Trained and total numbers of parameters, counted by hand."""
    base = sum(value.numel() for value in network.parameters())
    linear = {key: layer for key, layer in network.named_modules() if isinstance(layer, nn.Linear)}
    low_rank = sum(8 * (one.in_features + one.out_features) for key, one in linear.items() if key != "encoder.first")
    added = {
        "lora": low_rank,
        "lora_encoder": low_rank,
        "residual": 32 * (plain(network).hidden_width + K) + 32 + 2 * K * 32 + 2 * K,
        "made": K,
    }.get(name, 0)
    trained = base if name in ("scratch", "full", "anchored") else added
    return trained, base + added


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_counted(name: str) -> None:
    network = network_for(name)
    wanted = expected(name, network)
    assert count_weights(get_adapter(name).wrap(network)) == wanted


@pytest.fixture(scope="module")
def base() -> Head:
    return train_head(make_sample(80), IDENTITY, SMALL).head


@pytest.mark.parametrize("name", NAMES)
def test_heads_come_back_to_the_bit(name: str, base: Head, tmp_path: Path) -> None:
    before = [state_of(member) for member in base.members]
    outcome = adapt_head(base, sample_for(name, 40, 3), name, SMALL)
    for member, old in zip(base.members, before, strict=True):
        assert all(torch.equal(value, old[key]) for key, value in member.state_dict().items()), "the base changed"
    assert (outcome.trained, outcome.total) == expected(name, network_for(name, (WIDTH,)))
    outcome.head.save_pretrained(tmp_path / "head")
    back = Head.from_pretrained(tmp_path / "head")
    x = x_of(name, (WIDTH,), 50).numpy()
    for found, wanted in zip(back.raw(x), outcome.head.raw(x), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert back.fingerprint == outcome.head.fingerprint
    assert back.adapter == (None if name in ("scratch", "zero_shot", "full", "anchored") else name)


# -- each by itself ----------------------------------------------------------------------------------------


def test_lora_is_in_the_format_of_peft(tmp_path: Path) -> None:
    from peft import PeftModel

    networks, modules = fitted("lora")
    get_adapter("lora").save(modules[0], tmp_path)
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in tmp_path.iterdir()}
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 8, 16)
    linear = {name for name, layer in networks[0].named_modules() if isinstance(layer, nn.Linear)}
    assert set(config["target_modules"]) == linear
    back = PeftModel.from_pretrained(copy.deepcopy(networks[0]), str(tmp_path)).eval()
    assert torch.equal(back(x_of("lora")), modules[0](x_of("lora")))


def test_scratch_knows_nothing_of_the_base(base: Head) -> None:
    sample = make_sample(40, seed=3)
    alone = train_head(sample, base.identity, SMALL)
    assert adapt_head(base, sample, "scratch", SMALL).head.fingerprint == alone.head.fingerprint


def test_zero_shot_changes_no_value(base: Head) -> None:
    outcome = adapt_head(base, make_sample(40, seed=3), "zero_shot", SMALL)
    x = x_of("zero_shot", (WIDTH,)).numpy()
    np.testing.assert_array_equal(outcome.head.raw(x)[0], base.raw(x)[0])
    assert outcome.seen_by_none.all()
    assert outcome.history.step == []


def test_anchored_stays_nearer_to_the_base() -> None:
    """Its pull takes weights back; the same steps without it lead further away."""
    stars = make_stars(60)
    away = []
    for pull in (0.0, 50.0):
        network = make_network()
        module = get_adapter("anchored").wrap(copy.deepcopy(network))
        options = replace(QUICK, pull=pull, weight_decay=0.0, least_steps=60, most_steps=60)
        held = np.zeros((1, len(stars)), dtype=bool)
        get_adapter("anchored").fit([module], stars, held, 0, options=options, replay=None, watch=iter)
        pairs = zip(module.parameters(), network.parameters(), strict=True)
        away.append(sum(float((one - other).detach().square().sum()) for one, other in pairs))
    assert away[1] < 0.7 * away[0]
    assert get_adapter("anchored").fit_options.pull > 0
    assert get_adapter("anchored").replays


@pytest.mark.parametrize("name", ["full", "anchored"])
def test_only_who_asks_gets_stars_of_the_source(name: str, base: Head) -> None:
    sample, source = make_sample(40, seed=3), make_sample(80)
    with_source = adapt_head(base, sample, name, SMALL, replay=source).head
    without = adapt_head(base, sample, name, SMALL).head
    assert (with_source.fingerprint == without.fingerprint) == (name == "full")


@pytest.mark.parametrize("name", ["residual", "kriging", "lora", "lora_encoder", "made"])
def test_weights_that_are_not_its_own_are_one_sentence(name: str, tmp_path: Path) -> None:
    networks, modules = fitted(name)
    strategy = get_adapter(name)
    with pytest.raises(ModelError) as gone:
        strategy.load(copy.deepcopy(networks[0]), tmp_path / "nothing")
    strategy.save(modules[0], tmp_path)
    weights = next(tmp_path.rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:40])
    with pytest.raises(ModelError) as cut:
        strategy.load(copy.deepcopy(networks[0]), tmp_path)
    get_adapter("full").save(get_adapter("full").wrap(make_network()), tmp_path / "full")
    (tmp_path / "full" / "adapter.safetensors").rename(weights)
    with pytest.raises(ModelError) as other:
        strategy.load(copy.deepcopy(networks[0]), tmp_path)
    for caught in (gone, cut, other):
        sentence = str(caught.value)
        assert len(sentence.splitlines()) == 1
        assert sentence.endswith(".")
        assert str(tmp_path) in sentence


# -- the registry ------------------------------------------------------------------------------------------


def test_every_strategy_says_what_it_does_in_a_line() -> None:
    for name, strategy in load_adapters().items():
        assert strategy.name == name
        assert (type(strategy).__doc__ or "").strip().splitlines()[0].rstrip().endswith((".", ","))


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(OptionError, match="adapter 'magic' is unknown; known ones are scratch, zero_shot, residual"):
        get_adapter("magic")


def test_other_packages_add_strategies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "their_adapters.py").write_text(
        "from heads import Adapter, adapter\n\n@adapter('theirs')\nclass Theirs(Adapter):\n    '''Theirs.'''\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    points = [EntryPoint("theirs", "their_adapters", "spectrabridge.adapters")]
    monkeypatch.setattr(heads.adapters, "entry_points", lambda **want: EntryPoints(points).select(**want))
    assert get_adapter("theirs").name == "theirs"


def test_what_cannot_be_adapted_is_refused(base: Head) -> None:
    sample = make_sample(40, seed=3)
    wrapped = adapt_head(base, sample, "residual", SMALL).head
    with pytest.raises(OptionError, match="was adapted by 'residual' already"):
        adapt_head(wrapped, sample, "full", SMALL)
    with pytest.raises(OptionError, match="the base head gives feh, teff, not age"):
        adapt_head(base, replace(sample, targets=("feh", "age")), "full", SMALL)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bits_whatever_was_drawn_before(name: str) -> None:
    base = train_head(make_sample(60), IDENTITY, SMALL).head
    sample = sample_for(name, 40, 1)
    found = []
    for drawn in (0, 7):
        torch.manual_seed(drawn)
        found.append(adapt_head(base, sample, name, SMALL).head.fingerprint)
    assert found[0] == found[1]
