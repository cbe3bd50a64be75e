"""Directives whose text is generated: ``command-line`` and ``configuration-keys``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from command_line_reference import command_lines
from configuration_reference import configuration_keys
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

__all__ = ["CommandLine", "ConfigurationKeys", "setup"]


class _GeneratedText(SphinxDirective):
    """Sections that a function writes in Markdown."""

    write: Callable[[], str]

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        return self.parse_text_to_nodes(type(self).write(), allow_section_headings=True)


class CommandLine(_GeneratedText):
    """All commands of ``hpcembed``."""

    write = staticmethod(command_lines)


class ConfigurationKeys(_GeneratedText):
    """All keys of jobs and studies."""

    write = staticmethod(configuration_keys)


def setup(app: Any) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("command-line", CommandLine)
    app.add_directive("configuration-keys", ConfigurationKeys)
    return {"parallel_read_safe": True}
