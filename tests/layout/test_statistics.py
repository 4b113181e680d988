"""Statistics of packages, counted by hand."""

import json
import subprocess
import sys

from metal4conv.layout.manifest import layout_manifest
from metal4conv.layout.statistics import program_statistics
from metal4conv.mil.interface import LAYOUT_KEY
from tests.layout.packages import PackageBuilder, upscaler


def test_static_package(static_package):
    assert program_statistics(static_package) == {
        "functions": {"main": {"opset": "CoreML8"}},
        "operations": {"linear": 1, "softmax": 1},
        "operation_count": 2,
        "weights": {"float32": {"count": 1, "elements": 70, "bytes": 280}},
        "immediate_constants": {"count": 1, "elements": 7},
        "weight_file_bytes": 64,
        "parameters": 77,
        "sizes": {},
        "flops": 560,
        "flops_counted": ["linear"],
        "activations": {"peak_bytes": 112, "total_bytes": 112},
    }


def test_dynamic_package_at_its_default_sizes(dynamic_package):
    statistics = program_statistics(dynamic_package)
    assert statistics["sizes"] == {"x_2": 720, "x_3": 1280}
    assert statistics["flops"] == 2 * 720 * 1280 * 12 * 27
    assert statistics["activations"]["peak_bytes"] == 2 * 2 * 12 * 720 * 1280
    assert statistics["parameters"] == 12 * 27


def test_the_embedded_manifest_spares_torch(dynamic_package, tmp_path):
    builder = upscaler()
    builder.metadata(LAYOUT_KEY, json.dumps(layout_manifest(dynamic_package).to_json()))
    package = builder.write(tmp_path / "embedded.mlpackage")
    script = (
        "import sys; from metal4conv.layout.statistics import program_statistics\n"
        "from metal4conv.mil.package import read_package\n"
        "print(program_statistics(read_package(sys.argv[1]))['flops'])\n"
        "print(sorted({'torch', 'numpy', 'jsonschema', 'coremltools'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, package.path], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{2 * 720 * 1280 * 12 * 27}\n[]\n"


def test_compressed_shared_and_integer_constants(tmp_path):
    build = PackageBuilder()
    build.input("x", "float16", (1, 16))
    build.weight("indices", "uint4", (32, 16), offset=64)
    build.weight("table", "float16", (1, 1, 16, 1), offset=384)
    build.operation(
        "constexpr_lut_to_dense",
        "weight",
        "float16",
        (32, 16),
        {"indices": ["indices"], "lut": ["table"]},
    )
    build.weight("scale", "float16", (32,), offset=512)
    build.weight("scale_again", "float16", (32,), offset=512)
    build.literal("shape", "int32", (2,), [1, 32])
    build.literal("epsilon", "float16", (), [1e-5])
    build.operation("linear", "z", "float16", (1, 32), {"x": ["x"], "weight": ["weight"]})
    build.operation("mul", "y", "float16", (1, 32), {"x": ["z"], "y": ["scale"]})
    build.output("y", "float16")
    statistics = program_statistics(build.write(tmp_path / "packed.mlpackage"))
    assert statistics["weights"] == {
        "uint4": {"count": 1, "elements": 512, "bytes": 256},
        "float16": {"count": 2, "elements": 48, "bytes": 96},
    }
    assert statistics["immediate_constants"] == {"count": 2, "elements": 3}
    assert statistics["parameters"] == 512 + 32
    assert statistics["flops"] == 2 * 32 * 16
    assert statistics["operations"] == {"constexpr_lut_to_dense": 1, "linear": 1, "mul": 1}
