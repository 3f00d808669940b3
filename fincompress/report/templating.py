"""The Jinja templates inside the package."""

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2


def template(room: str, name: str) -> "jinja2.Template":
    """`templates/<name>` of a room; in an HTML one all that is filled in is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(resources.files("fincompress") / room / "templates")),
        autoescape=jinja2.select_autoescape(),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)
