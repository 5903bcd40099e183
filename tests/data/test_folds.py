"""Prompts are dealt into folds, never pairs."""

import numpy as np
import pytest

from palate.data.folds import deal, folded
from palate.data.tuned import fold_of


def test_case_and_spacing_make_no_other_prompt():
    assert folded("  A  fox\nin SNOW ") == "a fox in snow"
    assert folded("Straße") == folded("STRASSE")
    assert folded("a fox") != folded("afox")


def test_pairs_of_one_prompt_are_in_one_fold_and_folds_hold_equally_many_prompts():
    prompts = [f"{'A' if n % 2 else 'a'} fox  {n // 3}" for n in range(60)]
    fold = deal(prompts, 5, 0)
    by_prompt = {folded(prompt): part for prompt, part in zip(prompts, fold, strict=True)}
    assert [by_prompt[folded(prompt)] for prompt in prompts] == fold.tolist()
    assert np.bincount(list(by_prompt.values())).tolist() == [4] * 5
    assert deal(prompts[::-1], 5, 0).tolist() == fold.tolist()[::-1]


@pytest.mark.parametrize(("seed", "purpose"), [(1, "fold"), (0, "another")])
def test_another_seed_or_purpose_is_another_draw(seed: int, purpose: str):
    prompts = [str(n) for n in range(40)]
    assert deal(prompts, 5, seed, purpose=purpose).tolist() != deal(prompts, 5, 0).tolist()


def test_folds_are_dealt_as_they_always_were():
    """Replayed: as dealt before the draws had one function; recorded numbers rest on these."""
    prompts = [f"a fox {n}" for n in range(12)]
    assert deal(prompts, 5, 3).tolist() == [0, 0, 1, 2, 1, 1, 3, 2, 0, 4, 3, 4]
    assert fold_of(prompts, seed=3).tolist() == [0, 0, 4, 2, 1, 2, 3, 0, 3, 4, 1, 1]
