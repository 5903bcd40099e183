"""`palate data flip`, there and back."""


def test_labels_are_turned_round_and_back_to_the_same_digest(palate, snapshot, tmp_path):
    """Twenty of the thirty pairs have a winner; a fifth of them is four."""
    before = palate("data", "show", snapshot, "--json").json["digest"]
    out, back = tmp_path / "flipped", tmp_path / "back"
    made = palate("data", "flip", snapshot, out, "--share", "0.2", "--json")
    assert made.code == 0, made.err
    assert (made.json["flipped"], made.json["strict"]) == (4, 20)
    assert palate("data", "show", out, "--json").json["digest"] != before
    undone = palate("data", "flip", "--undo", out, back)
    assert undone.code == 0, undone.err
    assert palate("data", "show", back, "--json").json["digest"] == before
    assert palate("data", "flip", "--undo", back, tmp_path / "twice").code == 5
