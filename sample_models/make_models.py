"""Trains the sample models again, on data generated here, and prints how good they are.

python sample_models/make_models.py                    all of them, some 25 minutes on two cores
python sample_models/make_models.py upscaler           one of them
python sample_models/make_models.py upscaler -o DIR    into another folder
"""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path

NAMES = ("upscaler", "ambient_occlusion", "neural_material", "animation_blend", "denoiser")


def main() -> None:
    first_line = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(description=first_line)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).resolve().parent)
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(
            f"no sample is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}"
        )
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.names or NAMES:
        print(f"{name}:", flush=True)
        start = time.perf_counter()
        importlib.import_module(f"training.{name}").train(options.output)
        print(f"{name}: {time.perf_counter() - start:.0f} s\n", flush=True)


if __name__ == "__main__":
    main()
