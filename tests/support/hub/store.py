"""A stand-in for Google's store, which fsspec gives to epath."""

import os
from typing import ClassVar

from fsspec.implementations.memory import MemoryFileSystem


class Store(MemoryFileSystem):
    """Google's store, in memory; unreachable while `down` is set."""

    protocol = ("gs", "gcs")
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]
    down = False
    asked: ClassVar[list] = []

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + os.fspath(path).split("://")[-1].strip("/")

    def info(self, path, **options):
        """As of the class above, or a failure of the network."""
        Store.asked.append(path)
        if Store.down:
            raise RuntimeError("no route to the store")
        return super().info(path, **options)

    def ukey(self, path):
        """A mark that changes with the content."""
        return str(hash(self.cat_file(path)))
