"""Soft labels from several votes: by hand, planted judges, and what each way refuses."""

import sys

import numpy as np
import pytest

from palate.core.problems import DataError, MissingExtra
from palate.core.streams import Streams
from palate.data.aggregate import aggregate, is_aggregated
from palate.data.agreement import Ballot, ballots
from palate.data.comparison import Comparison, Source, compare
from palate.data.judges import judges_of
from palate.data.models import models_of
from palate.data.pairs import PreferencePairs
from palate.data.part import label_part
from palate.data.skill import fit_skills
from palate.data.snapshot import read_imports, read_rows
from palate.data.soft import (
    AGGREGATIONS,
    BradleyTerry,
    DawidSkene,
    MeanVotes,
    fitted_doubt,
    strengths,
)
from palate.data.store import Store
from palate.data.synthetic import drawn_at_random, side_by_side
from palate.data.votes import Vote, votes_of


def ballot(prompt: str, one: str = "a", other: str = "b", **said: float) -> Ballot:
    return Ballot(pair=(prompt, one, other), said=said)


def crowd(flips: dict[str, float], pairs: int, seed: int, share: float = 1.0) -> list[Ballot]:
    """Pairs whose first picture is better, or the second, by turns; each judge errs at a rate."""
    streams, found = Streams(seed), []
    for n in range(pairs):
        said = {
            judge: float((streams("wrong", judge, n).uniform() < rate) == bool(n % 2))
            for judge, rate in flips.items()
            if streams("seen", judge, n).uniform() < share
        }
        if said:
            found.append(ballot(f"p{n}", **said))
    return found


def truth_of(each: Ballot) -> float:
    return 1.0 - int(each.pair[0][1:]) % 2


def test_votes_give_their_share_drawn_in_by_the_doubt():
    """Two of three with a vote added on either side: 3 of 5. A tie is half a vote each: 1 of 2."""
    labels, fitted = MeanVotes(doubt=1.0).labels(
        [ballot("p", x=1, y=1, z=0), ballot("q", x=0.5), ballot("r", x=0)]
    )
    assert [labels[key] for key in labels] == pytest.approx([3 / 5, 1 / 2, 1 / 3])
    assert fitted == {"doubt": 1.0}


def test_the_doubt_is_small_where_votes_agree_and_large_where_they_are_coins():
    """Shares drawn from Beta(c, c) and five votes each bring c back."""
    assert fitted_doubt([ballot("p", x=1)]) == 1.0
    assert fitted_doubt([ballot(f"p{n}", x=1, y=1) for n in range(50)]) < 0.05
    for c in (0.5, 2.0):
        draw = Streams(1)("beta").numpy()
        share = draw.beta(c, c, 2000)
        said = draw.random((2000, 5)) < share[:, None]
        judged = [
            ballot(f"p{n}", **{f"j{k}": float(s) for k, s in enumerate(row)})
            for n, row in enumerate(said)
        ]
        assert fitted_doubt(judged) == pytest.approx(c, rel=0.15)
    tied = [ballot(f"p{n}", x=0.5, y=float(n % 2)) for n in range(50)]
    assert fitted_doubt(tied) > 20


def test_a_pair_that_meets_no_other_has_the_same_label_by_bradley_terry():
    judged = [ballot("p", x=1, y=1, z=0), ballot("q", x=0.5), ballot("r", x=0, y=0)]
    mean, _ = MeanVotes(doubt=0.5).labels(judged)
    strength, _ = BradleyTerry(doubt=0.5).labels(judged)
    assert strength == pytest.approx(mean)


def test_what_a_third_picture_says_counts():
    """A beats B twice and B beats C twice; one vote for C over A is then hardly believed."""
    judged = [
        ballot("p", "a", "b", x=1, y=1),
        ballot("p", "b", "c", x=1, y=1),
        ballot("p", "a", "c", x=0),
    ]
    alone, _ = MeanVotes(doubt=0.5).labels(judged)
    together, _ = BradleyTerry(doubt=0.5).labels(judged)
    assert alone["p", "a", "c"] == pytest.approx(0.25)
    assert together["p", "a", "c"] > 0.5


def test_strengths_are_those_that_made_the_wins():
    """Expected wins of strengths 1, 0 and −1 give these back; a pair apart is on its own scale."""
    made = {"a": 1.0, "b": 0.0, "c": -1.0}
    wins = [
        (one, other, 10 / (1 + np.exp(made[other] - made[one])),
         10 / (1 + np.exp(made[one] - made[other])))
        for one, other in (("a", "b"), ("b", "c"), ("a", "c"))
    ]  # fmt: skip
    found = strengths([*wins, ("x", "y", 3.0, 1.0)])
    assert {name: found[name] for name in made} == pytest.approx(made, abs=1e-6)
    assert found["x"] - found["y"] == pytest.approx(np.log(3))


def test_planted_skills_are_found_and_weigh():
    """Errors of 5, 15, 25, 40 and 40 %, 600 pairs: two good judges outvote three poor ones."""
    flips = {"a": 0.05, "b": 0.15, "c": 0.25, "d": 0.4, "e": 0.4}
    judged = crowd(flips, 600, 0)
    skills = fit_skills(judged)
    for judge, rate in flips.items():
        assert skills.right(judge) == pytest.approx(1 - rate, abs=0.05)
    by_skill, _ = DawidSkene().labels(judged)
    by_number, _ = MeanVotes().labels(judged)
    right = [
        np.mean([(labels[each.pair] > 0.5) == truth_of(each) for each in judged])
        for labels in (by_skill, by_number)
    ]
    assert right[0] > 0.94
    assert right[0] > right[1] + 0.03


@pytest.mark.slow
def test_labels_of_dawid_and_skene_mean_what_they_say():
    """Where its assumptions hold: labels near 0.8 are right in about 80 %, over 1,500 pairs."""
    judged = crowd({"a": 0.2, "b": 0.25, "c": 0.3, "d": 0.35}, 1500, 2)
    labels, _ = DawidSkene().labels(judged)
    said = np.array([labels[each.pair] for each in judged])
    right = np.array([truth_of(each) for each in judged])
    sure, correct = np.maximum(said, 1 - said), (said > 0.5) == right
    assert sure.mean() == pytest.approx(correct.mean(), abs=0.03)
    middle = (sure > 0.6) & (sure < 0.9)
    assert correct[middle].mean() == pytest.approx(sure[middle].mean(), abs=0.06)


def test_three_lucky_votes_make_no_infallible_judge():
    judged = crowd({"a": 0.2, "b": 0.2, "c": 0.2}, 200, 3)
    lucky = [
        Ballot(pair=each.pair, said={**each.said, "new": truth_of(each)}) for each in judged[:3]
    ]
    skills = fit_skills([*lucky, *judged[3:]])
    assert skills.right("new") < 0.9
    other = skills.first(ballot("new", stranger=1.0))
    assert 0.7 < other < 0.9


def test_turning_pairs_round_turns_their_labels():
    judged = crowd({"a": 0.1, "b": 0.2, "c": 0.3}, 60, 4)
    judged += [ballot("tied", a=0.5, b=0.5, c=1.0)]
    turned = [
        Ballot(pair=each.pair, said={judge: 1 - side for judge, side in each.said.items()})
        for each in judged
    ]
    for by in AGGREGATIONS.values():
        forth, back = by.labels(judged)[0], by.labels(turned)[0]
        assert [forth[key] for key in forth] == pytest.approx([1 - back[key] for key in forth])


def test_without_three_judges_on_a_pair_nobody_knows_who_errs():
    with pytest.raises(DataError, match="--by votes"):
        DawidSkene().labels([ballot("p", a=1, b=1), ballot("q", a=1, b=0)])


@pytest.mark.parametrize(("package", "by"), [("crowdkit", DawidSkene()), ("choix", BradleyTerry())])
def test_missing_packages_say_which_extra_brings_them(monkeypatch, package, by):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    judged = [
        ballot("p", "a", "b", x=1, y=1, z=1),
        ballot("p", "b", "c", x=1, y=1, z=0),
        ballot("p", "a", "c", x=1, y=1, z=1),
    ]
    with pytest.raises(MissingExtra, match=r"palate\[labels\]"):
        by.labels(judged)


# Judges held against each other


def test_a_judge_is_held_against_the_majority_of_the_others():
    """Z is against x and y on p; on q, x and y differ, so neither z nor a draw says anything."""
    judged = [ballot("p", x=1, y=1, z=0), ballot("q", x=1, y=0)]
    votes = [
        Vote(pair=each.pair, judge=j, source="human", first=s, shown_first=None, row=j)
        for each in judged
        for j, s in each.said.items()
    ]
    found = {each.judge: each for each in judges_of(votes, judged)}
    assert found["z"].agreement is not None
    assert (found["z"].agreement.value, found["z"].compared, found["z"].votes) == (0.0, 1, 1)
    # On p, x faces y and z, who draw; on q only y, who is against.
    assert found["x"].compared == 1
    assert found["x"].agreement is not None
    assert found["x"].agreement.value == 0.0


def said_by(prompt: str, judge: str, source: Source, first: float) -> Vote:
    return Vote(pair=(prompt, "a", "b"), judge=judge, source=source, first=first,
                shown_first=None, row=f"{prompt} {judge} {first}")  # fmt: skip


def test_a_machine_is_held_against_people_and_people_never_against_machines():
    """Nobody sides with anna but machines; two nameless votes of three decide on q."""
    votes = [
        said_by("p", "anna", "human", 1.0),
        said_by("p", "ben", "human", 0.0),
        said_by("p", "cleo", "human", 0.0),
        *(said_by("p", name, "scorer", 1.0) for name in ("clip", "pick", "hps")),
        said_by("q", "dora", "human", 0.0),
        *(said_by("q", "unknown", "human", first) for first in (1.0, 0.9)),
        said_by("q", "clip", "scorer", 1.0),
        said_by("r", "clip", "scorer", 1.0),
    ]
    found = {each.judge: each for each in judges_of(votes, ballots(votes))}
    same = {judge: each.agreement and each.agreement.value for judge, each in found.items()}
    assert same == {
        "anna": 0.0, "ben": None, "cleo": None, "dora": None, "unknown": None,
        "clip": 0.5, "pick": 0.0, "hps": 0.0,
    }  # fmt: skip
    assert (found["clip"].compared, found["clip"].votes) == (2, 3)


def test_without_people_machines_are_held_against_each_other():
    votes = [said_by("p", name, "vlm", float(name != "odd")) for name in ("odd", "x", "y")]
    found = {each.judge: each for each in judges_of(votes, ballots(votes))}
    assert found["odd"].agreement is not None
    assert (found["odd"].agreement.value, found["odd"].compared) == (0.0, 1)
    assert found["x"].agreement is None


def test_few_pairs_are_drawn_towards_all_judges():
    judged = crowd({f"j{n}": 0.2 for n in range(8)}, 100, 5)
    judged[0] = Ballot(pair=judged[0].pair, said={**judged[0].said, "new": 1 - truth_of(judged[0])})
    votes = [
        Vote(pair=each.pair, judge=j, source="human", first=s, shown_first=None, row=j)
        for each in judged
        for j, s in each.said.items()
    ]
    found = {each.judge: each for each in judges_of(votes, judged)}
    assert found["new"].agreement is not None
    assert found["new"].agreement.value == 0.0
    assert found["new"].shrunk is not None
    assert found["new"].shrunk > 0.6


def judgement(prompt: int, winner: str, loser: str, pictures: dict) -> Comparison:
    return compare(
        prompt=f"p{prompt}",
        images=[pictures[winner], pictures[loser]],
        ranks=(1, 2),
        judge=f"judge {prompt}",
        source="human",
        generation=[{"model": winner}, {"model": loser}],
    )


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def picture(number: int) -> np.ndarray:
    return np.full((8, 8, 3), number, np.uint8)


def test_models_are_ranked_over_prompts(store):
    """Good beats poor in nine of ten prompts: with half a vote added, odds of 9.5 to 1.5."""
    pictures = {"good": store.put(picture(1)), "poor": store.put(picture(2))}
    rows = [
        judgement(n, *(("poor", "good") if n == 0 else ("good", "poor")), pictures)
        for n in range(10)
    ]
    best, worst = models_of(rows, votes_of(rows))
    assert (best.model, worst.model, best.votes) == ("good", "poor", 10)
    assert best.strength - worst.strength == pytest.approx(np.log(9.5 / 1.5))
    assert best.beats.low < best.beats.value < best.beats.high
    assert models_of(rows[:0], []) == []


# A snapshot of one label per pair


@pytest.fixture
def frozen(store, tmp_path):
    """Pair p: three people, 2 to 1, and a machine; q: a single vote; r: a tie; s: nobody."""
    a, b = store.put(picture(1)), store.put(picture(2))
    human = {"images": [a, b], "source": "human"}
    rows = [
        compare(prompt="p", agreement=1.0, judge="x", generation=[{"model": "m"}, None], **human),
        compare(prompt="p", agreement=1.0, judge="y", **human),
        compare(prompt="p", agreement=0.0, judge="z", **human),
        compare(prompt="p", images=[b, a], agreement=0.9, judge="clip", source="scorer"),
        compare(prompt="q", agreement=1.0, judge="x", **human),
        compare(prompt="r", agreement=0.5, judge="x", **human),
        compare(prompt="s", images=[a, b], judge="nobody"),
    ]
    store.add(rows)
    return store.freeze(tmp_path / "frozen").path


def test_a_snapshot_gets_one_label_per_pair_and_says_what_was_done(frozen, tmp_path):
    made = aggregate(frozen, tmp_path / "soft", by=MeanVotes(doubt=1.0), only="human")
    rows = {(row.prompt, row.source): row for row in read_rows(tmp_path / "soft")}
    assert len(rows) == 5
    label = rows["p", "human"]
    first = label.generation[0] is not None
    assert label.agreement == pytest.approx(3 / 5 if first else 2 / 5)
    assert label.generation[0 if first else 1] == {"model": "m"}
    assert is_aggregated(label)
    assert label.signature is not None
    votes = label.signature["aggregated"]["votes"]
    assert sorted(votes.values()) == [0, 1, 2]
    assert rows["p", "scorer"].judge == "clip"
    assert rows["q", "human"].agreement in (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert rows["r", "human"].tie
    assert not rows["s", "unknown"].labelled
    people = made.people
    assert people is not None
    assert (people.labelled, people.single, people.ties, made.unlabelled) == (3, 2, 1, 1)
    assert (people.votes, people.judges, made.carried, people.source) == (5, 3, 1, "human")
    assert made.machines is None
    note = read_imports(tmp_path / "soft")[-1]["aggregated"]
    assert (note["by"], note["only"], note["people"]["single"]) == ("votes", "human", 2)
    assert label.judge == people.judge == note["people"]["judge"]


def test_one_machine_has_nobody_to_be_weighed_with_and_keeps_its_labels(frozen, tmp_path):
    whole = aggregate(frozen, tmp_path / "whole", by=MeanVotes(doubt=1.0))
    people = aggregate(frozen, tmp_path / "people", by=MeanVotes(doubt=1.0), only="human")
    labels = [
        {(row.prompt, row.source, row.agreement) for row in read_rows(tmp_path / name)}
        for name in ("whole", "people")
    ]
    assert labels[0] == labels[1]
    assert (whole.machines, whole.carried) == (None, 1) == (people.machines, people.carried)
    asked = aggregate(frozen, tmp_path / "asked", by=MeanVotes(doubt=1.0), only="scorer")
    assert asked.machines is not None
    assert (asked.people, asked.machines.labelled, asked.carried) == (None, 1, 5)


@pytest.fixture
def judged_by_both(store, tmp_path):
    """Eight pairs: on a random quarter one person says first; two machines say second on all."""
    a, b = sorted((store.put(picture(n)) for n in (1, 2)), key=lambda each: each.sha256)
    store.add(
        compare(prompt=f"p{n}", images=[a, b], agreement=first, judge=judge, source=source)
        for n in range(8)
        for judge, source, first in (
            ("anna", "human", 1.0),
            ("clip", "scorer", 0.0),
            ("seer", "vlm", 0.2),
        )
    )
    whole = store.freeze(tmp_path / "all").path
    return label_part(whole, tmp_path / "part", share=0.25, seed=0).snapshot.path


def test_votes_of_machines_never_become_labels_by_people(judged_by_both, tmp_path):
    """With a doubt of 1, anna's vote is 2 / 3; the machines' 0 and 0.2 are 1.2 / 4 = 1 − 0.7."""
    made = aggregate(judged_by_both, tmp_path / "soft", by=MeanVotes(doubt=1.0))
    both = side_by_side(PreferencePairs.open(tmp_path / "soft", ties="half"))
    assert len(both) == 8
    assert [each.people for each in both if each.people is not None] == pytest.approx([2 / 3] * 2)
    machines = [each.machine if each.people is None else 1 - each.machine for each in both]
    assert machines == pytest.approx([0.7] * 8)
    assert made.people is not None
    assert made.machines is not None
    assert (made.people.source, made.people.labelled) == ("human", 2)
    assert (made.machines.source, made.machines.labelled) == ("scorer", 8)
    assert made.people.judge != made.machines.judge


def test_a_labelled_part_is_still_drawn_at_random_whatever_was_aggregated(judged_by_both, tmp_path):
    for name in (None, "human", "scorer", "vlm"):
        out = tmp_path / f"soft {name}"
        aggregate(judged_by_both, out, by=MeanVotes(), only=name)
        both = side_by_side(PreferencePairs.open(out, ties="half"))
        assert sum(each.people is not None for each in both) == 2
        assert drawn_at_random(out)


def test_a_refusal_says_whose_votes_cannot_be_fitted(judged_by_both, tmp_path):
    with pytest.raises(DataError, match=r"votes of people.*--only"):
        aggregate(judged_by_both, tmp_path / "soft", by=DawidSkene())


def test_one_machines_labels_alone_are_nothing_to_aggregate(store, tmp_path):
    a, b = store.put(picture(1)), store.put(picture(2))
    store.add([compare(prompt="p", images=[a, b], agreement=0.9, judge="clip", source="scorer")])
    whole = store.freeze(tmp_path / "frozen").path
    with pytest.raises(DataError, match="several machines"):
        aggregate(whole, tmp_path / "soft", by=MeanVotes())


def test_the_same_votes_make_the_same_snapshot(frozen, tmp_path):
    made = [aggregate(frozen, tmp_path / name, by=BradleyTerry()) for name in ("one", "two")]
    assert made[0].snapshot.digest == made[1].snapshot.digest
    other = aggregate(frozen, tmp_path / "other", by=MeanVotes())
    assert other.people is not None
    assert made[0].people is not None
    assert other.people.judge != made[0].people.judge


def test_votes_of_a_kind_that_is_not_there_are_refused(frozen, tmp_path):
    with pytest.raises(DataError, match="source vlm"):
        aggregate(frozen, tmp_path / "soft", by=MeanVotes(), only="vlm")
    assert not (tmp_path / "soft").exists()


def test_nameless_votes_count_for_labels_each_on_its_own(store):
    a, b = store.put(picture(1)), store.put(picture(2))
    rows = [
        compare(prompt="p", images=[a, b], agreement=agreement, judge="unknown")
        for agreement in (1.0, 0.0, 0.5)
    ]
    assert len(ballots(votes_of(rows), everyone=True)[0].said) == 3
