"""Pictures drawn while training: which steps are paired, what labels them, what names the draws."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from palate.backbones.backbone import Condition
from palate.backbones.steps import Grid
from palate.core.path import Path
from palate.core.problems import HealthStop, SettingError
from palate.core.streams import Streams
from palate.data.loader import Order
from palate.objectives import DPO, SPO
from palate.train.groups import Plan
from palate.train.guard import MOST_IDLE, Guard
from palate.train.judged import Round, compare, judge_finished, judge_steps
from palate.train.pen import Judge, Pen
from palate.train.rollout import RolloutFeed
from palate.train.sources import RolloutSettings
from palate.train.step import Learner
from palate.train.taken import UNDECIDED, Retraced, sensitivity
from train.micro import LEVELS, Micro

PROMPTS = tuple(f"prompt {i}" for i in range(6))
SHAPE = (2, 8, 8)
STEPS = 5
FINAL = {"labels": "final", "candidates": 2}
BRANCHES = {"labels": "steps", "candidates": 3}


class Bright:
    """Likes latents whose first channel is high; remembers what it was shown."""

    name, identity, reads = "bright", "bright", "latents"

    def __init__(self, *, scale: float = 1.0, spoilt: str = "") -> None:
        self.scale, self.spoilt = scale, spoilt
        self.shown: list[tuple[torch.Tensor, tuple[str, ...], int]] = []

    def score_steps(self, seen, prompts, level):
        assert len(set(level)) == 1
        self.shown.append((seen, tuple(prompts), level[0]))
        scores = self.scale * seen[:, 0].flatten(1).mean(1).double().numpy()
        return np.where([prompt == self.spoilt for prompt in prompts], np.nan, scores)


class Finished:
    """A scorer of pictures, for models that can decode."""

    name, identity, reads = "finished", "finished", "pictures"

    def __init__(self) -> None:
        self.shown: list[tuple[list[np.ndarray], int]] = []

    def score_steps(self, seen, prompts, level):
        self.shown.append((list(seen), level[0]))
        return np.array([float(picture.mean()) for picture in seen])


class Counting(Micro):
    """Counts the rows that go through the network, and can decode."""

    def __init__(self) -> None:
        super().__init__(torch.float32)
        self.calls: list[int] = []

    def predict(self, noisy, level, condition):
        self.calls.append(len(noisy))
        return super().predict(noisy, level, condition)

    def decode(self, latents):
        return (latents[:, :1].clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).repeat(1, 1, 1, 3)


def told(prompts) -> Condition:
    return Condition({"text": torch.stack([Streams(5)(text).normal((3, 6)) for text in prompts])})


def pen_of(backbone: Micro, **settings) -> Pen:
    wanted = RolloutSettings(**{"steps": STEPS, "guidance": 2.0, **settings})
    return Pen(
        backbone=backbone,
        settings=wanted,
        grid=Grid.leading(LEVELS, wanted.steps),
        empty=told([""]),
        shape=SHAPE,
        streams=Streams(7),
    )


def feed_of(backbone: Micro, scorer=None, *, batch: int = 4, **settings) -> RolloutFeed:
    pen = pen_of(backbone, **settings)
    return RolloutFeed(
        prompts=PROMPTS,
        told=told,
        order=Order(len(PROMPTS), batch, 1),
        pen=pen,
        judge=Judge(scorer=scorer or Bright(), pen=pen),
    )


def learner_of(backbone: Micro, objective=None, **settings) -> Learner:
    pen = pen_of(backbone, **settings)
    source = Retraced(path=backbone.path, empty=pen.empty, settings=pen.settings)
    plan = Plan(batch=4, learning_rate=1e-3, steps=10, device="cpu")
    return Learner(backbone, objective or SPO(), source, plan)


@pytest.fixture
def backbone() -> Micro:
    return Counting().move(0.05)


@pytest.fixture
def this() -> Round:
    return Round(prompts=PROMPTS, visits=(0,) * len(PROMPTS), told=told(PROMPTS))


def test_a_judgement_is_kept_when_two_probabilities_differ_by_more_than_the_threshold():
    """Scores 1 apart: softmax gives 0.7311 and 0.2689, which differ by 0.4621."""
    scores = np.array([0.0, 1.0, 2.0, 2.0, math.nan, 5.0])
    assert compare(scores, 2, 0.46).clear.tolist() == [True, False, False]
    assert compare(scores, 2, 0.47).clear.tolist() == [False, False, False]
    verdicts = compare(scores, 2, 0.0)
    assert verdicts.clear.tolist() == [True, False, False]  # a tie decides nothing
    assert verdicts.finite.tolist() == [True, True, False]
    assert (verdicts.best[0], verdicts.worst[0]) == (1, 0)


def test_how_strongly_each_step_reacts_is_what_it_is_on_stable_diffusion():
    """Levels 951, 751, 501, 251, 101, 51 and 1 of twenty steps, from the closed form k²/2s²."""
    beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    path = Path.from_alphas_cumprod((1 - beta).cumprod(0), "epsilon")
    found = sensitivity(path, Grid.leading(1000, 20), 1.0)[[0, 4, 9, 14, 17, 18, 19]]
    printed = torch.tensor([0.36, 0.26, 0.20, 0.24, 0.65, 14.7, 0.50], dtype=torch.float64)
    torch.testing.assert_close(found, printed, rtol=0.02, atol=0.006)


def test_finished_pictures_start_from_one_noise_and_label_all_their_steps(backbone, this):
    pen, scorer = pen_of(backbone, **FINAL), Bright()
    found, (verdicts,) = judge_finished(pen, Judge(scorer=scorer, pen=pen), this)
    assert [each.number for each in found] == list(range(STEPS))
    first = found[0]
    assert torch.equal(first.noisy[0], first.noisy[1])
    assert not torch.equal(first.taken[0], first.taken[1])
    for before, after in pairwise(found):
        for side in (0, 1):
            assert torch.equal(before.taken[side], after.noisy[side])
    (pictures, prompts, level), *more = scorer.shown
    assert (level, more, prompts[:2]) == (0, [], (PROMPTS[0],) * 2)
    assert torch.equal(found[-1].taken[0][0], pictures[verdicts.best[0]])
    better, worse = (found[-1].taken[side][:, 0].flatten(1).mean(1) for side in (0, 1))
    assert bool((better > worse).all())


def test_next_states_share_the_state_they_left_and_are_judged_where_they_landed(backbone, this):
    pen, scorer = pen_of(backbone, **BRANCHES, skip_first=1), Bright()
    found, verdicts = judge_steps(pen, Judge(scorer=scorer, pen=pen), this)
    assert [each.number for each in found] == list(range(1, STEPS))
    assert [level for _, _, level in scorer.shown] == list(pen.grid.previous[1:])
    for each, verdict, (shown, _, _) in zip(found, verdicts, scorer.shown, strict=True):
        assert len(each.noisy) == 1
        for side, picked in ((0, verdict.best), (1, verdict.worst)):
            rows = torch.arange(len(PROMPTS)) * 3 + picked
            assert torch.equal(each.taken[side], shown[rows])
        best, worst = (side[:, 0].flatten(1).mean(1) for side in each.taken)
        assert bool((best > worst).all())


def test_the_drawing_goes_on_from_a_random_candidate_and_not_from_the_winner(backbone, this):
    pen, scorer = pen_of(backbone, **BRANCHES, eta=1.0), Bright()
    found, verdicts = judge_steps(pen, Judge(scorer=scorer, pen=pen), this)
    won: list[bool] = []
    for (shown, _, _), verdict, after in zip(scorer.shown, verdicts, found[1:], strict=False):
        table = shown.reshape(len(PROMPTS), 3, *SHAPE)
        for prompt, state in enumerate(after.noisy[0]):
            (same,) = (i for i in range(3) if torch.equal(table[prompt, i], state))
            won.append(same == int(verdict.best[prompt]))
    # 24 draws of one in three: 1 to 17 winners but for one case in ten thousand.
    assert len(won) == 24
    assert 1 <= sum(won) <= 17


def test_a_scorer_of_pictures_sees_the_prediction_and_at_the_end_the_picture_itself(this):
    backbone, scorer = Counting().move(0.05), Finished()
    pen = pen_of(backbone, **BRANCHES)
    found, _ = judge_steps(pen, Judge(scorer=scorer, pen=pen), this)
    assert [level for _, level in scorer.shown] == list(pen.grid.previous)
    rows, level = found[0].taken[0][:1], pen.grid.previous[0]
    predicted = pen.predict(rows, level, this.told.rows([0]))
    ahead = pen.pictures(pen.clean(rows, predicted, level))[0]
    shown = scorer.shown[0][0][:3]
    # Decoded to whole shades: the last digits of another batch size do not matter.
    assert min(np.abs(ahead.astype(int) - one.astype(int)).max() for one in shown) <= 1
    finished = pen.pictures(found[-1].taken[0][:1])[0]
    assert any((finished == one).all() for one in scorer.shown[-1][0][:3])
    # Predictions of candidates serve the next step too: one call at first, one for each but last.
    assert backbone.calls[:STEPS] == [2 * 6, *[2 * 18] * (STEPS - 1)]


@pytest.mark.parametrize("labels", [FINAL, BRANCHES])
def test_a_draw_depends_on_its_prompt_and_visit_and_on_nothing_else(backbone, labels):
    whole = feed_of(backbone, batch=4, **labels).batch(0)
    halves = [feed_of(backbone, batch=2, at_once=1, **labels).batch(i) for i in (0, 1)]
    rows = {name: i for i, name in enumerate(whole.ids)}
    for half in halves:
        index = [rows[name] for name in half.ids]
        for mine, other in zip(half.taken, whole.taken, strict=True):
            torch.testing.assert_close(mine, other[index], atol=1e-5, rtol=1e-5)
    assert sum(map(len, halves)) == len(whole)
    again = feed_of(backbone, batch=4, **labels)
    assert torch.equal(again.batch(0).taken[0], whole.taken[0])
    assert not torch.equal(again.batch(3).taken[0][:4], whole.taken[0][:4])


def test_the_policy_draws_and_not_the_reference(backbone):
    drawn = feed_of(backbone, **FINAL).batch(0)
    as_it_was = feed_of(Counting(), **FINAL).batch(0)
    assert not torch.equal(drawn.taken[0], as_it_was.taken[0])


@pytest.mark.parametrize("labels", [FINAL, BRANCHES])
def test_the_log_ratio_is_that_of_two_gaussians(backbone, labels):
    """Guided noise, DDPM's step, and torch's own normal distribution in float64."""
    steps = feed_of(backbone, **labels).batch(0).rows(range(5))
    learner = learner_of(backbone, DPO(beta=1.0), **labels)
    contrast = learner.evidence(steps, 0)
    kept = torch.linspace(0.999, 0.01, LEVELS, dtype=torch.float64)
    for i in range(5):
        t, p = int(steps.level[i]), int(steps.previous[i])
        width = ((1 - kept[p]) / (1 - kept[t]) * (1 - kept[t] / kept[p])).sqrt()
        for side, branch in ((0, contrast.chosen), (1, contrast.rejected)):
            x = steps.noisy[min(side, len(steps.noisy) - 1)][i].double()
            logs = []
            for network in (backbone.network, backbone.frozen):
                said = [
                    network(x[None].float(), t, encoder_hidden_states=text).sample[0].double()
                    for text in (told([""]).tensors["text"], steps.condition.tensors["text"][[i]])
                ]
                noise = said[0] + 2.0 * (said[1] - said[0])
                clean = (x - (1 - kept[t]).sqrt() * noise) / kept[t].sqrt()
                mean = kept[p].sqrt() * clean + (1 - kept[p] - width**2).sqrt() * noise
                normal = torch.distributions.Normal(mean, width)
                logs.append(normal.log_prob(steps.taken[side][i].double()).mean())
            torch.testing.assert_close(
                branch.gain[i].double(), 2 * (logs[0] - logs[1]), atol=2e-5, rtol=1e-3
            )


@pytest.mark.parametrize("labels", [FINAL, BRANCHES])
def test_an_unmoved_policy_has_no_margin_and_yet_a_gradient(labels):
    backbone = Counting()
    steps = feed_of(backbone, **labels).batch(0)
    outcome = learner_of(backbone, **labels).step(steps, 0)
    assert float(outcome.measures["margin"].abs().max()) == 0.0
    assert outcome.norm is not None
    assert outcome.norm > 0


def test_steps_from_one_state_cost_one_prediction(backbone):
    feeds = {name: feed_of(backbone, **labels).batch(0) for name, labels in
             (("pairs", FINAL), ("shared", BRANCHES))}  # fmt: skip
    rows = {}
    for (name, steps), labels in zip(feeds.items(), (FINAL, BRANCHES), strict=True):
        backbone.calls.clear()
        learner_of(backbone, **labels).evidence(steps.rows(range(4)), 0)
        rows[name] = backbone.calls.copy()
    # Policy and reference, with and without the prompt; and both sides where states differ.
    assert rows == {"pairs": [16, 16], "shared": [8, 8]}


@pytest.mark.parametrize("labels", [FINAL, BRANCHES])
def test_splitting_a_round_changes_nothing_but_the_last_digits(labels):
    moved = []
    for at_once in (100, 3):
        backbone = Counting().move(0.05)
        steps = feed_of(backbone, **labels, weights="sensitivity").batch(0)
        learner = learner_of(backbone, DPO(beta=1.0), **labels)
        learner.pairs_at_once = at_once
        outcome = learner.step(steps, 0)
        assert outcome.pairs == steps.judgements
        moved.append((outcome.norm, outcome.measures["loss"].mean()))
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-5, atol=1e-7)


def test_a_finished_picture_is_one_judgement_and_a_step_another(backbone):
    final = feed_of(backbone, **FINAL).batch(0)
    assert (len(final), final.judgements) == (4 * STEPS, 4)
    steps = feed_of(backbone, **BRANCHES).batch(0)
    assert len(steps) == steps.judgements == 4 * STEPS


def test_sensitive_steps_count_less_and_the_mean_stays_one(backbone):
    steps = feed_of(backbone, **FINAL, weights="sensitivity").batch(0)
    weight = dict(zip(steps.level.tolist(), steps.weight.tolist(), strict=True))
    reacts = sensitivity(backbone.path, Grid.leading(LEVELS, STEPS), 1.0).tolist()
    by_level = dict(zip(Grid.leading(LEVELS, STEPS).levels, reacts, strict=True))
    products = [weight[level] * by_level[level] for level in weight]
    assert max(products) == pytest.approx(min(products), rel=1e-5)
    assert sum(weight.values()) / len(weight) == pytest.approx(1.0, rel=1e-6)
    assert feed_of(backbone, **FINAL).batch(0).weight is None


@pytest.mark.parametrize("labels", [FINAL, BRANCHES])
def test_as_many_steps_are_trained_as_asked_for(backbone, labels):
    steps = feed_of(backbone, **labels, skip_first=1, skip_last=1, visits=2).batch(0)
    grid = Grid.leading(LEVELS, STEPS)
    assert set(steps.level.tolist()) <= set(grid.levels[1:-1])
    assert sorted(steps.prompt) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(set(steps.ids)) == 8


def test_a_threshold_rises_with_the_width_of_the_step(backbone, this):
    """At 0.3 for the narrowest step and 0.9999 for the widest, the widest keeps nothing."""
    settings = {**BRANCHES, "threshold": 0.3, "threshold_high": 0.9999}
    pen = pen_of(backbone, **settings)
    found, verdicts = judge_steps(pen, Judge(scorer=Bright(scale=20.0), pen=pen), this)
    flat = judge_steps(pen_of(backbone, **{**settings, "threshold_high": None}),
                       Judge(scorer=Bright(scale=20.0), pen=pen), this)[1]  # fmt: skip
    assert verdicts[0].clear.sum() == 0 < flat[0].clear.sum()
    assert verdicts[-1].clear.tolist() == flat[-1].clear.tolist()
    assert found[0].prompts == ()


def test_a_round_in_which_nothing_is_clear_is_left_out_and_not_for_ever(tmp_path):
    backbone = Counting()
    feed = feed_of(backbone, Bright(scale=0.0), **BRANCHES)
    before = {name: weight.clone() for name, weight in backbone.state().items()}
    outcome = learner_of(backbone, **BRANCHES).step(feed.batch(0), 0)
    assert (outcome.skipped, outcome.pairs, dict(outcome.culprits)) == (UNDECIDED, 0, {})
    assert all(torch.equal(before[name], weight) for name, weight in backbone.state().items())
    assert feed.told(0) == {"kept": 0.0, "score": 0.0, "score_range": 0.0}
    guard = Guard(tmp_path, 0.01)
    for _ in range(MOST_IDLE - 1):
        guard.rest(UNDECIDED)
    again = Guard(tmp_path, 0.01)
    again.load_state(guard.state())
    with pytest.raises(HealthStop, match=r"no judgement was clear enough.*rollout\.threshold"):
        again.rest(UNDECIDED)
    guard.rest(None)
    assert guard.idle == 0


@pytest.mark.parametrize("labels", [FINAL, BRANCHES])
def test_a_score_that_is_no_number_sets_one_picture_aside(backbone, labels):
    feed = feed_of(backbone, Bright(spoilt="prompt 2"), batch=6, **labels)
    outcome = learner_of(backbone, **labels).step(feed.batch(0), 0)
    assert dict(outcome.culprits) == {"0:prompt 2": "a score is not finite"}
    assert outcome.skipped is None
    assert not any("prompt 2" in name for name in outcome.ids)
    assert np.isfinite(feed.told(0)["score"])


def test_a_state_that_is_no_number_is_never_shown_to_the_scorer(backbone, this):
    pen, scorer = pen_of(backbone, **FINAL), Bright()
    states = torch.ones(2, *SHAPE)
    states[1, 0, 0, 0] = math.inf
    scores = Judge(scorer=scorer, pen=pen)(states, None, 0, PROMPTS[:2])
    assert scores[0] == pytest.approx(1.0)
    assert math.isnan(scores[1])
    assert bool(torch.isfinite(scorer.shown[0][0]).all())


def test_steps_cannot_be_judged_without_the_reference(backbone):
    steps = feed_of(backbone, **FINAL).batch(0).rows([0, 1])
    question = learner_of(backbone, **FINAL).source(steps)
    with pytest.raises(SettingError, match="ratio of policy to reference"):
        question.branches(question.ask(backbone, 2), None)


class Cramped(Micro):
    """Has room for few rows at once."""

    def predict(self, noisy, level, condition):
        if len(noisy) > 8:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return super().predict(noisy, level, condition)


def test_memory_that_runs_out_while_drawing_is_said_with_its_cure():
    backbone = Cramped(torch.float32)
    with pytest.raises(HealthStop, match=r"--rollout\.at_once 4"):
        feed_of(backbone, **FINAL).batch(0)
    assert len(feed_of(backbone, **FINAL, at_once=4).batch(0)) == 4 * STEPS
