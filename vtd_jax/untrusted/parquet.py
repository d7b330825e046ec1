"""The only reader of Parquet: claims are held against the file, and one row at a time is read."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

from vtd_jax.errors import UserError
from vtd_jax.printable import brief
from vtd_jax.untrusted.json_text import parse_json
from vtd_jax.untrusted.limits import (
    DATA_SET_ROWS,
    DATA_SET_VIDEO_BYTES,
    PARQUET_COLUMNS,
    PARQUET_DEPTH,
    PARQUET_FOOTER_BYTES,
    PARQUET_FREE_BYTES,
    PARQUET_GROUPS,
    PARQUET_RATIO,
    SMALL_JSON_BYTES,
    TEXT_CHARACTERS,
)
from vtd_jax.untrusted.regular_files import open_regular

_MAGIC, _TAIL = b"PAR1", 8
# the first whose reader bounds how deep a schema is
_PYARROW = 26
_CONTAINER = 2**18
_BLOCK = 2**20
# where `datasets` writes what its columns are
_FEATURES = b"huggingface"
FILE, BYTES, TEXT, NUMBER, OTHER = "file", "bytes", "text", "number", "other"


class ParquetTable:
    """A table in a Parquet file, whose rows are read one by one.

    Attributes:
      where: the file, for messages.
      rows: how many.
      kinds: name of each column -> what it holds: "file" (a struct of `bytes` and `path`), "bytes",
        "text", "number" or "other".
      features: what `datasets` says of the columns; {} where it says nothing.
    """

    def __init__(self, path: str | os.PathLike, where: str = ""):
        """Reads the footer.

        Args:
          path: of the file.
          where: what messages call it; "" for the path.

        Raises:
          UserError: not a Parquet file, a damaged one, or one that claims more than the limits.
          OSError: it is not there, or cannot be read.
        """
        # a fifth of a second, which only data sets of the hub need
        import pyarrow
        import pyarrow.parquet as pq

        self.where = where or os.fspath(path)
        if int(pyarrow.__version__.partition(".")[0]) < _PYARROW:
            raise UserError(
                f"{self.where}: Parquet is read with pyarrow {_PYARROW} or later, here is "
                f"{pyarrow.__version__}: pip install -U pyarrow"
            )
        self._file = open_regular(path, "Parquet file")
        try:
            self._size = self._check_footer()
            with _damage(self.where):
                self._table = pq.ParquetFile(
                    self._file,
                    buffer_size=_BLOCK,
                    pre_buffer=False,
                    thrift_string_size_limit=PARQUET_FOOTER_BYTES,
                    thrift_container_size_limit=_CONTAINER,
                    schema_depth_limit=PARQUET_DEPTH,
                    # types that others register are not made
                    arrow_extensions_enabled=False,
                )
                about, schema = self._table.metadata, self._table.schema_arrow
            self.rows = _counted(about.num_rows, DATA_SET_ROWS, f"{self.where}: rows")
            _counted(about.num_row_groups, PARQUET_GROUPS, f"{self.where}: row groups")
            _counted(about.num_columns, PARQUET_COLUMNS, f"{self.where}: columns")
            names = schema.names
            # a dot, and a name that is there twice, would choose other columns too
            self.kinds = {
                field.name: _kind(field.type)
                for field in schema
                if "." not in field.name and names.count(field.name) == 1
            }
            self.features = self._features(schema.metadata or {})
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "ParquetTable":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def check(self, columns: Sequence[str]) -> int:
        """The bytes that columns have once they are decompressed, by the footer.

        Raises:
          UserError: they are more than a file of this size can have, or the footer contradicts
            itself.
        """
        about, packed, whole, rows = self._table.metadata, 0, 0, 0
        with _damage(self.where):
            places = [
                place
                for place in range(about.num_columns)
                if about.schema.column(place).path.partition(".")[0] in columns
            ]
            for number in range(about.num_row_groups):
                group = about.row_group(number)
                rows += group.num_rows
                for place in places:
                    chunk = group.column(place)
                    sizes = chunk.total_compressed_size, chunk.total_uncompressed_size
                    if min(*sizes, group.num_rows) < 0:
                        raise UserError(f"{self.where}: row group {number} claims sizes below 0")
                    packed, whole = packed + sizes[0], whole + sizes[1]
        if rows != self.rows:
            raise UserError(f"{self.where}: {rows:,} rows in its groups, {self.rows:,} in all")
        if packed > self._size or whole > PARQUET_RATIO * packed + PARQUET_FREE_BYTES:
            raise UserError(
                f"{self.where}: claims {whole:,} bytes of {brief(list(columns))}, packed into "
                f"{packed:,} of {self._size:,}: no such file is whole"
            )
        return whole

    def read(self, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """The rows of some columns.

        Yields:
          Of each row its values: bytes and path of a "file", bytes, text or a number; None for
          what is not there.

        Raises:
          UserError: damage, or a value that is too long.
        """
        self.check(columns)
        done = 0
        with _damage(self.where):
            for number in range(self._table.metadata.num_row_groups):
                # page by page: a whole group can be gigabytes
                for batch in self._table.iter_batches(
                    1, row_groups=[number], columns=list(columns), use_threads=False
                ):
                    where = f"{self.where}: row {done}"
                    yield tuple(
                        _value(batch.column(name)[0], self.kinds[name], f"{where}, {name!r:.60}")
                        for name in columns
                    )
                    done += 1
        if done != self.rows:
            raise UserError(f"{self.where}: has {done:,} rows, expected {self.rows:,}")

    def _check_footer(self) -> int:
        """Bytes of the file, whose footer has a length that is possible."""
        size = os.fstat(self._file.fileno()).st_size
        if size >= 2 * _TAIL:
            self._file.seek(size - _TAIL)
        tail = self._file.read(_TAIL)
        self._file.seek(0)
        if size < 2 * _TAIL or tail[4:] != _MAGIC or self._file.read(4) != _MAGIC:
            raise UserError(f"{self.where}: not a Parquet file, or cut short")
        self._file.seek(0)
        footer = int.from_bytes(tail[:4], "little")
        if footer > min(size - _TAIL - 4, PARQUET_FOOTER_BYTES):
            raise UserError(
                f"{self.where}: a footer of {footer:,} bytes in a file of {size:,}, expected at "
                f"most {PARQUET_FOOTER_BYTES:,}"
            )
        return size

    def _features(self, metadata: dict[bytes, bytes]) -> dict[str, Any]:
        text = metadata.get(_FEATURES, b"{}")
        if len(text) > SMALL_JSON_BYTES:
            raise UserError(f"{self.where}: {len(text):,} bytes of features, expected fewer")
        found = parse_json(text, f"{self.where}: its features")
        for key in ("info", "features"):
            found = found.get(key, {}) if isinstance(found, dict) else {}
        return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def _damage(where: str) -> Iterator[None]:
    """What Arrow raises for damaged files, as one line."""
    import pyarrow

    errors = (pyarrow.ArrowException, OSError, ValueError, MemoryError, OverflowError)
    try:
        yield
    except UserError:
        raise
    except (*errors, RuntimeError, KeyError, TypeError) as error:
        said = brief(str(error).partition("\n")[0])
        raise UserError(f"{where}: not a Parquet file, or damaged ({said})") from None


def _counted(found: int, most: int, what: str) -> int:
    if not 0 <= found <= most:
        raise UserError(f"{what}: {found:,}, expected at most {most:,}")
    return found


def _kind(found: Any) -> str:
    """What a column of an Arrow type holds."""
    import pyarrow.types as types

    if types.is_struct(found):
        inner = {found.field(place).name: found.field(place).type for place in range(len(found))}
        kinds = {name: _kind(inner[name]) for name in ("bytes", "path") if name in inner}
        right = {"bytes": BYTES, "path": TEXT}
        return FILE if kinds and all(right[name] == kind for name, kind in kinds.items()) else OTHER
    if types.is_binary(found) or types.is_large_binary(found):
        return BYTES
    if types.is_string(found) or types.is_large_string(found):
        return TEXT
    return NUMBER if types.is_integer(found) else OTHER


def _value(scalar: Any, kind: str, where: str) -> Any:
    """A value of Python, whose length is checked before it is copied."""
    if kind == FILE:
        if not scalar.is_valid:
            return None, None
        parts = {name: scalar[name] for name in scalar if name in ("bytes", "path")}
        content = _value(parts["bytes"], BYTES, where) if "bytes" in parts else None
        return content, _value(parts["path"], TEXT, where) if "path" in parts else None
    if not scalar.is_valid:
        return None
    if kind in (BYTES, TEXT):
        most = DATA_SET_VIDEO_BYTES if kind == BYTES else 4 * TEXT_CHARACTERS
        if (size := scalar.as_buffer().size) > most:
            raise UserError(f"{where}: {size:,} bytes, expected at most {most:,}")
    return scalar.as_py()
