"""Which tensors of which files are meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from metal4conv.errors import UsageError
from metal4conv.view.buffers import flags_for_buffers
from metal4conv.view.contents import Contents, Entry, last_part
from metal4conv.view.opening import open_contents
from metal4conv.view.parts import ViewOptions

MOST_NAMES = 20
"""More names in a hint are no help."""


def open_files(file: str, options: ViewOptions) -> tuple[Contents, Contents | None]:
    """The tensors of the file, and of the one that `--against` names."""
    first = open_file(file, options)
    second = open_file(options.against, options, is_second=True) if options.against else None
    kinds = {str(contents.path): contents.kind for contents in (first, second) if contents}
    unused = flags_for_buffers(options.buffer)
    if "raw buffer" in kinds.values():
        return first, second
    if unused:
        raise UsageError(
            f"{unused[0]} tells how a raw buffer is to be read; {' and '.join(kinds)} needs none",
            where=unused[0],
        )
    if options.buffer.dtype is None:
        return first, second
    return reread(first, options), second and reread(second, options)


def open_file(file: str, options: ViewOptions, *, is_second: bool = False) -> Contents:
    """The tensors of one file; of a trace those of the operation that is asked for."""
    contents = open_contents(Path(file), options.buffer, options.tensor)
    if options.operation is None or (is_second and contents.kind != "trace"):
        return contents
    return contents.of_operation(options.operation)


def reread(contents: Contents, options: ViewOptions) -> Contents:
    """The contents with the tensor in question, or all, read as `--dtype`."""
    assert options.buffer.dtype is not None
    if options.tensor and contents.named:
        contents = contents.only(contents.find(options.tensor))
    return contents.as_type(options.buffer.dtype)


def chosen(contents: Contents, options: ViewOptions) -> Entry | None:
    """The tensor that is looked at, None for all of a file with names."""
    if not contents.named:
        check_nameless(options, contents)
        return contents.entries[0]
    if options.tensor:
        return contents.find(options.tensor)
    if options.operation and len(contents.entries) == 1:
        return contents.entries[0]
    details = {
        "--slice": options.slice,
        "--numbers": options.numbers,
        "--png": options.png,
        "--range": options.value_range,
        "--amplify": options.amplify,
    }
    for flag, value in details.items():
        if value:
            count = len(contents.entries)
            raise UsageError(
                f"{flag} is about one tensor, and {contents.path} has {count}",
                where=flag,
                hint=names_hint(contents),
            )
    return None


def check_nameless(options: ViewOptions, *files: Contents) -> None:
    """`UsageError` for `--tensor` when no file has names, and no manifest says which it is."""
    if options.tensor and options.buffer.layout is None:
        paths = " and ".join(str(contents.path) for contents in files)
        raise UsageError(
            f"{paths} {'holds one array' if len(files) == 1 else 'hold one array each,'} "
            "without a name",
            where=f"--tensor {options.tensor}",
        )


def chosen_pair(
    first: Contents, second: Contents, options: ViewOptions
) -> tuple[Entry, Entry] | None:
    """The tensors that are compared, None for all that both files name."""
    if not first.named and not second.named:
        check_nameless(options, first, second)
        return first.entries[0], second.entries[0]
    if not first.named:
        if options.tensor is None:
            raise which_one(second, first)
        return first.entries[0], second.find(options.tensor)
    entry = chosen(first, named_in(first, options))
    if second.named:
        return None if entry is None else (entry, partner(entry, second, options.tensor))
    if entry is None:
        raise which_one(first, second)
    return entry, second.entries[0]


def named_in(contents: Contents, options: ViewOptions) -> ViewOptions:
    """The options with the tensor's name as a file has it: a name may be that of the other file."""
    name = options.tensor
    if name is None or name in contents.names or last_part(name) not in contents.names:
        return options
    return replace(options, tensor=last_part(name))


def which_one(named: Contents, single: Contents) -> UsageError:
    """The error for one tensor that is to be compared with a file of several."""
    return UsageError(
        f"{single.path} holds one tensor, {named.path} has {len(named.entries)}",
        where="--against",
        hint=names_hint(named),
    )


def names_hint(contents: Contents) -> str:
    """How to name one of the tensors."""
    return f"add --tensor NAME, one of: {', '.join(contents.names[:MOST_NAMES])}"


def partner(entry: Entry, contents: Contents, asked: str | None = None) -> Entry:
    """The tensor of another file that goes by the same name, or by the end of it."""
    for name in (entry.name, asked):
        if name in contents.names:
            return contents.find(name)
    return contents.find(last_part(entry.name), where="--against")
