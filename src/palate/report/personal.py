"""How well a model follows people, with three faces: `frame()`, `text()` and `page()`.

The first number is not how often a user prefers their pictures, but how much of that is lost when
the pictures were drawn for somebody else: only that tells a personal model from a better one.

Read next: `palate/evaluate/personal.py`, what is compared; `page.py`, whose style this page shares.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from textwrap import wrap
from typing import Any, Final, Self, final

from palate.core.plain import plain as plain_values
from palate.core.stats import Estimate
from palate.evaluate.crossed import Crossed
from palate.evaluate.following import Following
from palate.evaluate.personal import of_each_training
from palate.evaluate.slide import Curve, Monotony, Slide
from palate.report import figures
from palate.report.faces import write_faces
from palate.report.page import bar, environment, safe
from palate.report.words import MINUS, count, difference, flat, interval, percent, plain, signed

_WIDTH: Final = 98
# The group that answers the question, where it is there.
_FIRST: Final = "unseen"
# What is compared, in the order of the table.
_COMPARED: Final[Mapping[str, str]] = {
    "own_over_base": "their own pictures, over the base model's",
    "shuffled_over_base": "pictures drawn for others, over the base model's",
    "pooled_over_base": "the pooled model's pictures, over the base model's",
    "own_over_pooled": "their own pictures, over the pooled model's",
    "shuffled_over_pooled": "pictures drawn for others, over the pooled model's",
    "own_over_shuffled": "their own pictures, over those drawn for others",
}
_DIFFERENCES: Final[Mapping[str, str]] = {
    "own_minus_shuffled": "own minus others",
    "own_minus_shuffled_by_training": "own minus others, by training",
    "own_minus_shuffled_over_pooled": "own minus others, over the pooled model's",
    "own_minus_nearest": "own minus the most alike taste",
    "own_minus_farthest": "own minus the least alike taste",
}
_GAINS: Final[Mapping[str, str]] = {
    "own_gain": "drawn for them",
    "shuffled_gain": "drawn for others",
    "pooled_gain": "by the pooled model",
}
_COURSES: Final[Mapping[str, str]] = {
    "rises": "shown to rise at every step",
    "falls somewhere": "shown to fall at one step or more",
    "open": "neither shown to rise at every step nor to fall at any",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PersonalReport:
    """What was found of a personal model, to be read."""

    found: Following

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a result's folder.

        Raises:
            DataError: when it holds none.
            StateError: when a file was damaged.
        """
        return cls(found=Following.load(folder))

    @property
    def headline(self) -> str:
        """The one sentence to remember."""
        told = self.found.verdicts
        if not told:
            return "No pictures were drawn for anybody; the rest says what was asked instead."
        group = _FIRST if _FIRST in told else next(iter(told))
        own, gap = told[group]["own_over_base"], told[group].get("own_minus_shuffled")
        start = (
            f"Pictures drawn for {plain(group, most=40)} users win over the base model's in "
            f"{percent(own.value)} of comparisons ({_ends(own)})"
        )
        if gap is None:
            return f"{start}; with a single user, nothing tells following from being better."
        wider = self.found.two_way.get(group, {}).get("own_minus_shuffled", gap)
        return f"{start}, {_points(gap)} than pictures drawn for others: {_outcome(gap, wider)}."

    @property
    def limits(self) -> list[str]:
        """What the result does not show."""
        found = self.found
        points = [
            "Intervals speak of other users like these on the same prompts; those for users and "
            "prompts speak of other prompts as well, and are the wider ones: what is said to be "
            "seen holds for both."
        ]
        if found.groups:
            points.append(
                "Own minus others is the one question asked; everything else describes the answer, "
                "and its intervals do not pay for having looked at several."
            )
            points.append(
                "Users' tastes were asked as scorers. Where these are simulated or learned, people "
                "may think otherwise."
            )
            points.append(
                "A win says nothing of its size: with the same noise, a small change may win "
                "almost everywhere. The gains stand beside it."
            )
        many = max((len(trainings) for trainings in found.groups.values()), default=0)
        if many == 1:
            points.append(
                "One training: its users share its luck, so that no interval speaks of other "
                "trainings; another seed may give another result."
            )
        if many > 1:
            points.append(
                "Users of one training share its luck. Only what is told by training speaks of "
                "other trainings; the other intervals speak of other users of these."
            )
        if any(sum(len(each.users) for each in several) < 5 for several in found.groups.values()):
            points.append(
                "Differences of fewer than five users have no interval: so few agree by chance."
            )
        if any(each.pooled is None for trainings in found.groups.values() for each in trainings):
            points.append("There is no pooled model to compare with, trained without users.")
        if found.identified:
            points.append("That embeddings tell people apart does not say that the model listens.")
        if found.ordering is not None:
            points.append(
                "Held-out pairs are shown a few other users' embeddings each; their intervals do "
                "not count that these strangers might have been others, as those of pictures do."
            )
        return points

    def frame(self) -> list[dict[str, Any]]:
        """One row per user, picture and whom it was drawn for."""
        return self.found.frame()

    def json(self) -> dict[str, Any]:
        """Everything the other faces say, and the measurements behind it, as plain values."""
        curve = self.found.curve
        return {
            "headline": self.headline,
            "limits": self.limits,
            "curve": None if curve is None else plain_values(asdict(curve)),
            **self.found.to_json(),
        }

    def text(self) -> str:
        """The report for a terminal: every number with its interval and what it rests on."""
        lines = wrap(self.headline, _WIDTH)
        for group, told in self.found.verdicts.items():
            wider = self.found.two_way.get(group, {})
            lines += [
                "",
                *wrap(f"{plain(group, most=40)}: {_basis(self.found.groups[group])}", _WIDTH),
                f"  {'':<59}  {'other users':<17}users and prompts",
            ]
            lines += [
                _line(
                    words,
                    percent(told[name].value),
                    _ends(told[name]),
                    _maybe(wider.get(name), _ends),
                )
                for name, words in _COMPARED.items()
                if name in told
            ]
            lines += [
                _line(
                    f"{words}, points",
                    _points_only(told[name]),
                    _point_ends(told[name]),
                    _wider(told[name], wider.get(name)),
                )
                for name, words in _DIFFERENCES.items()
                if name in told
            ]
            lines += [
                _line("mean gain in reward, " + words, value, ends, "")
                for name, words in _GAINS.items()
                if name in told
                for value, ends in (difference(told[name]),)
            ]
            lines += [
                f"  {sentence}" for sentence in _training_sentences(told, self.found.groups[group])
            ]
        lines += ["", *self._others()]
        for limit in self.limits:
            lines += wrap(f"- {limit}", _WIDTH, subsequent_indent="  ")
        return "\n".join(lines)

    def page(self) -> str:
        """The report as one HTML page that fetches nothing."""
        found, curve = self.found, self.found.curve
        text = (
            environment()
            .get_template("personal.html")
            .render(
                headline=self.headline,
                tiles=self._tiles(),
                groups=self._groups(),
                curves=[] if curve is None else _curves(curve),
                course=[] if curve is None else _course_sentences(curve, found.slides),
                strips=[_strip(each) for each in found.slides if each.pictures is not None],
                identified=self._identified(),
                ordering=self._ordering(),
                limits=self.limits,
                facts=[(plain(name), plain(value)) for name, value in flat(found.facts).items()],
            )
        )
        # A percent sign never starts a line of its own.
        return re.sub(r"(?<=\d) (?=%)", "\u00a0", text)

    def save(self, folder: Path) -> Path:
        """Write report.html, report.json and report.txt; returns the page.

        Raises:
            StateError: when the disk refuses.
        """
        return write_faces(folder, self.json(), self.text(), self.page())

    def _tiles(self) -> list[dict[str, str]]:
        return [
            {
                "value": _points_only(told["own_minus_shuffled"]),
                "name": f"points more than strangers' pictures, {plain(group, most=40)} users",
                "basis": f"{_point_ends(told['own_minus_shuffled'])}, "
                f"n = {told['own_minus_shuffled'].n} users",
            }
            for group, told in self.found.verdicts.items()
            if "own_minus_shuffled" in told
        ]

    def _groups(self) -> list[dict[str, Any]]:
        wider = self.found.two_way
        return [
            {
                "name": plain(group, most=40),
                "basis": _basis(self.found.groups[group]),
                "rates": [
                    {"name": words, "rate": _bar(told[name]), "ends": _ends(told[name]),
                     "wider": _maybe(wider.get(group, {}).get(name), _ends)}
                    for name, words in _COMPARED.items() if name in told
                ],
                "differences": [
                    {"name": words, "value": _points_only(told[name]),
                     "over": "pooled model" if name.endswith("pooled") else "base",
                     "unit": f"; {told[name].n} trainings" if "training" in name else "",
                     "ends": _point_ends(told[name]),
                     "seen": _seen(told[name], wider.get(group, {}).get(name, told[name])),
                     "wider": _wider(told[name], wider.get(group, {}).get(name))}
                    for name, words in _DIFFERENCES.items() if name in told
                ],
                "gains": [
                    {"name": words, "value": value, "ends": ends}
                    for name, words in _GAINS.items() if name in told
                    for value, ends in (difference(told[name]),)
                ],
                "trainings": _training_sentences(told, self.found.groups[group]),
            }
            for group, told in self.found.verdicts.items()
        ]  # fmt: skip

    def _identified(self) -> list[dict[str, str]]:
        return [
            {
                "how": plain(each.how),
                "places": str(places),
                "found": percent(estimate.value),
                "ends": interval(estimate),
                "chance": percent(each.chance[places]),
                "users": str(each.users),
            }
            for each in self.found.identified
            for places, estimate in each.found.items()
        ]

    def _ordering(self) -> list[dict[str, str]]:
        found = self.found.ordering
        if found is None:
            return []
        named = {
            "with the judge's own embedding": found.own,
            "with other users' embeddings": found.shuffled,
            "by the pooled model": found.pooled,
        }
        rows = [
            {"name": words, "value": percent(one.value), "ends": _ends(one), "n": str(one.n)}
            for words, one in named.items()
            if one is not None
        ]
        many = rows[0]["n"]
        rows.append({"name": "with nobody's", "value": "50 %", "ends": "exactly", "n": many})
        gaps = {
            "own minus others": found.own_minus_shuffled,
            "own minus pooled": found.own_minus_pooled,
        }
        return rows + [
            {"name": words, "value": f"{_points_only(one)} points", "ends": _point_ends(one),
             "n": str(one.n)}
            for words, one in gaps.items() if one is not None
        ]  # fmt: skip

    def _others(self) -> list[str]:
        """What else a terminal is told: the slide, identification, order."""
        curve = self.found.curve
        lines = [] if curve is None else _course_sentences(curve, self.found.slides)
        lines += [
            f"Found among the first {row['places']} of {row['users']} ({row['how']}): "
            f"{row['found']} ({row['ends']}); by chance {row['chance']}."
            for row in self._identified()
        ]
        lines += [
            f"Held-out pairs ordered {row['name']}: {row['value']} ({row['ends']}, n = {row['n']} "
            "users)."
            for row in self._ordering()
        ]
        wrapped = [part for line in lines for part in wrap(line, _WIDTH, subsequent_indent="  ")]
        return [*wrapped, ""] if wrapped else []


def _outcome(gap: Estimate, wider: Estimate) -> str:
    """Whether it follows people, as far as both intervals go."""
    if _side(gap, wider) > 0:
        return "it follows people"
    if _side(gap, wider) < 0:
        return "it follows strangers more than whom it draws for"
    if _side(gap, gap) > 0:
        return "it follows people on these prompts; that it does on others is not seen"
    return "that it follows people is not seen"


def _side(gap: Estimate, wider: Estimate) -> int:
    """On which side of 0 both intervals are as a whole: 1, -1, or 0 where that is not shown."""
    return int(min(gap.low, wider.low) > 0) - int(max(gap.high, wider.high) < 0)


def _training_sentences(told: Mapping[str, Estimate], trainings: Sequence[Crossed]) -> list[str]:
    """What every training gave by itself."""
    if len(trainings) < 2 or "own_minus_shuffled" not in told:
        return []
    each = ", ".join(signed(100 * mean, 1) for mean in of_each_training(trainings))
    return [f"Own minus others of each training, in points: {each}."]


def _basis(trainings: Sequence[Crossed]) -> str:
    """What a group's numbers rest on, and what was broken."""
    users, pictures = sum(len(each.users) for each in trainings), len(trainings[0].prompts)
    prompts = len(set(trainings[0].prompts))
    lost = sum(sum(each.without_reward.values()) for each in trainings)
    broken = f"; {count(lost, 'picture')} had no reward, and lost" if lost else ""
    out = sum(int((~each.whole).sum()) for each in trainings)
    broken += f"; gains leave out all pictures of {count(out, 'noise')}" if out else ""
    return (
        f"{count(users, 'user')} of {count(len(trainings), 'training')}, each judging "
        f"{count(pictures, 'picture')} of {count(prompts, 'prompt')} drawn for everyone{broken}."
    )


def _course_sentences(curve: Curve, slides: Sequence[Slide]) -> list[str]:
    """How each user's reward goes along the way."""
    what = {"prompt": "prompts", "pair": "pairs of users"}[curve.unit]
    names = [plain(name, most=40) for name in slides[0].names]
    first, second = names if len(slides) == 1 else ("the first user", "the second user")

    def said(name: str, monotony: Monotony) -> str:
        gain, ends = difference(monotony.whole)
        return (
            f"Towards {name}, the reward by {name} changes by {gain} in all ({ends}, n = "
            f"{monotony.whole.n} {what}). It is {_COURSES[monotony.course]} (one-sided, 95 %); it "
            f"falls at no step in {percent(monotony.unbroken.value)} of single pictures."
        )

    return [said(second, curve.rises), said(first, curve.falls)]


def _curves(curve: Curve) -> list[dict[str, Any]]:
    """Both figures of the trade-off, with captions that say what to look for."""
    found = [
        (
            figures.course_curve(curve),
            "What each gains along the way",
            "Amber: the first user, over the second user's pictures. Blue: the second, over the "
            "first's. Bands: 95 % intervals of paired differences.",
        ),
        (
            figures.tradeoff_curve(curve),
            "One gain against the other",
            "Each point is a share of the second user. Up and right of the line between the ends, "
            "a mixture gives both more than drawing for either in turn.",
        ),
    ]
    return [{"svg": safe(svg), "title": title, "caption": caption} for svg, title, caption in found]


def _strip(slide: Slide) -> dict[str, Any]:
    """The pictures of a way between two users: a row of shares for each prompt."""
    pictures = slide.pictures
    assert pictures is not None  # slides without pictures are left out
    return {
        "names": [plain(name, most=40) for name in slide.names],
        "shares": [percent(share) for share in slide.shares],
        "sharp": "sharp" if pictures.shape[2] <= 128 else "smooth",
        "rows": [
            {
                "prompt": plain(prompt),
                "pictures": [figures.data_uri(one, most=256) for one in pictures[:, at]],
            }
            for at, prompt in enumerate(slide.prompts[: pictures.shape[1]])
        ],
    }


def _ends(estimate: Estimate) -> str:
    return interval(estimate) if estimate.bounded else "no interval"


def _bar(estimate: Estimate) -> dict[str, Any]:
    """What a bar needs; where nothing is known of the ends, it is as wide as it can be."""
    return bar(estimate if estimate.bounded else replace(estimate, low=0.0, high=1.0))


def _points_only(estimate: Estimate) -> str:
    """A difference of shares in points of percent."""
    return signed(100 * estimate.value, 1)


def _point_ends(estimate: Estimate) -> str:
    if not estimate.bounded:
        return "no interval"
    return f"{signed(100 * estimate.low, 1)} to {signed(100 * estimate.high, 1)}"


def _points(estimate: Estimate) -> str:
    """For example `12.3 points (8.1 to 16.0) more`."""
    more = "less" if estimate.value < 0 else "more"
    value = _points_only(estimate).lstrip(f"+{MINUS}")
    return f"{value} points ({_point_ends(estimate)}) {more}"


def _seen(estimate: Estimate, wider: Estimate) -> str:
    return "seen" if _side(estimate, wider) else "unseen"


def _wider(estimate: Estimate, wider: Estimate | None) -> str:
    """The ends for users and prompts; of what is told by training, that it is not by user."""
    if estimate.method.startswith("trainings"):
        return f"of {estimate.n} trainings"
    return _maybe(wider, _point_ends)


def _line(words: str, value: str, ends: str, wider: str) -> str:
    return f"  {words:<52}{value:>7}  {ends:<17}{wider}".rstrip()


def _maybe(estimate: Estimate | None, words: Any) -> str:
    return "" if estimate is None else words(estimate)
