"""The reference's ways back to noise: made once, kept to the last bit, refused where unsound."""

import dataclasses

import pytest
import torch

from palate.backbones.backbone import Condition
from palate.backbones.inversion import invert
from palate.core.files import digest_file
from palate.core.problems import SettingError
from palate.train.log import read_rows
from palate.train.loop import train
from palate.train.sources import InversionSettings
from palate.train.ways import Kept, Route, open_rack, way_bytes, way_names
from train.micro import Micro, batch

ROUTE = Route(grid=(0, 10, 20, 30, 40))


def kept(folder, backbone, route=ROUTE):
    rack = open_rack(folder, backbone, route)
    return Kept(backbone=backbone, route=route, rack=rack, tell=lambda _text: None)


def lead(leader, pairs):
    return leader(pairs.chosen, pairs.conditions[0], torch.full((len(pairs),), 5), None)


class Silent:
    """A model that must not be asked."""

    def __init__(self, backbone):
        self.path, self.digests, self.applied = backbone.path, backbone.digests, backbone.applied
        self.precision, self.device = backbone.precision, backbone.device


def test_the_reference_leads_whatever_the_policy_has_become(tmp_path):
    pairs, start = batch(6), Micro()
    way = lead(kept(tmp_path, Micro().move(0.1)), pairs)
    told = invert(start, pairs.chosen, pairs.conditions[0], None, ROUTE.grid)
    torch.testing.assert_close(way.states, told.states, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(way.predicted, told.predicted, rtol=1e-9, atol=1e-9)
    assert way.levels == ROUTE.grid


def test_a_way_that_was_made_is_read_and_not_made_again(tmp_path):
    backbone, pairs = Micro(), batch(3)
    made = lead(kept(tmp_path, backbone), pairs)
    read = lead(kept(tmp_path, Silent(backbone)), pairs.rows([2, 0]))
    assert torch.equal(read.states, made.states[[2, 0]])
    assert torch.equal(read.predicted, made.predicted[[2, 0]])


def test_a_way_does_not_depend_on_what_else_was_missing(tmp_path):
    pairs = batch(5)
    whole = lead(kept(tmp_path / "a", Micro()), pairs)
    alone = lead(kept(tmp_path / "b", Micro()), pairs.rows([4]))
    torch.testing.assert_close(alone.states, whole.states[[4]], rtol=1e-12, atol=1e-12)
    leader = kept(tmp_path / "c", Micro())
    lead(leader, pairs.rows([1, 2]))
    lead(leader, pairs)
    assert len(leader.rack) == 5


def test_the_same_picture_twice_is_led_once(tmp_path):
    leader, pairs = kept(tmp_path, Micro()), batch(2)
    way = lead(leader, pairs.rows([1, 0, 1]))
    assert len(leader.rack) == 2
    assert torch.equal(way.states[0], way.states[2])


def test_ways_are_named_by_latents_and_condition():
    pairs = batch(2)
    names = way_names(pairs.chosen, pairs.conditions[0])
    assert len({*names, *way_names(pairs.rejected, pairs.conditions[0])}) == 4
    other = Condition({"text": pairs.conditions[0].tensors["text"] + 1e-12})
    assert way_names(pairs.chosen, other)[0] != names[0]


@pytest.mark.parametrize(
    "change",
    [{"grid": (0, 10)}, {"guidance": 2.0}, {"renoise": True}, {"empty": batch(1).conditions[0]}],
)
def test_another_route_is_another_rack(tmp_path, change):
    racks = [
        open_rack(tmp_path, Micro(), route)
        for route in (ROUTE, dataclasses.replace(ROUTE, **change))
    ]
    assert racks[0].folder != racks[1].folder


def test_other_weights_are_another_rack_and_another_autoencoder_is_not(tmp_path):
    backbone, network, pictures = Micro(), Micro(), Micro()
    network.digests = {**Micro.digests, "unet": "other"}
    pictures.digests = {**Micro.digests, "vae": "other"}
    mine, others, same = (
        open_rack(tmp_path, each, ROUTE).folder for each in (backbone, network, pictures)
    )
    assert mine != others
    assert mine == same


def test_a_way_that_is_not_finite_breaks_its_own_pair_only(tmp_path):
    pairs = batch(3)
    clean = pairs.chosen.clone()
    clean[1, 0, 0, 0] = float("inf")
    leader = kept(tmp_path, Micro())
    for _ in range(2):
        way = lead(leader, dataclasses.replace(pairs, chosen=clean))
        assert way.states[1, 1:].isnan().all()
        assert way.states[[0, 2]].isfinite().all()
    assert len(leader.rack) == 2
    assert list(leader.rack.refused.values()) == ["not finite"]


def test_a_way_of_stable_diffusion_xl_takes_84_megabytes_a_pair():
    """Two pictures, 80 moves, state and noise, 4 × 128 × 128 numbers of 4 bytes: 83.9 MB."""
    assert 2 * way_bytes((4, 128, 128), 80) == 83_886_080


def test_what_kept_ways_would_not_meet_is_refused(run):
    with pytest.raises(SettingError, match=r"Got inversion.jitter=0.1 with inversion.by=reference"):
        InversionSettings(jitter=0.1)
    inverted = run.with_values({"objective.name": "inversion-dpo"})
    assert inverted.pictures.latents == "mean"
    assert inverted.with_values({"objective.name": "dpo"}).pictures.latents == "sample"
    for change in ({"plan.caption_dropout": 0.1}, {"pictures.latents": "sample"}):
        with pytest.raises(SettingError, match=r"Use plan.caption_dropout=0 and pictures.latents"):
            inverted.with_values(change)
        assert inverted.with_values({**change, "inversion.by": "policy"}).inversion.by == "policy"
    for change in ({"noise.levels": "logit-normal"}, {"noise.shared": False}):
        with pytest.raises(SettingError, match="levels from the inversion's grid"):
            inverted.with_values(change)


def told(run, out, cache, **options):
    """Train, and return what was said and the rows of the log without clocks."""
    said: list[str] = []
    train(run, out, cache=cache, on_event=lambda event: said.append(event.text), **options)
    rows = [
        {k: v for k, v in row.items() if k != "seconds"} for row in read_rows(out / "log.jsonl")
    ]
    return said, rows


@pytest.mark.parametrize(
    "method",
    [
        "inversion-dpo",
        pytest.param("inpo", marks=pytest.mark.slow),
        pytest.param("smpo", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_stopped_goes_on_as_if_it_had_not(run, cache, tmp_path, method):
    whole = run.with_values(
        {"objective.name": method, "inversion.steps": 3, "plan.steps": 4, "plan.batch": 2,
         "plan.save_every": 2, "health.pairs": 2, "health.draws": 1}
    )  # fmt: skip
    said, rows = told(whole, tmp_path / "whole", cache)
    assert any(text.startswith("Inversion over 3 levels") for text in said)
    told(whole.with_values({"plan.steps": 2}), tmp_path / "cut", cache)
    # A longer plan is the same run; its ways are there or made again, with the same bits.
    _, again = told(whole, tmp_path / "cut", tmp_path / "fresh", resume=True)
    assert again == rows
    weights = "checkpoints/step-000004/weights.safetensors"
    assert digest_file(tmp_path / "cut" / weights) == digest_file(tmp_path / "whole" / weights)


def test_a_second_run_reads_the_ways_of_the_first(run, tmp_path):
    inverted = run.with_values(
        {"objective.name": "inversion-dpo", "inversion.steps": 3, "plan.steps": 2, "plan.batch": 2,
         "health.pairs": 2, "health.draws": 1}
    )  # fmt: skip
    first, rows = told(inverted, tmp_path / "first", tmp_path / "cache")
    assert any("inversions: 0 there; 8 of" in text for text in first)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("shard-*")}
    second, again = told(inverted, tmp_path / "second", tmp_path / "cache")
    assert any("inversions: 8 there; 8 of" in text for text in second)
    assert any("at most, 0 MB more on disk" in text for text in second)
    assert again == rows
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("shard-*")} == before


def test_a_target_that_cannot_move_the_policy_is_said_before_the_first_step(run, cache, tmp_path):
    still = run.with_values(
        {"objective.name": "inversion-dpo", "inversion.steps": 3, "inversion.target": "reference",
         "plan.steps": 1, "plan.batch": 2, "health.pairs": 2, "health.draws": 1}
    )  # fmt: skip
    said, rows = told(still, tmp_path / "run", cache)
    assert any("the first gradient is 0" in text for text in said)
    assert rows[0]["gradient_norm"] == 0.0
