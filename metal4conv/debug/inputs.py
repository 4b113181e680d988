"""The one set of inputs with which a package is cut: golden vectors, a file, or drawn numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from metal4conv.errors import UsageError
from metal4conv.frontends.source import SourceInput
from metal4conv.given import draw_inputs
from metal4conv.mil.interface import Interface
from metal4conv.mil.package import Package
from metal4conv.verify.given import cases_from_npz
from metal4conv.verify.golden import golden_path, read_golden
from metal4conv.verify.verification import package_input


def chosen_inputs(
    package: Package,
    function: str | None = None,
    *,
    golden: str | Path | None = None,
    inputs_npz: str | Path | None = None,
    case: int = 0,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """The inputs of one case: of `inputs_npz`, else of golden vectors, else drawn from `seed`.

    Golden vectors are those of a file, or without a word those beside the package.
    """
    if golden is not None and inputs_npz is not None:
        raise UsageError("golden vectors hold inputs already", hint="leave --golden out")
    interface = package.interface(function)
    types = {item.name: item.type for item in interface.inputs}
    path = golden_path(package.path) if golden is None else Path(golden)
    if inputs_npz is not None:
        inputs = [SourceInput(item.name, item.type) for item in interface.inputs]
        cases = [
            item.inputs
            for item in cases_from_npz(Path(inputs_npz), inputs, interface.dimensions).cases
        ]
        path = Path(inputs_npz)
    elif golden is not None or path.exists():
        cases = [item.inputs for item in read_golden(path).cases]
    else:
        check_case(case, 1, f"drawn inputs of {package.path}")
        return drawn(interface, seed)
    check_case(case, len(cases), str(path))
    missing = types.keys() - cases[case].keys()
    if missing or cases[case].keys() - types.keys():
        raise UsageError(
            f"{path} does not fit the package: it has inputs {', '.join(cases[case])}, the "
            f"package has {', '.join(types)}"
        )
    return {name: package_input(array, types[name]) for name, array in cases[case].items()}


def check_case(case: int, count: int, origin: str) -> None:
    """`UsageError` for a case that there is not."""
    if not 0 <= case < count:
        raise UsageError(
            f"there is no case {case} in {origin}", where="--case", hint=f"0 to {count - 1}"
        )


def drawn(interface: Interface, seed: int) -> dict[str, np.ndarray]:
    """Random inputs with the default sizes."""
    sizes = {name: dimension.default for name, dimension in interface.dimensions.items()}
    found: dict[str, np.ndarray] = draw_inputs(interface, {}, sizes, seed)
    return found
