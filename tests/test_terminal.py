"""What reaches a terminal: verbatim text, tables that fit without a cut, counts, times in words."""

import ast
import io
import re
from pathlib import Path

import pytest
import rich.console

from vtd_jax.errors import UserError
from vtd_jax.printable import printable, shown
from vtd_jax.terminal import counted, say, show_table, verbatim

ROOT = Path(__file__).resolve().parent.parent
# what people have called their files and labels; rich would read the first ones as markup and emoji
NAMES = (
    "Pushing [red]something left",
    "and[/or] this",
    ":car:",
    "[bold]",
    "12 'quoted' \\[x] http://a.b/c",
    "日本語 é",
)


def _console(width: int | None = None) -> rich.console.Console:
    """A pipe, or a terminal that is so wide; without colours, so that the text can be compared."""
    return rich.console.Console(
        file=io.StringIO(),
        width=width or 80,
        force_terminal=width is not None,
        no_color=True,
        color_system=None,
    )


def _shown(console: rich.console.Console) -> list[str]:
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def _lines_of(*arguments, width=None, **options) -> list[str]:
    console = _console(width)
    show_table(*arguments, console=console, **options)
    return _shown(console)


@pytest.mark.parametrize("name", NAMES)
def test_text_is_verbatim(name, capsys):
    assert printable(name) == name
    console = _console(200)
    console.print(verbatim(name))
    assert _shown(console) == [name]
    say(name)
    assert capsys.readouterr().out == f"{name}\n"


@pytest.mark.parametrize(
    "text, message",
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines\r\tand a tab", "two\\nlines\\r\\tand a tab"),
        ("\x00\x07\x7f\x85", "\\x00\\x07\\x7f\\x85"),
        ("gpj.\u202excod", "gpj.\\u202excod"),
        ("\u2028\u2066\u200e\ufeff\u200b", "\\u2028\\u2066\\u200e\\ufeff\\u200b"),
        ("file \udcff.mp4", r"file \xff.mp4"),
        ("\U000e0041", "\\U000e0041"),
        # joined emoji and Persian keep what joins them
        (
            "\U0001f468\u200d\U0001f373 \u0645\u06cc\u200c",
            "\U0001f468\u200d\U0001f373 \u0645\u06cc\u200c",
        ),
    ],
)
def test_what_moves_a_terminal_is_escaped(text, message):
    assert printable(text) == message
    assert verbatim(text).plain == message
    lines = _lines_of(text, (text, "n"), [[text, "1"]])
    assert lines[0] == message
    assert [line.split()[-1] for line in lines[2:3] + lines[4:5]] == ["n", "1"]


@pytest.mark.slow
def test_what_is_too_long_is_shortened_in_the_middle(capsys):
    path = ("/" + "/".join(["folder" * 40] * 17))[:4095]
    assert shown(f"{path}: one, {path}: two") == f"{path}: one, {path}: two"
    # words, many words, and few of them in which every character is escaped
    for name in (
        "n" * 2_000_000,
        "n/" * 1_000_000,
        "\x1b[31m /" * 300_000,
        "\u202e" * 1_000_000,
        "\udcff" * 10_000,
    ):
        text = f"weights.pt: tensor {name}: damaged"
        message = shown(text)
        assert message.startswith("weights.pt: tensor ")
        assert message.endswith(": damaged")
        assert re.search(r" … \([\d,]+ characters left out\) … ", message)
        assert len(message) < (9100 if " " in name or "/" in name else 3100)
        assert not re.search("[\x1b\u202e\udcff]", message)
        # as messages, lines, cells and titles
        assert str(UserError(text)) == message
        say(text)
        assert capsys.readouterr().out == f"{message}\n"
        assert verbatim(text).plain == message
    assert shown("a" * 1000) == "a" * 300 + " … (600 characters left out) … " + "a" * 100
    assert shown("a " * 50, 30) == "a " * 10 + " … (70 characters left out) … " + "a " * 5
    # millions of words are not taken apart
    assert len(str(UserError("a b\n" * 5_000_000))) < 9100


def test_a_pipe_gets_the_whole_table():
    rows = [[name, "1.5", "x" * 150] for name in NAMES]
    lines = _lines_of("A table", ("name", "score", "long"), rows, numbers={"score"})
    assert lines[0] == "A table"
    body = lines[4:-1]
    assert len(body) == len(NAMES)
    for name, line in zip(NAMES, body):
        assert line.startswith(f" {name} ")
        assert line.endswith("  1.5  " + "x" * 150)


def test_text_stands_left_and_numbers_right():
    lines = _lines_of(
        "t",
        ("name", "score", "word"),
        [["a", "100.00", "left"], ["b", "1.00", "l"]],
        numbers={"score"},
    )
    assert lines[2:] == [
        " name   score  word",
        " " + "─" * 18,
        " a     100.00  left",
        " b       1.00  l",
        "",
    ]


@pytest.mark.parametrize("width", [80, 60, 40, 24])
def test_a_narrow_terminal_wraps_and_then_leaves_out_but_never_cuts(width):
    runs = ["base_to_novel_hmdb51_16shot_s1", "zero_shot_ucf101_halves"]
    rows = [[run, "100.0", "a text of several words", "1 × 1"] for run in runs]
    columns = ("run", "score", "told", "views")
    lines = _lines_of(
        "t", columns, rows, numbers={"score", "views"}, whole=("run",), less=("views",), width=width
    )
    text = "\n".join(lines)
    assert "…" not in text
    assert all(len(line) <= width for line in lines if not line.startswith("left out on"))
    if width > 30:
        assert all(run in text for run in runs)
    left_out = next((line for line in lines if line.startswith("left out on")), "")
    # the least important first, then from the right
    assert [name for name in columns if name in left_out] == {
        80: [],
        60: [],
        40: ["told", "views"],
        24: [*columns[1:]],
    }[width]
    for word in ["a", "text", "of", "several", "words"] if "told" not in left_out else ():
        assert word in text
    if width == 24:
        # no terminal has room for this name: it goes over two lines, whole
        assert all(run in "".join(line.strip() for line in lines) for run in runs)


def test_into_a_pipe_rows_end_with_their_text():
    console = _console()
    show_table("t", ("a", "meaning"), [["x", "w" * 300], ["y", "short"]], console=console)
    lines = console.file.getvalue().split("\n")
    assert " y  short" in lines
    assert [line for line in lines if line.endswith(" ")] == []


@pytest.mark.slow
def test_every_line_for_people_goes_through_one_helper():
    """A bare `print` would hand a name's control characters to the terminal."""
    # these print what they made up themselves, or count on one line; the example runs without this
    # package
    own = {
        "vtd_jax/terminal.py",
        "experiments/__init__.py",
        "experiments/common/dispatch.py",
        "experiments/completion/__main__.py",
        "vtd_jax/predict/serve_example.py",
        "experiments/common/command_line.py",
        "experiments/reproduce/sources.py",
        "experiments/demo/__main__.py",
        "experiments/aot/__main__.py",
        "experiments/pretrain_tiny_clip/__main__.py",
        "experiments/tfds_build.py",
    }
    for path in [*(ROOT / "vtd_jax").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]:
        name = path.relative_to(ROOT).as_posix()
        if name in own or name.startswith(("experiments/benchmark", "vtd_jax/scenes/benchmark")):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = (
                node.func.id
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
                else ""
            )
            assert called != "print", (
                f"{name}:{node.lineno}: print; use say, log or warn of vtd_jax.terminal"
            )


def test_counts():
    assert [counted(n, "video") for n in (0, 1, 2)] == ["0 videos", "1 video", "2 videos"]
    assert counted(2, "class", "classes") == "2 classes"
