"""The cache: a hit when nothing that matters has changed, a miss when anything has."""

import dataclasses
import multiprocessing

import numpy as np
import pytest
import torch

from palate.backbones import latent, load
from palate.core.files import read_json
from palate.core.lock import sole_writer
from palate.core.problems import HealthStop, SettingError, StateError
from palate.core.streams import Streams
from palate.data.pairs import PreferencePairs
from palate.train.batch import Batches
from palate.train.cache import Cache, View, cut, latent_factors, prompt_factors, views
from palate.train.groups import NoiseSettings, Pictures
from palate.train.loop import train
from palate.train.noise import Fixed, Fresh
from palate.train.rack import Rack, explain


@pytest.fixture(scope="module")
def backbone(model):
    return load(model)


@pytest.fixture(scope="module")
def pairs(data):
    return PreferencePairs.open(data)


def fill(folder, backbone, pairs, pictures=None, side=64) -> tuple[Cache, list[str]]:
    said: list[str] = []
    cache = Cache(folder, backbone, side)
    cache.fill(backbone, list(pairs)[:6], pictures or Pictures(), pairs.image, said.append)
    return cache, said


def test_what_is_there_is_reused_and_what_changed_is_named(backbone, pairs, tmp_path):
    _, first = fill(tmp_path, backbone, pairs)
    _, again = fill(tmp_path, backbone, pairs)
    _, smaller = fill(tmp_path, backbone, pairs, side=32)
    assert first == ["latents: 0 reused, 12 computed (new)", "prompts: 0 reused, 7 computed (new)"]
    assert again == ["latents: 12 reused", "prompts: 7 reused"]
    assert smaller[0] == "latents: 0 reused, 12 rebuilt (resolution changed 64 to 32)"


def test_a_mirrored_view_is_another_row(backbone, pairs, tmp_path):
    fill(tmp_path, backbone, pairs)
    _, said = fill(tmp_path, backbone, pairs, Pictures(flip=True))
    assert said[0].startswith("latents: 12 reused, 12 computed")


class Told:
    """A backbone of which only the facts that keys are made of are asked."""

    def __init__(self, backbone, **changes):
        self.digests = {**backbone.digests, **changes.get("digests", {})}
        self.precision = changes.get("precision", backbone.precision)
        self.device = torch.device(changes.get("device", "cpu"))


@pytest.mark.parametrize(
    "change",
    [{"digests": {"vae": "x"}}, {"device": "cuda"}],
)
def test_latents_depend_on_the_autoencoder_and_where_it_ran(change, backbone):
    """B11: misses."""
    other = latent_factors(Told(backbone, **change), 64)
    assert explain(latent_factors(backbone, 64), other)


@pytest.mark.parametrize(
    "change",
    [{"digests": {"text_encoder": "x"}}, {"digests": {"tokenizer": "x"}}, {"device": "cuda"}],
)
def test_embeddings_depend_on_encoder_tokenizer_and_device(change, backbone):
    assert explain(prompt_factors(backbone), prompt_factors(Told(backbone, **change)))


def test_nothing_depends_on_the_network_that_is_trained(backbone):
    """B11: a hit, also for learning rate, batch size and folders, which are not even asked."""
    other = Told(backbone, digests={"unet": "x", "scheduler": "y"})
    assert latent_factors(backbone, 64) == latent_factors(other, 64)
    assert prompt_factors(backbone) == prompt_factors(other)
    # Text is embedded in float32 whatever the network that is trained computes in.
    assert prompt_factors(backbone) == prompt_factors(Told(backbone, precision="bf16"))


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "card"])
def test_a_damaged_shard_is_computed_again(damage, backbone, pairs, tmp_path):
    """B4: the same rows come back."""
    cache, _ = fill(tmp_path, backbone, pairs)
    name = View().name(pairs[0].chosen)
    before = {key: t.clone() for key, t in cache.latents.rows([name]).items()}
    shard = next(cache.latents.folder.glob("shard-*.safetensors"))
    data = bytearray(shard.read_bytes())
    if damage == "flip":
        data[-5] ^= 4
        shard.write_bytes(data)
    elif damage == "cut":
        shard.write_bytes(data[:-9])
    elif damage == "gone":
        shard.unlink()
    else:
        shard.with_suffix(".json").write_text("{")
    again, said = fill(tmp_path, backbone, pairs)
    assert "rebuilt" in said[0]
    assert "damaged" in said[0]
    assert again.used == cache.used
    after = again.latents.rows([name])
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_row_does_not_depend_on_what_else_was_missing(backbone, pairs, tmp_path):
    """At once, or in two goes of other sizes, or from behind: every byte is the same."""
    some = list(pairs)[:7]
    caches = []
    ways = {"once": [some], "two": [some[5:], some], "many": [[pair] for pair in some[::-1]]}
    for name, goes in ways.items():
        cache = Cache(tmp_path / name, backbone, 64)
        for part in goes:
            cache.fill(backbone, part, Pictures(), pairs.image, lambda _: None)
        cache.fill(backbone, some, Pictures(), pairs.image, lambda _: None)
        caches.append(cache)
    names = [View().name(pair.chosen) for pair in some]
    prompts = [f"prompt:{pair.prompt}" for pair in some]
    first = {**caches[0].latents.rows(names), **caches[0].prompts.rows(prompts)}
    for other in caches[1:]:
        found = {**other.latents.rows(names), **other.prompts.rows(prompts)}
        assert all(torch.equal(first[key], found[key]) for key in first)
    assert len({cache.used for cache in caches}) == 1
    assert caches[0].facts()["used"] == caches[0].used


def test_the_digest_of_the_rows_used_sees_a_bit(tmp_path):
    racks = []
    for name, value in (("a", 1.0), ("b", 1.0), ("c", 1.0 + 2**-23)):
        rack = Rack(tmp_path / name, {"a": 1})
        rack.add(["x", "y"], {"t": torch.tensor([[value], [2.0]])}, {"bad": "not finite"})
        racks.append(rack.digest(["x", "bad"]))
    assert racks[0] == racks[1] != racks[2]


def test_rows_of_other_pictures_are_new_not_rebuilt(backbone, pairs, tmp_path):
    """Only what stood there under other factors was rebuilt."""
    fill(tmp_path, backbone, pairs)
    said: list[str] = []
    cache = Cache(tmp_path, backbone, 32)
    cache.fill(backbone, list(pairs)[4:8], Pictures(), pairs.image, said.append)
    words = "latents: 0 reused, 4 rebuilt (resolution changed 64 to 32), 4 computed (new)"
    assert said[0] == words


def test_resuming_takes_a_rebuilt_cache_only_if_every_bit_is_the_same(
    run, cache, tmp_path, monkeypatch
):
    """The digest of the rows used is in the record and in every checkpoint."""
    out, events = tmp_path / "out", []
    run = run.with_values({"plan.steps": 2, "plan.save_every": 1, "plan.health_every": 2})
    train(run, out, cache=cache)
    longer = run.with_values({"plan.steps": 3})
    train(longer, out, resume=True, cache=tmp_path / "rebuilt", on_event=events.append)
    assert any("(bitwise)" in event.text for event in events)
    assert read_json(out / "record.json")["cache"]["used"]
    plain = latent.LatentDiffusion.encode
    monkeypatch.setattr(
        latent.LatentDiffusion, "encode", lambda *a: tuple(t * (1 + 2**-20) for t in plain(*a))
    )
    with pytest.raises(StateError, match="Got latents and embeddings"):
        train(run.with_values({"plan.steps": 4}), out, resume=True, cache=tmp_path / "other")


def test_a_run_warns_of_prompts_that_are_cut(run, tmp_path, cache, monkeypatch):
    plain = latent.LatentDiffusion.token_counts
    monkeypatch.setattr(latent.LatentDiffusion, "token_counts", lambda *a: (plain(*a)[0], 2))
    events = []
    train(run.with_values({"plan.steps": 1}), tmp_path / "out", cache=cache, on_event=events.append)
    assert any(
        e.kind == "warning" and "longer than 2 tokens and were cut" in e.text for e in events
    )
    assert read_json(tmp_path / "out/record.json")["cache"]["prompts"]["cut"] > 0


def test_a_side_that_does_not_fit_the_autoencoder_is_refused_at_once(backbone, tmp_path):
    with pytest.raises(SettingError, match="multiples of"):
        Cache(tmp_path, backbone, 63)
    assert not list(tmp_path.iterdir())


def test_prompts_that_are_cut_are_counted_and_said(backbone, pairs, tmp_path):
    some = list(pairs)[:4]
    some[1] = dataclasses.replace(some[1], prompt="a red thing " * 40)
    warned: list[str] = []
    cache = Cache(tmp_path, backbone, 64)
    cache.fill(backbone, some, Pictures(), pairs.image, lambda _: None, warned.append)
    _, read = backbone.token_counts(["a"])
    many = len({pair.prompt for pair in some})
    assert warned == [f"1 of {many} prompts are longer than {read} tokens and were cut."]
    assert cache.facts()["prompts"]["cut"] == 1


def test_dropping_captions_without_a_sound_empty_prompt_is_refused(backbone, pairs, tmp_path):
    cache, _ = fill(tmp_path, backbone, pairs)
    cache.prompts.refused["prompt:"] = "not finite"
    Batches(cache=cache, pictures=Pictures(), streams=Streams(1))
    with pytest.raises(HealthStop, match="empty prompt"):
        Batches(cache=cache, pictures=Pictures(), streams=Streams(1), caption_dropout=0.1)


def hold(folder, held, go) -> None:
    """Another process that writes to a rack until it is told to go."""
    with sole_writer(folder / "lock"):
        (folder / ".unfinished-of-another").write_text("half")
        held.set()
        go.wait(20)


def test_a_second_run_waits_for_the_first_and_leaves_its_files_alone(tmp_path):
    rack, said = Rack(tmp_path, {"a": 1}), []
    context = multiprocessing.get_context("fork")
    held, go = context.Event(), context.Event()
    other = context.Process(target=hold, args=(rack.folder, held, go))
    other.start()
    assert held.wait(20)
    half = rack.folder / ".unfinished-of-another"
    Rack(tmp_path, {"a": 1})
    assert half.is_file()

    def tell(text: str) -> None:
        said.append(text)
        assert half.is_file()
        go.set()

    with rack.writing(tell):
        assert not half.exists()
    other.join()
    assert len(said) == 1
    assert f"process {other.pid}" in said[0]
    assert said[0].startswith("Waiting for")


def test_what_another_run_made_meanwhile_is_taken_in(tmp_path):
    first, second = Rack(tmp_path, {"a": 1}), Rack(tmp_path, {"a": 1})
    with first.writing(print):
        first.add(["x"], {"t": torch.tensor([[1.0]])}, {})
    assert "x" not in second
    with second.writing(print):
        assert "x" in second


def test_rows_come_back_in_the_order_asked(tmp_path):
    rack = Rack(tmp_path, {"a": 1})
    rack.add(["x", "y"], {"t": torch.tensor([[1.0], [2.0]])}, {})
    rack.add(["z"], {"t": torch.tensor([[3.0]])}, {"bad": "not finite"})
    found = Rack(tmp_path, {"a": 1})
    assert found.rows(["z", "x", "z"])["t"].flatten().tolist() == [3.0, 1.0, 3.0]
    assert found.refused == {"bad": "not finite"}
    assert found.missing(["w", "x", "bad", "w"]) == ["w"]


def test_a_wide_picture_is_cut_in_the_window_asked_for():
    """Eight wide, four high, columns numbered: windows begin at 0, 2 and 4."""
    picture = np.arange(8, dtype=np.uint8)[None, :, None].repeat(4, 0).repeat(3, 2)
    starts = [int(cut(picture, View(window=w), 4)[0, 0, 0]) for w in range(3)]
    assert starts == [0, 2, 4]
    assert cut(picture, View(window=1, mirrored=True), 4)[0, :, 0].tolist() == [5, 4, 3, 2]


def test_both_pictures_of_a_pair_are_looked_at_alike(backbone, pairs, tmp_path):
    """Pitfall 12: a pair of one picture with itself gives equal latents at every visit."""
    pictures = Pictures(flip=True, crop="random")
    cache, _ = fill(tmp_path, backbone, pairs, pictures)
    same = [dataclasses.replace(p, rejected=p.chosen) for p in list(pairs)[:6]]
    batches = Batches(cache=cache, pictures=pictures, streams=Streams(1))
    seen = set()
    for visit in range(4):
        batch = batches(same, [visit] * 6)
        assert torch.equal(batch.chosen, batch.rejected)
        seen.add(batch.chosen.sum().item())
    assert len(seen) == 4
    assert len(views(pictures)) == 6


def test_a_pair_is_drawn_alike_in_any_company(backbone, pairs, tmp_path):
    """Re-batching changes nothing: latents, captions, noise and level belong to pair and visit."""
    cache, _ = fill(tmp_path, backbone, pairs)
    batches = Batches(cache=cache, pictures=Pictures(), streams=Streams(1), caption_dropout=0.5)
    source = Fresh(streams=Streams(1), path=backbone.path, settings=NoiseSettings())
    some = list(pairs)[:6]
    whole = batches(some, [7] * 6)
    alone = [batches([pair], [7]) for pair in some]
    assert torch.equal(whole.chosen, torch.cat([b.chosen for b in alone]))
    text = torch.cat([b.conditions[0].tensors["text"] for b in alone])
    assert torch.equal(whole.conditions[0].tensors["text"], text)
    assert torch.equal(source(whole).noisy[0], torch.cat([source(b).noisy[0] for b in alone]))
    assert source(whole).level.tolist() == [int(source(b).level) for b in alone]
    assert not torch.equal(whole.chosen, batches(some, [8] * 6).chosen)


def test_levels_stay_in_the_part_asked_for_and_cover_it(backbone, pairs, tmp_path):
    cache, _ = fill(tmp_path, backbone, pairs)
    batches = Batches(cache=cache, pictures=Pictures(), streams=Streams(1))
    some = list(pairs)[:6]
    settings = NoiseSettings(lowest=0.2, highest=0.4)
    source = Fresh(streams=Streams(1), path=backbone.path, settings=settings)
    levels = [x for visit in range(40) for x in source(batches(some, [visit] * 6)).level.tolist()]
    assert (min(levels) >= 200, max(levels) < 400) == (True, True)
    assert max(levels) - min(levels) > 180
    for draw in range(4):
        fixed = Fixed(
            streams=Streams(1), path=backbone.path, settings=NoiseSettings(), draw=draw, draws=4
        )
        found = fixed(batches.plain(some)).level
        assert bool(((found >= 250 * draw) & (found < 250 * (draw + 1))).all())
