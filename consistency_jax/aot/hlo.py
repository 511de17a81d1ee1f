"""What a compiled program does, read from its HLO text: matrix products, memory traffic, collectives.

XLA's own `cost_analysis` counts the body of a loop once, whatever its trip count; a step is mostly loops (layers,
chunks of the head, ring products). Here every instruction is counted as often as it runs. Trip counts come from the
loops' conditions: a counter that starts at a constant, grows by a constant, and is compared with a constant.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping

import numpy as np

BITS = {"pred": 8, "bf16": 16, "token": 0, "opaque": 0}  # of the types whose name does not end in their width
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
FREE = (  # what neither computes nor moves anything by itself
    *("parameter", "constant", "iota", "broadcast", "bitcast", "tuple", "get-tuple-element", "opt-barrier"),
    *("while", "call", "conditional", "async-start", "async-update", "async-done", "copy-done", "slice-done"),
    *("after-all", "partition-id", "replica-id", "add-dependency"),
)
SLICES = ("dynamic-slice", "slice", "gather")
COUNT = 2  # version of `Program.traffic`: the first one counted copies beside the computing several times


@dataclasses.dataclass(frozen=True)
class Array:
    """One array of an instruction's result."""

    dtype: str
    dims: tuple[int, ...]
    space: int = 0  # memory space; 0 is the main memory (HBM)

    @property
    def bytes(self) -> int:
        digits = re.search(r"\d+", self.dtype)
        bits = BITS[self.dtype] if self.dtype in BITS else int(digits.group()) if digits else 8
        return math.prod(self.dims) * bits // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    arrays: tuple[Array, ...]  # the result; a tuple's parts, flattened
    opcode: str
    operands: tuple[str, ...]
    inside: str  # the text between the operands' parentheses
    attributes: str  # the text after them

    @property
    def op_name(self) -> str:
        """The JAX operation that it came from: "jit(step)/jvp(Decoder)/.../dot_general"."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found.group(1) if found else ""

    def called(self, *names: str) -> list[str]:
        """The computations that these attributes ("body", "calls", ...) name."""
        found = []
        for name in names:
            for text in re.findall(rf"\b{name}=(\{{[^}}]*\}}|%?[\w.-]+)", self.attributes):
                found += re.findall(r"[\w.-]+", text)
        return found

    def attribute(self, name: str) -> str:
        """The text of an attribute without spaces in it; empty where there is none."""
        found = re.search(rf"\b{name}=([^\s,]+)", self.attributes)
        return found.group(1) if found else ""


@dataclasses.dataclass(frozen=True)
class Computation:
    """A named list of instructions; the last one marked ROOT is its result."""

    name: str
    instructions: Mapping[str, Instruction]
    root: str

    @functools.cached_property
    def parameters(self) -> dict[str, int]:
        """Names of the parameters, with their numbers."""
        return {i.name: int(i.inside) for i in self.instructions.values() if i.opcode == "parameter"}

    @functools.cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """By name, the instructions that take its value."""
        found: dict[str, list[Instruction]] = {}
        for instruction in self.instructions.values():
            for name in dict.fromkeys(instruction.operands):
                found.setdefault(name, []).append(instruction)
        return found

    def follow(self, name: str) -> Instruction:
        """The instruction of that name, looked at through copies."""
        instruction = self.instructions[name]
        while instruction.opcode in ("copy", "bitcast", "convert", "reshape"):
            instruction = self.instructions[instruction.operands[0]]
        return instruction


@dataclasses.dataclass(frozen=True)
class Collective:
    """A kind of communication: how often a device takes part in one step, and bytes that it sends."""

    count: int = 0
    bytes: float = 0.0


@dataclasses.dataclass(frozen=True)
class Executed:
    """An instruction with the number of times that it runs in one call of the program."""

    instruction: Instruction
    computation: Computation
    times: int
    fused: bool  # inside a fusion: its result is no array in memory


class Program:
    """A parsed HLO module.

    Attributes:
      computations: by name.
      entry: the name of the one where it starts.
      unknown_loops: names of loops whose trip count could not be read; their bodies are counted once.
    """

    def __init__(self, text: str):
        self.computations, self.entry = _parse(text)
        self.unknown_loops: list[str] = []

    @functools.cached_property
    def executed(self) -> list[Executed]:
        """All instructions that run. Of branches the last is counted; what reduces or compares elements is not."""
        return list(self._walk(self.entry, 1, False))

    def _walk(self, name: str, times: int, fused: bool) -> Iterator[Executed]:
        computation = self.computations[name]
        for instruction in computation.instructions.values():
            yield Executed(instruction, computation, times, fused)
            if instruction.opcode == "while":
                trips = self._trips(computation, instruction)
                for body in instruction.called("body"):
                    yield from self._walk(body, times * trips, fused)
            elif instruction.opcode == "conditional":
                branches = instruction.called("branch_computations", "true_computation", "false_computation")
                yield from self._walk(branches[-1], times, fused)
            elif instruction.opcode in ("fusion", "call", "async-start"):
                for body in instruction.called("calls", "to_apply"):
                    yield from self._walk(body, times, fused or instruction.opcode == "fusion")

    # ------------------------------------------------------------------------------------------------- trip counts
    def _trips(self, computation: Computation, loop: Instruction) -> int:
        condition = self.computations[loop.called("condition")[0]]
        body = self.computations[loop.called("body")[0]]
        initial = computation.instructions[loop.operands[0]]
        try:
            index, limit, inclusive = self._comparison(condition, initial, computation)
            start = _constant(computation, initial.operands[index])
            step = self._increment(body, index)
            return max(0, math.ceil((limit + inclusive - start) / step))
        except (KeyError, ValueError, IndexError, ZeroDivisionError):
            if loop.name not in self.unknown_loops:
                self.unknown_loops.append(loop.name)
            return 1

    def _inlined(
        self, computation: Computation, name: str
    ) -> tuple[Computation, Instruction, dict[str, str]]:
        """What computes a value: through a fusion, the instruction inside and parameter names -> operands."""
        instruction = computation.follow(name)
        if instruction.opcode != "fusion":
            return computation, instruction, {}
        inner = self.computations[instruction.called("calls")[0]]
        operands = {own: instruction.operands[number] for own, number in inner.parameters.items()}
        return inner, inner.follow(inner.root), operands

    def _comparison(
        self, condition: Computation, initial: Instruction, outside: Computation
    ) -> tuple[int, int, int]:
        """(index of the counter in the loop's tuple, limit, 1 where the limit itself is included)."""
        inner, compare, operands = self._inlined(condition, condition.root)
        direction = compare.attribute("direction")
        if compare.opcode != "compare" or direction not in ("LT", "LE", "GT", "GE"):
            raise ValueError("no comparison")
        values = []
        for name in compare.operands:
            found = inner.follow(name)
            values.append(condition.follow(operands[found.name]) if found.name in operands else found)
        if direction in ("GT", "GE"):
            values.reverse()
        counter, limit = values
        index = int(counter.attribute("index"))
        if limit.opcode == "get-tuple-element":
            bound = _constant(outside, initial.operands[int(limit.attribute("index"))])
        else:
            bound = int(limit.inside)
        return index, bound, int(direction in ("LE", "GE"))

    def _increment(self, body: Computation, index: int) -> int:
        root = body.follow(body.root)
        inner, add, operands = self._inlined(body, root.operands[index])
        if add.opcode == "tuple":  # several counters in one fusion: all that we meet grow by one
            return 1
        if add.opcode != "add":
            raise ValueError("the counter is not added to")
        for name in add.operands:
            found = inner.follow(name)
            found = body.follow(operands[found.name]) if found.name in operands else found
            if found.opcode == "constant":
                return int(found.inside)
        raise ValueError("the counter does not grow by a constant")

    # ------------------------------------------------------------------------------------------------------ counts
    def flops(self, scope: str = "") -> float:
        """Multiply-adds x 2 of the matrix products whose JAX operation has `scope` in its name."""
        return float(
            sum(
                run.times * product_flops(run.computation, run.instruction)
                for run in self.executed
                if run.instruction.opcode in ("dot", "convolution") and scope in run.instruction.op_name
            )
        )

    def collectives(self) -> dict[str, Collective]:
        """By kind, what a device takes part in. Bytes are those that it sends on the way of a ring."""
        seen: dict[tuple, tuple[str, int, float]] = {}
        for run in self.executed:
            found = _collective(run)
            if found:
                kind, size = found
                # One that is spread over several fusions, to overlap with their work, is one; those of its steps that
                # lie in a loop run more often than it starts.
                channel = run.instruction.attribute("channel_id")
                key = (kind, channel) if channel else (run.computation.name, run.instruction.name)
                if key not in seen or run.times < seen[key][1]:
                    seen[key] = (kind, run.times, run.times * size)
        totals: dict[str, Collective] = {}
        for kind, times, size in seen.values():
            before = totals.get(kind, Collective())
            totals[kind] = Collective(before.count + times, before.bytes + size)
        return totals

    def traffic(self) -> float:
        """Bytes read from and written to main memory by all but collectives; a slice counts as the slice."""
        return float(
            sum(run.times * self._moved(run) for run in self.executed if not run.fused and _moves(run))
        )

    def _moved(self, run: Executed) -> int:
        """Bytes of one run of an instruction that is no part of a fusion."""
        instruction, computation = run.instruction, run.computation
        operands = [computation.instructions[name] for name in instruction.operands]
        if instruction.opcode == "fusion":
            inner = self.computations[instruction.called("calls")[0]]
            moved = sum(
                min(_main(operands[number]), self._read(inner, name))
                for name, number in inner.parameters.items()
                if _main(operands[number])
            )
            root = inner.follow(inner.root)
            parts = root.operands if root.opcode == "tuple" else (root.name,)
            if len(parts) != len(instruction.arrays):
                return moved + _main(instruction)
            for array, part in zip(instruction.arrays, parts, strict=True):
                moved += min(array.bytes, self._written(inner, part)) if array.space == 0 else 0
            return moved
        if instruction.opcode in ("copy-start", "slice-start"):  # (to, from, ...), or (from, to, ...)
            return min(array.bytes for array in instruction.arrays[:2]) * sum(
                array.space == 0 for array in instruction.arrays[:2]
            )
        written = _main(instruction)
        if instruction.opcode in SLICES:  # read from one memory, written to another or the same
            return _total(instruction) * sum(own.arrays[0].space == 0 for own in (instruction, operands[0]))
        if instruction.opcode == "dynamic-update-slice":
            return _total(operands[1]) * sum(own.arrays[0].space == 0 for own in (instruction, operands[1]))
        return written + sum(_main(operand) for operand in operands)

    def _read(self, inner: Computation, name: str) -> int:
        """Bytes that a fusion reads of a value: slices where it takes slices of it, nothing where it passes it on."""
        size = 0
        for user in inner.users.get(name, ()):
            first = user.operands[0] == name
            if user.opcode in SLICES and first:
                size += _total(user)
            elif user.opcode == "bitcast" or self._renames(user, name):
                size += self._read(inner, user.name)
            elif user.opcode == "fusion":
                nested = self.computations[user.called("calls")[0]]
                size += sum(
                    self._read(nested, own)
                    for own, number in nested.parameters.items()
                    if user.operands[number] == name
                )
            elif not (user.opcode == "dynamic-update-slice" and first) and not _passes(user):
                size += _total(inner.instructions[name])
        return size

    def _renames(self, user: Instruction, name: str) -> bool:
        """Whether it copies, in form, an operand whose memory it shares: the TPU compiler's mark inside fusions."""
        shared = re.search(r"output_to_operand_aliasing=\{\{\}: \((\d+),", user.attributes)
        if user.opcode != "fusion" or not shared or user.operands[int(shared[1])] != name:
            return False
        inner = self.computations[user.called("calls")[0]]
        root = inner.follow(inner.root)
        return root.opcode == "parameter" and inner.parameters[root.name] == int(shared[1])

    def _written(self, inner: Computation, name: str) -> int:
        """Bytes that a fusion writes of a part of its result: updates where it updates an array in place."""
        found = inner.follow(name)
        if found.opcode == "dynamic-update-slice":
            return _total(inner.instructions[found.operands[1]])
        if found.opcode == "fusion":
            nested = self.computations[found.called("calls")[0]]
            return self._written(nested, nested.root)
        if found.opcode == "get-tuple-element":
            found = inner.instructions[found.operands[0]]
            return 0 if found.opcode in ("parameter", "custom-call") else _total(inner.instructions[name])
        return 0 if found.opcode == "parameter" or _passes(found) else _total(found)

    def shapes(self) -> set[tuple[int, ...]]:
        """Dimensions of every array that the program names, without those of size 1."""
        return {
            tuple(size for size in array.dims if size != 1)
            for run in self.executed
            for array in run.instruction.arrays
        }


def product_flops(computation: Computation, product: Instruction) -> int:
    """Multiply-adds x 2 of a dot or a convolution; padding and dilation holes do not count."""
    left, right = (computation.instructions[name].arrays[0].dims for name in product.operands[:2])
    out = product.arrays[0].dims
    if product.opcode == "dot":
        contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", product.attributes)
        sizes = [left[int(d)] for d in contracted.group(1).split(",") if d] if contracted else []
        return 2 * math.prod(out) * math.prod(sizes)
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", product.attributes)
    assert labels, product.name
    left_labels, right_labels, out_labels = labels.groups()
    window = re.search(r"window=\{([^}]*)\}", product.attributes)
    window = dict(part.split("=") for part in window.group(1).split()) if window else {}
    pairs = 1
    for number, label in enumerate(sorted(set(left_labels) - set("bf"))):
        pairs *= _pairs(
            left[left_labels.index(label)],
            right[right_labels.index(label)],
            out[out_labels.index(label)],
            {name: text.split("x")[number] for name, text in window.items()},
        )
    batch = left[left_labels.index("b")] // int(product.attribute("batch_group_count") or 1)
    features = right[right_labels.index("i")] * right[right_labels.index("o")]
    return 2 * batch * features * pairs


def _pairs(size: int, kernel: int, out: int, window: Mapping[str, str]) -> int:
    """How many (place in the output, place in the kernel) meet a real element of the input, along one axis."""
    stride, dilate, spread = (int(window.get(name, 1)) for name in ("stride", "lhs_dilate", "rhs_dilate"))
    pad = int(window.get("pad", "0_0").split("_")[0])
    place = np.arange(out)[:, None] * stride + np.arange(kernel)[None] * spread - pad
    return int(np.count_nonzero((place >= 0) & (place <= (size - 1) * dilate) & (place % dilate == 0)))


def group_size(text: str) -> int:
    """Devices in one group of `replica_groups`: {{0,1},{2,3}}, [2,4]<=[8] or mesh['a'=2,'b'=4] {'b'}; 0 unknown."""
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", text):
        return len(found.group(1).split(","))
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", text):
        return int(found.group(1))
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", text):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", found.group(1)))
        return math.prod(int(sizes[name]) for name in re.findall(r"'([^']+)'", found.group(2)))
    return 0


def _collective(run: Executed) -> tuple[str, float] | None:
    """(kind, bytes that a device sends) where the instruction starts a communication."""
    instruction = run.instruction
    kind = instruction.opcode.removesuffix("-start")
    if kind not in COLLECTIVES:
        return None
    names = run.computation.instructions
    size = sum(array.bytes for name in instruction.operands for array in names[name].arrays)
    if kind == "collective-permute":
        return kind, names[instruction.operands[0]].arrays[0].bytes
    if kind == "all-reduce" and "reduce-scatter" in run.computation.name:
        kind = "reduce-scatter"  # the TPU compiler's form: a fusion of the sum and of the slice that is kept
    group = group_size(instruction.attributes)
    share = (group - 1) / group if group else 1.0
    factor = {"all-gather": group * share, "all-reduce": 2 * share}.get(kind, share)
    return kind, size * factor


def _moves(run: Executed) -> bool:
    opcode = run.instruction.opcode.removesuffix("-start").removesuffix("-done")
    scatters = opcode == "fusion" and any(
        "reduce-scatter" in name for name in run.instruction.called("calls")
    )
    return run.instruction.opcode not in FREE and opcode not in COLLECTIVES and not scatters


def _main(instruction: Instruction) -> int:
    """Bytes of an instruction's result that lie in main memory."""
    return sum(array.bytes for array in instruction.arrays if array.space == 0)


def _total(instruction: Instruction) -> int:
    return sum(array.bytes for array in instruction.arrays)


def _passes(instruction: Instruction) -> bool:
    """Whether it hands values on, or is a step of a collective that runs beside the fusion it is written in."""
    return instruction.opcode in ("tuple", "custom-call") or instruction.opcode.startswith(COLLECTIVES)


def _constant(computation: Computation, name: str) -> int:
    """The value of an integer constant; ValueError where it is none."""
    found = computation.follow(name)
    if found.opcode != "constant":
        raise ValueError(f"{name} is no constant")
    return int(found.inside)


# ------------------------------------------------------------------------------------------------------------- parsing
_HEADER = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\) -> .*\{$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.-]+) = (.*)$")
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\](\{[^}]*\})?")


def _parse(text: str) -> tuple[dict[str, Computation], str]:
    computations: dict[str, Computation] = {}
    entry, name, root, lines = "", "", "", {}
    for line in text.splitlines():
        if header := _HEADER.match(line):
            name, lines, root = header.group(2), {}, ""
            entry = name if header.group(1) else entry
        elif line == "}" and name:
            computations[name] = Computation(name, lines, root)
            name = ""
        elif name and (found := _LINE.match(line)):
            instruction = _instruction(found.group(2), found.group(3))
            lines[instruction.name] = instruction
            root = instruction.name if found.group(1) else root
    if not entry:
        raise ValueError("this is no HLO module: it has no ENTRY computation")
    return computations, entry


def _instruction(name: str, text: str) -> Instruction:
    """`bf16[2,3]{1,0} add(%a, %b), metadata={...}`, or with a tuple (..., ...) in front."""
    end = _closing(text, 0) if text.startswith("(") else text.index(" ")
    arrays = []
    for dtype, dims, layout in _ARRAY.findall(text[:end]):
        space = re.search(r"S\((\d+)\)", layout)
        sizes = tuple(int(size) for size in dims.split(",") if size)
        arrays.append(Array(dtype, sizes, int(space.group(1)) if space else 0))
    rest = text[end:].lstrip(" ")
    start = rest.index("(")
    stop = _closing(rest, start)
    inside = rest[start + 1 : stop - 1]
    return Instruction(
        name=name,
        arrays=tuple(arrays),
        opcode=rest[:start],
        operands=tuple(re.findall(r"%([\w.-]+)", inside)),
        inside=inside,
        attributes=rest[stop:],
    )


def _closing(text: str, start: int) -> int:
    """The place after the parenthesis that closes the one at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if not depth:
            return place + 1
    raise ValueError(f"unclosed parenthesis in {text[:80]!r}")
