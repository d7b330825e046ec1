"""The largest size a Zstandard frame can decompress to, from the sizes of its blocks."""

MAGIC = b"\x28\xb5\x2f\xfd"
# what one block can become, by the format
_BLOCK_BYTES = 128 * 2**10
_RAW, _REPEATED, _COMPRESSED = 0, 1, 2


def bound(data: bytes, start: int, most: int) -> tuple[int, int]:
    """The most bytes that one frame can become.

    What no decompressor would take (a reserved block, an end in the middle) ends the frame there. A
    block counts as a KiB at least: millions that become nothing take time.

    Args:
      data: that has the frame.
      start: where its magic number is.
      most: beyond which the count ends.

    Returns:
      `(bytes, end)`: at least what the frame becomes, above `most` where that is more; and where
      the frame ends.
    """
    place, checksum = _blocks(data, start)
    total = 0
    while place + 3 <= len(data):
        header = int.from_bytes(data[place : place + 3], "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        place += 3
        if kind > _COMPRESSED:
            break
        total += max(_BLOCK_BYTES if kind == _COMPRESSED else size, 1024)
        place += 1 if kind == _REPEATED else size
        if total > most:
            return most + 1, place
        if last:
            place += checksum
            break
    return total, min(place, len(data))


def _blocks(data: bytes, start: int) -> tuple[int, int]:
    """Where the blocks begin, and bytes of the checksum behind them."""
    described = data[start + 4] if start + 4 < len(data) else 0
    single = described >> 5 & 1
    window = 0 if single else 1
    dictionary = (0, 1, 2, 4)[described & 3]
    content = (single, 2, 4, 8)[described >> 6]
    return start + 5 + window + dictionary + content, 4 if described & 4 else 0
