"""coremltools, imported with only those frameworks that a conversion needs, and kept quiet.

coremltools imports torch and TensorFlow whenever they are installed (5 to 10 s for both). Only the
frontend that is asked for is let in; a later call that needs TensorFlow lets it in then.
"""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod
from types import ModuleType
from typing import Literal

from metal4conv.lazy import check_installed, is_installed

Framework = Literal["pytorch", "tensorflow", "none"]

log = logging.getLogger("metal4conv.frontends")

UNWANTED = ("torchvision", "torchaudio", "executorch", "torchao", "sklearn", "xgboost", "libsvm")
"""Packages that coremltools imports if it can, none of which a conversion needs."""


def coremltools_with(framework: Framework) -> ModuleType:
    """The module `coremltools`, with the frontend of one framework ready to use."""
    check_installed("coremltools")
    blocked = [name for name in UNWANTED if name not in sys.modules]
    if framework != "tensorflow" and "tensorflow" not in sys.modules:
        blocked.append("tensorflow")
    if framework == "tensorflow":
        check_installed("tensorflow", extra="tensorflow")
    if framework == "pytorch":
        check_installed("torch", extra="torch")
    own_log = logging.getLogger("coremltools")
    # it warns while it is imported, through a handler that it has just added
    own_log.disabled = "coremltools" not in sys.modules
    with quiet(), hidden(blocked):
        module = importlib.import_module("coremltools")
    own_log.disabled = False
    redirect_log(own_log)
    if framework == "tensorflow":
        enable_tensorflow()
    return module


@contextmanager
def hidden(names: list[str]) -> Iterator[None]:
    """Within it, importing one of `names` raises ImportError, as if it were not installed."""
    present = [name for name in names if is_installed(name) and name not in sys.modules]
    for name in present:
        sys.modules[name] = None  # type: ignore[assignment]  # documented way to block an import
    try:
        yield
    finally:
        for name in present:
            del sys.modules[name]


def enable_tensorflow() -> None:
    """Loads coremltools' TensorFlow frontend, which an earlier import without TensorFlow left out.

    The two packages import their parts only if the flags are set, so they are executed again.
    """
    deps = importlib.import_module("coremltools._deps")
    if deps._HAS_TF_2:
        return
    with quiet():
        vars(deps).update(_HAS_TF=True, _HAS_TF_2=True)
        for name in ("tensorflow", "tensorflow2"):
            part = importlib.import_module(f"coremltools.converters.mil.frontend.{name}")
            importlib.reload(part)


def redirect_log(source: logging.Logger) -> None:
    """Sends a package's own log through ours, which only `-v` shows."""
    source.handlers[:] = [Forwarder()]
    source.propagate = False


class Forwarder(logging.Handler):
    """Passes another package's records on as debug messages."""

    def emit(self, record: logging.LogRecord) -> None:
        log.debug("%s: %s", record.name, record.getMessage())


@contextmanager
def without_bars() -> Iterator[None]:
    """Within it, coremltools draws no progress bars (it does even where stderr is a file)."""
    from tqdm import tqdm

    original = tqdm.__init__
    tqdm.__init__ = partialmethod(original, disable=True)
    try:
        yield
    finally:
        tqdm.__init__ = original


def framework_loggers() -> list[logging.Logger]:
    """The frameworks' loggers that print by themselves; torch has some thirty below its own."""
    tops = ("coremltools", "torch", "tensorflow", "absl")
    below = [
        logger
        for name, logger in list(logging.root.manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and logger.handlers and name not in tops
        if name.partition(".")[0] in tops
    ]
    return [*map(logging.getLogger, tops), *below]


@contextmanager
def quiet() -> Iterator[None]:
    """Within it, warnings go to our log, and so do log messages of the frameworks."""
    noisy = framework_loggers()
    forwarder = Forwarder()
    saved = [(logger, logger.handlers[:], logger.propagate) for logger in noisy]
    for logger in noisy:
        logger.handlers[:] = [forwarder]
        logger.propagate = False
    show = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = lambda message, category, *where: log.debug("%s", message)
        try:
            yield
        finally:
            warnings.showwarning = show
            for logger, handlers, propagate in saved:
                added = [item for item in logger.handlers if item is not forwarder]
                logger.handlers[:] = handlers + added
                logger.propagate = propagate
