"""The tests on one machine as if it were several others: `python tests/machines.py [NAME ...] [-- PYTEST'S ARGUMENTS]`.

Other processors add numbers in another order, Python hashes strings by a seed, and tests may run in any order.
"""

import os
import subprocess
import sys
import time
from itertools import combinations, product
from pathlib import Path

VARIABLES = {
    "ATEN_CPU_CAPABILITY": ("", "default", "avx2"),  # torch's own loops
    "ONEDNN_MAX_CPU_ISA": ("", "AVX2", "SSE41"),  # its matrix products
    "MKL_ENABLE_INSTRUCTIONS": ("", "AVX2"),  # MKL's matrix products
    "OMP_NUM_THREADS": ("1", "2"),
    "PYTHONHASHSEED": ("1", "2"),
    "XSTILTS_TEST_ORDER": ("", "reversed"),
}
"""The values of each environment variable; empty: unset."""
MACHINES = {
    "as it is": ("", "", "", "1", "1", ""),
    "products as of 2013": ("", "AVX2", "", "1", "2", "reversed"),
    "products as of 2008": ("", "SSE41", "AVX2", "2", "1", ""),
    "plain loops": ("default", "", "", "2", "2", ""),
    "plain loops, products as of 2013": ("default", "AVX2", "", "2", "1", "reversed"),
    "plain loops, products as of 2008": ("default", "SSE41", "AVX2", "1", "2", "reversed"),
    "loops as of 2013": ("avx2", "", "AVX2", "2", "1", "reversed"),
    "all as of 2013": ("avx2", "AVX2", "AVX2", "1", "2", ""),
    "loops as of 2013, products as of 2008": ("avx2", "SSE41", "", "2", "2", ""),
}
"""Every two values of two variables occur together. Nine rows are the fewest: two variables have 3 x 3 pairs."""
DEFAULT_ARGUMENTS = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "-m", "not slow"]


def missing_pairs() -> set[tuple[tuple[str, str], tuple[str, str]]]:
    """Pairs of values that no machine has together.

    >>> missing_pairs()
    set()
    """
    each = [{*product([name], values)} for name, values in VARIABLES.items()]
    met = {pair for row in MACHINES.values() for pair in combinations(zip(VARIABLES, row, strict=True), 2)}
    return {pair for one, other in combinations(each, 2) for pair in product(one, other)} - met


def main(names: list[str], arguments: list[str]) -> int:
    """Run the tests as on each machine; 1 if any fail."""
    failed = []
    for name in names or MACHINES:
        chosen = dict(zip(VARIABLES, MACHINES[name], strict=True))
        print(f"== {name}: {' '.join(f'{key}={value}' for key, value in chosen.items() if value)}", flush=True)
        unset = {key: value for key, value in os.environ.items() if key not in VARIABLES}
        start = time.monotonic()
        command = [sys.executable, "-m", "pytest", *(arguments or DEFAULT_ARGUMENTS)]
        result = subprocess.run(
            command, env=unset | {key: value for key, value in chosen.items() if value},
            cwd=Path(__file__).parents[1], check=False,
        )  # fmt: skip
        failed += [name] if result.returncode else []
        print(f"== {name}: exit code {result.returncode} after {time.monotonic() - start:.0f} s", flush=True)
    print(f"== failed: {'; '.join(failed) or 'none'}")
    return int(bool(failed))


if __name__ == "__main__":
    words = [*sys.argv[1:], "--"]
    sys.exit(main(words[: words.index("--")], words[words.index("--") + 1 : -1]))
