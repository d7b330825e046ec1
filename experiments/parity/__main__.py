"""Runs a golden case from our code and writes our values under the same keys.

Examples:
  python -m experiments.parity --case=../shared/golden/few_shot.npz --out=/tmp/few_shot.npz
  python -m experiments.parity --case=case.json --out=ours.npz

The `case` string (seed, sizes, class names, optimizer settings) is all that is read from the input:
weights are drawn from its seed, tokens and every other number are computed here. A `.json` file may
hold the string itself.
"""

from pathlib import Path

from absl import flags

from experiments.common import cli
from experiments.parity import golden
from vtd_jax.output_checks import Output, check_outputs

_CASE = flags.DEFINE_string(
    "case", None, "golden file (.npz with a `case` string) or .json file", required=True
)
_OUT = flags.DEFINE_string("out", None, "file to write, .npz", required=True)


def main() -> str:
    """Computes one case and writes it."""
    check_outputs([Output("--out", Path(_OUT.value))], [(f"--case={_CASE.value}", _CASE.value)])
    case = golden.read_case(Path(_CASE.value))
    values = golden.run_case(case)
    golden.write_values(Path(_OUT.value), values)
    return f"wrote {_OUT.value}: {len(values)} arrays of case {case['name']!r}, seed {case['seed']}"


if __name__ == "__main__":
    cli.run(main, __doc__, device=True)
