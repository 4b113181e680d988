"""What one would write without metal4conv: `python baseline.py NET.pt2 OUT.mlpackage`."""

import sys


def convert(source: str, package: str) -> None:
    import coremltools
    import torch

    program = torch.export.load(source).run_decompositions({})
    model = coremltools.convert(
        program, skip_model_load=True, minimum_deployment_target=coremltools.target.iOS18
    )
    model.save(package)


if __name__ == "__main__":
    convert(*sys.argv[1:])
