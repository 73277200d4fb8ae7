"""The option table against the model and against what people read."""

import dataclasses
import re
import textwrap
from pathlib import Path

import pytest

from gred.config import load
from gred.config.model import DaemonConfig, Location, TunnelConfig
from gred.config.options import DAEMON_OPTIONS, TUNNEL_OPTIONS, Option
from tests.config.files import load_text

ROOT = Path(__file__).parents[2]
OPTIONS = DAEMON_OPTIONS + TUNNEL_OPTIONS
EVERY_OPTION = pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
TUNNEL = TunnelConfig(name="a", location=Location("", 1))


def model_of(option: Option) -> DaemonConfig | TunnelConfig:
    return DaemonConfig() if option in DAEMON_OPTIONS else TUNNEL


def entry_in_gred_conf(option: Option) -> str:
    """Return the paragraph that conf/gred.conf should have for *option*."""
    lines = [option.sentence, f"Values: {option.kind.expected}."]
    comment = [
        textwrap.fill(line, 78, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
        for line in lines
    ]
    return "\n".join(["", *comment, f"#{option.name}={option.default}", ""])


def row_in_docs(option: Option) -> str:
    """Return the row that docs/configuration.md should have for *option*."""
    return (
        f"| `{option.name}=` | {option.kind.expected} | `{option.default}` | {option.sentence} |\n"
    )


NOT_OPTIONS = {"name", "location", "places", "notes"}


def test_every_field_of_the_model_has_an_option() -> None:
    written = {field.name for field in dataclasses.fields(TunnelConfig)}
    assert {f for o in TUNNEL_OPTIONS for f in o.fields} == written - NOT_OPTIONS
    daemon = {field.name for field in dataclasses.fields(DaemonConfig)}
    assert {f for o in DAEMON_OPTIONS for f in o.fields} == daemon


@EVERY_OPTION
def test_default_in_the_table_is_the_default_of_the_model(option: Option) -> None:
    values = option.read(option.default)
    assert values == {field: getattr(model_of(option), field) for field in option.fields}


@EVERY_OPTION
def test_default_is_written_as_in_the_table(option: Option) -> None:
    values = {field: getattr(model_of(option), field) for field in option.fields}
    assert option.write(values) == option.default


@EVERY_OPTION
def test_sentence_is_a_sentence(option: Option) -> None:
    assert re.fullmatch(r"[A-Z].+\.", option.sentence)
    assert "|" not in option.sentence + option.kind.expected


@EVERY_OPTION
def test_gred_conf_says_the_same(option: Option) -> None:
    assert entry_in_gred_conf(option) in (ROOT / "conf" / "gred.conf").read_text()


@EVERY_OPTION
def test_documentation_says_the_same(option: Option) -> None:
    assert row_in_docs(option) in (ROOT / "docs" / "configuration.md").read_text()


def test_gred_conf_has_no_other_option() -> None:
    found = re.findall(r"^#?(\w+)=", (ROOT / "conf" / "gred.conf").read_text(), re.MULTILINE)
    assert found == [option.name for option in OPTIONS]


def test_documentation_has_no_other_option() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    assert re.findall(r"^\| `(\w+)=`", text, re.MULTILINE) == [option.name for option in OPTIONS]


def test_gred_conf_as_shipped_configures_nothing() -> None:
    config = load(ROOT / "conf" / "gred.conf")
    assert config.daemon == DaemonConfig()
    assert config.tunnels == ()


@EVERY_OPTION
def test_gred_conf_with_one_option_uncommented_still_has_the_defaults(
    option: Option, tmp_path: Path
) -> None:
    text = (ROOT / "conf" / "gred.conf").read_text()
    text = text.replace("#[Tunnel NAME]", "[Tunnel a]").replace(
        f"#{option.name}=", option.name + "="
    )
    assert f"\n{option.name}={option.default}\n" in text
    config = load_text(tmp_path, text)
    assert config.daemon == DaemonConfig()
    assert config.tunnels == (TUNNEL,)


def test_names_are_unique() -> None:
    names = [option.name.lower() for option in OPTIONS]
    assert len(set(names)) == len(names)
