"""Step-aware scorers taught on a micro model: labels decide, interruptions do not."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from palate.backbones import tiny
from palate.core.problems import DataError, SettingError, StateError
from palate.data.sources import export_pickapic, import_comparisons, jpeg
from palate.data.store import Store
from palate.recipes.step_accuracy import FINISHED, bands, step_accuracy
from palate.recipes.step_scorer import measure_step_scorer, pair_loss, train_step_scorer
from palate.recipes.step_studio import Lesson, Studio, open_studio
from palate.scorers import Timeless
from palate.scorers.learned import open_scorer
from palate.world import prompts

KINDS = ["latent", pytest.param("step-clip", marks=pytest.mark.slow)]
SHORT = Lesson(steps=4, batch=3, learning_rate=1e-3, guidance=2.0, held_out=0.3, seed=5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A micro pipeline, untrained. Read only."""
    folder = tmp_path_factory.mktemp("model") / "micro"
    tiny.build(prompts("train", 20, 0), size="micro").save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pairs of a bright and a dark picture: the bright one wins, every fifth is a tie."""
    place = tmp_path_factory.mktemp("pairs")
    captions, chance = prompts("train", 20, 0), np.random.default_rng(0)
    dark, bright = (
        chance.integers(low, low + 90, (20, 64, 64, 3), dtype=np.uint8) for low in (20, 150)
    )
    rows = [
        {
            "caption": captions[row],
            "jpg_0": jpeg(bright[row]),
            "jpg_1": jpeg(dark[row]),
            "label_0": 0.5 if row % 5 == 0 else 1.0,
            "user_id": 0,
        }
        for row in range(20)
    ]
    export_pickapic(rows, place / "pairs.parquet")
    store = Store(place / "store")
    import_comparisons(store, "pickapic", place / "pairs.parquet")
    store.freeze(place / "frozen")
    return place / "frozen"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def studio(snapshot, cache) -> Studio:
    """With the shipped model: an untrained autoencoder does not see that a picture is bright."""
    return open_studio(snapshot, "shipped", SHORT, cache=cache)


class Brightness:
    """Says how bright a picture is, times a sign."""

    def __init__(self, sign: int) -> None:
        self.name, self.identity, self.sign = "brightness", f"brightness {sign}", sign

    def score(self, images, prompts):
        return np.array([self.sign * image.mean() for image in images], np.float64)


def test_the_loss_of_two_pairs_by_hand():
    """Scores 2 over 1, certain: ln(1 + e⁻¹). Scores 1 over 3, a tie: ½ln(1+e²)+½ln(1+e⁻²) − ln 2.

    The second counts a third as much as the first.
    """
    found = pair_loss(
        torch.tensor([2.0, 1.0], dtype=torch.float64),
        torch.tensor([1.0, 3.0], dtype=torch.float64),
        torch.tensor([1.0, 0.5], dtype=torch.float64),
        torch.tensor([3.0, 1.0], dtype=torch.float64),
    )
    first = math.log1p(math.exp(-1))
    second = 0.5 * (math.log1p(math.exp(2)) + math.log1p(math.exp(-2))) - math.log(2)
    assert found.item() == pytest.approx((3 * first + second) / 4, abs=1e-12)


def test_a_tie_is_best_at_equal_scores_and_a_label_at_its_own_odds():
    """The least loss is 0: at margin 0 for a tie, at ln 3 for three to one."""
    one = torch.ones(1, dtype=torch.float64)
    for agreement, margin in ((0.5, 0.0), (0.75, math.log(3))):
        at = [pair_loss(one * (margin + off), 0 * one, one * agreement, one) for off in (-1, 0, 1)]
        assert at[1].item() == pytest.approx(0, abs=1e-15)
        assert min(at[0], at[2]) > 0.01


def test_bands_are_fifths_of_all_levels():
    found = bands(1000)
    assert list(found) == ["0-199", "200-399", "400-599", "600-799", "800-999"]
    assert found["800-999"] == (800, 1000)


def test_a_scorer_that_is_right_is_right_and_its_opposite_wrong(studio):
    """Bright pictures win; where noise hides that, the two opposite scorers still add up to one."""
    wins = [pair for pair in studio.pairs if pair.agreement > 0.5][:3]
    pairs = [*wins, *(pair for pair in studio.pairs if pair.agreement == 0.5)]
    assert len(pairs) > len(wins), "a tie must be among them for the count to mean anything"
    one, other = (
        step_accuracy(Timeless(Brightness(sign)), studio.showing, pairs) for sign in (1, -1)
    )
    assert list(one) == [FINISHED, *bands(1000)]
    assert (one[FINISHED].value, other[FINISHED].value) == (1.0, 0.0)
    for name in one:
        assert one[name].value + other[name].value == pytest.approx(1)
        assert one[name].measurements == len(wins)


def test_both_pictures_of_a_pair_are_shown_under_one_noise(studio):
    """Shown latents are α·x₀ + σ·ε, so chosen minus rejected is α times that of the clean ones."""
    showing, pairs = studio.showing, list(studio.train)[:3]
    level = torch.tensor([10, 500, 990])
    noise = torch.stack([showing.noise("test", pair) for pair in pairs])
    batch = showing.batches(pairs, [0] * 3)
    chosen, rejected = showing.show("latents", batch, level, noise).chunk(2)
    alpha, sigma = showing.backbone.path.coefficients(level, chosen)
    torch.testing.assert_close(chosen - rejected, alpha * (batch.chosen - batch.rejected))
    torch.testing.assert_close(chosen, alpha * batch.chosen + sigma * noise)


def test_the_predicted_picture_is_the_decoded_clean_estimate(studio):
    """Restated: x₀ = (x − σ·ε̂)/α with ε̂ = e₀ + 2(e − e₀), then decoded."""
    showing, pairs = studio.showing, list(studio.train)[:2]
    backbone, level = showing.backbone, torch.tensor([100, 600])
    noise = torch.stack([showing.noise("test", pair) for pair in pairs])
    batch = showing.batches(pairs, [0] * 2)
    shown = showing.show("pictures", batch, level, noise)
    noisy = backbone.path.noisy(batch.rejected, noise, level)
    with torch.no_grad():
        given = backbone.predict(noisy, level, backbone.embed([pair.prompt for pair in pairs]))
        without = backbone.predict(noisy, level, backbone.embed(["", ""]))
    alpha, sigma = backbone.path.coefficients(level, noisy)
    clean = (noisy - sigma * (without + 2.0 * (given - without))) / alpha
    expected = backbone.decode(clean).numpy()
    assert len(shown) == 4
    worst = np.abs(np.stack(shown[2:]).astype(int) - expected.astype(int)).max()
    assert worst <= 1, "at most a rounding apart"


@pytest.mark.parametrize("kind", KINDS)
def test_a_taught_scorer_is_written_with_what_it_is_worth(kind, snapshot, model, cache, tmp_path):
    facts = train_step_scorer(kind, snapshot, model, tmp_path / "s", lesson=SHORT, cache=cache)
    assert json.loads((tmp_path / "s/training.json").read_text()) == json.loads(json.dumps(facts))
    assert open_scorer(tmp_path / "s").identity == facts["identity"]
    assert [path.name for path in tmp_path.iterdir()] == ["s"], "nothing else is left"
    found, which = measure_step_scorer(tmp_path / "s", snapshot, model, cache=cache)
    assert which == "held-out prompts"
    assert {name: each.asdict() for name, each in found.items()} == facts["accuracy"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_training_goes_on_to_the_same_bits(kind, snapshot, model, cache, tmp_path):
    def train(name, **more):
        out = tmp_path / name
        facts = train_step_scorer(kind, snapshot, model, out, lesson=SHORT, cache=cache, **more)
        return facts["identity"], facts["last_loss"]

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    whole = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("cut", progress=stop, checkpoint_seconds=0.0)
    assert not (tmp_path / "cut").exists()
    steps: list[int] = []
    assert train("cut", progress=lambda done, total: steps.append(done)) == whole
    assert steps == [3, 4]


def test_a_state_of_other_settings_is_not_gone_on_with(snapshot, model, cache, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    out = tmp_path / "s"
    with pytest.raises(KeyboardInterrupt):
        train_step_scorer("latent", snapshot, model, out, lesson=SHORT, cache=cache, progress=stop)
    other = Lesson(steps=5, batch=3, guidance=2.0, held_out=0.3, seed=5)
    with pytest.raises(StateError, match="state of another training"):
        train_step_scorer("latent", snapshot, model, out, lesson=other, cache=cache)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["latent", "step-clip"])
def test_a_plain_taste_is_learned(kind, snapshot, cache, tmp_path):
    """Brightness decides every pair, so finished pictures are soon told apart."""
    lesson = Lesson(steps=25, batch=4, learning_rate=5e-4, guidance=2.0, held_out=0.3)
    out = tmp_path / "s"
    facts = train_step_scorer(kind, snapshot, "shipped", out, lesson=lesson, cache=cache)
    assert facts["accuracy"][FINISHED]["value"] == 1.0
    assert facts["accuracy"]["0-199"]["value"] == 1.0


def test_what_cannot_be_trained_is_refused_before_anything_is_loaded(snapshot, tmp_path):
    with pytest.raises(SettingError, match=r"Did you mean latent\?"):
        train_step_scorer("latnt", snapshot, "no-model", tmp_path / "s")
    with pytest.raises(StateError, match="which exists"):
        train_step_scorer("latent", snapshot, "no-model", tmp_path)
    with pytest.raises(SettingError, match=r"held_out=0\. Need a share"):
        Lesson(held_out=0)
    with pytest.raises(SettingError, match=r"guidance 0\.5"):
        Lesson(guidance=0.5)


def test_only_ties_cannot_be_measured(studio):
    ties = [pair for pair in studio.pairs if pair.agreement == 0.5]
    with pytest.raises(DataError, match="4 pairs, none with a preferred picture"):
        step_accuracy(Timeless(Brightness(1)), studio.showing, ties)
