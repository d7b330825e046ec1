"""Official downloads that are damaged: errors name the file and the line."""

from pathlib import Path

import pytest

from support import layouts
from support.lists import fails, write
from vtd_jax.video.lists.official import official_lists


@pytest.fixture(scope="module")
def downloads(tmp_path_factory) -> dict[str, Path]:
    return {
        name: make(tmp_path_factory.mktemp(name.replace(" ", "_")), **options)
        for name, (make, options) in layouts.OFFICIAL.items()
    }


@pytest.mark.parametrize(
    ("layout", "file", "text", "place", "words"),
    [
        (
            "hmdb51",
            "t/kick_test_split1.txt",
            "a.avi 1\n\nb.avi 3\n",
            ":3",
            "expected 'NAME.avi 0', 1 or 2",
        ),
        (
            "hmdb51",
            "t/kick_test_split2.txt",
            "a.avi\n",
            ":1",
            "expected 'NAME.avi 0', 1 or 2, found 'a.avi'",
        ),
        (
            "hmdb51",
            "t/kick_test_split2.txt",
            "a.avi 1 2\n",
            ":1",
            "expected 'NAME.avi 0', 1 or 2, found 'a.avi 1 2'",
        ),
        (
            "ucf101",
            "t/trainlist02.txt",
            "YoYo/a.avi 2 1\n",
            ":1",
            "expected 'Class/file.avi id', found",
        ),
        (
            "ucf101",
            "t/testlist02.txt",
            "YoYo/a.avi 1, 1\n",
            ":1",
            "expected 'Class/file.avi', found",
        ),
        ("ucf101", "t/classInd.txt", f"{'9' * 400} YoYo\n", ":1", "expected 'id Class', found"),
        (
            "ssv2",
            "t/labels.json",
            f'{{"Holding something": "{"9" * 5000}"}}',
            "",
            "expected a whole number",
        ),
        ("ssv2", "t/train.json", "[" * 100_000, "", "brackets nested too deep"),
        (
            "hmdb51",
            "t/kick_test_split3.txt",
            "a.avi 1\na.avi 2\na.avi 1\n",
            ":3",
            "'kick/a.avi' is already at",
        ),
        ("hmdb51", "t/kick_test_split3.txt", "\n", "", "the HMDB-51 split is empty"),
        ("hmdb51", "t/new_test_split1.txt", "a.avi 1\n", "", "there is no such HMDB-51 split"),
        (
            "ucf101",
            "t/classInd.txt",
            "1 YoYo\nTyping 2\n",
            ":2",
            "expected 'id Class', found 'Typing 2'",
        ),
        ("ucf101", "t/classInd.txt", "1 YoYo\n1 Typing\n", ":2", "repeats an id or a class"),
        ("ucf101", "t/classInd.txt", "1 YoYo\n2 Yoyo\n", ":2", "repeats an id or a class"),
        (
            "ucf101",
            "t/trainlist02.txt",
            "YoYo/a.avi 1\nYoYo/b.avi\n",
            ":2",
            "expected 'Class/file.avi id'",
        ),
        ("ucf101", "t/trainlist02.txt", "a.avi 1\n", ":1", "expected 'Class/file.avi id'"),
        (
            "ucf101",
            "t/trainlist02.txt",
            "YoYo/a.avi 2\n",
            ":1",
            "id 2 is 'Typing' in classInd.txt, the folder 'YoYo'",
        ),
        (
            "ucf101",
            "t/testlist03.txt",
            "Fencing/a.avi\n",
            ":1",
            "class 'Fencing' is not in classInd.txt",
        ),
        (
            "ucf101",
            "t/testlist03.txt",
            "YoYo/a.avi\nYoYo/a.avi\n",
            ":2",
            "'YoYo/a.avi' is already at",
        ),
        ("ssv2", "t/train.json", "[\n{]", "", "not JSON (line 2, column 2"),
        ("ssv2", "t/train.json", "{}", "", "expected array, got object; expected a list of videos"),
        ("ssv2", "t/train.json", "[]", "", "it lists no videos"),
        (
            "ssv2",
            "t/train.json",
            '[{"id": "1"}]',
            ": entry 1",
            "expected an object with id and template",
        ),
        (
            "ssv2",
            "t/train.json",
            '[{"id": "../1", "template": "A [b]"}]',
            ": entry 1",
            "id '../1' is not a number",
        ),
        (
            "ssv2",
            "t/train.json",
            '[{"id": "8", "template": "No [b]"}]',
            ": entry 1",
            "video 8 has template 'No [b]'",
        ),
        (
            "ssv2",
            "t/train.json",
            '[{"id": "8", "template": "A [b]"}, {"id": "8", "template": "A [b]"}]',
            ": entry 2",
            "'8.webm' is already at",
        ),
        ("ssv2", "t/labels.json", '{"A b": "x"}', "", "the id of 'A b' is 'x'"),
        (
            "ssv2",
            "t/labels.json",
            '{"A b": "0", "A [b]": "1"}',
            "",
            "'A [b]' and 'A b' share an id or a name",
        ),
        (
            "ssv2",
            "t/labels.json",
            '{"A b": "0", "C": "0"}',
            "",
            "'C' and 'A b' share an id or a name",
        ),
        ("ssv2", "t/labels.json", "{}", "", "no classes"),
        (
            "kinetics400",
            "t/val.csv",
            "a.mp4 0\n",
            ":1",
            "expected the header label,youtube_id,time_start,time_end",
        ),
        (
            "kinetics400",
            "t/val.csv",
            "{H}zumba,abc,1\n",
            ":2",
            "expected label,youtube_id,time_start,time_end, found",
        ),
        (
            "kinetics400",
            "t/val.csv",
            "{H}zumba,abc,1,x\n",
            ":2",
            "expected times in seconds, found '1' and 'x'",
        ),
        (
            "kinetics400",
            "t/val.csv",
            "{H}zumba,abc,-1,9\n",
            ":2",
            "expected times in seconds, found '-1' and '9'",
        ),
        (
            "kinetics400",
            "t/val.csv",
            "{H}\nzumba,a/c,1,9\n",
            ":3",
            "youtube_id 'a/c' is no id of a video",
        ),
        ("kinetics400", "t/val.csv", "{H},abc,1,9\n", ":2", "the label is empty"),
        (
            "kinetics400",
            "t/val.csv",
            "{H}yoga,a,1,9\nyoga,a,1,9\n",
            ":3",
            "'val/a_000001_000009.mp4' is already at",
        ),
        ("kinetics400", "t/val.csv", "{H}", "", "it lists no videos"),
    ],
)
def test_errors_name_the_file_and_the_line(tmp_path, layout, file, text, place, words):
    """One file of a whole, tiny set of annotations is replaced by a broken one."""
    header = "label,youtube_id,time_start,time_end\n"
    whole = {
        "hmdb51": {f"kick_test_split{i}.txt": "x.avi 1\ny.avi 2\n" for i in "123"},
        "ucf101": {"classInd.txt": "1 YoYo\n2 Typing\n"}
        | {f"trainlist0{i}.txt": "YoYo/x.avi 1\n" for i in "123"}
        | {f"testlist0{i}.txt": "YoYo/y.avi\n" for i in "123"},
        "ssv2": {"labels.json": '{"A b": "0"}'}
        | {
            f"{split}.json": '[{"id": "1", "template": "A [b]"}]'
            for split in ("train", "validation")
        },
        "kinetics400": {"train.csv": header + "zumba,x,0,10\n"},
    }[layout]
    for name, content in whole.items():
        write(tmp_path / "t" / name, content)
    assert official_lists(layout, tmp_path)
    path = write(tmp_path / file, text.replace("{H}", header))
    message = fails(layout, tmp_path)
    if "new_test" in file:
        path = path.with_name("new_test_split2.txt")
    assert message.startswith(f"{path}{place}: ")
    assert words in message
