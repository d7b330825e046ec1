"""The files of a tokenizer beside weights: all spellings of CLIP's own are read, others are not."""

import pytest

from support.weights.foreign_files import write_json
from vtd_jax.clip.tokenizer import merges, vocabulary
from vtd_jax.clip.weights.tokenizer_files import check_tokenizer_files
from vtd_jax.errors import UserError


def refused(folder, message):
    with pytest.raises(UserError, match=message):
        check_tokenizer_files(folder)


def tokenizer_json(**changes):
    """As `tokenizers` writes CLIP's since 2022, with parts of it changed."""
    words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    replace = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
    split = {"type": "Split", "pattern": {"Regex": words}, "behavior": "Removed", "invert": True}
    into_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": "<|endoftext|>",
        "continuing_subword_prefix": "",
    }
    model |= {"end_of_word_suffix": "</w>", "fuse_unk": False}
    model |= {"vocab": dict(vocabulary()), "merges": [" ".join(pair) for pair in merges()]}
    specials = [(49406, "<|startoftext|>"), (49407, "<|endoftext|>")]
    content = {
        "version": "1.0",
        "added_tokens": [
            {"id": number, "special": True, "content": token} for number, token in specials
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "NFC"}, replace, {"type": "Lowercase"}],
        },
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, into_bytes]},
        "model": model | changes.pop("model", {}),
    }
    return content | changes


OLD = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
NEW_MODEL = {
    "byte_fallback": False,
    "ignore_merges": False,
    "merges": [list(pair) for pair in merges()],
}


@pytest.mark.slow
def test_how_texts_are_cut_before_they_are_tokens(tmp_path):
    of_2025 = tokenizer_json(model=NEW_MODEL)
    split, into_bytes = of_2025["pre_tokenizer"]["pretokenizers"]
    split["pattern"]["Regex"] = r"<\|startoftext\|>|<\|endoftext\|>|" + split["pattern"]["Regex"]
    into_bytes["use_regex"] = True
    # textual inversion adds tokens, and a pad token may be one of CLIP's own
    more = [
        *of_2025["added_tokens"],
        {"id": 49408, "content": "<cat-toy>"},
        {"id": 0, "content": "!"},
    ]
    for good in (
        tokenizer_json(),
        of_2025,
        of_2025 | {"added_tokens": more},
        tokenizer_json(normalizer=None, pre_tokenizer=OLD),
    ):
        write_json(tmp_path / "tokenizer.json", good)
        check_tokenizer_files(tmp_path)
    good, upper = tokenizer_json(), tokenizer_json()
    upper["normalizer"]["normalizers"].pop()
    for changes, message in (
        ({"normalizer": None}, "normalizer is None"),
        ({"normalizer": upper["normalizer"]}, "normalizer is "),
        ({"normalizer": {"type": "Lowercase"}}, "normalizer is "),
        ({"pre_tokenizer": None}, "pre_tokenizer is None"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre_tokenizer is .*Whitespace"),
        (
            {"normalizer": None, "pre_tokenizer": OLD | {"add_prefix_space": True}},
            "pre_tokenizer is ",
        ),
        ({"normalizer": None, "pre_tokenizer": OLD | {"use_regex": False}}, "pre_tokenizer is "),
        ({"pre_tokenizer": OLD}, "normalizer is "),
        ({"added_tokens": [{"id": 320, "content": "a"}]}, "added token 'a' has id 320"),
        (
            {"added_tokens": [{"id": 5, "content": "a</w>"}]},
            "added token 'a</w>' has id 5, expected 320",
        ),
        (
            {"added_tokens": [{"id": 49408, "content": "a</w>"}]},
            "added token 'a</w>' has id 49408, expected 320",
        ),
        ({"added_tokens": [{"id": True, "content": "!"}]}, "an added token is "),
        ({"added_tokens": {"a": 1}}, "added_tokens is "),
        ({"model": {"end_of_word_suffix": ""}}, "model.end_of_word_suffix is ''"),
        ({"model": {"continuing_subword_prefix": "##"}}, "model.continuing_subword_prefix is '##'"),
        ({"model": {"byte_fallback": True}}, "model.byte_fallback is True"),
        ({"model": {"ignore_merges": True}}, "model.ignore_merges is True"),
        ({"model": {"dropout": 0.1}}, "model.dropout is 0.1"),
    ):
        write_json(tmp_path / "tokenizer.json", tokenizer_json(**changes))
        refused(tmp_path, rf"tokenizer\.json: {message}")
    (tmp_path / "tokenizer.json").unlink()
    decoder = {"49406": {"content": "<|startoftext|>"}, "49407": {"content": "<|endoftext|>"}}
    write_json(tmp_path / "tokenizer_config.json", {"added_tokens_decoder": decoder})
    check_tokenizer_files(tmp_path)
    for added, message in (
        ({"320": {"content": "b"}}, "added token 'b' has id 320"),
        ([], "added_tokens_decoder is "),
    ):
        write_json(tmp_path / "tokenizer_config.json", {"added_tokens_decoder": added})
        refused(tmp_path, rf"tokenizer_config\.json: {message}")
