"""A machine that runs BPF byte code on an arena and writes down each access to memory.

It does what the instruction set says (Documentation/bpf/standardization/instruction-set.rst) and
no more: no verifier, no budget for loops but a bound on all steps. The arena is that of a native
engine's, so what the byte code did can be looked at from Python.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, NamedTuple

from arenads.btf import ObjectFile

_INSTRUCTION = struct.Struct("<BBhi")
_RELOCATION = struct.Struct("<QQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_U64 = (1 << 64) - 1
_U32 = (1 << 32) - 1
_STACK = 0x7F00_0000_0000
_CONTEXT = 0x7E00_0000_0000
_FRAME = 512
_STEPS = 1_000_000
_SIZES = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}

LD, LDX, ST, STX, ALU, JMP, JMP32, ALU64 = range(8)
MEM, MEM_SIGNED, ATOMIC = 0x60, 0x80, 0xC0
FETCH = 0x01
ADD, OR, AND, XOR, XCHG, CMPXCHG = 0x00, 0x40, 0x50, 0xA0, 0xE1, 0xF1
LOAD_ACQUIRE, STORE_RELEASE = 0x100, 0x110


class Instruction(NamedTuple):
    """One instruction; `constant` is 64 bits wide in a load of one."""

    opcode: int
    target: int
    source: int
    offset: int
    constant: int

    @property
    def kind(self) -> int:
        return self.opcode & 7

    @property
    def is_atomic(self) -> bool:
        return self.kind == STX and self.opcode & 0xE0 == ATOMIC

    @property
    def size(self) -> int:
        """Bytes that a load or store is of."""
        return _SIZES[self.opcode & 0x18]


class Access(NamedTuple):
    """What an instruction did to memory: "load", "store", or an atomic by its name."""

    kind: str
    address: int
    value: int

    @property
    def in_arena(self) -> bool:
        return self.address <= _U32


ATOMICS = {
    ADD: "add that returns nothing",
    ADD | FETCH: "fetch-add",
    OR | FETCH: "fetch-or",
    AND | FETCH: "fetch-and",
    XOR | FETCH: "fetch-xor",
    XCHG: "exchange",
    CMPXCHG: "compare-exchange",
    LOAD_ACQUIRE: "load-acquire",
    STORE_RELEASE: "store-release",
}
FULL_BARRIERS = {ATOMICS[code] for code in ATOMICS if code & FETCH}


def decode(code: bytes) -> list[Instruction | None]:
    """Instructions by their place; None is the second half of a 64-bit constant."""
    found: list[Instruction | None] = []
    for at in range(0, len(code), _INSTRUCTION.size):
        if found and found[-1] is not None and found[-1].opcode == 0x18:
            low = found[-1].constant & _U32
            (high,) = struct.unpack_from("<I", code, at + 4)
            found[-1] = found[-1]._replace(constant=low | high << 32)
            found.append(None)
            continue
        opcode, registers, offset, constant = _INSTRUCTION.unpack_from(code, at)
        found.append(Instruction(opcode, registers & 15, registers >> 4, offset, constant))
    return found


class Code:
    """The functions of a BPF object, linked: one row of instructions, entries by name."""

    def __init__(self, path: Path) -> None:
        file = ObjectFile.open(path)
        data = path.read_bytes()
        self.instructions: list[Instruction | None] = []
        starts: dict[int, int] = {}
        for index, section in enumerate(file.sections):
            if section.flags & 4 and section.size:  # executable
                starts[index] = len(self.instructions)
                self.instructions += decode(file.contents(section))
        self.functions = {
            symbol.name: range(
                starts[symbol.section] + symbol.value // 8,
                starts[symbol.section] + (symbol.value + symbol.size) // 8,
            )
            for symbol in file.symbols
            if symbol.section in starts
        }
        symbols = next(section for section in file.sections if section.name == ".symtab")
        names = {section.name: index for index, section in enumerate(file.sections)}
        for section in file.sections:
            base = starts.get(names.get(section.name.removeprefix(".rel"), -1))
            if not section.name.startswith(".rel") or base is None:
                continue
            for place in range(section.offset, section.offset + section.size, _RELOCATION.size):
                at, info = _RELOCATION.unpack_from(data, place)
                _, _, _, index, value, _ = _SYMBOL.unpack_from(
                    data, symbols.offset + _SYMBOL.size * (info >> 32)
                )
                here = base + at // 8
                call = self.instructions[here]
                assert call is not None
                if call.opcode == 0x85:
                    to = starts[index] + value // 8 + call.constant + 1
                    self.instructions[here] = call._replace(constant=to - here - 1)

    def of(self, function: str) -> list[Instruction]:
        found = [self.instructions[at] for at in self.functions[function]]
        return [instruction for instruction in found if instruction is not None]


class Machine:
    """Runs functions of one object on the memory of one arena."""

    def __init__(self, code: Code, arena: Any) -> None:
        """`arena` is writable memory, from its offset 0 on."""
        self.code = code
        self.arena = arena
        self.accesses: list[Access] = []
        self.context = bytearray()
        self.stack = bytearray(8 * _FRAME)

    def run(self, function: str, context: bytes) -> int:
        """Call a function with a context; what it did is in `accesses` and `context`."""
        self.accesses = []
        self.context = bytearray(context)
        registers = [0] * 11
        registers[1] = _CONTEXT
        registers[10] = _STACK + len(self.stack)
        frames: list[tuple[int, list[int]]] = []
        at = self.code.functions[function].start
        for _ in range(_STEPS):
            instruction = self.code.instructions[at]
            assert instruction is not None
            opcode, target, source, offset, constant = instruction
            at += 1
            if opcode == 0x18:
                registers[target] = constant
                at += 1
            elif instruction.kind in (ALU, ALU64):
                registers[target] = self._compute(instruction, registers)
            elif instruction.kind == LDX:
                size = _SIZES[opcode & 0x18]
                value = self._load(registers[source] + offset, size)
                if opcode & 0xE0 == MEM_SIGNED:
                    value = _signed(value, 8 * size) & _U64
                registers[target] = value
            elif instruction.is_atomic:
                self._atomic(instruction, registers)
            elif instruction.kind in (ST, STX):
                value = registers[source] if instruction.kind == STX else constant & _U64
                self._store(registers[target] + offset, _SIZES[opcode & 0x18], value)
            elif opcode == 0x85 and source == 1:
                frames.append((at, registers[6:10]))
                registers[10] -= _FRAME
                at += constant
            elif opcode == 0x85:
                assert constant == 8, f"helper {constant} is unknown here"
                registers[0] = 0  # the CPU
            elif opcode == 0x95:
                if not frames:
                    return _signed(registers[0] & _U32, 32)
                at, registers[6:10] = frames.pop()
                registers[10] += _FRAME
            elif opcode == 0xE5:
                pass  # may_goto: the budget is not spent
            elif opcode == 0x06:
                at += constant
            elif opcode == 0x05 or self._compare(instruction, registers):
                at += offset
        raise AssertionError(f"{function} does not end")

    # -- memory --

    def _place(self, address: int, size: int) -> tuple[Any, int]:
        address &= _U64
        for memory, start in (
            (self.arena, 0),
            (self.context, _CONTEXT),
            (self.stack, _STACK),
        ):
            if start <= address and address + size <= start + len(memory):
                return memory, address - start
        raise AssertionError(f"access to {size} bytes at {address:#x}")

    def _peek(self, address: int, size: int) -> int:
        memory, at = self._place(address, size)
        return int.from_bytes(memory[at : at + size], "little")

    def _poke(self, address: int, size: int, value: int) -> None:
        memory, at = self._place(address, size)
        memory[at : at + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")

    def _load(self, address: int, size: int) -> int:
        value = self._peek(address, size)
        self.accesses.append(Access("load", address & _U64, value))
        return value

    def _store(self, address: int, size: int, value: int) -> None:
        self._poke(address, size, value)
        self.accesses.append(Access("store", address & _U64, value))

    def _atomic(self, instruction: Instruction, registers: list[int]) -> None:
        opcode, target, source, offset, operation = instruction
        size = _SIZES[opcode & 0x18]
        if operation == LOAD_ACQUIRE:
            address = registers[source] + offset
            registers[target] = self._peek(address, size)
            self.accesses.append(Access(ATOMICS[operation], address & _U64, registers[target]))
            return
        address = registers[target] + offset
        before, operand = self._peek(address, size), registers[source]
        after = {
            ADD: before + operand,
            OR: before | operand,
            AND: before & operand,
            XOR: before ^ operand,
            XCHG & ~FETCH: operand,
            CMPXCHG & ~FETCH: operand if before == registers[0] else before,
            STORE_RELEASE: operand,
        }[operation & ~FETCH]
        self._poke(address, size, after)
        self.accesses.append(Access(ATOMICS[operation], address & _U64, after & _U64))
        if operation == CMPXCHG:
            registers[0] = before
        elif operation & FETCH:
            registers[source] = before

    # -- arithmetic --

    def _compute(self, instruction: Instruction, registers: list[int]) -> int:
        opcode, target, source, offset, constant = instruction
        wide = instruction.kind == ALU64
        bits = 64 if wide else 32
        mask = _U64 if wide else _U32
        operation = opcode & 0xF0
        a = registers[target] & mask
        b = (registers[source] if opcode & 8 else constant) & mask
        if operation == 0xD0:  # byte order
            if wide or opcode & 8:
                raise AssertionError("a byte swap is not expected")
            return a & ((1 << constant) - 1)
        if operation == 0xB0 and offset == 1 and wide and opcode & 8:
            return b & _U32  # a cast between address spaces: to the offset
        if operation == 0xB0 and offset:
            return _signed(b & ((1 << offset) - 1), offset) & mask
        if operation in (0x30, 0x90) and offset:
            raise AssertionError("a signed division is not expected")
        result = {
            0x00: lambda: a + b,
            0x10: lambda: a - b,
            0x20: lambda: a * b,
            0x30: lambda: a // b if b else 0,
            0x40: lambda: a | b,
            0x50: lambda: a & b,
            0x60: lambda: a << (b & (bits - 1)),
            0x70: lambda: a >> (b & (bits - 1)),
            0x80: lambda: -a,
            0x90: lambda: a % b if b else a,
            0xA0: lambda: a ^ b,
            0xB0: lambda: b,
            0xC0: lambda: _signed(a, bits) >> (b & (bits - 1)),
        }[operation]()
        return result & mask

    def _compare(self, instruction: Instruction, registers: list[int]) -> bool:
        opcode, target, source, _, constant = instruction
        bits = 64 if instruction.kind == JMP else 32
        mask = (1 << bits) - 1
        a = registers[target] & mask
        b = (registers[source] if opcode & 8 else constant) & mask
        c, d = _signed(a, bits), _signed(b, bits)
        return {
            0x10: a == b,
            0x20: a > b,
            0x30: a >= b,
            0x40: bool(a & b),
            0x50: a != b,
            0x60: c > d,
            0x70: c >= d,
            0xA0: a < b,
            0xB0: a <= b,
            0xC0: c < d,
            0xD0: c <= d,
        }[opcode & 0xF0]


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) & 1 else value
