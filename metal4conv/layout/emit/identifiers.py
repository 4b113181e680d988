"""Identifiers and string literals for names that come from a model, which may be any text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

C_WORDS = """
alignas alignof and and_eq array asm atomic auto bfloat bitand bitor bool break case catch
char char16_t char32_t char8_t class co_await co_return co_yield compl complex concept const
const_cast consteval constant constexpr constinit continue decltype default delete device do
double dynamic_cast else enum explicit export extern false final float for fragment friend
goto half id if imaginary import in inline inout int kernel linux long metal module mutable
namespace new nil no noreturn not not_eq nullptr operator or or_eq oneway out override
private protected public ray_data register reinterpret_cast requires restrict return
sampler self short signed size_t sizeof static static_assert static_cast struct super switch
template texture this thread thread_local threadgroup threadgroup_imageblock throw true try
typedef typeid typename typeof uchar uint ulong union unix unsigned ushort using vector
vertex virtual void volatile wchar_t while xor xor_eq yes i
"""
"""Keywords of C, C++, Objective-C and Metal, and words that compilers define as macros.

Parameters and members stand alone; everything else begins with the package's name and needs no
check.
"""

SWIFT_WORDS = """
actor any as associatedtype associativity async await borrowing break case catch class
consuming continue convenience default defer deinit didset do dynamic else enum extension
fallthrough false fileprivate final for func get guard if import in indirect infix init
inout internal is isolated lazy left let macro mutating nil none nonisolated nonmutating
open operator optional override package postfix precedence precedencegroup prefix private
protocol public repeat required rethrows return right self set some static struct
subscript super switch throw throws true try type typealias unowned var weak where while
willset
"""
"""Keywords of Swift, also those that are only reserved in places."""


def plain(name: str) -> str:
    """A name of letters, digits and single underscores, beginning with a letter; may be empty.

    >>> plain("x.1"), plain("größe/Höhe"), plain("__a__b"), plain("入力"), plain("4x")
    ('x_1', 'grosse_Hohe', 'a_b', 'u5165_u529b', 'n4x')
    """
    text = unicodedata.normalize("NFKD", name.replace("ß", "ss"))
    letters = (spelled(letter) for letter in text if not unicodedata.combining(letter))
    joined = re.sub(r"_+", "_", "".join(letters)).strip("_")
    return f"n{joined}" if joined[:1].isdigit() else joined


def spelled(letter: str) -> str:
    """A letter or digit as it is, another language's by its number, a mark as underscore.

    >>> spelled("a"), spelled("."), spelled("入")
    ('a', '_', '_u5165_')
    """
    if letter.isascii():
        return letter if letter.isalnum() else "_"
    return f"_u{ord(letter):04x}_" if letter.isalnum() else "_"


def camel_case(name: str) -> str:
    """A plain name as Swift spells its members.

    >>> camel_case("input_ids"), camel_case("Color"), camel_case("RGB_image"), camel_case("x_1")
    ('inputIds', 'color', 'rgbImage', 'x1')
    """
    first, *others = name.split("_")
    first = first.lower() if first.isupper() else first[:1].lower() + first[1:]
    return first + "".join(part[:1].upper() + part[1:] for part in others)


class Identifiers:
    """Hands out identifiers, no two of which make the same name.

    `derived` gives all names that the emitted text makes of an identifier; upper and lower case
    count as the same, since macros are in upper case.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = {name.lower() for name in taken}

    def unique(self, wanted: str, derived: Callable[[str], Iterable[str]], words: str = "") -> str:
        """The wanted identifier, with a number behind it where it is taken or a keyword.

        >>> found = Identifiers(["net_dims"])
        >>> [found.unique("x", lambda name: [f"net_{name}"]) for _ in range(2)]
        ['x', 'x_2']
        >>> found.unique("dims", lambda name: [f"net_{name}"])
        'dims_2'
        """
        candidate, count, reserved = wanted, 1, set(words.split())
        while candidate.lower() in reserved or self.taken & set(lower(derived(candidate))):
            count += 1
            candidate = f"{wanted}_{count}"
        self.taken |= set(lower(derived(candidate)))
        return candidate


def lower(names: Iterable[str]) -> Iterable[str]:
    """The names in lower case."""
    return (name.lower() for name in names)


def c_literal(text: str) -> str:
    r"""A string literal of C, C++ and Objective-C.

    `?` is escaped, as C reads `??/` as a backslash; what cannot be seen is written in octal, which
    ends after three digits.

    >>> print(c_literal('say "x"\n\\ höhe??/'))
    "say \"x\"\012\\ höhe\?\?/"
    """
    return f'"{"".join(map(c_character, text))}"'


def c_character(letter: str) -> str:
    """One character within a C string literal."""
    if letter in '"\\?':
        return f"\\{letter}"
    if letter.isprintable():
        return letter
    return "".join(f"\\{byte:03o}" for byte in letter.encode("utf-8", "surrogatepass"))


def swift_literal(text: str) -> str:
    r"""A string literal of Swift.

    >>> print(swift_literal('say "x"\n\\(h)'))
    "say \"x\"\u{a}\\(h)"
    """
    return f'"{"".join(map(swift_character, text))}"'


def swift_character(letter: str) -> str:
    """One character within a Swift string literal."""
    if letter in '"\\':
        return f"\\{letter}"
    return letter if letter.isprintable() else f"\\u{{{ord(letter):x}}}"
