"""`palate scorer`: open published scorers, teach those of unfinished pictures, see who is right."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from palate.cli.app import Flag, examples, new_app
from palate.cli.console import Bar, emit, next_steps, note, say, table

scorer = new_app(
    "scorer",
    "Open a published scorer; teach or test one of unfinished pictures.",
    examples(
        """
        palate scorer convert HPS_v2.1_compressed.pt hpsv2 --kind hpsv2 \\
            --base clip-folder
        palate scorer train latent --data my-pairs --out my-scorer \\
            --steps 400 --learning-rate 3e-4
        palate scorer test my-scorer --data my-pairs
        """
    ),
)


@scorer.command(
    help_epilogue=examples(
        """
        palate scorer convert HPS_v2.1_compressed.pt hpsv2 --kind hpsv2 \\
            --base clip-folder
        palate scorer convert sac+logos+ava1-l14-linearMSE.pth aesthetic \\
            --kind aesthetic --base openai/clip-vit-large-patch14
        palate scorer convert ImageReward.pt imagereward --kind imagereward \\
            --base bert-base-uncased-folder
        """
    )
)
def convert(
    checkpoint: Path,
    out: Path,
    *,
    kind: Literal["hpsv2", "aesthetic", "imagereward", "pickscore"],
    base: str | None = None,
    json: Flag = False,
) -> None:
    """Turn a published scorer's checkpoint into a folder that can be opened safely.

    The only command that opens a pickled file. Nothing in it is run: a file that
    holds anything but tensors and plain values is refused. Says what was read,
    renamed and left out.

    What a checkpoint lacks comes from the base: CLIP's tokenizer for hpsv2, the
    CLIP model for aesthetic, BERT's tokenizer for imagereward, config and
    processors for pickscore.

    Args:
        checkpoint: The file its authors published: .pt, .pth, .bin, .ckpt or .safetensors.
        out: The folder to write, a new one.
        kind: Whose checkpoint it is.
        base: A folder or Hub name with what it lacks; by default the checkpoint's own folder.
        json: Print what happened as JSON and nothing else on stdout.
    """
    from palate.scorers.convert import convert as converted

    done = converted(checkpoint, out, kind=kind, base=base)
    if json:
        emit({"kind": done.kind, "folder": str(done.folder), "sentences": done.sentences})
        return
    for sentence in done.sentences:
        say(sentence)
    next_steps(f"palate evaluate --after RUN --prompts PROMPTS.txt --scorer {kind}:{out}")


@scorer.command(
    help_epilogue=examples(
        """
        palate scorer train latent --data my-pairs --out my-scorer \\
            --steps 400 --learning-rate 3e-4
        palate scorer train step-clip --data my-pairs --out my-clip \\
            --start pickscore-folder
        """
    )
)
def train(
    kind: Literal["step-clip", "latent"],
    *,
    data: Path,
    out: Path,
    model: str = "shipped",
    start: str | None = None,
    steps: int = 4000,
    batch: int = 16,
    learning_rate: float = 1e-5,
    warmup_steps: int = 0,
    weight_decay: float = 0.3,
    guidance: float = 5.0,
    held_out: float = 0.1,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    cache: Path | None = None,
    json: Flag = False,
) -> None:
    """Teach a scorer of unfinished pictures what people preferred.

    Run it again with the same settings to go on after an interruption.

    Args:
        kind: step-clip reads predicted pictures, latent reads noisy latents.
        data: A frozen snapshot of preference pairs.
        out: The scorer's folder.
        model: Whose unfinished pictures it will judge: a folder, a Hub name or shipped.
        start: A CLIP folder or Hub name; step-clip starts from it, else from chance.
        steps: Optimizer steps. The papers take 8000 (step-clip) and 4000 (latent).
        batch: Pairs a step. The papers take 64 and 128.
        learning_rate: The papers take 3e-6 and 1e-5; from chance about 5e-4.
        warmup_steps: Steps of linear warm-up.
        weight_decay: Weight decay of the optimizer.
        guidance: Of the predicted pictures; 1 is without.
        held_out: Share of the prompts to measure on.
        seed: Everything is a function of it.
        device: Where to compute.
        cache: Where latents and embeddings are kept; by default beside the scorer.
        json: Print what training.json says and nothing else on stdout.
    """
    from palate.cli.named import device_named
    from palate.core.stats import Estimate
    from palate.recipes.step_scorer import train_step_scorer
    from palate.recipes.step_studio import Lesson

    lesson = Lesson(
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        warmup_steps=warmup_steps,
        weight_decay=weight_decay,
        guidance=guidance,
        held_out=held_out,
        seed=seed,
    )
    with Bar("steps") as bar:
        facts = train_step_scorer(
            kind,
            data,
            model,
            out,
            lesson=lesson,
            start=start,
            device=device_named(device),
            cache=cache,
            progress=bar.at,
            tell=bar.line,
        )
    if json:
        emit(facts)
        return
    _show((name, Estimate.from_json(each)) for name, each in facts["accuracy"].items())
    say(f"scorer  {out}")
    next_steps(f"palate scorer test {out} --data {data}")


@scorer.command(
    name="test",
    help_epilogue=examples(
        """
        palate scorer test my-scorer --data my-pairs
        palate scorer test my-scorer --data other-pairs --json
        """
    ),
)
def measure(
    folder: Path,
    *,
    data: Path,
    model: str = "shipped",
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    cache: Path | None = None,
    json: Flag = False,
) -> None:
    """How often a scorer puts pairs in the judges' order, by how noisy they are.

    On the snapshot that it was taught with, only prompts held out then are asked about.

    Args:
        folder: The scorer's folder.
        data: A frozen snapshot of preference pairs.
        model: Whose unfinished pictures are judged: a folder, a Hub name or shipped.
        device: Where to compute.
        cache: Where latents and embeddings are kept; by default beside the scorer.
        json: Print the numbers as JSON and nothing else on stdout.
    """
    from palate.cli.named import device_named
    from palate.recipes.step_scorer import measure_step_scorer

    with Bar("pairs") as bar:
        found, which = measure_step_scorer(
            folder,
            data,
            model,
            device=device_named(device),
            cache=cache,
            progress=bar.at,
            tell=bar.line,
        )
    if json:
        accuracy = {name: each.asdict() for name, each in found.items()}
        emit({"pairs": which, "accuracy": accuracy})
        return
    note(f"asked about: {which}")
    _show(found.items())


def _show(found: Iterable[tuple[str, object]]) -> None:
    table(("noise levels", "pairs in the judges' order"), found)
