"""The process in which foreign chat templates are rendered; started by ``weitiao.data.template``, it imports nothing of this package.

It reads one JSON object a line and answers with one. Jinja's sandbox keeps a template from the interpreter; should one break out of it, the
process has no environment, can open no file or socket, and is ended by the system after some seconds of computing.
"""

import json
import sys
import time
from contextlib import suppress
from datetime import datetime
from typing import Any

MOST_SECONDS = 2
"""Of the processor, for one chat."""
MEMORY_BYTES = 512_000_000


def main() -> None:
    """Answer until the input ends. ``sys.argv[1]``: where modules are looked for, as JSON."""
    sys.path[:] = json.loads(sys.argv[1])
    environment = make_environment()
    _give_up_rights()
    text, template = None, None
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _allow_seconds(MOST_SECONDS)
        try:
            if text != request["template"]:
                text, template = request["template"], environment.from_string(request["template"])
            answer = _render(template, request["values"], request["most_characters"])
        except MemoryError:
            answer = {"limit": "memory"}
        except Exception as error:  # whatever the template makes of it
            answer = {"error": f"{error}"[:300] or type(error).__name__}
        _allow_seconds(0)
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


def _render(template: Any, values: dict[str, Any], most_characters: int) -> dict[str, str]:
    pieces, characters = [], 0
    for piece in template.generate(values):
        pieces.append(piece)
        characters += len(piece)
        if characters > most_characters:
            return {"limit": "characters"}
    return {"text": "".join(pieces)}


def make_environment() -> Any:
    """The sandbox in which transformers renders chat templates, with its settings."""
    import jinja2.ext
    from jinja2 import nodes
    from jinja2.exceptions import SecurityError, TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Generation(jinja2.ext.Extension):
        """``{% generation %}`` marks what the assistant says; it changes nothing in the text."""

        tags = {"generation"}  # noqa: RUF012 - as the base class has it

        def parse(self, parser: Any) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

        def _said(self, caller: Any) -> str:
            return str(caller())

    class Names(Namespace):
        """A namespace without a way to Python's own attributes."""

        def __init__(*arguments: Any, **named: Any) -> None:
            for name in dict(*arguments[1:], **named):
                _refuse_private(name)
            Namespace.__init__(*arguments, **named)

        def __setitem__(self, name: str, value: Any) -> None:
            _refuse_private(name)
            super().__setitem__(name, value)

    def _refuse_private(name: object) -> None:
        if str(name).startswith("_"):
            raise SecurityError(f"a chat template may not set {name!r}")

    def make_dict(*arguments: Any, **named: Any) -> dict[Any, Any]:
        return dict(*arguments, **named)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals |= {
        "raise_exception": raise_exception,
        "strftime_now": lambda form: datetime.now().strftime(form),
        "dict": make_dict,
        "namespace": Names,
    }
    with suppress(TemplateError):  # what these import is imported now
        environment.from_string("{{ [1] | random }}{{ lipsum(n=1) }}{{ 'x' | urlize }}{{ raise_exception('') }}").render()
    return environment


def _give_up_rights() -> None:
    """From here on: no new file or socket, bounded memory, no part in Ctrl-C. Windows offers none of it."""
    if sys.platform == "win32":
        return
    import resource
    import signal

    time.localtime()  # reads the time zone's file
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for what, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(what, (most, most))


def _allow_seconds(seconds: float) -> None:
    """End this process after so much more computing (0: never)."""
    if sys.platform != "win32":
        import signal

        signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    main()
