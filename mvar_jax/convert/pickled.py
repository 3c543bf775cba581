"""Reads pickles of plain containers without executing anything.

A pickle is a program for a small machine with a stack. This one knows the instructions that
build lists, tuples and dicts of strings and numbers. It may call the functions that it is given
and no others: whatever else a pickle asks for is refused by name.
"""

import io
import pickletools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
LITERALS = frozenset(
    "BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 "
    "SHORT_BINBYTES BINBYTES SHORT_BINSTRING BINSTRING".split()
)
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
LONGEST_NAME = 100  # characters of it that a message shows
KEYS = (str, int, float, type(None))  # a nested tuple can be too deep to hash


def unpickle(data: bytes | io.BytesIO, known: Mapping[str, Any], load: Callable[[Any], Any]) -> Any:
    """The value that a pickle describes; a stream is read up to the end of the pickle.

    `known` maps the global names that it may use, as "module.name", to what they stand for
    here; those that are called must be functions, and check what they are given. `load` turns a
    persistent id into a value. A dict's attributes are ignored; what a function made is given its
    own by the method `set_state`. Raises ValueError, without a final stop, for anything else in
    the pickle and for damage.
    """
    return _Machine(known, load).run(data)


class _Machine:
    def __init__(self, known: Mapping[str, Any], load: Callable[[Any], Any]):
        self.known, self.load = known, load
        self.stack: list = []
        self.outer: list[list] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes | io.BytesIO) -> Any:
        try:
            for name, argument in _instructions(data):
                if name == "STOP":
                    return self.stack.pop()
                self.step(name, argument)
        except (IndexError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"its list of tensors is damaged ({error!r})") from None
        raise ValueError("its list of tensors is cut off")

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in LITERALS:
            stack.append(argument)
        elif name in TUPLES:
            stack.append(self.take(TUPLES[name]))
        else:
            method = getattr(self, f"do_{name.lower()}", None)
            if method is None:
                raise ValueError(
                    f"its list of tensors has the instruction {name}, expected tensors and plain "
                    "containers only"
                )
            method(argument)

    def take(self, count: int) -> tuple:
        """The last values of the stack, taken off it."""
        first = len(self.stack) - count
        if first < 0:
            raise IndexError("empty stack")
        values = tuple(self.stack[first:])
        del self.stack[first:]
        return values

    def take_marked(self) -> tuple:
        """The values since the last mark."""
        values, self.stack = tuple(self.stack), self.outer.pop()
        return values

    def find(self, name: str) -> None:
        if name not in self.known:
            raise ValueError(
                f"it holds {name[:LONGEST_NAME]!r}, expected tensors and plain containers only; "
                "what else is in such a file could run commands, so nothing of it was loaded"
            )
        self.stack.append(self.known[name])

    def update(self, values: tuple) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(values) % 2:
            raise TypeError("keys and values without a dict")
        for key, value in zip(values[::2], values[1::2]):
            if not isinstance(key, KEYS):
                raise TypeError(f"a {type(key).__name__} as key")
            target[key] = value

    def extend(self, values: tuple) -> None:
        if type(self.stack[-1]) is not list:
            raise TypeError("items without a list")
        self.stack[-1].extend(values)

    def do_proto(self, _) -> None:
        """Any protocol: instructions count, not versions."""

    do_frame = do_proto

    def do_mark(self, _) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def do_tuple(self, _) -> None:
        values = self.take_marked()
        self.stack.append(values)

    def do_empty_list(self, _) -> None:
        self.stack.append([])

    def do_empty_dict(self, _) -> None:
        self.stack.append({})

    def do_append(self, _) -> None:
        self.extend(self.take(1))

    def do_appends(self, _) -> None:
        self.extend(self.take_marked())

    def do_setitem(self, _) -> None:
        self.update(self.take(2))

    def do_setitems(self, _) -> None:
        self.update(self.take_marked())

    def do_binput(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    do_long_binput = do_binput

    def do_memoize(self, _) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_binget(self, index: int) -> None:
        self.stack.append(self.memo[index])

    do_long_binget = do_binget

    def do_global(self, names: str) -> None:
        self.find(names.replace(" ", "."))

    def do_stack_global(self, _) -> None:
        names = self.take(2)
        if not all(isinstance(name, str) for name in names):
            raise TypeError("a name that is no text")
        self.find(".".join(names))

    def do_binpersid(self, _) -> None:
        self.stack.append(self.load(*self.take(1)))

    def do_reduce(self, _) -> None:
        function, arguments = self.take(2)
        if not callable(function) or type(arguments) is not tuple:
            raise TypeError("a call of what is no function")
        self.stack.append(function(*arguments))

    def do_build(self, _) -> None:
        (state,) = self.take(1)
        target = self.stack[-1]
        if hasattr(target, "set_state"):
            target.set_state(state)
        elif type(target) is not dict:
            raise TypeError("attributes without a dict")


def _instructions(data: bytes | io.BytesIO) -> Iterator[tuple[str, Any]]:
    try:
        for opcode, argument, _ in pickletools.genops(data):
            yield opcode.name, argument
    except ValueError as error:
        raise ValueError(f"its list of tensors is damaged ({error})") from None
