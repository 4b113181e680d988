"""Output files that appear all at once: written aside, compared, and moved into place.

An output whose content did not change keeps its time stamp, and a failure leaves what was there.
"""

from __future__ import annotations

import errno
import filecmp
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from metal4conv.errors import OutputError


@dataclass
class Stage:
    """A folder beside the outputs in which they are written under their final names."""

    target: Path
    folder: Path
    written: list[Path] = field(default_factory=list)
    unchanged: list[Path] = field(default_factory=list)

    def path(self, name: str) -> Path:
        """Where to write the output `name` for now."""
        return self.folder / name

    def commit(self) -> None:
        """Moves everything into place; when one move fails, the earlier ones are undone."""
        with locked(self.target):
            self.move()

    def move(self) -> None:
        """The same, while nobody else does it."""
        undo: list[tuple[Path, Path | None]] = []
        try:
            for new in sorted(self.folder.iterdir()):
                final = self.target / new.name
                if same_content(new, final):
                    self.unchanged.append(final)
                    continue
                undo.append((final, set_aside(final, self.folder.name)))
                new.rename(final)
                self.written.append(final)
        except BaseException:
            for final, old in reversed(undo):
                remove(final)
                if old is not None:
                    old.rename(final)
            raise
        for _, old in undo:
            if old is not None:
                remove(old)


@contextmanager
def staged(target: Path) -> Iterator[Stage]:
    """A stage for outputs in `target`, committed when the block ends well.

    `OutputError` when the folder cannot be written, or the disk is full.
    """
    created: list[Path] = []
    folder: Path | None = None
    try:
        created = missing_parents(target)
        target.mkdir(parents=True, exist_ok=True)
        made = tempfile.mkdtemp(prefix=".metal4conv-", dir=target)
        folder = target / Path(made).name  # relative where the target is, as in errors
        stage = Stage(target, folder)
        yield stage
        stage.commit()
    except OSError as error:
        if not concerns(error, target):
            raise
        raise OutputError(
            f"cannot write to {target}: {error.strerror or error}",
            hint="check the folder's permissions and the space on its disk, or name another one",
        ) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        for parent in created:
            with suppress(OSError):
                parent.rmdir()  # only if it is still empty: nothing was written


def concerns(error: OSError, target: Path) -> bool:
    """Whether an error comes from writing to `target`: no space left, or a file in it or above."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
        return True
    if not isinstance(error.filename, (str, os.PathLike)):
        return False
    named = Path(error.filename)
    return named.is_relative_to(target) or target.is_relative_to(named)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within it, no other process moves outputs into `folder`; a process that ends lets it go."""
    if sys.platform == "win32":  # which has no such locks
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network disks have no locks either
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def missing_parents(folder: Path) -> list[Path]:
    """`folder` and those above it that do not exist, innermost first."""
    missing = []
    while folder != folder.parent and not folder.exists():
        missing.append(folder)
        folder = folder.parent
    return missing


def same_content(first: Path, second: Path) -> bool:
    """Whether two files, or all files of two folders, hold the same bytes."""
    if first.is_dir() != second.is_dir() or not second.exists():
        return False
    if not first.is_dir():
        return filecmp.cmp(first, second, shallow=False)
    names = tree(first)
    return names == tree(second) and all(
        filecmp.cmp(first / name, second / name, shallow=False) for name in names
    )


def tree(folder: Path) -> list[str]:
    """The files below a folder, by their relative paths."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def set_aside(path: Path, prefix: str) -> Path | None:
    """Renames what is at `path` to a name beside it, None when there is nothing."""
    if not path.exists() and not path.is_symlink():
        return None
    old = path.with_name(f"{prefix}.{path.name}")
    path.rename(old)
    return old


def remove(path: Path) -> None:
    """Deletes a file or folder; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_file(path: Path, text: str) -> None:
    """Writes one text file in the same way."""
    with staged(path.parent) as stage:
        stage.path(path.name).write_text(text, "utf-8")


def depfile_text(targets: Iterable[Path], inputs: Iterable[Path]) -> str:
    """A Makefile rule without a recipe: the outputs depend on the inputs.

    >>> depfile_text([Path("net.layout.json")], [Path("my net.py")])
    'net.layout.json: my\\\\ net.py\\n\\nmy\\\\ net.py:\\n'
    """
    names = [escape(path) for path in dict.fromkeys(inputs)]
    rule = f"{' '.join(escape(path) for path in targets)}: {' '.join(names)}\n"
    # an empty rule for each input, so that make does not stop when one was deleted
    return rule + "".join(f"\n{name}:\n" for name in names)


def escape(path: Path) -> str:
    r"""A path as make and ninja read it.

    >>> print(escape(Path("take 1: $5#.py")))
    take\ 1\:\ $$5\#.py
    """
    text = str(path).replace("$", "$$")
    text = re.sub(r"(\\*) ", r"\1\1\\ ", text)  # backslashes count before a space only
    return re.sub(r"([#:])", r"\\\1", text)
