"""INI text -> frozen, validated values; every error carries file:line.

Nothing here imports another plane, opens a socket or asks the kernel.

    text.py      a file -> sections and entries with their lines (iniconfig); syntax problems
    values.py    the text of one value <-> the value
    options.py   the option table: one line per option
    loader.py    main file and drop-ins -> Config, or every problem at once
    verify.py    what no single value can tell: tunnels that clash, options that contradict
    rendering.py Config -> text that loads to the same Config
    model.py     the frozen values;  problems.py  how a problem is told

A new option is a field in model.py, a line in options.py, a paragraph in conf/gred.conf and a row
in docs/configuration.md; the tests name the one that was forgotten.
"""

from gred.config.loader import load
from gred.config.model import Config, DaemonConfig, Location, TunnelConfig
from gred.config.problems import ConfigurationError, Problem
from gred.config.rendering import render, render_tunnel

__all__ = [
    "Config",
    "ConfigurationError",
    "DaemonConfig",
    "Location",
    "Problem",
    "TunnelConfig",
    "load",
    "render",
    "render_tunnel",
]
