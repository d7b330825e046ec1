"""Changed files of every kind: a right value, or one line. `make fuzz` runs many more, of other
seeds.
"""

import pytest

from hostile.fuzzing import __main__ as fuzz
from hostile.fuzzing import kinds

pytestmark = pytest.mark.slow

SEED, COUNT = 0, 100


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_changed_files_are_read_or_refused(kind, tmp_path):
    found = fuzz.fuzz(kind, SEED, COUNT, tmp_path)
    assert not found.faults, "\n".join(["", *fuzz.described(found.faults, tmp_path)])
    # changes that nothing notices, or that always end the same way, would find nothing
    assert found.refused > COUNT / 10
