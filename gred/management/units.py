"""Figures with their units, as people read them. Words only."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(number: float) -> str:
    """Return a number of bytes with its unit."""
    for unit in _UNITS:
        if number < 1024 or unit == _UNITS[-1]:
            break
        number /= 1024
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"


def bit_rate(number: float) -> str:
    """Return a number of bits in a second with its unit, in powers of ten as the field has it."""
    for unit in ("bit/s", "kbit/s", "Mbit/s"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bit/s" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.2f} Gbit/s"


def span(seconds: float) -> str:
    """Return a time in its two largest units."""
    parts: list[str] = []
    left = round(seconds)
    for name, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or (name == "s" and not parts):
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])
