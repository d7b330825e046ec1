"""Word lists: what can be given, and that every mistake is reported with its line."""

import pytest

from vtd_jax.clip.tokenizer import count_tokens
from vtd_jax.errors import UserError
from vtd_jax.predict.words import read_words


@pytest.mark.parametrize(
    "content",
    [
        b"arm wrestling\nhugging\n",
        b"\xef\xbb\xbfarm wrestling\r\n\r\n  hugging \t\r\n\n",
        b"arm wrestling\rhugging",
    ],
)
def test_a_file_has_a_word_a_line(content, tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    assert read_words(str(path), "--labels") == ("arm wrestling", "hugging")


def test_words_may_be_inline():
    assert read_words("arm wrestling, hugging", "--labels") == ("arm wrestling", "hugging")
    assert read_words("hugging", "--labels") == ("hugging",)
    assert read_words("push/pull,hug", "--labels") == ("push/pull", "hug")


def test_any_writing_works(tmp_path):
    given = ("Schwimmen im Fluß", "綱引き", "🤝 Händeschütteln", "стрельба из лука")
    path = tmp_path / "wörter.txt"
    path.write_text("\n".join(given), encoding="utf-8")
    assert read_words(str(path), "--labels") == given
    assert read_words(",".join(given), "--labels") == given


def test_a_label_csv_gives_its_names_by_id(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text('id,name\n2,"run, fast"\n0,hug\n', encoding="utf-8")
    assert read_words(str(path), "--labels") == ("hug", "run, fast")
    path.write_text("id,name\n0,hug\n1,Hug\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"labels\.csv:3: class name 'Hug' is already on line 2"):
        read_words(str(path), "--labels")
    path.write_text(f"0,hug\n7,{'x7 ' * 40}\n", encoding="utf-8")
    with pytest.raises(
        UserError, match=r"labels\.csv: class id 7: 'x7 x7 .*…' has 80 tokens, CLIP takes 75 here"
    ):
        read_words(str(path), "--labels")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "words.txt: no words in it; expected one word or phrase a line"),
        (b"\n  \n", "words.txt: no words in it"),
        (
            b"hug\n\nkick\nHUG\n",
            "words.txt:4: 'HUG' reads as 'hug' of {path}:1; each may appear once",
        ),
        (
            b"a\nb\na\nA\nb\n",
            "words.txt:3: 'a' reads as 'a' of {path}:1; each may appear once; 3 words of the list",
        ),
        (b"hug\nk\xfcssen\n", "words.txt:2: byte 5 of the file (0xfc) is not UTF-8"),
        (b"RIFF\x24\xff\x00\x00WAVE", "words.txt:1: byte 5 of the file (0xff) is not UTF-8"),
        (
            b"hug\n\n" + b"x7 " * 38,
            "words.txt:3: 'x7 x7 x7 x7 x7 x7 x7 x7 x7 x7 x7 x7 x7 x…' has 76 tokens",
        ),
    ],
)
def test_a_bad_file_is_reported_with_its_line(content, message, tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_words(str(path), "--labels")
    assert str(error.value).startswith(str(tmp_path))
    assert message.format(path=path) in str(error.value)


@pytest.mark.parametrize(
    "value, message",
    [
        ("nowhere.txt", "--labels=nowhere.txt: there is no such file"),
        ("no/where", "--labels=no/where: there is no such file"),
        ("a.csv", "--labels=a.csv: there is no such file"),
        ("", "--labels=: nothing there"),
        ("hug,,kick", "--labels: entry 2 of 'hug,,kick' is empty"),
        ("hug,", "--labels: entry 2 of 'hug,' is empty"),
        ("hug,kick,hug", "--labels: entry 3: 'hug' reads as 'hug' of --labels: entry 1"),
    ],
)
def test_bad_values_are_reported(value, message):
    with pytest.raises(UserError) as error:
        read_words(value, "--labels")
    assert str(error.value).startswith(message)


def test_a_folder_is_no_word_list(tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        read_words(str(tmp_path), "--labels")


def test_learnt_context_leaves_less_room():
    assert len(read_words("x7 " * 30, "--labels")) == 1
    with pytest.raises(UserError, match=r"entry 1: .* has 60 tokens, CLIP takes 58 here"):
        read_words("x7 " * 30, "--labels", room=58)
    # few letters, many bytes
    with pytest.raises(UserError, match="CLIP takes 6 here"):
        read_words("綱引き綱引き", "--labels", room=6)


def test_of_long_lists_only_long_words_are_tokenized(tmp_path):
    tokenized = []

    class Noting:
        def count_tokens(self, texts):
            tokenized.extend(texts)
            return count_tokens(texts)

    lines = [f"word number {i}" for i in range(10_000)] + [
        "a phrase of more than twenty-five bytes"
    ]
    path = tmp_path / "words.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert read_words(str(path), "--vocabulary", tokenizer=Noting()) == tuple(lines)
    assert tokenized == lines[-1:]
