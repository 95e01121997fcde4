"""Ensembles and their training: members are independent, what is masked or held out has no say, the best is kept."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from heads_made import QUICK, SMALL, WIDTH, make_network, make_sample, make_stars
from torch import nn

import heads.fit
from heads import TrainOptions, train_head
from heads.ensemble import Ensemble
from heads.fit import FitOptions, Stars, _clip, fit, likelihood
from heads.sample import Sample
from stores.errors import InputError, OptionError

BLOCKS = (WIDTH, 4)


def none_held(count: int, n: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.zeros((count, n), dtype=bool)


def weights_of(module: nn.Module) -> torch.Tensor:
    return torch.cat([value.detach().reshape(-1) for value in module.state_dict().values()])


# -- the batched program -----------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [False, True])
def test_together_members_say_what_each_says_alone(own: bool) -> None:
    members = [make_network(BLOCKS, seed) for seed in range(3)]
    x = torch.randn(3, 17, sum(BLOCKS)) if own else torch.randn(17, sum(BLOCKS))
    together = Ensemble(members)(x)
    assert together.shape == (3, 3, 17, 2, 2)
    for number, member in enumerate(members):
        alone = member(x[number] if own else x)
        torch.testing.assert_close(together[number], alone, rtol=1e-5, atol=1e-5)


def test_prediction_is_the_first_output_whatever_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    members = [make_network(BLOCKS, seed) for seed in range(2)]
    x = torch.randn(23, sum(BLOCKS))
    wanted = torch.stack([member(x)[0] for member in members])
    monkeypatch.setattr("heads.ensemble.ROWS_AT_ONCE", 5)
    torch.testing.assert_close(Ensemble(members).predict(x), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("statistics", [False, True])
def test_batch_statistics_move_only_when_told(statistics: bool) -> None:
    members = [make_network(seed=seed) for seed in range(2)]
    before = [copy.deepcopy(dict(member.named_buffers())) for member in members]
    ensemble = Ensemble(members, statistics=statistics)
    ensemble(torch.randn(2, 32, WIDTH) * 5, training=True)
    ensemble.write_back()
    for member, old in zip(members, before, strict=True):
        same = [torch.equal(value, old[name]) for name, value in member.named_buffers()]
        assert not any(same) if statistics else all(same)


def test_dropout_differs_between_members_and_is_off_in_predictions() -> None:
    network = make_network(dropout=0.5)
    ensemble = Ensemble([network, copy.deepcopy(network)])
    x = torch.randn(40, WIDTH)
    one, other = ensemble(x, training=True)
    assert not torch.equal(one, other)
    one, other = ensemble(x)
    assert torch.equal(one, other)


# -- members are independent -------------------------------------------------------------------------------


def test_gradients_of_a_member_do_not_depend_on_the_data_of_another() -> None:
    found = []
    for factor in (1.0, 1e6):
        ensemble = Ensemble([make_network(seed=seed, dropout=0.0) for seed in range(2)])
        stars = make_stars(20)
        x, y = torch.stack([stars.x, stars.x]), torch.stack([stars.y, stars.y * factor])
        likelihood(ensemble(x, training=True), y, torch.ones(2, 20), 0.5).sum().backward()  # type: ignore[no-untyped-call]
        _clip(list(ensemble.parameters()))
        found.append([value.grad for value in ensemble.parameters() if value.grad is not None])
        assert len(found[-1]) == len(ensemble.trained)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one[0], other[0])
    assert any(not torch.equal(one[1], other[1]) for one, other in zip(*found, strict=True))


def test_clipping_is_of_each_member() -> None:
    values = [torch.zeros(2, 3, requires_grad=True), torch.zeros(2, requires_grad=True)]
    values[0].grad = torch.tensor([[3.0, 0.0, 0.0], [30.0, 0.0, 0.0]])
    values[1].grad = torch.tensor([4.0, 40.0])
    _clip(values, 5.0)
    torch.testing.assert_close(values[0].grad[:, 0], torch.tensor([3.0, 3.0]))
    torch.testing.assert_close(values[1].grad, torch.tensor([4.0, 4.0]))


def test_together_members_learn_what_each_learns_alone() -> None:
    """Without dropout, and with batches of all stars, so that their order does not matter."""
    stars = make_stars(24)
    options = FitOptions(batch_size=24, least_steps=10, most_steps=10, checks=1)
    networks = [make_network(seed=seed, dropout=0.0) for seed in range(2)]
    together, alone = copy.deepcopy(networks), copy.deepcopy(networks)
    fit(Ensemble(together), stars, none_held(2, 24), options, 0)
    for member in alone:
        fit(Ensemble([member]), stars, none_held(1, 24), options, 0)
    for one, other, start in zip(together, alone, networks, strict=True):
        torch.testing.assert_close(weights_of(one), weights_of(other), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(weights_of(one), weights_of(start), atol=1e-3)


@pytest.mark.parametrize("what", ["x", "y"])
def test_stars_held_out_do_not_move_the_weights(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However wild they are; only which state is kept may depend on them, and that is turned off here."""
    monkeypatch.setattr(heads.fit._Judge, "settle", lambda judge: judge.step)
    stars = make_stars(40)
    held = none_held(2, 40)
    held[0, :10], held[1, 10:20] = True, True
    ends = []
    for wild in (False, True):
        values = getattr(stars, what).clone()
        if wild:
            values[:10] = 1e3 * torch.randn(10, values.shape[1])
        members = [make_network(seed=seed) for seed in range(2)]
        fit(Ensemble(members), replace(stars, **{what: values}), held, QUICK, 0)
        ends.append([weights_of(member) for member in members])
    assert torch.equal(ends[0][0], ends[1][0])
    assert not torch.equal(ends[0][1], ends[1][1])  # it saw them


def test_stars_held_out_choose_among_the_states_of_the_same_training(monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[torch.Tensor] = []
    look = heads.fit._Judge.look

    def watched(judge: Any, step: int) -> list[float]:
        states.append(torch.cat([value[0].detach().reshape(-1).clone() for value in judge.ensemble.parameters()]))
        return look(judge, step)

    monkeypatch.setattr(heads.fit._Judge, "look", watched)
    stars = make_stars(40)
    held = none_held(1, 40)
    held[0, :10] = True
    kept = []
    for shift in (0.0, 3.0):
        y = stars.y.clone()
        y[:10] += shift
        member = make_network()
        states.clear()
        ensemble = Ensemble([member])
        fit(ensemble, replace(stars, y=y), held, QUICK, 0)
        end = torch.cat([value[0].detach().reshape(-1) for value in ensemble.parameters()])
        kept.append([torch.equal(end, state) for state in states])
    assert all(sum(found) == 1 for found in kept)


def test_the_best_state_is_kept_the_first_one_included() -> None:
    stars = make_stars(40)
    held = none_held(2, 40)
    held[0, :10], held[1, 10:20] = True, True
    for first in (False, True):
        members = [make_network() for _ in range(2)]
        start = [weights_of(member) for member in members]
        y = stars.y.clone()
        if first:  # those held out are as the start says, all others far from it
            y = members[0](stars.x)[0, ..., 0].detach() + 5.0 * torch.from_numpy(~held.any(axis=0))[:, None]
        options = replace(QUICK, learning_rate=1e-2, least_steps=60, most_steps=60)
        history = fit(Ensemble(members), replace(stars, y=y), held, options, 0)
        for number, member in enumerate(members):
            rows = np.flatnonzero(held[number])
            outputs = member(stars.x[rows])[None]
            now = float(likelihood(outputs, y[rows][None], stars.weight[rows][None], 0.0).detach())
            losses = [found[number] for found in history.held_out]
            if first:
                assert history.best[number] == 0
                assert torch.equal(weights_of(member), start[number])
                assert now < min(losses)
            else:
                assert now == pytest.approx(min(losses), rel=1e-5)
                assert history.step[int(np.argmin(losses))] == history.best[number]
    assert len(history.step) == len(history.training) == QUICK.checks


def test_without_stars_held_out_the_last_state_is_kept() -> None:
    stars, member = make_stars(40), make_network()
    before = weights_of(member)
    history = fit(Ensemble([member]), stars, none_held(1, 40), QUICK, 0)
    assert not torch.equal(weights_of(member), before)
    assert np.isnan(history.held_out).all()
    assert not member.training


# -- the loss ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_the_loss_is_the_mean_over_known_labels(beta: float) -> None:
    random = np.random.default_rng(0)
    outputs = random.normal(size=(2, 3, 7, 2, 2))
    y, weight = random.normal(size=(2, 7, 2)), random.uniform(0.5, 2, (2, 7))
    y[0, 2, 1] = y[1, 4, 0] = np.nan
    wanted = []
    for e in range(2):
        total, count = 0.0, 0.0
        for m in range(3):
            for b in range(7):
                for k in range(2):
                    if np.isnan(y[e, b, k]):
                        continue
                    value, log_sigma = outputs[e, m, b, k]
                    sigma = np.exp(log_sigma)
                    nll = log_sigma + 0.5 * ((y[e, b, k] - value) / sigma) ** 2
                    total += weight[e, b] * sigma ** (2 * beta) * nll
                    count += weight[e, b] / 3
        wanted.append(total / count)
    found = likelihood(torch.from_numpy(outputs), torch.from_numpy(y), torch.from_numpy(weight), beta)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-10)


def test_labels_that_are_not_known_have_no_gradient() -> None:
    outputs = torch.randn(1, 3, 7, 2, 2, requires_grad=True)
    y = torch.randn(1, 7, 2)
    y[0, 2, 1] = torch.nan
    y[0, 5] = torch.nan
    likelihood(outputs, y, torch.ones(1, 7), 0.5).sum().backward()  # type: ignore[no-untyped-call]
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()
    zero = (outputs.grad == 0).all(dim=-1)[0]  # (m, B, k)
    assert torch.equal(zero, torch.isnan(y)[0].expand(3, 7, 2))


def test_a_label_that_nobody_knows_is_no_trouble() -> None:
    stars = make_stars(40)
    y = stars.y.clone()
    y[:, 1] = torch.nan
    member = make_network()
    fit(Ensemble([member]), replace(stars, y=y), none_held(1, 40), QUICK, 0)
    assert torch.isfinite(weights_of(member)).all()


def test_weights_count() -> None:
    """A star of weight 0 has no say."""
    ends = []
    for label in (0.0, 1e3):
        stars = make_stars(40)
        y, weight = stars.y.clone(), stars.weight.clone()
        y[7], weight[7] = label, 0.0
        member = make_network()
        fit(Ensemble([member]), Stars(stars.x, y, weight), none_held(1, 40), QUICK, 0)
        ends.append(weights_of(member))
    assert torch.equal(*ends)


# -- replay ------------------------------------------------------------------------------------------------


def test_half_of_a_batch_is_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    whole = heads.fit.likelihood

    def watched(outputs: torch.Tensor, y: torch.Tensor, *rest: Any) -> torch.Tensor:
        if outputs.requires_grad:
            seen.append(y.detach().clone())
        return whole(outputs, y, *rest)

    monkeypatch.setattr(heads.fit, "likelihood", watched)
    stars, source = make_stars(40), make_stars(300, seed=1)
    source = replace(source, y=torch.full_like(source.y, 7.0), weight=torch.full_like(source.weight, 0.5))
    members = [make_network(seed=seed) for seed in range(2)]
    fit(Ensemble(members), stars, none_held(2, 40), QUICK, 0, replay=source)
    assert len(seen) == 20
    for y in seen:
        assert y.shape == (2, 32, 2)
        assert ((y == 7.0).all(dim=-1).sum(dim=1) == 16).all()


def test_every_star_is_drawn_before_any_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    draw = heads.fit._Deck.draw
    monkeypatch.setattr(
        heads.fit._Deck, "draw", lambda deck, count: (drawn.extend((rows := draw(deck, count)).tolist()), rows)[1]
    )
    stars = make_stars(40)
    held = none_held(1, 40)
    held[0, ::4] = True
    fit(Ensemble([make_network()]), stars, held, QUICK, 0)
    assert len(drawn) == 20 * 16
    seen = np.flatnonzero(~held[0]).tolist()
    for start in range(0, 300, 30):
        assert sorted(drawn[start : start + 30]) == seen


# -- seeds -------------------------------------------------------------------------------------------------


def test_a_seed_decides_everything_to_the_bit() -> None:
    sample = make_sample(60)
    random_state = torch.random.get_rng_state()
    one, same = (train_head(sample, {"input": "embedding"}, SMALL).head for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), random_state)  # nobody else's numbers are used up
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    third = train_head(sample, {"input": "embedding"}, SMALL).head
    other = train_head(sample, {"input": "embedding"}, replace(SMALL, seed=1)).head
    assert one.fingerprint == same.fingerprint == third.fingerprint != other.fingerprint
    for member, twin in zip(one.members, third.members, strict=True):
        assert torch.equal(weights_of(member), weights_of(twin))
    assert not torch.equal(weights_of(one.members[0]), weights_of(one.members[1]))


def test_a_head_learns_its_labels() -> None:
    sample = make_sample(300, noise=0.05)
    options = TrainOptions(seeds=3, widths=(32, 16), fit=replace(QUICK, least_steps=200, most_steps=200))
    outcome = train_head(sample, {"input": "embedding"}, options)
    known = outcome.seen_by_none
    assert known.sum() == pytest.approx(3 / 5 * 300, abs=3)
    assert np.isnan(outcome.value[~known]).all()
    for column, scatter in ((0, 1.0), (1, 500.0)):
        error = (outcome.value - sample.y)[known, column]
        assert np.sqrt(np.mean(error**2)) < 0.4 * scatter
    assert outcome.trained == outcome.total == sum(value.numel() for value in outcome.head.members[0].parameters())


# -- what cannot work --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"epochs": 0}, r"epochs 0 must be a number above 0\."),
        ({"epochs": float("inf")}, r"epochs inf must be a number above 0\."),
        ({"learning_rate": 0}, r"learning rate 0 must be a number above 0\."),
        ({"batch_size": 1}, r"batch size 1 must be 2 or more\."),
        ({"checks": 0}, r"checks 0 must be 1 or more\."),
    ],
)
def test_options_that_cannot_work_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        FitOptions(**wrong)


@pytest.mark.parametrize("wrong", [{"seeds": 0}, {"seed": -1}, {"balance": 1.5}])
def test_training_options_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        TrainOptions(**wrong)


def test_steps_are_bounded() -> None:
    assert FitOptions(epochs=10, batch_size=100, least_steps=1, most_steps=10**6).steps(1000) == 100
    assert FitOptions(epochs=10, batch_size=100, least_steps=300).steps(1000) == 300
    assert FitOptions(epochs=10, batch_size=100, least_steps=1, most_steps=50).steps(1000) == 50
    assert FitOptions(epochs=10, batch_size=100, least_steps=1).steps(30) == 10


def test_too_few_stars_and_losses_that_are_lost_are_one_sentence() -> None:
    stars = make_stars(4)
    held = none_held(1, 4)
    held[0, :3] = True
    with pytest.raises(InputError, match="4 stars are too few to train on"):
        fit(Ensemble([make_network()]), stars, held, QUICK, 0)
    with pytest.raises(ValueError, match=r"held has shape \(2, 4\), not \(1, 4\)"):
        fit(Ensemble([make_network()]), stars, none_held(2, 4), QUICK, 0)
    broken = replace(stars, x=torch.full_like(stars.x, torch.nan))
    with pytest.raises(InputError, match="the loss is not finite at step 0; try a smaller learning rate"):
        fit(Ensemble([make_network()]), broken, none_held(1, 4), QUICK, 0)
    few: Sample = make_sample(9)
    with pytest.raises(InputError, match="9 labelled stars are too few to learn from; 10 are the least"):
        train_head(few, {"input": "embedding"}, SMALL)
