"""One step against a second implementation, and what may not change it."""

import math

import pytest
import torch

from palate.core.problems import HealthStop
from palate.objectives import DPO, SFT
from palate.train.groups import Plan
from palate.train.optimizer import learning_rate
from palate.train.step import Learner
from train.micro import LEVELS, Given, Micro, batch

BETA = 2000.0


def learner(backbone: Micro, *, objective=None, **plan) -> Learner:
    settings = {"batch": 6, "learning_rate": 1e-3, "steps": 10, "device": "cpu", **plan}
    return Learner(backbone, objective or DPO(beta=BETA), Given(), Plan(**settings))


def restated_step(backbone: Micro, pairs, *, rate: float, clip: float) -> tuple[float, dict]:
    """Diffusion-DPO and AdamW written again from the papers, one picture at a time, in float64."""
    noised, noises = Given()(pairs), Given().noise(pairs)
    text = pairs.conditions[0].tensors["text"]
    weights = dict(sorted(backbone.network.named_parameters()))
    kept = torch.linspace(0.999, 0.01, LEVELS, dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(pairs)):
        t, eps = noised.level[i], noises[i]
        difference = 0.0
        for clean, sign in ((pairs.chosen[i], 1), (pairs.rejected[i], -1)):
            x = kept[t].sqrt() * clean + (1 - kept[t]).sqrt() * eps
            inputs = (x[None], t[None], text[i][None])
            said = backbone.network(*inputs).sample[0]
            with torch.no_grad():
                believed = backbone.frozen(*inputs).sample[0]
            policy = ((said - eps) ** 2).sum() / eps.numel()
            reference = ((believed - eps) ** 2).sum() / eps.numel()
            difference = difference + sign * (reference - policy)
        z = BETA / 2 * difference
        p = pairs.agreement[i]
        total = total + p * torch.log1p(torch.exp(-z)) + (1 - p) * torch.log1p(torch.exp(z))
    loss = total / len(pairs)
    gradients = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
    moved = {}
    for name, weight in weights.items():
        g = gradients[name] * min(1.0, clip / (norm + 1e-6))
        first, second = 0.1 * g, 0.001 * g * g
        unbiased = first / (1 - 0.9), second / (1 - 0.999)
        decayed = weight.detach() * (1 - rate * 0.01)
        moved[name] = decayed - rate * unbiased[0] / (unbiased[1].sqrt() + 1e-8)
    return float(loss.detach()), {"norm": norm, "weights": moved}


@pytest.mark.parametrize("micro_batch", [6, 2])
def test_the_whole_step_equals_a_float64_restatement(micro_batch):
    pairs = batch(6)
    expected, after = restated_step(Micro().move(0.02), pairs, rate=1e-3, clip=1.0)
    backbone = Micro().move(0.02)
    outcome = learner(backbone, micro_batch=micro_batch).step(pairs, 0)
    assert float(outcome.measures["loss"].mean()) == pytest.approx(expected, abs=1e-10, rel=0)
    assert outcome.norm == pytest.approx(after["norm"], rel=1e-10)
    for name, weight in backbone.trainable().items():
        torch.testing.assert_close(weight.detach(), after["weights"][name], atol=1e-10, rtol=0)


def gradients(micro_batch: int, dtype: torch.dtype) -> torch.Tensor:
    backbone = Micro(dtype).move(0.02)
    one = learner(backbone, micro_batch=micro_batch)
    one._gradients(batch(6, dtype), 0)
    return torch.cat([w.grad.flatten().double() for w in backbone.trainable().values()])


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize("micro_batch", [1, 4, 5])
def test_the_micro_batch_changes_nothing_but_rounding(micro_batch, dtype, limit):
    """A3: 4 + 2 and 5 + 1 are ragged; each pair still weighs one sixth."""
    whole, split = gradients(6, dtype), gradients(micro_batch, dtype)
    assert float((whole - split).norm() / whole.norm()) <= limit


def test_at_the_reference_the_margin_is_exactly_zero():
    """A8: equal inputs in an equal layout give equal bits, and the loss is ln 2."""
    found = learner(Micro(torch.float32)).look(batch(6, torch.float32))
    assert float(found["margin"].abs().max()) == 0.0
    assert float(found["loss"].mean()) == pytest.approx(math.log(2), abs=1e-7)


def test_the_gradient_of_the_whole_path_matches_finite_differences():
    """A7: ten random directions through network, noise, reference and loss."""
    backbone, pairs = Micro().move(0.02), batch(3)
    one = learner(backbone, objective=DPO(beta=50.0), batch=3)
    one._gradients(pairs, 0)
    weights = list(backbone.trainable().values())
    grads = [w.grad.clone() for w in weights]
    for number in range(10):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            direction = [torch.randn_like(w) for w in weights]
        expected = sum(float((g * d).sum()) for g, d in zip(grads, direction, strict=True))
        losses = []
        for h in (1e-6, -1e-6):
            with torch.no_grad():
                for w, d in zip(weights, direction, strict=True):
                    w += h * d
                losses.append(float(one.look(pairs)["loss"].mean()))
                for w, d in zip(weights, direction, strict=True):
                    w -= h * d
        assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_sft_asks_neither_the_reference_nor_the_rejected_pictures():
    backbone = Micro()
    rows = []
    plain = backbone.predict
    backbone.predict = lambda noisy, *rest: rows.append(len(noisy)) or plain(noisy, *rest)
    outcome = learner(backbone, objective=SFT()).step(batch(6), 0)
    assert rows == [6]
    assert sorted(outcome.measures) == ["chosen_error", "loss"]


@pytest.mark.parametrize("where", ["latents", "embedding"])
def test_a_pair_that_is_not_finite_is_dropped_before_the_forward_pass(where):
    """The other five pairs give the very step they give alone."""
    pairs = batch(6)
    tensor = pairs.rejected if where == "latents" else pairs.conditions[0].tensors["text"]
    tensor[2].view(-1)[0] = math.nan
    broken, alone = Micro().move(0.02), Micro().move(0.02)
    outcome = learner(broken).step(pairs, 0)
    learner(alone).step(pairs.rows([0, 1, 3, 4, 5]), 0)
    assert list(outcome.culprits) == ["pair 2"]
    assert outcome.pairs == 5
    for name, weight in broken.trainable().items():
        assert torch.equal(weight, alone.trainable()[name])


class Breaks:
    """An objective that gives one pair of each batch a loss that is not a number."""

    name, needs, whole_batch = "breaks", DPO.needs, False

    def __call__(self, pairs):
        found = DPO(beta=BETA)(pairs)
        found.loss[0] = found.loss[0] * math.nan
        return found

    def at_init(self):
        return None


def test_a_loss_that_is_not_finite_moves_nothing():
    backbone = Micro().move(0.02)
    one = learner(backbone, objective=Breaks())
    before = {name: weight.detach().clone() for name, weight in backbone.trainable().items()}
    state = {name: tensor.clone() for name, tensor in one.optimizer.state().items()}
    outcome = one.step(batch(6), 0)
    assert outcome.skipped == "loss is not finite"
    assert list(outcome.culprits) == ["pair 0"]
    assert all(torch.equal(w, before[name]) for name, w in backbone.trainable().items())
    assert all(torch.equal(t, state[name]) for name, t in one.optimizer.state().items())


@pytest.mark.parametrize("place", ["forward", "optimizer"])
def test_a_full_memory_halves_the_micro_batch_or_stops_whole(place):
    """B7: once in the forward pass: half; in the update: a clean stop, nothing moved."""
    backbone, calm = Micro().move(0.02), Micro().move(0.02)
    one, expected = learner(backbone), learner(calm, micro_batch=3)
    calls = []

    def full(*_args):
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError
        return plain(*_args)

    if place == "forward":
        plain, backbone.predict = backbone.predict, full
        one.step(batch(6), 0)
        assert (one.halved, one.pairs_at_once) == (True, 3)
        expected.step(batch(6), 0)
        for name, weight in backbone.trainable().items():
            assert torch.equal(weight, calm.trainable()[name])
        return
    plain, one.optimizer.inner.step = one.optimizer.inner.step, full
    before = {name: weight.detach().clone() for name, weight in backbone.trainable().items()}
    with pytest.raises(HealthStop, match="not enough memory for 6 pairs"):
        one.step(batch(6), 0)
    assert all(torch.equal(w, before[name]) for name, w in backbone.trainable().items())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        MemoryError(),
    ],
)
def test_looking_without_learning_also_goes_on_with_half(error):
    """On a CPU a full memory is a plain RuntimeError, told apart by its words."""
    backbone, calm = Micro().move(0.02), Micro().move(0.02)
    one, plain, calls = learner(backbone), backbone.predict, []

    def full(*args):
        calls.append(1)
        if len(calls) == 1:
            raise error
        return plain(*args)

    backbone.predict = full
    found = one.look(batch(6))
    expected = learner(calm, micro_batch=3).look(batch(6))
    assert (one.halved, one.pairs_at_once) == (True, 3)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    calls.clear()
    with pytest.raises(HealthStop, match="not enough memory for 3 pairs"):
        one.look(batch(6))


def test_another_error_is_not_taken_for_a_full_memory():
    backbone = Micro()

    def wrong(*_args):
        raise RuntimeError("shapes do not fit")

    backbone.predict = wrong
    one = learner(backbone)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        one.look(batch(6))
    assert not one.halved


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [0.5, 1, 1, 1, 1, 1]), ("linear", [0.5, 1, 1, 0.75, 0.5, 0.25]),
     ("cosine", [0.5, 1, 1, 0.853553, 0.5, 0.146447])],
)  # fmt: skip
def test_the_learning_rate_is_a_function_of_the_step(schedule, expected):
    """Two steps of warm-up, four after: cosine is (1 + cos(pi k / 4)) / 2."""
    plan = Plan(steps=6, warmup_steps=2, learning_rate=1.0, schedule=schedule)
    assert [learning_rate(plan, step) for step in range(6)] == pytest.approx(expected, abs=1e-6)
