"""Text of a dialect -> what gred's own parser makes of what is printed."""

from pathlib import Path

from gred.config import TunnelConfig, load
from gred.management.convert import command
from gred.management.convert.printing import Conversion


def converted(text: str, dialect: str | None = None) -> Conversion:
    return command.of_text(text, dialect=dialect)


def loaded(done: Conversion, directory: Path) -> dict[str, TunnelConfig]:
    """The tunnels of a conversion, by name, as the daemon would read them."""
    file = directory / "converted.conf"
    file.write_text(done.text)
    return {tunnel.name: tunnel for tunnel in load(file).tunnels}


def said(done: Conversion) -> str:
    """All remarks; each must stand in the text as a comment, too."""
    for remark in done.remarks:
        text = remark.partition(": ")[2]
        text = text.partition("]: ")[2] if text.startswith("[Tunnel ") else text
        assert f"# {text}" in done.text
    return "\n".join(done.remarks)
