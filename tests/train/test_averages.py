"""Averaged policies: against float64 by hand, lent and given back, put back bit for bit."""

import pytest
import torch

from palate.core.problems import StateError
from palate.objectives import OBJECTIVES
from palate.train.averages import Averages
from palate.train.groups import Plan
from palate.train.step import Learner
from train.micro import Given, Micro, batch

DECAYS = (0.9999, 0.5)


def weights(*values: float) -> dict[str, torch.nn.Parameter]:
    return {"w": torch.nn.Parameter(torch.tensor(values, dtype=torch.float32))}


def test_an_average_is_what_float64_makes_of_it():
    """The first update copies; then a' = d a + (1 - d) w, here over 40 wandering weights."""
    mine = weights(0.0, 0.0, 0.0)
    averages = Averages(mine, DECAYS)
    stream = torch.Generator().manual_seed(0)
    expected = [torch.zeros(3, dtype=torch.float64) for _ in DECAYS]
    for number in range(40):
        with torch.no_grad():
            mine["w"] += torch.randn(3, generator=stream)
        averages.update()
        now = mine["w"].detach().double()
        for place, decay in enumerate(DECAYS):
            old = expected[place]
            expected[place] = now.clone() if number == 0 else decay * old + (1 - decay) * now
    for place, value in enumerate(expected):
        found = averages.state()[f"average.{place}.w"].double()
        torch.testing.assert_close(found, value, rtol=0, atol=1e-5)
    assert not torch.allclose(expected[0], expected[1], atol=1e-2)


def test_a_step_too_small_for_half_precision_still_moves_the_slow_average():
    """1e-4 of a difference of 1e-2 is lost beside 1 in bfloat16; a thousand of them are seen."""
    mine = weights(1.0)
    averages = Averages(mine, (0.9999,))
    averages.update()
    with torch.no_grad():
        mine["w"] += 1e-2
    for _ in range(1000):
        averages.update()
    moved = float(averages.state()["average.0.w"]) - 1
    assert moved == pytest.approx(1e-2 * (1 - 0.9999**1000), rel=1e-2)


def test_an_average_speaks_and_the_policy_gets_its_weights_back():
    """Inside, the weight is 1, as at the start; outside it is what training made it."""
    mine = weights(1.0)
    averages = Averages(mine, (0.5,))
    with torch.no_grad():
        mine["w"] += 2
    own = mine["w"].data_ptr()
    with pytest.raises(RuntimeError, match="broke off"), averages.voices()[0]:
        assert mine["w"].tolist() == [1.0]
        raise RuntimeError("broke off")
    assert mine["w"].tolist() == [3.0]
    assert mine["w"].data_ptr() == own


def test_averages_of_another_objective_are_refused():
    averages = Averages(weights(1.0), DECAYS)
    with pytest.raises(StateError, match="0 tensors of averages"):
        averages.load_state({"exp_avg.w": torch.zeros(1)})
    one = Averages(weights(1.0), (0.5,))
    with pytest.raises(StateError, match="3 tensors of averages"):
        one.load_state(averages.state())


def test_what_is_not_theirs_is_handed_on():
    averages = Averages(weights(1.0), DECAYS)
    others = {"exp_avg.w": torch.ones(1)}
    assert list(averages.load_state({**averages.state(), **others})) == ["exp_avg.w"]
    assert Averages(weights(1.0), ()).state() == {}


def adaptive(backbone: Micro, **plan) -> Learner:
    settings = {"batch": 6, "learning_rate": 1e-3, "steps": 10, "device": "cpu", **plan}
    return Learner(backbone, OBJECTIVES["adaptive-dpo"](warm_up=0), Given(), Plan(**settings))


def test_a_resumed_learner_has_the_averages_of_one_that_never_stopped():
    pairs = batch(6, torch.float32)
    straight, broken = adaptive(Micro(torch.float32)), adaptive(Micro(torch.float32))
    for number in range(4):
        straight.step(pairs, number)
    for number in range(2):
        broken.step(pairs, number)
    kept = {name: tensor.clone() for name, tensor in broken.tensors().items()}
    weights_kept = {name: tensor.clone() for name, tensor in broken.backbone.state().items()}
    again = adaptive(Micro(torch.float32))
    again.backbone.load_state(weights_kept)
    again.load_tensors(kept)
    for number in range(2, 4):
        again.step(pairs, number)
    assert set(again.tensors()) == set(straight.tensors())
    assert sum(name.startswith("average.1.") for name in kept) == len(weights_kept)
    for name, tensor in straight.tensors().items():
        assert torch.equal(tensor, again.tensors()[name]), name
    for name, tensor in straight.backbone.state().items():
        assert torch.equal(tensor, again.backbone.state()[name]), name


def test_a_step_that_was_left_out_moves_no_average():
    pairs = batch(6, torch.float32)
    one = adaptive(Micro(torch.float32))
    one.step(pairs, 0)
    before = {name: tensor.clone() for name, tensor in one.averages.state().items()}
    weight = next(iter(one.backbone.trainable().values()))
    weight.register_hook(lambda gradient: gradient * float("nan"))
    assert one.step(pairs, 1).skipped == "gradient is not finite"
    for name, tensor in one.averages.state().items():
        assert torch.equal(tensor, before[name])
