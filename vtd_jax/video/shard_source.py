"""Random access to records of untrusted shards; none is larger in memory than in its file.

ArrayRecord files are Riegeli files: chunks with a header of 40 bytes, interrupted by a header of
24 bytes at every multiple of 64 KiB, and a footer with the places of the chunks. Ours hold one
record a chunk, uncompressed. A compressed chunk of 30 bytes can claim gigabytes, which array_record
does not limit, so the header of a chunk is checked before its record is read.
"""

import hashlib
import os
import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate

from vtd_jax.video.record_files import Shard

_BLOCK, _BLOCK_HEADER = 2**16, 24
# bytes that are hashed at a time
_READ = 2**20
# of a record's small fields: bytes that are read at a time, bytes of one, and how many; ours are 14
_WINDOW, _SMALL, _FIELDS = 1024, 2**15, 64
# hash of the header, bytes of the data, their hash, type and number of records, bytes of the
# records
_CHUNK = struct.Struct("<5Q")


class ShardSource:
    """The bytes of the records of some shards, by position over all of them.

    Args:
      shards: in order, each with its number of records.

    Raises:
      ValueError, RuntimeError, OSError: on reading too, for shards that are damaged or other than
        ours are.
    """

    def __init__(self, shards: Sequence[Shard]):
        self._shards = shards
        self._ends = list(accumulate(shard.take for shard in shards))
        # of an extra, as in `record_fields`
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        self._source = ArrayRecordDataSource(shards)
        self._places: dict[int, list[int]] = {}

    def __getitem__(self, position: int) -> bytes:
        number = bisect_right(self._ends, position)
        shard = self._shards[number]
        with open(shard.filename, "rb", buffering=0) as file:
            if number not in self._places:
                self._places[number] = _places(file.fileno())
            places = self._places[number]
            if len(places) != shard.take:
                raise ValueError(
                    f"{shard.filename} has {len(places):,} records, expected {shard.take:,}"
                )
            _chunk(file.fileno(), places[position - self._ends[number] + shard.take], records=1)
        return self._source[position]

    def digest(self, positions: Sequence[int]) -> str:
        """SHA-256 over the stored bytes of records; reads them all and decodes nothing."""
        by_shard: dict[int, list[int]] = {}
        for position in positions:
            by_shard.setdefault(bisect_right(self._ends, position), []).append(position)
        with ThreadPoolExecutor() as pool:
            digests = pool.map(self._digest, by_shard, by_shard.values())
            return hashlib.sha256(b"".join(digests)).hexdigest()

    def heads(self, positions: Sequence[int]) -> list[bytes]:
        """Records without their large fields, frames and videos, of which no byte is read.

        Args:
          positions: in any order, without repeats.

        Returns:
          Serialized `tf.train.Example`s, in the order of `positions`.
        """
        by_shard: dict[int, list[int]] = {}
        for position in positions:
            by_shard.setdefault(bisect_right(self._ends, position), []).append(position)
        with ThreadPoolExecutor() as pool:
            found = pool.map(self._heads, by_shard, by_shard.values())
            heads = {position: head for each in found for position, head in each}
        return [heads[position] for position in positions]

    def _heads(self, number: int, positions: Sequence[int]) -> list[tuple[int, bytes]]:
        """Of records of one shard, with their positions."""
        shard = self._shards[number]
        with open(shard.filename, "rb", buffering=0) as file:
            places = _places(file.fileno())
            if len(places) != shard.take:
                raise ValueError(f"{shard.filename}: its footer is damaged")
            return [
                (position, _head(file.fileno(), places[position - self._ends[number] + shard.take]))
                for position in positions
            ]

    def _digest(self, number: int, positions: Sequence[int]) -> bytes:
        """Of records of one shard."""
        shard = self._shards[number]
        digest = hashlib.sha256()
        with open(shard.filename, "rb", buffering=0) as file:
            # no claim of the footer says how much is read at a time
            places = [*_places(file.fileno()), os.fstat(file.fileno()).st_size]
            if len(places) != shard.take + 1 or places != sorted(places):
                raise ValueError(f"{shard.filename}: its footer is damaged")
            for position in positions:
                at = position - self._ends[number] + shard.take
                begin, end = places[at], places[at + 1]
                digest.update(struct.pack("<Q", end - begin))
                while begin < end:
                    part = os.pread(file.fileno(), min(end - begin, _READ), begin)
                    if not part:
                        raise ValueError(f"{shard.filename} is cut short")
                    digest.update(part)
                    begin += len(part)
        return digest.digest()


def _places(file: int) -> list[int]:
    """Where the chunk of every record begins, as the footer has it."""
    # the last block holds the place of the footer, three times
    footers = {_field(record, 1) for record in _records(file, os.fstat(file).st_size - _BLOCK, 3)}
    if len(footers) != 1:
        raise ValueError("its end is damaged")
    _about, *entries = _records(file, footers.pop(), None)
    places = [_field(entry, 1) for entry in entries]
    if any(_field(entry, 3) != 1 for entry in entries):
        raise ValueError("several records in a chunk, where ours have one")
    return places


def _records(file: int, place: int, count: int | None) -> list[bytes]:
    """The records of a chunk, which may be as many as they like or `count`."""
    size = _chunk(file, place, count)
    data = _read(file, place, _CHUNK.size + size)[_CHUNK.size :]
    length, begin = _varint(data, 1)
    end = at = begin + length
    records = []
    while begin < end:
        size, begin = _varint(data, begin)
        records.append(data[at : at + size])
        at += size
    if at != len(data):
        raise ValueError(f"the chunk at {place} is damaged")
    return records


def _head(file: int, place: int) -> bytes:
    """The only record of a chunk, without its large fields."""
    size = _chunk(file, place, 1)
    before = _read(file, place, min(_CHUNK.size + size, _CHUNK.size + 24))[_CHUNK.size :]
    length, begin = _varint(before, 1)
    record, end = _varint(before, begin)
    if end != begin + length or end + record != size:
        raise ValueError(f"the chunk at {place} is damaged")

    def read(at: int, count: int) -> bytes:
        # a record is not longer than its file, and a part not longer than the record
        return _read(file, _ahead(place, _CHUNK.size + end + at), min(count, record - at))

    return _without_large(read, record)


def _without_large(read: Callable[[int, int], bytes], size: int) -> bytes:
    """A `tf.train.Example` without its large fields.

    Args:
      read: gives so many bytes from a place on, fewer at the end.
      size: of all bytes.
    """
    head = read(0, 16)
    length, at = _varint(head, 1)
    if head[:1] != b"\n" or at + length != size:
        raise ValueError("a record of other fields than ours")
    kept, window, begin = [], b"", 0
    while at < size:
        if len(window) - (at - begin) < 16:
            window, begin = read(at, _WINDOW), at
        if window[at - begin] != ord("\n"):
            raise ValueError("a record of other fields than ours")
        length, after = _varint(window, at - begin + 1)
        end = begin + after + length
        if end > size or len(kept) == _FIELDS:
            raise ValueError("a record with a damaged field, or too many")
        if end - at <= _SMALL:
            there = window[at - begin : end - begin]
            kept.append(there if len(there) == end - at else read(at, end - at))
        at = end
    content = b"".join(kept)
    return b"\n" + _as_varint(len(content)) + content


def _ahead(place: int, count: int) -> int:
    """The place so many bytes on, the headers of blocks between them not counted."""
    inside = max(place % _BLOCK, _BLOCK_HEADER) - _BLOCK_HEADER + count
    blocks, inside = divmod(inside, _BLOCK - _BLOCK_HEADER)
    return (place // _BLOCK + blocks) * _BLOCK + _BLOCK_HEADER + inside


def _chunk(file: int, place: int, records: int | None) -> int:
    """Bytes of a chunk's data; raises ValueError if it is compressed, or not of `records`."""
    if not 0 <= place < os.fstat(file).st_size:
        raise ValueError(f"a chunk at {place:,}, which is not in the file")
    header = _read(file, place, _CHUNK.size + 1)
    _, size, _, kind, decoded = _CHUNK.unpack(header[:-1])
    plain = kind & 0xFF == ord("r") and header[-1] == 0
    if not plain or not decoded <= size <= os.fstat(file).st_size:
        raise ValueError(f"the chunk at {place:,} is compressed or damaged; ours are neither")
    if records is not None and kind >> 8 != records:
        raise ValueError(f"the chunk at {place:,} has {kind >> 8:,} records, expected {records}")
    return size


def _read(file: int, place: int, size: int) -> bytes:
    """Bytes of a chunk, without the headers of blocks between them."""
    parts = []
    while size:
        if place % _BLOCK == 0:
            place += _BLOCK_HEADER
        part = os.pread(file, min(size, _BLOCK - place % _BLOCK), place)
        if not part:
            raise ValueError("it is cut short")
        parts.append(part)
        place, size = place + len(part), size - len(part)
    return b"".join(parts)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and what is behind it; raises IndexError where the data ends."""
    value = shift = 0
    while shift < 64:
        byte = data[at]
        value, at, shift = value | (byte & 0x7F) << shift, at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than 64 bits")


def _as_varint(value: int) -> bytes:
    """What `_varint` reads."""
    written = []
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def _field(message: bytes, wanted: int) -> int:
    """An integer field of a small protocol buffer; raises ValueError if it is missing."""
    at, found = 0, {}
    while at < len(message):
        key, at = _varint(message, at)
        # of a field that is there twice the last one counts
        found[key], at = _varint(message, at)
    if any(key & 7 for key in found) or wanted << 3 not in found:
        raise ValueError("its footer is damaged")
    return found[wanted << 3]
