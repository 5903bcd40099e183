"""Every setting of a run can be said as a flag."""

import pytest

from palate.cli.flags import flags, read_flags
from palate.core.problems import SettingError
from palate.train.groups import GROUPS
from palate.train.run import BROUGHT, Run, settings


def read(*words: str):
    return read_flags(words, "palate train")


def test_the_dotted_name_the_last_word_and_the_equals_sign_say_the_same():
    said = [
        read("--plan.learning_rate", "1e-5"),
        read("--plan.learning-rate=1e-5"),
        read("--learning-rate", "1e-5"),
    ]
    assert said == [{"plan.learning_rate": 1e-5}] * 3


def test_words_become_what_the_setting_is_declared_to_be():
    values = read(
        *("--steps", "7", "--betas", "0.9,0.99", "--flip", "--health.stop", "false"),
        *("--resolution", "none", "--targets", "to_q,to_v", "--crop", "random", "--beta", "500"),
    )
    assert values == {
        "plan.steps": 7,
        "plan.betas": [0.9, 0.99],
        "pictures.flip": True,
        "health.stop": False,
        "pictures.resolution": None,
        "adapter.targets": ["to_q", "to_v"],
        "pictures.crop": "random",
        "objective.beta": 500,
    }
    assert Run.from_values({"model": "m", "data": "d", **values}).plan.betas == (0.9, 0.99)


def test_every_setting_has_a_flag():
    known = flags()
    for setting in settings():
        assert known[setting.path.replace("_", "-")].path == setting.path


def usual(group: str | None) -> dict[str, object]:
    """The defaults of a group, or of everything that every run has, after a way through flags."""
    words: list[str] = []
    for setting in settings():
        top = setting.path.partition(".")[0]
        mine = top == group if group else top not in BROUGHT
        if not mine or setting.required or setting.default is None or setting.default == ():
            continue
        many = isinstance(setting.default, tuple)
        text = ",".join(map(str, setting.default)) if many else str(setting.default).lower()
        words += [
            f"--{setting.path}",
            text if many or text in ("true", "false") else str(setting.default),
        ]
    return read(*words)


def test_every_default_can_be_said_as_a_flag_and_changes_nothing():
    base = Run.from_values({"model": "m", "data": "d"})
    same = Run.from_values({"model": "m", "data": "d", **usual(None)})
    assert same.differences(base) == {}
    for source in BROUGHT:
        values = {path.partition(".")[2]: value for path, value in usual(source).items()}
        assert values
        assert GROUPS[source](**values) == GROUPS[source]()


def test_people_are_followed_by_flags_and_not_beside_full_training(palate):
    words = ("train", "--model", "m", "--data", "d", "--users", "vision:some/model",
             "--personal.layer", "0.6", "--cap", "none", "--dry-run")  # fmt: skip
    run = Run.from_yaml_text(palate(*words).out)
    assert run.personal is not None
    assert (run.personal.kind, run.personal.layer, run.personal.cap) == ("vision", 0.6, None)
    assert run.adapter is None
    refused = palate(*words, "--full")
    assert refused.code == 2
    assert "--full with the group personal" in refused.err


def test_a_word_where_a_word_is_wanted_stays_a_word():
    assert read("--model", "2024", "--data", "true") == {"model": "2024", "data": "true"}


def test_a_typing_mistake_is_answered_with_the_nearest_flag():
    with pytest.raises(SettingError, match=r"Did you mean --plan\.batch"):
        read("--plan.bacth", "3")
