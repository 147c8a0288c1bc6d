"""The system call filter of :mod:`pivotgym.envs.sandbox.seccomp` as a profile for Docker, from the same lists.

Docker's own profile depends on its version: until 23.0 it allows AF_VSOCK, a socket family that no network namespace
confines and that leads from a virtual machine to its host. Two rules cannot be said in a profile: calls of future
kernels get what libseccomp gives them (ENOSYS), and calls of another architecture end the process by libseccomp's
default.
"""

from __future__ import annotations

import errno
import json
from functools import cache
from typing import Any

from pivotgym.envs.sandbox import seccomp
from pivotgym.envs.sandbox.seccomp import Argument

_LOWER, _TOP = 0xFFFFFFFF, 1 << 31
_ARCHITECTURES = ("SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64")
_FEW = 64
"""Allowed values below this are told apart by denying every other one below, and all above the largest."""


@cache
def docker_profile() -> str:
    """The profile as JSON, for Docker's security option ``seccomp=``."""
    rules: list[dict[str, Any]] = [
        _rule([name for name, *_ in calls], number)
        for calls, number in (
            (seccomp.MISSING, errno.ENOSYS),
            (seccomp.UNSUPPORTED, errno.EOPNOTSUPP),
            (seccomp.DENIED, errno.EPERM),
        )
    ]
    for name, _, _, argument in seccomp.ARGUMENTS:
        rules += [_rule([name], errno.EPERM, one) for one in _conditions(argument)]
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": list(_ARCHITECTURES), "syscalls": rules}
    return json.dumps(profile)


def _rule(names: list[str], number: int, condition: dict[str, Any] | None = None) -> dict[str, Any]:
    args = [] if condition is None else [condition]
    return {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": number, "args": args}


def _conditions(argument: Argument) -> list[dict[str, Any]]:
    """Any of them denies. libseccomp compares all 64 bits but for what a mask leaves out."""

    def masked(value: int, mask: int) -> dict[str, Any]:
        return _condition(argument, "SCMP_CMP_MASKED_EQ", mask, value)

    if argument.test == seccomp.ABOVE:
        return [_condition(argument, "SCMP_CMP_GT", value) for value in argument.values]
    if argument.test == seccomp.ANY_BIT:
        bits = [1 << place for value in argument.values for place in range(32) if value >> place & 1]
        return [masked(bit, bit) for bit in bits]
    if argument.listed_denied:
        return [masked(value, argument.mask) for value in argument.values]
    allowed = sorted(argument.values)
    small = [value for value in allowed if value < _FEW]
    if small == allowed:
        others = [value for value in range(allowed[-1]) if value not in allowed]
        return [*(masked(value, _LOWER) for value in others), _condition(argument, "SCMP_CMP_GT", allowed[-1])]
    # Flags, and all ones, which is a question. With the top bit clear only bits of allowed values may be set; with the
    # top bit set, all of them.
    known = 0
    for value in allowed:
        known |= value if value != _LOWER else 0
    flags = [masked(1 << place, 1 << place | _TOP) for place in range(31) if not known >> place & 1]
    return [*flags, *(masked(_TOP, 1 << place | _TOP) for place in range(31))]


def _condition(argument: Argument, op: str, value: int, second: int = 0) -> dict[str, Any]:
    return {"index": argument.index, "value": value, "valueTwo": second, "op": op}
