"""For all tests: none judges a time, and files that take long begin early."""

import pytest
from hypothesis import settings

settings.register_profile("gred", deadline=None)
settings.load_profile("gred")

# Minutes, each, of an emulated machine that wants two cores: two begin, the others follow.
FIRST = ["tests/systemd/test_guest.py", "tests/interop/test_linux_kernel.py"]
LATER = [
    "tests/interop/test_beside.py",
    "tests/interop/test_opposite.py",
    "tests/interop/test_iptables.py",
    "tests/interop/test_ipsec.py",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put FIRST first, and LATER in between what else there is; all else stays in its order."""
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    first, later = ([files.pop(name, []) for name in names] for names in (FIRST, LATER))
    step = sum(_weight(*file) for file in files.items()) / (len(LATER) + 1)
    passed, ordered = 0, first
    for name, file in files.items():
        passed += _weight(name, file)
        ordered.append(file)
        if later and passed > step * (len(LATER) + 1 - len(later)):
            ordered.append(later.pop(0))
    items[:] = [item for file in (*ordered, *later) for item in file]


def _weight(name: str, file: list[pytest.Item]) -> int:
    """Return about how long a file takes: real daemons want 20 times the time of others."""
    return len(file) * (20 if name.startswith("tests/netns/") else 1)
