"""A small tokenizer.json of Gemma's kind: bytes, letters, a few words."""

from typing import Any

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
WORDS = ["▁photo", "▁of", "▁a", "▁cat", "photo", "video", "hugging", "▁hugging", "▁▁", "brush"]


# the end token behind every text, as in the file of SigLIP 2
_ENDED = {
    "type": "TemplateProcessing",
    "single": [
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "<eos>", "type_id": 0}},
    ],
    "pair": [
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "<eos>", "type_id": 0}},
        {"Sequence": {"id": "B", "type_id": 1}},
        {"SpecialToken": {"id": "<eos>", "type_id": 1}},
    ],
    "special_tokens": {"<eos>": {"id": "<eos>", "ids": [1], "tokens": ["<eos>"]}},
}


def tokenizer_json(**changes: Any) -> dict[str, Any]:
    """As `tokenizers` writes Gemma's, with some entries of its model or of it changed."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + ["▁", ".", "\n"]
    tokens = SPECIAL + [f"<0x{byte:02X}>" for byte in range(256)] + letters
    merges = []
    for word in WORDS:
        for stop in range(2, len(word) + 1):
            pair = word[: stop - 1], word[stop - 1]
            if word[:stop] not in tokens:
                tokens.append(word[:stop])
                merges.append(pair)
    tokens += ["\n\n", "<table>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    flags = dict(single_word=False, lstrip=False, rstrip=False)
    added = [
        dict(id=vocabulary[token], content=token, normalized=False, special=token in SPECIAL)
        | flags
        for token in (*SPECIAL, "\n\n", "<table>")
    ]
    model = dict(
        type="BPE",
        dropout=None,
        unk_token="<unk>",
        continuing_subword_prefix=None,
        end_of_word_suffix=None,
        fuse_unk=True,
        byte_fallback=True,
        ignore_merges=False,
        vocab=vocabulary,
        merges=[list(pair) for pair in merges],
    )
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    split = dict(type="Split", pattern={"String": " "}, behavior="MergedWithPrevious", invert=False)
    content = dict(
        version="1.0",
        truncation=None,
        padding=None,
        added_tokens=added,
        normalizer=replace,
        pre_tokenizer=split,
        post_processor=_ENDED,
        decoder={"type": "Sequence", "decoders": [{"type": "Fuse"}]},
        model=model | changes.pop("model", {}),
    )
    return content | changes
