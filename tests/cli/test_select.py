"""`palate data select`: best pairs beside as many drawn by lot."""

import pytest

from palate.data.snapshot import read_imports


def test_the_pairs_with_the_widest_margins_are_kept_and_compared_with_a_lot(
    palate, snapshot, tmp_path
):
    out = tmp_path / "best"
    words = ("data", "select", snapshot, out, "--keep", "10", "--scorer", "world:vividness")
    made = palate(*words, "--weights", "margin=1", "--json")
    assert made.code == 0, made.err
    assert (made.json["pairs"], made.json["of"]) == (10, 30)
    assert made.json["chosen"]["margin"] > made.json["lot"]["margin"]
    again = palate(*words[:3], tmp_path / "told", *words[4:])
    assert again.code == 0, again.err
    assert "by lot" in again.out
    drawn = palate("data", "select", snapshot, tmp_path / "lot", "--keep", "0.5", "--by", "random")
    assert drawn.code == 0, drawn.err
    assert "15 of 30" in drawn.out


def test_a_file_may_say_how_good_a_prompt_is(palate, snapshot, tmp_path):
    """Only the prompts in the file can be taken; the record names the file."""
    from palate.data.snapshot import read_rows

    prompts = sorted({row.prompt for row in read_rows(snapshot)})
    file = tmp_path / "asked.csv"
    lines = ["prompt,quality", *(f'"{prompt}",{len(prompt)}' for prompt in prompts[:5])]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    out = tmp_path / "best"
    words = ("data", "select", snapshot, out, "--keep", "3", "--quality", file)
    made = palate(*words, "--json")
    assert made.code == 0, made.err
    assert made.json["unknown"] > 0
    assert read_imports(out)[-1]["selected"]["quality"] == "asked.csv"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (bytes(range(256)) * 400, "no UTF-8 text"),
        (b"prompt,quality\n" + b"a fox," + b"x" * 90_000 + b"\n", "could not convert"),
        (b"prompt,quality\na fox," + b"9" * 200_000 + b"\n", "field larger"),
        (b"words,quality\na fox,1\n", "no column 'prompt'"),
        (b"prompt,quality\na fox\n", "cannot be read"),
    ],
    ids=["bytes", "no number", "huge", "no column", "short row"],
)
def test_a_file_that_is_no_list_of_prompts_is_refused_in_few_words(
    palate, snapshot, tmp_path, content, said
):
    file = tmp_path / "junk.csv"
    file.write_bytes(content)
    words = ("data", "select", snapshot, tmp_path / "out", "--keep", "3", "--quality", file)
    made = palate(*words)
    assert made.code == 2
    assert said in made.err
    assert len(made.err) < 600


def test_wrong_words_are_refused_before_anything_is_read(palate, snapshot, tmp_path):
    words = ("data", "select", snapshot, tmp_path / "out", "--keep", "3")
    for more in (
        ("--weights", "margin"),
        ("--weights", "margn=1"),
        ("--weights", "margin=0"),
        ("--quality", "no-such-file.csv"),
        ("--texts", "clip:"),
        ("--texts", "letters"),
        ("--scorer", "wurld"),
    ):
        assert palate(*words, *more).code == 2, more
