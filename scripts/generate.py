"""Writes what follows from the settings: .env.example and the tables of README.md. Run by `make generate`."""

from __future__ import annotations

from pathlib import Path

from dbgpt_ctl.settings import ClientSettings, ControllerSettings, Knob, Settings, knobs_of

ROOT = Path(__file__).parent.parent
ENV_EXAMPLE = ROOT / ".env.example"
README = ROOT / "README.md"
BEGIN = "<!-- settings:begin -->"
END = "<!-- settings:end -->"

SECTIONS: dict[str, type[Settings]] = {
    "`ctl serve`": ControllerSettings,
    "Every other command": ClientSettings,
}


def env_example() -> str:
    """The text of .env.example: each knob with its help, commented out at its default."""
    lines = ["# Copy this file to .env and uncomment what you change. Written by `make generate`."]
    for title, settings in SECTIONS.items():
        lines += ["", f"### {title.replace('`', '')}"]
        for knob in knobs_of(settings):
            allowed = f" ({knob.kind.allowed})" if knob.kind.allowed else ""
            lines += ["", f"# {_sentence(knob)[:-1]}{allowed}.", f"#{knob.variable}={knob.text(knob.default)}"]
    return "\n".join(lines) + "\n"


def settings_tables() -> str:
    """What stands between the markers of README.md: a table per settings class."""
    return "\n\n".join(_table(title, settings) for title, settings in SECTIONS.items())


def with_settings(readme: str) -> str:
    """The text of README.md with the tables of today between its markers."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md needs the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{settings_tables()}\n\n{END}{after}"


def _table(title: str, settings: type[Settings]) -> str:
    rows = [f"| {title} | Variable | Default | Allowed | Meaning |", "|---|---|---|---|---|"]
    return "\n".join(rows + [f"| {' | '.join(_cells(knob))} |" for knob in knobs_of(settings)])


def _cells(knob: Knob) -> list[str]:
    flags = ", ".join(f"`{flag}`" for flag in (knob.flag, *knob.aliases))
    default = knob.text(knob.default)
    return [
        flags,
        f"`{knob.variable}`",
        f"`{default}`" if default else "",
        knob.kind.allowed or knob.kind.metavar,
        _sentence(knob),
    ]


def _sentence(knob: Knob) -> str:
    return f"{knob.help[0].upper()}{knob.help[1:]}."


if __name__ == "__main__":
    ENV_EXAMPLE.write_text(env_example())
    README.write_text(with_settings(README.read_text()))
