"""Writes every generated file; see the package."""

from pathlib import Path

from tools import completion, manual

ROOT = Path(__file__).parents[1]


def files() -> dict[Path, str]:
    """Return what each generated file has, by its path below the repository."""
    return manual.pages() | completion.scripts()


def main() -> None:
    """Write them."""
    for path, text in files().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
