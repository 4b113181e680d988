"""What one would write without metal4conv: `python baseline.py NET.pt2 OUT.mlpackage`."""

import sys

import coremltools
import torch

program = torch.export.load(sys.argv[1]).run_decompositions({})
model = coremltools.convert(
    program, skip_model_load=True, minimum_deployment_target=coremltools.target.iOS18
)
model.save(sys.argv[2])
