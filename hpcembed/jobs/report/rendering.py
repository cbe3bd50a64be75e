"""Documents from the Jinja2 templates in the folder ``templates``."""

from __future__ import annotations

import functools
from typing import Any

import jinja2

from hpcembed.jobs.report.wording import network_name

__all__ = ["render_template"]


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hpcembed.jobs.report"),
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.j2",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "accuracy": lambda share: "unknown" if share is None else f"{100 * share:.2f} %",
        "error": lambda value: "unknown" if value is None else f"{value:.6g}",
        "network_name": network_name,
        "score": lambda share: "unknown" if share is None else f"{share:.4f}",
        "thousands": "{:,}".format,
    }
    return environment


def render_template(template: str, /, **values: Any) -> str:
    """Fill a template with `values`; text in HTML templates is escaped."""
    return _environment().get_template(template).render(**values)
