"""How a page is made from a template: one self-contained HTML file, a pure function of what it is given (no clock, no network)."""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from weitiao.language import current, t
from weitiao.report.sections import HEAT_LEVELS


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("weitiao.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["t"] = t
    return environment


def _hash(content: str) -> str:
    """The source expression under which a content security policy admits one inline style sheet."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def render(template: str, context: Mapping[str, Any]) -> str:
    """A page in the language in force. The style sheet holds no text of a run, so it is safe as it is."""
    style = Markup(_environment().get_template("report.css.j2").render(heat_levels=HEAT_LEVELS))
    page = _environment().get_template(template).render(language=current(), style=style, style_hash=_hash(style), **context)
    return page.rstrip("\n") + "\n"
