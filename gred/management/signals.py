"""Which signals gred takes. What it does at each is the service's matter; nothing here stops it.

Left to the kernel and to Python: faults and what debuggers and the watchdog send, job control, and
what is harmless by itself. All others would end the process for no reason but that nobody took
them: an administrator tries SIGUSR1, as other daemons take it, and all tunnels are gone.
"""

import signal

STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
HANGUP = signal.SIGHUP
REPORT = signal.SIGUSR1

_FAULTS = {"SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGSEGV", "SIGSYS"}
_JOB_CONTROL = {"SIGSTOP", "SIGCONT", "SIGTSTP", "SIGTTIN", "SIGTTOU"}
_HARMLESS = {"SIGCHLD", "SIGURG", "SIGWINCH"}
_PYTHON = {"SIGPIPE", "SIGXFSZ"}  # ignored by the interpreter
_LEFT = {"SIGKILL"} | _FAULTS | _JOB_CONTROL | _HARMLESS | _PYTHON


def useless() -> list[int]:
    """Return the signals that would end gred and mean nothing to it; those in real time as well.

    Not those that somebody else in this process takes.
    """
    taken = {*STOP, HANGUP, REPORT}
    return [
        number
        for number in sorted(signal.valid_signals() - taken)
        if name(number) not in _LEFT
        and signal.getsignal(number) in {signal.SIG_DFL, signal.SIG_IGN, _nothing}
    ]


def ignore_useless() -> None:
    """Ignore what would end gred before a service is there to say so."""
    for number in (*useless(), REPORT):
        ignore(number)


def ignore(number: int) -> None:
    """Let a signal do nothing here; programs that are started inherit SIG_IGN, but no handler."""
    signal.signal(number, _nothing)


def _nothing(_number: int, _frame: object) -> None:
    """Take a signal."""


def name(number: int) -> str:
    """Return the name of a signal: SIGTERM; SIGRTMIN+3 for those that have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
