"""Scorers and prompts by name."""

import numpy as np
import pytest

from palate.backbones import tiny
from palate.core.problems import DataError, SettingError, WeightsError
from palate.core.streams import Streams
from palate.scorers.latent import LatentReward
from palate.scorers.learned import save_scorer
from palate.train.prompts import apart, prompts_of
from palate.train.scoring import WORLD_PARTS, check_scorer, open_scorer, open_step_scorer
from palate.world import PERFECT, Scene, render, rewards


@pytest.fixture(scope="module")
def seen():
    caption = prompts_of("world:held-out:1")[0][0]
    scene = Scene.parse(caption)
    good = render(scene, PERFECT, Streams(0)("scoring"))
    return [good, 255 - good], [caption] * 2


def test_the_world_is_its_exact_reward_and_its_parts_by_name(seen):
    pictures, captions = seen
    np.testing.assert_array_equal(open_scorer("world").score(*seen), rewards(pictures, captions))
    parts = [open_scorer(f"world:{part}").score(*seen) for part in WORLD_PARTS]
    assert all(((part >= 0) & (part <= 1)).all() for part in parts)
    assert open_scorer("world").identity != open_scorer("world:fidelity").identity


def test_a_scorer_of_finished_pictures_judges_unfinished_ones_as_if_finished(seen):
    scorer = open_step_scorer("world:vividness")
    assert scorer.reads == "pictures"
    plain = open_scorer("world:vividness").score(*seen)
    np.testing.assert_array_equal(scorer.score_steps(*seen, [900, 0]), plain)


def test_a_scorer_of_our_own_is_opened_by_what_it_reads(tmp_path):
    tiny.build(["a red thing"], size="micro").save_pretrained(tmp_path / "model")
    save_scorer(LatentReward.from_pipeline(tmp_path / "model"), tmp_path / "mine")
    assert open_step_scorer(f"latent:{tmp_path / 'mine'}").reads == "latents"
    with pytest.raises(SettingError, match=r"reads latents.*Write latent:"):
        open_step_scorer(f"steps:{tmp_path / 'mine'}")
    with pytest.raises(SettingError, match="judges unfinished pictures"):
        open_scorer(f"latent:{tmp_path / 'mine'}")


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        ("wrld", "Did you mean world?"),
        ("clip", "Did you mean clip:FOLDER?"),
        ("clip:", "Did you mean clip:FOLDER?"),
        ("latent", "Did you mean latent:FOLDER?"),
        ("world:vividnes", "Did you mean vividness?"),
    ],
)
def test_a_name_that_is_no_scorer_gets_the_nearest_one(words, fix):
    with pytest.raises(SettingError) as refused:
        open_step_scorer(words)
    assert refused.value.fix == fix


def test_prompts_kept_away_from_training_are_never_trained_on(tmp_path):
    train, held_out = apart("world:train:30", 5)
    assert (train, held_out) == (
        prompts_of("world:train:30")[0],
        prompts_of("world:held-out:5")[0],
    )
    path = tmp_path / "prompts.txt"
    path.write_text("".join(f"prompt {i}\n" for i in range(25)))
    train, held_out = apart(str(path), 64)
    assert (len(train), held_out) == (23, ["prompt 23", "prompt 24"])
    path.write_text("one\n\none\n")
    with pytest.raises(DataError, match="at least two prompts"):
        apart(str(path), 64)


@pytest.mark.parametrize("kind", ["clip", "pickscore", "hpsv2", "imagereward", "aesthetic"])
def test_scorers_of_peoples_preferences_have_names(kind, tmp_path):
    check_scorer(f"{kind}:owner/name")
    check_scorer(f"{kind}:{tmp_path}")
    with pytest.raises(SettingError, match="a folder that is not there"):
        check_scorer(f"{kind}:./none")
    with pytest.raises(WeightsError):
        open_scorer(f"{kind}:{tmp_path}")


def test_only_pickscore_has_a_published_folder_to_open_without_saying_which():
    check_scorer("pickscore")
    for kind in ("hpsv2", "imagereward", "aesthetic"):
        with pytest.raises(SettingError, match=rf"Did you mean {kind}:FOLDER\?"):
            check_scorer(kind)
