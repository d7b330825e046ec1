"""Files are whole or not there."""

import pytest

from vtd_jax.files import replacing, write_text


def test_replaces_what_was_there(tmp_path):
    path = write_text(tmp_path / "a.txt", "old")
    assert write_text(path, "né\n").read_text(encoding="utf-8") == "né\n"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = write_text(tmp_path / "a.txt", "old")

    def fail():
        with replacing(path) as temporary:
            assert temporary.suffix == ".txt"
            temporary.write_text("ne")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
