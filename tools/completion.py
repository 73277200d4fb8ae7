"""Completion for bash, zsh and fish, from the argument parser, by shtab.

What is completed at a tab costs no start of gred: names of tunnels are read from the configuration,
that of -c or the ordinary one, by sed(1).
"""

import argparse
from pathlib import Path

import shtab

from gred.management.parser import parser
from gred.management.places import DEFAULT_CONFIGURATION

_NAME = r"\([^][:space:]]\{1,\}\)"
_SED = rf"s/^[[:space:]]*\[[[:space:]]*Tunnel[[:space:]]\{{1,\}}{_NAME}[[:space:]]*\].*/\1/p"
_BASH = f"""\
_gred_tunnels() {{
  local file={DEFAULT_CONFIGURATION} name i
  for ((i = 1; i < ${{#COMP_WORDS[@]}} - 1; i++)); do
    case ${{COMP_WORDS[i]}} in
      -c | --config) file=${{COMP_WORDS[i + 1]}} ;;
    esac
  done
  # Not compgen -W: it would expand what stands in a name.
  sed -n '{_SED}' "$file" "${{file%.*}}".conf.d/*.conf 2>/dev/null |
    while read -r name; do
      case $name in "$1"*) printf '%s\\n' "$name" ;; esac
    done
}}
"""
_ZSH = f"""\
_gred_tunnels() {{
  local file={DEFAULT_CONFIGURATION}
  # Not $words: of what stands before a command nothing is left in it.
  local -a line=(${{(Q)${{(z)BUFFER}}}}) names
  local -i at=${{line[(I)(-c|--config)]}}
  ((at)) && file=${{line[at + 1]}}
  names=(${{(f)"$(sed -n '{_SED}' $file ${{file%.*}}.conf.d/*.conf(N) 2>/dev/null)"}})
  compadd -a names
}}
"""
_FISH = f"""\
function _gred_tunnels
    set -l file {DEFAULT_CONFIGURATION}
    set -l words (commandline -opc)
    for i in (seq (count $words))
        if contains -- $words[$i] -c --config
            set file $words[(math $i + 1)]
        end
    end
    set -l files $file (string replace -r '\\.[^./]*$' '' -- $file).conf.d/*.conf
    sed -n '{_SED}' $files 2>/dev/null
end
"""
_TUNNELS = {
    "bash": "_gred_tunnels",
    "zsh": "_gred_tunnels",
    "fish": "(_gred_tunnels)",
    "preamble": {"bash": _BASH, "zsh": _ZSH, "fish": _FISH},
}
# What an argument is, by its metavar.
_KINDS = {"TUNNEL": _TUNNELS, "FILE": shtab.FILE, "DIR": shtab.DIRECTORY}
_FILES = {"bash": "gred", "zsh": "_gred", "fish": "gred.fish"}


def scripts() -> dict[Path, str]:
    """Return the text of each script, by the path of its file."""
    top = parser()
    _mark(top)
    texts = {
        Path("completion") / shell / name: shtab.complete(top, shell)
        for shell, name in _FILES.items()
    }
    # "(*)::" is one argument and no more; "*:" is any number of them. zshcompsys(1)
    zsh = Path("completion/zsh/_gred")
    texts[zsh] = texts[zsh].replace('"(*)::', '"*:')
    return {path: _tidy(text) for path, text in texts.items()}


def _tidy(text: str) -> str:
    """Return *text* without blanks at the ends of lines."""
    return "".join(f"{line.rstrip()}\n" for line in text.rstrip().splitlines())


def _mark(command: argparse.ArgumentParser) -> None:
    """Say of each argument of *command* and its commands what completes it."""
    for action in command._actions:  # noqa: SLF001 - argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for inner in action.choices.values():
                _mark(inner)
        elif action.metavar in _KINDS:
            action.complete = _KINDS[action.metavar]  # type: ignore[attr-defined]
