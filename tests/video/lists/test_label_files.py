"""Forms of label files: what is read as what it is, and what is refused with its line and the form
that is expected.
"""

import csv

import pytest

from vtd_jax.errors import UserError
from vtd_jax.predict.words import read_words
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.gather import gather_lists, given_list
from vtd_jax.video.lists.catalog import read_labels

KINETICS = (
    'label,youtube_id,time_start,time_end,split\nwave,a,0,10,train\n"run, '
    'fast",b,0,10,train\nwave,c,0,10,train\n'
)
DIGITS = "100 m sprint\nhugging\n3 point shot\n"


def write(folder, name, text):
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# file, its text, names and ids; ids are None where they are counted from 0
READ = [
    (
        "classInd.txt",
        "1 ApplyEyeMakeup\r\n2 ApplyLipstick\r\n\r\n3 Archery\r\n",
        "ApplyEyeMakeup ApplyLipstick Archery",
        "123",
    ),
    ("unsorted.txt", "2 b\n0 c\n1 a\n", "c a b", "012"),
    ("dots.txt", "1. hug\n2. kick\n", "hug kick", "12"),
    ("tab.txt", "0\thug\n1\tkick\n", "hug kick", "01"),
    ("mixed.txt", "0\thug\n1 kick\n", "hug kick", "01"),
    ("bom.txt", "\ufeff0\thug\r\n4\tkick\r\n", "hug kick", "04"),
    ("comma.txt", '0,hug\n1,"run, fast"\n', ["hug", "run, fast"], "01"),
    ("header.txt", "id,name\n3,hug\n", ["hug"], "3"),
    ("semicolon.csv", "id;name\n0;hug\n3;run, fast\n", ["hug", "run, fast"], "03"),
    ("semicolon.txt", "0;hug\n1;kick\n", "hug kick", "01"),
    ("tab.csv", "id\tname\n0\thug\n3\tkick\n", "hug kick", "03"),
    ("tab.tsv", "1\thug\n2\tkick\n", "hug kick", "12"),
    ("swapped.csv", "name,label\nhug,1\nkick,0\n", "kick hug", "01"),
    ("pandas.csv", ",class\n0,hug\n1,kick\n", "hug kick", "01"),
    ("more.csv", "index,split,name\n0,train,hug\n1,val,kick\n", "hug kick", "01"),
    ("labels.json", '{"hug": "1", "kick": "0"}', "kick hug", "01"),
    ("labels.json", '{"0": "hug", "1": "\\"kick\\""}', "hug kick", "01"),
    ("labels.json", '["hug", "kick"]', "hug kick", None),
    ("json.txt", '{"hug": 1,\n "kick": 0}', "kick hug", "01"),
    ("lines.csv", "hug\nkick\n", "hug kick", None),
    ("lines.csv", 'name\nhug\n"run, fast"\n', ["hug", "run, fast"], None),
    ("quoted.txt", 'hug\n"run, fast"\n', ["hug", "run, fast"], None),
    ("lines.txt", "\ufeffhug\r\n\r\n  kick \t\r\n", "hug kick", None),
    # names that begin or end with numbers, have commas, brackets, quotes, hashes or semicolons
    ("digits.txt", DIGITS, DIGITS.splitlines(), None),
    (
        "people.txt",
        "2 people hugging\n2 people kissing\n",
        ["2 people hugging", "2 people kissing"],
        None,
    ),
    ("thousands.txt", "1,000 people\n5,000 people\n", ["1,000 people", "5,000 people"], None),
    ("numbers.txt", "7\n3\n", "7 3", None),
    ("channels.txt", "Channel 0\nChannel 1\n", ["Channel 0", "Channel 1"], None),
    ("commas.txt", "Lifting something up, then down\nPouring, then drinking\n", 0, None),
    ("signs.txt", '[Something] falls\n#selfie\n"Hey" he said\ndo; re\n', 0, None),
    ("digits.csv", "id,name\n0,7\n1,3\n", "7 3", "01"),
    ("ava.csv", "label_id,label_name,label_type\n1,hug,PERSON\n3,kick,PERSON\n", "hug kick", "13"),
    (
        "codes.txt",
        "F1 race\nF1 pit stop\nG7 summit\n",
        ["F1 race", "F1 pit stop", "G7 summit"],
        None,
    ),
    ("one.txt", "arm wrestling\n", ["arm wrestling"], None),
]


@pytest.mark.parametrize(("name", "text", "names", "ids"), READ, ids=[row[0] for row in READ])
def test_what_is_read_as_what_it_is(tmp_path, name, text, names, ids):
    path = write(tmp_path, name, text)
    names = tuple(
        text.splitlines() if names == 0 else names.split() if isinstance(names, str) else names
    )
    assert read_words(str(path), "--labels") == names
    labels = read_labels(path)
    assert labels.names == names
    assert labels.ids == (tuple(range(len(names))) if ids is None else tuple(map(int, ids)))
    assert labels.counted == (ids is None)


# file, its text, where and what is reported
REFUSED = [
    (
        "gaps.txt",
        "3 hug\n7 kick\n",
        ":1: every line begins with a number, and these do not count from 0",
    ),
    (
        "part.txt",
        "0 a\n1 b\nc\n2 d\n",
        ":3: 'c' is not numbered as the other lines are; expected one name a line, or",
    ),
    ("yaml.txt", "names:\n  0: hug\n  1: kick\n", ":1: 'names:' is not numbered"),
    (
        "wordnet.txt",
        "n01\thug\nn02\tkick\n",
        ":1: 'n01\\thug' has a tab in it; expected one name a line",
    ),
    (
        "charades.txt",
        "c000 hug\nc001 kick\nc002 run\n",
        ":1: 'c000 hug' begins with a code, as every line; leave it",
    ),
    (
        "ntu.txt",
        "A1. drink water\nA2. eat meal\nA3. clap\n",
        ":1: 'A1. drink water' begins with a code",
    ),
    (
        "epic.csv",
        "id,key,instances,category\n0,take,[],retrieve\n",
        ":1: expected 2 fields (id,name), found 4",
    ),
    (
        "moments.txt",
        "clapping,0\npraying,1\n",
        ":1: 'clapping,0' seems to have columns, as every line",
    ),
    (
        "columns.txt",
        "hug,hmdb\nkick,hmdb\n",
        ":1: 'hug,hmdb' seems to have columns, as every line; expected one name",
    ),
    ("columns.txt", "hug, 4\nkick, 5\n", ":1: 'hug, 4' seems to have columns"),
    ("columns.txt", "hug;x\nkick;y\n", ":1: 'hug;x' seems to have columns"),
    (
        "row.txt",
        "hug,kick,run\n",
        ":1: 'hug,kick,run' is the only line and has commas in it; expected one name a line",
    ),
    ("behind.txt", "hug 0\nkick 1\n", ":1: 'hug 0' ends with a number, as every line"),
    (
        "single.txt",
        "'hug'\n'kick'\n",
        """:1: "'hug'" is in single quotes, as every line; leave them out""",
    ),
    (
        "pasted.txt",
        '"hug",\n"kick",\n',
        ":1: found 2 fields in '\"hug\",'; expected one name a line",
    ),
    ("list.md", "- hug\n- kick\n", ":1: '- hug' begins with '-', as every line; leave it out"),
    (
        "videos.txt",
        "a/x.avi 0\na/y.avi 1\n",
        ":1: 'a/x.avi 0' is a video: this is a list of videos; expected one",
    ),
    ("videos.csv", "video,label\nx.mp4,0\ny.mp4,1\n", ":2: 'x.mp4,0' is a video"),
    (
        "mixed.csv",
        "hug\nrun, fast\n",
        ":2: expected one name a line, as on line 1, found 'run, fast'; put quotes",
    ),
    (
        "unclear.csv",
        "name,label\n1,2\n3,4\n",
        ":1: it is not clear which column holds the ids; call the columns id and",
    ),
    ("quotes.csv", '0,"hug\n', ":1: the quotes do not match; expected id,name"),
    ("long.csv", "9" * 5000 + ",hug\n", ":1: class id '999"),
    (
        "semicolon.csv",
        "0;hug\nx;kick\n",
        ":2: class id 'x' is not a whole number >= 0; expected id;name",
    ),
    (
        "test.csv",
        "youtube_id,time_start,time_end,split\na,0,10,test\n",
        ":1: an annotation of videos without",
    ),
    (
        "hacs.csv",
        "classname,youtube_id,subset,start,end,label\nhug,a,val,0,2,1\n",
        ":1: an annotation of videos without",
    ),
    ("listing.csv", "id,label\n17,0\n18,1\n", ":1: it is not clear which column holds the ids"),
    (
        "rows.csv",
        "id,label\n0,a\nx,b\n",
        ":3: class id 'x' is not a whole number >= 0; expected id,name",
    ),
    ("labels.json", '{"hug": 1,\n"kick"', ": not JSON, or cut short"),
    ("labels.json", "[" * 100_000, ": brackets nested too deep"),
    (
        "labels.json",
        "[1, 2]",
        ": the list holds other things than names; expected names and ids, as in",
    ),
    ("labels.json", '{"0": "1"}', ": the object is not one of names and their ids"),
    ("labels.json", '{"hug": 1, "kick": 1}', ": 'kick' and 'hug' have the same id, 1"),
    ("labels.json", '{"hug": 1, "hug": 2}', ": entry 2: class name 'hug' is already at entry 1"),
    *(
        (
            f"marked {i}.txt",
            text.format(0, 1),
            f":1: '{text.partition('hug')[0].format(0)}hug' begins with a number",
        )
        for i, text in enumerate(
            (
                "{}|hug\n{}|kick",
                "{} | hug\n{} | kick",
                "{} - hug\n{} - kick",
                "{}:hug\n{}:kick",
                "({}) hug\n({}) kick",
            )
            + (
                "[{}] hug\n[{}] kick",
                "#{} hug\n#{} kick",
                "{}_hug\n{}_kick",
                "{}.hug\n{}.kick",
                "{}=hug\n{}=kick",
            )
        )
    ),
    ("behind.txt", "hug|0\nkick|1\n", ":1: 'hug|0' ends with a number"),
    (
        "map.pbtxt",
        "item {\n id: 1\n name: 'hug'\n}\n",
        ":1: 'item {' is no name but the beginning of a structure",
    ),
    ("utf16.txt", "hug\nkick\n".encode("utf-16-le"), ":1: a zero byte, as in UTF-16"),
    (
        "alike.csv",
        "0,caf\xe9\n1,cafe\u0301\n",
        r":2: class name 'cafe\u0301' is already on line 1 as 'caf\xe9', and",
    ),
    (
        "alike.txt",
        "1 a & b\n2 x\n3 A &amp; b\n",
        ":3: class name 'A &amp; b' is already on line 1 as 'a & b'",
    ),
    ("empty.csv", "0,hug\n1,&nbsp;\n", ":2: CLIP reads no text in the class name '&nbsp;'"),
]


@pytest.mark.parametrize(("name", "text", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_is_refused_names_line_and_form(tmp_path, name, text, message):
    path = write(tmp_path, name, text)
    for read in (lambda: read_words(str(path), "--labels"), lambda: read_labels(path)):
        with pytest.raises(UserError) as error:
            read()
        assert str(error.value).startswith(f"{path}{message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("caf\xe9\nx\ncafe\u0301\n", r"'cafe\u0301' {reads} 'caf\xe9'"),
        ("salt & pepper\nx\nSalt &amp; pepper\n", "'Salt &amp; pepper' {reads} 'salt & pepper'"),
        ("\uff28ug\nx\nhug\n", "'hug' {reads} '\uff28ug'"),
    ],
)
def test_names_a_line_that_clip_reads_as_the_same(tmp_path, text, message):
    path = write(tmp_path, "l.txt", text)
    with pytest.raises(UserError) as error:
        read_words(str(path), "--labels")
    assert str(error.value).startswith(
        f"{path}:3: {message.format(reads='reads as')} of {path}:1; each may appear once"
    )
    with pytest.raises(UserError) as error:
        read_labels(path)
    on_line = message.format(reads="is already on line 1 as")
    assert str(error.value).startswith(f"{path}:3: class name {on_line}, and CLIP reads ")


def test_an_annotation_of_kinetics_has_names_but_no_ids(tmp_path):
    path = write(tmp_path, "train.csv", KINETICS)
    assert read_words(str(path), "--labels") == ("run, fast", "wave")
    with pytest.raises(
        UserError, match=r"train\.csv: an annotation of videos, which has no class ids; expected"
    ):
        read_labels(path)
    write(tmp_path, "train.csv", KINETICS + "wave\n,d,0,10,train\n")
    with pytest.raises(UserError, match=r"train\.csv:6: the label is empty"):
        read_words(str(path), "--labels")


def test_a_list_takes_names_a_line_where_it_is_clear_how_they_count(tmp_path):
    labels = write(tmp_path, "labels.txt", "hug\nkick\nrun\n")
    listed = given_list(write(tmp_path, "list.txt", "a.mp4 0\nb.mp4 2\n"), labels)
    assert [listed.class_names[entry.label] for entry in listed.entries] == ["hug", "run"]
    with pytest.raises(UserError, match="3 ids, counted from 0 as the file has none, from 0 to 2"):
        given_list(write(tmp_path, "list.txt", "a.mp4 1\nb.mp4 3\n"), labels)
    with pytest.raises(
        UserError,
        match=r"has no ids, and no video of .* has id 0, so ids may count from 0 or from 1",
    ):
        given_list(write(tmp_path, "list.txt", "a.mp4 1\nb.mp4 2\n"), labels)
    counted = write(tmp_path, "classInd.txt", "1 hug\n2 kick\n3 run\n")
    listed = given_list(write(tmp_path, "list.txt", "a.mp4 1\nb.mp4 3\n"), counted)
    assert [listed.class_names[entry.label] for entry in listed.entries] == ["hug", "run"]


def test_a_folder_with_a_list_and_names_a_line(tmp_path):
    write(tmp_path, "list.txt", "a.mp4 0\nb.mp4 1\n")
    write(tmp_path, "labels.txt", "hug\nkick\n")
    (listed,) = gather_lists(BuildConfig("x", source=str(tmp_path)), tmp_path)
    assert (listed.name, listed.class_names, len(listed.entries)) == ("list", ("hug", "kick"), 2)


@pytest.mark.shared
def test_published_label_files_are_read_as_csv_says(shared_dir):
    files = sorted((shared_dir / "splits/labels").glob("*.csv"))
    assert len(files) == 16
    for path in files:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = sorted((int(row["id"]), row["name"].strip()) for row in csv.DictReader(file))
        labels = read_labels(path)
        assert list(zip(labels.ids, labels.names)) == rows
        assert read_words(str(path), "--labels") == labels.names
