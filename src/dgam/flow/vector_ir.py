"""Write small vector kernels as arithmetic in Python and compile them with LLVM at run time.

llvmlite is a wheel that carries LLVM with it, so this needs no system compiler and no compiled build of ours.
A kernel is built by calling ordinary Python once: `Number` objects stand for values that will exist when the
kernel runs, and their operators append instructions.

    kernel = Kernel(module, "scale", [("values", POINTER), ("count", INTEGER), ("factor", FLOAT)])
    with kernel.loop(0, kernel["count"], step=8) as x:
        kernel.store(kernel.load(kernel["values"], x, lanes=8) * kernel["factor"], kernel["values"], x)
    kernel.finish() library = compile_module(module)          # {"scale": ctypes function that runs without
    the interpreter lock}
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

# llvmlite has no annotations.
import llvmlite.binding as llvm  # type: ignore[import-untyped,unused-ignore]  # it has no types
from llvmlite import ir  # type: ignore[import-untyped,unused-ignore]  # it has no types

FLOAT: Any = ir.FloatType()
INTEGER: Any = ir.IntType(64)
POINTER: Any = ir.PointerType()
_INT32: Any = ir.IntType(32)
_C_TYPES: dict[Any, Any] = {FLOAT: ctypes.c_float, INTEGER: ctypes.c_int64, POINTER: ctypes.c_void_p}
# Rounding may be fused (multiply-add) and the sign of zero ignored; nothing is reordered or approximated, so
# a kernel gives the same bits in every call.
_FLAGS = ("contract", "nsz")


def _lanes(kind: Any) -> int:
    return kind.count if isinstance(kind, ir.VectorType) else 1


@dataclass(frozen=True, eq=False)
class Number:
    """A float, an integer or a vector of either that exists when the kernel runs."""

    kernel: Kernel
    value: Any

    @property
    def lanes(self) -> int:
        return _lanes(self.value.type)

    @property
    def is_float(self) -> bool:
        kind = self.value.type
        return bool((kind.element if isinstance(kind, ir.VectorType) else kind) == FLOAT)

    def spread(self, lanes: int) -> Number:
        """The scalar in every lane of a vector; a vector of that size stays as it is."""
        if self.lanes == lanes:
            return self
        builder, kind = self.kernel.builder, ir.VectorType(self.value.type, lanes)
        first = builder.insert_element(ir.Constant(kind, ir.Undefined), self.value, _INT32(0))
        zeros = ir.Constant(ir.VectorType(_INT32, lanes), [0] * lanes)
        return Number(self.kernel, builder.shuffle_vector(first, first, zeros))

    def take(self, *lanes: int) -> Number:
        """A vector of the named lanes, in that order; a scalar where one lane is named."""
        builder = self.kernel.builder
        if len(lanes) == 1:
            return Number(self.kernel, builder.extract_element(self.value, _INT32(lanes[0])))
        mask = ir.Constant(ir.VectorType(_INT32, len(lanes)), list(lanes))
        return Number(self.kernel, builder.shuffle_vector(self.value, self.value, mask))

    def join(self, other: Number) -> Number:
        """Both vectors end to end."""
        mask = ir.Constant(ir.VectorType(_INT32, 2 * self.lanes), list(range(2 * self.lanes)))
        return Number(self.kernel, self.kernel.builder.shuffle_vector(self.value, other.value, mask))

    def _pair(self, other: Number | float) -> tuple[Any, Any]:
        right = other if isinstance(other, Number) else self.kernel.constant(other, like=self)
        lanes = max(self.lanes, right.lanes)
        return self.spread(lanes).value, right.spread(lanes).value

    def _apply(self, name: str, other: Number | float, swap: bool = False) -> Number:
        left, right = self._pair(other)
        if swap:
            left, right = right, left
        builder = self.kernel.builder
        if self.is_float:
            return Number(self.kernel, getattr(builder, "f" + name)(left, right, flags=_FLAGS))
        return Number(self.kernel, getattr(builder, name)(left, right))

    def __add__(self, other: Number | float) -> Number:
        return self._apply("add", other)

    def __sub__(self, other: Number | float) -> Number:
        return self._apply("sub", other)

    def __mul__(self, other: Number | float) -> Number:
        return self._apply("mul", other)

    def __truediv__(self, other: Number | float) -> Number:
        return self._apply("div", other)

    def __radd__(self, other: float) -> Number:
        return self._apply("add", other, swap=True)

    def __rsub__(self, other: float) -> Number:
        return self._apply("sub", other, swap=True)

    def __rmul__(self, other: float) -> Number:
        return self._apply("mul", other, swap=True)

    def __rtruediv__(self, other: float) -> Number:
        return self._apply("div", other, swap=True)

    def _compare(self, sign: str, other: Number | float) -> Number:
        left, right = self._pair(other)
        builder = self.kernel.builder
        compare = builder.fcmp_ordered if self.is_float else builder.icmp_signed
        return Number(self.kernel, compare(sign, left, right))

    def __lt__(self, other: Number | float) -> Number:
        return self._compare("<", other)

    def __gt__(self, other: Number | float) -> Number:
        return self._compare(">", other)

    def __and__(self, other: Number) -> Number:
        return Number(self.kernel, self.kernel.builder.and_(self.value, other.value))

    def choose(self, yes: Number | float, no: Number | float) -> Number:
        """``yes`` where this comparison holds and ``no`` elsewhere. One of the two must be a Number."""
        if not isinstance(yes, Number):
            assert isinstance(no, Number)
            yes = self.kernel.constant(yes, like=no)
        left, right = yes._pair(no)
        return Number(self.kernel, self.kernel.builder.select(self.value, left, right))

    def min(self, other: Number | float) -> Number:
        return (self < other).choose(self, other)

    def max(self, other: Number | float) -> Number:
        return (self > other).choose(self, other)

    def _intrinsic(self, name: str) -> Number:
        kind = self.value.type
        full = f"llvm.{name}.f32" if self.lanes == 1 else f"llvm.{name}.v{self.lanes}f32"
        known = self.kernel.module.globals
        function = (
            known[full]
            if full in known
            else ir.Function(self.kernel.module, ir.FunctionType(kind, [kind]), full)
        )
        return Number(self.kernel, self.kernel.builder.call(function, [self.value]))

    def sqrt(self) -> Number:
        return self._intrinsic("sqrt")

    def floor(self) -> Number:
        return self._intrinsic("floor")

    def round_even(self) -> Number:
        return self._intrinsic("rint")

    def to_int(self) -> Number:
        """Whole floats as 64-bit integers."""
        kind = INTEGER if self.lanes == 1 else ir.VectorType(INTEGER, self.lanes)
        return Number(self.kernel, self.kernel.builder.fptosi(self.value, kind))

    def to_float(self) -> Number:
        kind = FLOAT if self.lanes == 1 else ir.VectorType(FLOAT, self.lanes)
        return Number(self.kernel, self.kernel.builder.sitofp(self.value, kind))


class Kernel:
    """One function under construction: arguments by name, loads, stores and loops.

    Pointers are to float32; offsets count elements.
    """

    def __init__(self, module: Any, name: str, arguments: Sequence[tuple[str, Any]]) -> None:
        self.module = module
        self.kinds = [kind for _, kind in arguments]
        self._function = ir.Function(module, ir.FunctionType(ir.VoidType(), self.kinds), name)
        self._entry = self._function.append_basic_block("entry")
        self.builder = ir.IRBuilder(self._function.append_basic_block("body"))
        self._start = self.builder.block
        self._arguments = {
            name: Number(self, value) for (name, _), value in zip(arguments, self._function.args, strict=True)
        }

    def __getitem__(self, name: str) -> Number:
        return self._arguments[name]

    def finish(self) -> None:
        """Close the function. Nothing may be added after it."""
        self.builder.ret_void()
        ir.IRBuilder(self._entry).branch(self._start)

    def constant(self, value: float, like: Number) -> Number:
        return Number(self, ir.Constant(FLOAT if like.is_float else INTEGER, value))

    def integer(self, value: int) -> Number:
        return Number(self, ir.Constant(INTEGER, value))

    def vector(self, values: Sequence[float]) -> Number:
        """A constant vector of floats."""
        return Number(self, ir.Constant(ir.VectorType(FLOAT, len(values)), list(values)))

    def scratch(self, count: int) -> Number:
        """Room for ``count`` floats on the stack, aligned to a cache line."""
        slot = ir.IRBuilder(self._entry).alloca(ir.ArrayType(FLOAT, count))
        slot.align = 64
        slot.type = POINTER  # not one to an array of known size
        return Number(self, slot)

    def at(self, pointer: Number, offset: Number | int) -> Number:
        """The pointer moved on by ``offset`` floats."""
        offset = offset if isinstance(offset, Number) else self.integer(offset)
        return Number(self, self.builder.gep(pointer.value, [offset.value], source_etype=FLOAT))

    def load(self, pointer: Number, offset: Number | int = 0, lanes: int = 1) -> Number:
        kind = FLOAT if lanes == 1 else ir.VectorType(FLOAT, lanes)
        return Number(self, self.builder.load(self.at(pointer, offset).value, align=4, typ=kind))

    def load_integer(self, pointer: Number, index: Number) -> Number:
        """One of the 64-bit integers stored one after another from ``pointer``."""
        place = self.builder.gep(pointer.value, [index.value], source_etype=INTEGER)
        return Number(self, self.builder.load(place, align=4, typ=INTEGER))

    def store(self, number: Number, pointer: Number, offset: Number | int = 0) -> None:
        self.builder.store(number.value, self.at(pointer, offset).value, align=4)

    def counter(self, lanes: int) -> Number:
        """The lane numbers 0, 1, 2, … as integers."""
        return Number(self, ir.Constant(ir.VectorType(INTEGER, lanes), list(range(lanes))))

    @contextmanager
    def loop(self, start: Number | int, stop: Number, step: int = 1) -> Iterator[Number]:
        """Count an integer from ``start`` while it is below ``stop``."""
        slot = ir.IRBuilder(self._entry).alloca(INTEGER)
        first = start if isinstance(start, Number) else self.integer(start)
        self.builder.store(first.value, slot)
        head = self._function.append_basic_block("head")
        body = self._function.append_basic_block("loop")
        done = self._function.append_basic_block("done")
        self.builder.branch(head)
        self.builder.position_at_end(head)
        index = Number(self, self.builder.load(slot, typ=INTEGER))
        self.builder.cbranch((index < stop).value, body, done)
        self.builder.position_at_end(body)
        yield index
        self.builder.store((index + step).value, slot)
        self.builder.branch(head)
        self.builder.position_at_end(done)

    @contextmanager
    def when(self, condition: Number) -> Iterator[None]:
        """Run what is inside only where the scalar comparison holds."""
        with self.builder.if_then(condition.value):
            yield

    def variable(self, lanes: int) -> Variable:
        """A float vector that changes inside loops, zero at first."""
        kind = ir.VectorType(FLOAT, lanes)
        return Variable(self, ir.IRBuilder(self._entry).alloca(kind), kind)


@dataclass(frozen=True, eq=False)
class Variable:
    """A place for a value that changes inside loops; LLVM keeps it in a register."""

    kernel: Kernel
    slot: Any
    kind: Any

    def get(self) -> Number:
        return Number(self.kernel, self.kernel.builder.load(self.slot, typ=self.kind))

    def set(self, number: Number) -> None:
        self.kernel.builder.store(number.value, self.slot)


def new_module() -> Any:
    """An empty module to build kernels in."""
    return ir.Module(name="dgam")


def host_lanes() -> int:
    """How many floats one register of this processor holds: 16, 8 or 4."""
    features = llvm.get_host_cpu_features()
    return 16 if features.get("avx512f") else 8 if features.get("avx2") else 4


class Library:
    """Compiled kernels by name, for vectors of ``lanes`` floats. They live as long as this object."""

    def __init__(self, tracker: Any, engine: Any, kernels: Mapping[str, Kernel], lanes: int) -> None:
        self.lanes = lanes
        self._keep = (tracker, engine)
        self._functions = {
            name: ctypes.CFUNCTYPE(None, *(_C_TYPES[kind] for kind in kernel.kinds))(tracker[name])
            for name, kernel in kernels.items()
        }

    def __getitem__(self, name: str) -> Any:
        return self._functions[name]


def compile_module(module: Any, kernels: Mapping[str, Kernel], lanes: int) -> Library:
    """Machine code for this processor. RuntimeError where LLVM refuses the code or the system forbids it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    # LLVM halves 16-lane vectors on its own on many processors; these kernels are faster at full width.
    host = llvm.get_host_cpu_features()
    features = host.flatten() + (",-prefer-256-bit" if host.get("avx512f") else "")
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=3, jit=True, codemodel="jitdefault"
    )
    parsed = llvm.parse_assembly(str(module))
    parsed.triple = target.triple
    parsed.data_layout = str(machine.target_data)
    parsed.verify()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(parsed, builder)
    engine = llvm.create_lljit_compiler(machine)
    library = llvm.JITLibraryBuilder().add_object_img(machine.emit_object(parsed))
    for name in kernels:
        library.export_symbol(name)
    return Library(library.link(engine, "dgam"), engine, kernels, lanes)
