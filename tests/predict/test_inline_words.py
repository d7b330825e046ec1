"""Words in the command line: what is a path, what are words, and what is probably a mistake."""

import pytest

from experiments.common.word_flags import given_words
from vtd_jax.errors import UserError
from vtd_jax.predict.words import read_words

MANY = [f"label number {number}" for number in range(300)]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        # longer than a name that any file system takes
        (",".join(MANY), tuple(MANY)),
        ('"a, b",c', ("a, b", "c")),
        ('hug, "say ""hi""" , kick', ("hug", 'say "hi"', "kick")),
        ('5" screen,rock & roll', ('5" screen', "rock & roll")),
        ("don't,'tis the season", ("don't", "'tis the season")),
        ("[a],[b]", ("[a]", "[b]")),
        ("run (fast),sit; down", ("run (fast)", "sit; down")),
        ("hug\nkick, then run\n", ("hug", "kick, then run")),
        ("0 hug\n1 kick", ("hug", "kick")),
        ("videos,more", ("videos", "more")),
    ],
)
def test_words_of_a_command_line(tmp_path, monkeypatch, capsys, value, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    assert given_words(value, "--labels") == words
    assert capsys.readouterr().err == ""


def test_a_name_of_every_length_may_be_given():
    for length in (200, 255, 256, 4000):
        with pytest.raises(
            UserError,
            match=f"^--labels: entry 1: 'x7x7.*…' has {length} tokens, CLIP takes 75 here",
        ):
            read_words("x7" * (length // 2) + "x" * (length % 2), "--labels")
        message = "there is no such file" if length < 256 else "cannot be read"
        with pytest.raises(UserError, match=rf"^--vocabulary=x.*: {message}"):
            read_words("./" + "x" * length, "--vocabulary")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            'a,"b',
            (
                "--labels='a,\"b': cannot be split at commas (unexpected end of data); put "
                "double quotes around"
            ),
        ),
        ('"a" b,c', "--labels='\"a\" b,c': cannot be split at commas"),
        (
            "hugging;arm wrestling",
            "--labels='hugging;arm wrestling': is one entry with ';' in it; separate words",
        ),
        ("hugging|kicking", "--labels='hugging|kicking': is one entry with '|' in it"),
        ("拥抱，踢", "--labels='拥抱，踢': is one entry with '，' in it"),
        ("'hug','kick'", "--labels: entry 1, \"'hug'\", is in quotes; leave them out"),
        ("“hug”,kick", "--labels: entry 1, '“hug”', is in quotes"),
        (
            "'arm wrestling,hugging'",
            "--labels=\"'arm wrestling,hugging'\": the quotes are part of the words here",
        ),
        ("['hug', 'kick']", "--labels=\"['hug', 'kick']\": is a list of a programming language"),
        ("videos", "--labels=videos: is a folder; give a file"),
        (
            "clip.mp4",
            "--labels=clip.mp4: is a video; give words separated by commas, or a file of them",
        ),
        ("there.MOV", "--labels=there.MOV: is a video"),
        (
            "words.json",
            (
                "--labels=words.json: there is no such file; check the path, or give words "
                "separated by commas"
            ),
        ),
        (
            "labels.txt",
            (
                "--labels=labels.txt: there is no such file; give 'Labels.TXT', which is there, or "
                "give words"
            ),
        ),
        (
            "list.txt,hug",
            "--labels: entry 1, 'list.txt', is a file; give a single file, or words alone",
        ),
        (
            "list.txt",
            (
                "list.txt:1: 'clip.mp4 0' is a video: this is a list of videos; expected one "
                "name a line"
            ),
        ),
        (
            "caf\xe9,cafe\u0301",
            r"--labels: entry 2: 'cafe\u0301' reads as 'caf\xe9' of --labels: entry 1; each may",
        ),
        (
            "a &amp; b,A & B",
            "--labels: entry 2: 'A & B' reads as 'a &amp; b' of --labels: entry 1; each",
        ),
        (
            "hug,caf\udce9",
            (
                r"--labels='hug,caf\udce9': holds bytes that are not UTF-8; give it as UTF-8, "
                r"or a file"
            ),
        ),
        ("hug,&nbsp;", "--labels: entry 2: CLIP reads no text in '&nbsp;'; give another"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, monkeypatch, value, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    (tmp_path / "there.MOV").write_bytes(b"\xff")
    (tmp_path / "Labels.TXT").write_text("hug\nkick\n")
    (tmp_path / "list.txt").write_text("clip.mp4 0\nother.mp4 1\n")
    with pytest.raises(UserError) as error:
        read_words(value, "--labels")
    assert str(error.value).startswith(message)


def test_one_label_or_word_is_noted_and_two_are_not(tmp_path, capsys):
    assert given_words("hugging arm wrestling", "--labels") == ("hugging arm wrestling",)
    message = (
        "note: --labels: 'hugging arm wrestling' is a single label, so that it scores 100 % in "
        "every video; several"
    )
    assert capsys.readouterr().err.startswith(message)
    (tmp_path / "words.txt").write_text("hug\n")
    given_words(str(tmp_path / "words.txt"), "--vocabulary")
    assert capsys.readouterr().err.startswith(
        "note: --vocabulary: 'hug' is a single word; several are separated by"
    )
    (tmp_path / "words.txt").write_text("hug\nkick\n")
    given_words(str(tmp_path / "words.txt"), "--labels")
    assert given_words(None, "--labels") is None
    assert capsys.readouterr().err == ""
