"""The system calls a sandboxed process may not make, as a classic BPF program for ``bwrap --seccomp``.

Namespaces hide the host; this filter closes the ways to ask the kernel for more: new namespaces and mounts (where most
local privilege escalations start), other processes' memory, kernel modules, keyrings, clocks, devices, rare socket
families, and typing into a terminal that somebody else reads. It is assembled here, without libseccomp, so that nothing
has to be installed and every instruction can be read.

Decisions, in this order:

* a call of another architecture (a 32-bit program) kills the process;
* a number above the last reviewed one gives ENOSYS. These are the calls of future kernels, and on x86-64 the x32 ABI,
  whose numbers start at 0x40000000;
* ``clone3`` and io_uring give ENOSYS, and libraries fall back to ``clone`` and plain reads and writes: a filter cannot
  look at the arguments of the first (they are behind a pointer) nor at what the second does;
* memory that belongs to no process, and so is not seen in what the processes of a sandbox use, is not given:
  ``memfd_create`` and ``memfd_secret`` give ENOSYS, a System V segment of more than a page gives EPERM (PostgreSQL
  takes one page and uses it as a lock). ``fallocate``, which takes gigabytes of disk before anybody can look, gives
  EOPNOTSUPP as on many file systems, and ``posix_fallocate`` writes instead;
* the denied calls, and the denied arguments of allowed ones, give EPERM, as they would without the privilege.

Arguments are compared as wide as the kernel takes them. Most are an ``int`` or less (a file mode's type: 4 bits) and
their upper half is ignored, so a filter that compares it too is passed by ``ioctl(fd, TIOCSTI | 1 << 32)``; ``unshare``
refuses upper bits by itself. A segment's size has 64 bits, and a filter that looks at 32 of them is passed by 1 << 32.

The kernel caches the verdict of every number that needs no argument, so the length of the list costs ordinary calls
nothing.
"""

from __future__ import annotations

import errno
import platform
import stat
import struct
from functools import cache

from pivotgym.envs.sandbox.base import SandboxUnavailable

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_EQUAL, ABOVE, _AT_LEAST, ANY_BIT = 0x15, 0x25, 0x35, 0x45
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_DENY = _ERRNO | errno.EPERM
_ABSENT = _ERRNO | errno.ENOSYS
_UNSUPPORTED = _ERRNO | errno.EOPNOTSUPP
_NUMBER_OFFSET, _ARCH_OFFSET, _ARGS_OFFSET = 0, 4, 16

LAST_REVIEWED = 466
"""``removexattrat``, Linux 6.13: the last call whose number this list was checked against."""

_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}

# Name, number on x86-64, number on aarch64 (None: not there). From 424 on all architectures share their numbers.
DENIED: tuple[tuple[str, int | None, int | None], ...] = (
    # mounts
    ("mount", 165, 40),
    ("umount2", 166, 39),
    ("pivot_root", 155, 41),
    ("open_tree", 428, 428),
    ("move_mount", 429, 429),
    ("fsopen", 430, 430),
    ("fsconfig", 431, 431),
    ("fsmount", 432, 432),
    ("fspick", 433, 433),
    ("mount_setattr", 442, 442),
    # other processes
    ("ptrace", 101, 117),
    ("process_vm_readv", 310, 270),
    ("process_vm_writev", 311, 271),
    ("process_madvise", 440, 440),
    ("kcmp", 312, 272),
    ("pidfd_getfd", 438, 438),
    # the kernel's insides
    ("bpf", 321, 280),
    ("perf_event_open", 298, 241),
    ("userfaultfd", 323, 282),
    ("lookup_dcookie", 212, 18),
    ("kexec_load", 246, 104),
    ("kexec_file_load", 320, 294),
    ("init_module", 175, 105),
    ("finit_module", 313, 273),
    ("delete_module", 176, 106),
    ("iopl", 172, None),
    ("ioperm", 173, None),
    ("syslog", 103, 116),
    # keyrings belong to users of the host, not to namespaces
    ("add_key", 248, 217),
    ("request_key", 249, 218),
    ("keyctl", 250, 219),
    # the machine
    ("reboot", 169, 142),
    ("swapon", 167, 224),
    ("swapoff", 168, 225),
    ("quotactl", 179, 60),
    ("quotactl_fd", 443, 443),
    ("acct", 163, 89),
    ("vhangup", 153, 58),
    ("settimeofday", 164, 170),
    ("clock_settime", 227, 112),
    ("adjtimex", 159, 171),
    ("clock_adjtime", 305, 266),
    # namespaces, and files by handle instead of by path
    ("setns", 308, 268),
    ("name_to_handle_at", 303, 264),
    ("open_by_handle_at", 304, 265),
)
MISSING: tuple[tuple[str, int | None, int | None], ...] = (
    ("io_uring_setup", 425, 425),
    ("io_uring_enter", 426, 426),
    ("io_uring_register", 427, 427),
    ("clone3", 435, 435),
    ("memfd_create", 319, 279),
    ("memfd_secret", 447, 447),
)
UNSUPPORTED = (("fallocate", 285, 47),)

_CLONE_NEWTIME = 0x80
# NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. The bit of NEWTIME is part of the exit signal in ``clone``.
_CLONE_NEW = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
_PAGE = 4096
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
# PER_LINUX, PER_LINUX32, each also with UNAME26, and the question what it is now.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)


class Argument:
    """A rule about one argument: which values deny the call.

    Attributes:
        index: of the argument.
        test: equal, ``ABOVE`` or ``ANY_BIT``.
        values: compared with one after the other.
        listed_denied: whether a listed value denies, or every other one.
        mask: bits looked at.
        wide: any bit of the upper half denies.
    """

    def __init__(
        self,
        index: int,
        test: int,
        values: tuple[int, ...],
        *,
        listed_denied: bool,
        mask: int = 0xFFFFFFFF,
        wide: bool = False,
    ) -> None:
        self.index, self.test, self.values, self.listed_denied = index, test, values, listed_denied
        self.mask, self.wide = mask, wide

    def block(self) -> list[bytes]:
        """Instructions that always end in a verdict. Expects the call to be the right one."""
        # Both machines are little-endian: the lower half comes first.
        code = []
        if self.wide:
            code = [_instruction(_LOAD, _ARGS_OFFSET + 8 * self.index + 4)]
            code += [_instruction(_EQUAL, 0, yes=1), _instruction(_RETURN, _DENY)]
        code.append(_instruction(_LOAD, _ARGS_OFFSET + 8 * self.index))
        if self.mask != 0xFFFFFFFF:
            code.append(_instruction(_AND, self.mask))
        for position, value in enumerate(self.values):
            code.append(_instruction(self.test, value, yes=len(self.values) - position))
        verdicts = (_ALLOW, _DENY) if self.listed_denied else (_DENY, _ALLOW)
        return code + [_instruction(_RETURN, verdict) for verdict in verdicts]


_FAMILIES = Argument(0, _EQUAL, (_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK), listed_denied=False)
_TYPES = (stat.S_IFCHR, stat.S_IFBLK)
ARGUMENTS: tuple[tuple[str, int | None, int | None, Argument], ...] = (
    ("clone", 56, 220, Argument(0, ANY_BIT, (_CLONE_NEW,), listed_denied=True)),
    ("unshare", 272, 97, Argument(0, ANY_BIT, (_CLONE_NEW | _CLONE_NEWTIME,), listed_denied=True)),
    ("ioctl", 16, 29, Argument(1, _EQUAL, (_TIOCSTI, _TIOCLINUX), listed_denied=True)),
    ("shmget", 29, 194, Argument(1, ABOVE, (_PAGE,), listed_denied=True, wide=True)),
    ("socket", 41, 198, _FAMILIES),
    ("socketpair", 53, 199, _FAMILIES),
    ("personality", 135, 92, Argument(0, _EQUAL, _PERSONALITIES, listed_denied=False)),
    ("mknod", 133, None, Argument(1, _EQUAL, _TYPES, listed_denied=True, mask=stat.S_IFMT(0xFFFF))),
    ("mknodat", 259, 33, Argument(2, _EQUAL, _TYPES, listed_denied=True, mask=stat.S_IFMT(0xFFFF))),
)


@cache
def program(machine: str | None = None) -> bytes:
    """The filter, ready to be written to the file that ``bwrap --seccomp`` reads.

    Args:
        machine: as ``platform.machine()`` names it, ``x86_64`` or ``aarch64``; this one if None.

    Returns:
        Instructions of 8 bytes each (``struct sock_filter``).

    Raises:
        SandboxUnavailable: no list of numbers for that machine; without a filter nothing is started.
    """
    name = (machine or platform.machine()).lower()
    name = _ALIASES.get(name, name)
    if name not in _ARCH:
        raise SandboxUnavailable(f"no system call filter for a {name} machine; known: {', '.join(_ARCH)}")
    column = list(_ARCH).index(name)
    code = [
        _instruction(_LOAD, _ARCH_OFFSET),
        _instruction(_EQUAL, _ARCH[name], yes=1),
        _instruction(_RETURN, _KILL_PROCESS),
        _instruction(_LOAD, _NUMBER_OFFSET),
        _instruction(_AT_LEAST, LAST_REVIEWED + 1, no=1),
        _instruction(_RETURN, _ABSENT),
    ]
    for verdict, calls in ((_ABSENT, MISSING), (_UNSUPPORTED, UNSUPPORTED), (_DENY, DENIED)):
        for _, x86_64, aarch64 in calls:
            number = (x86_64, aarch64)[column]
            if number is not None:
                code += [_instruction(_EQUAL, number, no=1), _instruction(_RETURN, verdict)]
    for _, x86_64, aarch64, rule in ARGUMENTS:
        number = (x86_64, aarch64)[column]
        if number is not None:
            block = rule.block()
            code += [_instruction(_EQUAL, number, no=len(block)), *block]
    return b"".join([*code, _instruction(_RETURN, _ALLOW)])


def _instruction(code: int, k: int, *, yes: int = 0, no: int = 0) -> bytes:
    """One ``struct sock_filter``; ``yes`` and ``no`` say how many instructions a comparison jumps over."""
    return struct.pack("<HBBI", code, yes, no, k)
