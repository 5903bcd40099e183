"""Whom pictures are drawn for: `--user`, `--user-guidance`, and the way from one to another."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, final

from cyclopts import Parameter
from jaxtyping import Float
from torch import Tensor

from palate.backbones import Backbone
from palate.backbones.listening import Listening
from palate.cli.console import note
from palate.cli.named import Drawing, Opposition, device_named
from palate.core.problems import SettingError, require
from palate.train.finder import Finder
from palate.train.who import Who

# Letters that fit above a picture of a strip.
_LABEL = 24
_STEPS = 5


@final
@dataclass(frozen=True, slots=True)
class Persona:
    """Whom the pictures are for.

    Args:
        user: WHO: an embedding file, a snapshot of somebody's pairs (FOLDER or FOLDER@USER),
            somebody the run was trained with, or a mixture of these, WHO:SHARE,WHO:SHARE.
        user_guidance: Strength of guidance towards the user; the same as --guidance unless told.
    """

    user: str | None = None
    user_guidance: float | None = None

    def strength(self, drawing: Drawing) -> float:
        """How much the user counts beside the prompt: 1 is as much as in training.

        Raises:
            SettingError: when there is nobody to be guided towards, or a strength of guidance is
                none that can be drawn with.
        """
        if self.user_guidance is None:
            return 1.0
        require(
            self.user is not None,
            got=f"--user-guidance {self.user_guidance:g} without --user",
            need="somebody to be guided towards",
            fix="Name them, for example --user their-pairs",
        )
        require(
            0 <= self.user_guidance <= 100,
            got=f"--user-guidance {self.user_guidance:g}",
            need="0 (the base model) to 100",
            fix=f"{drawing.guidance:g} is as strong as --guidance; more exaggerates.",
        )
        return self.user_guidance / drawing.sampler.guidance

    def meet(
        self, model: Backbone, weights: Path | None, drawing: Drawing, against: Opposition
    ) -> "Audience":
        """Find who is drawn for, and say what a user should know of how.

        Args:
            model: The model, with its trained weights on it.
            weights: Where those are.
            drawing: How it draws.
            against: What is guided away from.

        Raises:
            SettingError: when these weights know no users, or nobody of this name.
            DataError: when nothing can be learned from the person's pairs.
            WeightsError: when an embedding is another encoder's than the weights were trained
                with.
        """
        strength = self.strength(drawing)
        if self.user is None:
            if model.personal is not None:
                note("Drawn for nobody: that is the base model. Name somebody with --user.")
            return Audience(model=model, who=None, strength=strength, drawing=drawing)
        require(
            against.negative is None,
            got="--user and --negative",
            need="one of the two",
            fix="Leave one out.",
        )
        find = finder(model, weights, drawing.device)
        return Audience(model=model, who=found(find, self.user), strength=strength, drawing=drawing)


For = Annotated[Persona, Parameter(name="*")]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Audience:
    """A model, and whom it draws for.

    Args:
        model: The model, which by itself draws for nobody.
        who: Whom it draws for; None for nobody.
        strength: How much they count beside the prompt.
        drawing: How it draws.
    """

    model: Backbone
    who: Who | None
    strength: float
    drawing: Drawing

    @property
    def backbone(self) -> Backbone:
        """The model as it draws for them."""
        return self.model if self.who is None else self.listening(self.who.embedding)

    def listening(self, user: Float[Tensor, "tokens width"]) -> Backbone:
        """The model as it draws for this embedding."""
        if self.strength == 0:
            # Not asked for anybody at all, so that it is the base to the bit.
            return self.model
        return Listening(self.model, user, strength=self.strength)

    def facts(self) -> dict[str, object] | None:
        """For the record of what was drawn."""
        if self.who is None:
            return None
        guidance = self.strength * self.drawing.guidance
        return {**self.who.facts(), "strength": self.strength, "user_guidance": guidance}


@final
@dataclass(frozen=True, slots=True)
class Slide:
    """The way from one taste to another.

    Args:
        slide_to: Another WHO, like --user: each picture is drawn at even steps on the way to
            them.
        slide: How many steps, both ends among them; 5 unless told.
    """

    slide_to: str | None = None
    slide: int | None = None

    def voices(
        self, audience: Audience, weights: Path | None
    ) -> "tuple[Who | None, list[tuple[float, Backbone]]]":
        """Who it ends with, and for each share of theirs the model as it draws there.

        Without an end there is one voice, of share 0.

        Raises:
            SettingError: when there is nobody to start from, or fewer than two steps.
        """
        require(
            self.slide_to is not None or self.slide is None,
            got=f"--slide {self.slide} without --slide-to",
            need="somebody to end with",
            fix="Add for example --slide-to WHO, or leave it out.",
        )
        if self.slide_to is None:
            return None, [(0.0, audience.backbone)]
        who = audience.who
        if who is None:
            raise SettingError(
                got="--slide-to without --user",
                need="somebody to start from",
                fix=f"Add for example --user WHO --slide-to {self.slide_to}",
            )
        steps = _STEPS if self.slide is None else self.slide
        require(
            steps >= 2,
            got=f"--slide {steps}",
            need="at least 2 steps: both ends",
            fix="5 is a good number.",
        )
        end = found(finder(audience.model, weights, audience.drawing.device), self.slide_to)
        shares = [step / (steps - 1) for step in range(steps)]
        return end, [(share, audience.listening(who.towards(end, share))) for share in shares]


Sliding = Annotated[Slide, Parameter(name="*")]


def labels(shares: list[float], start: Who, end: Who) -> list[str]:
    """What stands above the columns of a strip: how much of the end is in each."""
    words = [f"{100 * share:.0f} %" for share in shares]
    words[0], words[-1] = short(start.words), short(end.words)
    return words


def short(words: str) -> str:
    """Words that fit above a picture: the end of them, where names and files differ."""
    return words if len(words) <= _LABEL else f"…{words[1 - _LABEL :]}"


def finder(model: Backbone, weights: Path | None, device: str) -> Finder:
    """Who finds people for a model with trained weights.

    Raises:
        SettingError: when the weights know no users.
    """
    if model.personal is None or weights is None:
        raise SettingError(
            got="--user for a model without user attention",
            need="weights that were trained to follow users",
            fix="Train them with: palate train --method ppd, and add --weights RUN",
        )
    folder = weights if weights.is_dir() else weights.parent
    return Finder(model.personal, folder, device=device_named(device))


def found(find: Finder, words: str) -> Who:
    """The people that words name; what is unusual about them is said."""
    who = find(words)
    for sentence in who.notes:
        note(f"{sentence}.")
    return who
