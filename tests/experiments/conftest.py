"""Records of the four benchmarks in miniature, made once a session; messages as commands print
them.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import experiments
import mini_benchmarks
from experiments.common.spelling import flag_names
from vtd_jax.errors import named_by
from vtd_jax.untrusted.raised import RAISED
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.records import build_records

# of all commands, whichever of them a test has imported
_FLAGS = frozenset(
    name
    for path in Path(experiments.__file__).parent.rglob("*.py")
    for name in re.findall(r'DEFINE_\w+\(\s*"(\w+)"', path.read_text())
) | {"config", *(limit.flag for limit in RAISED)}


@pytest.fixture(autouse=True)
def _flags_in_messages() -> Iterator[None]:
    """Parts of commands are called here without `cli.run`, which has messages name flags."""
    with named_by(flag_names(_FLAGS)):
        yield


@pytest.fixture(scope="session")
def mini_layout(shared_dir, tmp_path_factory) -> Path:
    """A folder of the four data sets as downloaded, and the filtered lists in `splits/`."""
    return mini_benchmarks.make(shared_dir / "splits", tmp_path_factory.mktemp("mini"))


@pytest.fixture(scope="session")
def mini_records(mini_layout, tmp_path_factory) -> Path:
    """The records of the four: `DATA_DIR/hmdb51/…` and so on. Tests that use it are marked
    `shared`.
    """
    data_dir = tmp_path_factory.mktemp("mini_records")
    for dataset in mini_benchmarks.LAYOUTS:
        source, splits = str(mini_layout / dataset), str(mini_layout / "splits")
        build_records(
            BuildConfig(name="mini", dataset=dataset, source=source, splits=splits), data_dir
        )
    return data_dir
