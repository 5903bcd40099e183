"""What is left of a run: its record, and a model folder with a card written from it.

The card says only what was recorded. Where something was not, it says so.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palate.backbones.backbone import Backbone
from palate.core.files import MANIFEST, digest_file, new_folder, read_json, write_atomic, write_json
from palate.core.record import provenance
from palate.train.personal import LEARNED
from palate.train.place import EXPORT, RECORD, Place
from palate.train.run import Run
from palate.train.users import USERS, Users, write_users

UNKNOWN = "not recorded"
_OPENED = (
    "from diffusers import DiffusionPipeline",
    "",
    "pipeline = DiffusionPipeline.from_pretrained(FOLDER)",
)
# Among the digests of a model whose folder has a further stage, which is not trained; diffusers
# does not open such a folder as a whole.
_STAGE_B = "stage b decoder"
_OPENED_BY_PARTS = (
    "from diffusers import DDPMWuerstchenScheduler, StableCascadePriorPipeline, StableCascadeUNet",
    "from transformers import CLIPTextModelWithProjection, CLIPTokenizer",
    "",
    "kinds = {",
    '    "prior": StableCascadeUNet,',
    '    "text_encoder": CLIPTextModelWithProjection,',
    '    "tokenizer": CLIPTokenizer,',
    '    "scheduler": DDPMWuerstchenScheduler,',
    "}",
    'parts = {name: kind.from_pretrained(FOLDER, subfolder=f"prior_{name}")',
    "         for name, kind in kinds.items()}",
    "pipeline = StableCascadePriorPipeline(**parts)",
)


def begin_record(place: Place, run: Run, facts: Mapping[str, Any], step: int) -> None:
    """Write down that an attempt begins, after those before it, and the settings it has.

    Raises:
        StateError: when the disk refuses.
    """
    attempt = {
        **{name: value for name, value in provenance().items() if name != "versions"},
        "from_step": step,
        "changed": {name: {"from": old, "to": new} for name, (new, old) in place.changed.items()},
    }
    place.settle(run)
    attempts = [*place.record.get("attempts", []), attempt]
    write_record(
        place.out, run, {**facts, "status": "running", "steps": step, "attempts": attempts}
    )


def write_record(out: Path, run: Run, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write, or bring up to date, the record of a run. New facts replace old ones.

    Raises:
        StateError: when the disk refuses.
    """
    path = out / RECORD
    old = read_json(path) if path.is_file() else provenance()
    record = {
        **old,
        "run": run.values(),
        "run_digest": run.digest,
        "beta_convention": run.beta_convention,
        "overrides": overrides(run),
        **facts,
    }
    write_json(path, record)
    return record


def overrides(run: Run) -> list[str]:
    """Guards that the user switched off or moved."""
    usual = type(run.health)()
    changed = run.health.model_dump()
    found = {
        name: value
        for name, value in changed.items()
        if value != getattr(usual, name) and name not in ("pairs", "draws")
    }
    return [f"health.{name}={value!r}" for name, value in found.items()]


def export(
    out: Path, backbone: Backbone, record: Mapping[str, Any], users: Users | None = None
) -> Path:
    """Write the trained model as diffusers loads it, with its record and card.

    Args:
        out: The run's folder.
        backbone: The model.
        record: What is known of the run.
        users: The embeddings of everyone it was trained with, where people were followed.

    Raises:
        StateError: when the disk refuses; an earlier export stays.
    """
    folder = out / EXPORT
    with new_folder(folder, replace=True) as new:
        # The backbone makes a folder of its own; its files move beside the record and the card.
        inner = new / "model"
        backbone.export(inner)
        (inner / MANIFEST).unlink(missing_ok=True)
        for path in sorted(inner.iterdir()):
            path.rename(new / path.name)
        inner.rmdir()
        if users is not None:
            write_users(new, users)
        weights = sorted(new.rglob("*.safetensors"))
        digests = {path.relative_to(new).as_posix(): digest_file(path) for path in weights}
        write_json(new / RECORD, {**record, "export": digests})
        write_atomic(new / "README.md", card(record, digests))
    return folder


def card(record: Mapping[str, Any], digests: Mapping[str, str]) -> str:
    """The model card, from recorded facts only."""
    run, model, data = record["run"], record.get("model", {}), record.get("data", {})
    check = record.get("last_check") or {}
    accuracy = check.get("accuracy") or {}
    interval = (
        f"{accuracy['value']:.3f} ({accuracy['low']:.3f} to {accuracy['high']:.3f}, "
        f"n = {accuracy['n']} prompts)"
        if accuracy
        else UNKNOWN
    )
    lines = [
        f"# {Path(run['model']).name}, aligned with preferences",
        "",
        "Written by palate from the run's record. What was not recorded is not claimed.",
        "",
        f"- Base model: {run['model']}",
        *[f"  - {name}: sha256 {digest}" for name, digest in model.get("digests", {}).items()],
        f"- Data: {_amount(data)}, digest {data.get('digest', UNKNOWN)}",
        f"- Data licence: {data.get('licence', UNKNOWN)}",
        f"- Method: {run['objective']['name']} {_settings(run['objective'])}",
        *([f"- Beta: {record['beta_convention']}"] if "beta" in run["objective"] else []),
        f"- Trained: {_trained(run)}, {record.get('steps', UNKNOWN)} steps of "
        f"{run['plan']['batch']} pairs, learning rate {run['plan']['learning_rate']:g}, "
        f"seed {run['seed']}",
        *_people(record.get("personal")),
        f"- Ended: {record.get('status', UNKNOWN)}",
        f"- Health: {record.get('sentence', UNKNOWN)}",
        f"- Winner drift on held-out pairs: {_share(check.get('winner_drift'))}",
        f"- Accuracy on held-out pairs: {interval}",
        f"- Guards overridden: {', '.join(record.get('overrides', [])) or 'none'}",
        f"- Code: {record.get('code', UNKNOWN)}, palate "
        f"{record.get('versions', {}).get('palate', UNKNOWN)}",
        "- Evaluation against the base model: not part of training; see the run's report",
        "",
        "## Files",
        "",
        *[f"- `{name}`: sha256 {digest}" for name, digest in digests.items()],
        "",
        "## Use",
        "",
        *_usage(
            digests,
            staged=_STAGE_B in model.get("digests", {}),
            learned=(record.get("personal") or {}).get("users") == LEARNED,
        ),
    ]
    return "\n".join(lines) + "\n"


def _amount(data: Mapping[str, Any]) -> str:
    """Pairs there were to learn from; or, where the policy drew itself, prompts."""
    if "prompts" in data:
        return f"{data['prompts']} prompts, pictures drawn while training"
    return f"{data.get('train', UNKNOWN)} training pairs"


def _trained(run: Mapping[str, Any]) -> str:
    """What was trained, in a few words."""
    if run.get("personal") is not None:
        return f"attention to users, width {run['personal']['width']}; the base model stays"
    return "all weights" if run["adapter"] is None else f"LoRA, rank {run['adapter']['rank']}"


def _people(personal: Mapping[str, Any] | None) -> list[str]:
    """Whose tastes it follows, and who makes their embeddings."""
    if personal is None:
        return []
    cap = "no cap" if personal["cap"] is None else f"at most {personal['cap']} of each"
    return [
        f"- People: {personal['people']}, with {personal['pairs']} training pairs ({cap}; the "
        f"busiest has {personal['busiest']})",
        *[f"- Left out, {side}: {_lost(lost)}" for side, lost in personal["left_out"].items()],
        f"- Embeddings of people: {personal['users']}, from up to {personal['examples']} pairs "
        f"each, {personal['choices']} choices of these; encoder {personal['identity']}",
        *[f"- Note: {note}" for note in personal["notes"]],
        f"- `{USERS}` holds the names of these people and an embedding of each: remove it before "
        "publishing what should not be told of them; the model works without",
    ]


def _lost(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{many} {why}" for why, many in reasons.items()) or "no pair"


def _usage(digests: Mapping[str, str], *, staged: bool, learned: bool) -> list[str]:
    """How plain diffusers loads the files.

    Args:
        digests: The files.
        staged: Whether the folder has stages of which one is trained.
        learned: Whether its people have a learned vector each, and no embedding is kept.
    """
    opened = _OPENED_BY_PARTS if staged else _OPENED
    if USERS in digests:
        based = [line.replace("FOLDER", "BASE") for line in opened]
        return _usage_for_people(based, learned=learned)
    # A LoRA is one file; a whole pipeline has a folder for each of its parts.
    if any("/" in name for name in digests):
        return ["```python", *opened, "```"]
    base = [line.replace("FOLDER", "BASE") for line in opened]
    return ["```python", *base, "pipeline.load_lora_weights(FOLDER)", "```"]


def _usage_for_people(opened: Sequence[str], *, learned: bool) -> list[str]:
    others = "" if learned else ", or `--user PAIRS` with a few pairs of somebody new"
    file = f'"FOLDER/{USERS}"'
    found = [f'user = load_file({file})["users"][0]']
    if learned:
        found = [
            f'places = load_file({file})["users"]',
            "user = torch.nn.functional.one_hot(places[0], len(places)).float()[None]",
        ]
    return [
        f"With palate: `palate sample --weights FOLDER --user NAME`{others}. In plain diffusers:",
        "",
        "```python",
        *(["import torch"] if learned else []),
        *opened,
        "",
        "from safetensors.torch import load_file",
        "",
        "from palate.backbones.personal import listen",
        "",
        *found,
        'listen(pipeline, "FOLDER").draw_for(user[None])',
        "```",
        "",
        "Nobody, which is the base model: `draw_for(None)`.",
    ]


def _settings(objective: Mapping[str, Any]) -> str:
    found = [f"{name}={value!r}" for name, value in objective.items() if name != "name"]
    return f"({', '.join(found)})" if found else ""


def _share(value: float | None) -> str:
    return UNKNOWN if value is None else f"{100 * value:+.2f} % of the reference's error"
