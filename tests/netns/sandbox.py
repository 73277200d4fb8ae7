"""A seccomp(2) filter around a program: what sandboxes refuse, refused here.

    python -m tests.netns.sandbox RULE... -- COMMAND...

A rule is SYSCALL[:NUMBER=VALUE,...]:ERRNO, where NUMBER is that of an argument, as in
``socket:0=17:EPERM`` or ``setsockopt:1=0,2=11:ENOPROTOOPT``. Needs CAP_SYS_ADMIN.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Sequence

# Numbers of system calls, <asm/unistd.h>, and AUDIT_ARCH_*, <linux/audit.h>.
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_CALLS = {
    "socket": (41, 198),
    "setsockopt": (54, 208),
    "mount": (165, 40),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "setns": (308, 268),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "userfaultfd": (323, 282),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "swapon": (167, 224),
    "move_pages": (279, 239),
    "mbind": (237, 235),
    "pivot_root": (155, 41),
    "syslog": (103, 116),
}
# What Docker's default profile refuses who has neither CAP_SYS_ADMIN nor another that it names.
DOCKER = (
    *(f"{call}:EPERM" for call in _CALLS if call not in {"socket", "setsockopt"}),
    "socket:0=38:EPERM",  # AF_ALG
    "socket:0=40:EPERM",  # AF_VSOCK
)

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000  # SECCOMP_RET_*
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # struct seccomp_data
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2


def _instruction(code: int, value: int, *, true: int = 0, false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, true, false, value)


def _compile(rule: str) -> bytes:
    """Return the instructions of one *rule*; where it does not match they are passed by."""
    call, *conditions, answer = rule.split(":")
    column, _audit = _ARCHITECTURES[platform.machine()]
    tests = [(_NUMBER_AT, _CALLS[call][column])]
    for condition in conditions[0].split(",") if conditions else ():
        argument, expected = condition.split("=")
        tests.append((_ARGUMENTS_AT + 8 * int(argument), int(expected)))
    code = b""
    for left, (offset, value) in zip(range(len(tests) - 1, -1, -1), tests, strict=True):
        beyond = 2 * left + 1
        code += _instruction(_LOAD, offset) + _instruction(_EQUAL, value, false=beyond)
    return code + _instruction(_RETURN, _ERRNO | getattr(errno, answer))


def install(rules: Sequence[str]) -> None:
    """Refuse what *rules* name, to this process and all that it becomes. Raises OSError."""
    _column, audit = _ARCHITECTURES[platform.machine()]
    code = _instruction(_LOAD, _ARCHITECTURE_AT) + _instruction(_EQUAL, audit, true=1)
    code += _instruction(_RETURN, _ALLOW)  # another machine's calls have other numbers
    code += b"".join(map(_compile, rules)) + _instruction(_RETURN, _ALLOW)
    instructions = ctypes.create_string_buffer(code)
    program = struct.pack("HL", len(code) // 8, ctypes.addressof(instructions))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, program, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def wrapper(*rules: str) -> list[str]:
    """Return the beginning of a command line that runs the rest under *rules*."""
    return [sys.executable, "-m", "tests.netns.sandbox", *rules, "--"]


def main(arguments: list[str]) -> None:
    """Install the rules, become the command."""
    split = arguments.index("--")
    install(arguments[:split])
    os.execvp(arguments[split + 1], arguments[split + 1 :])  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
