"""The process in which a foreign tokenizer.json is tried out; started by ``weitiao.model.tokenizer_trial``, it imports nothing of this
package.

It reads the file from its standard input, builds the tokenizer and encodes what brings out patterns that search for ever and rules that
make text grow. One line answers: nothing (all is well) or what is wrong. Whoever computes too long or takes too much memory is ended.
"""

import json
import string
import sys

MOST_SECONDS = 3
"""Of the processor, for building and all trials."""
MEMORY_BYTES = 1_500_000_000
"""Of addresses; the largest published tokenizers take half a gigabyte."""
_ALIKE = 2000
_GROWTH = 8
"""Tokens for each byte of text: byte-level ones make one."""


def main() -> None:
    """``sys.argv[1]``: where modules are looked for, as JSON."""
    sys.path[:] = json.loads(sys.argv[1])
    from tokenizers import Tokenizer

    content = sys.stdin.buffer.read().decode()
    _give_up_rights()
    try:
        tokenizer = Tokenizer.from_str(content)
        wrong = next((fault for text in trials() if (fault := _fault(tokenizer, text))), "")
    except BaseException as error:  # a panic of the library is no Exception
        wrong = str(error)[:200] or type(error).__name__
    print(json.dumps(wrong))


def trials() -> list[str]:
    """Runs of one character with another one at the end, on which a pattern that can match in many ways tries them all; ordinary text."""
    alike = [character * 200 for character in string.printable]
    alike += [character * _ALIKE for character in "aA1 \n\t.,_-'中é"]
    mixed = ["aA1_" * 500, "a " * 500, "1a" * 500, "The quick brown fox, 12 km — 春眠不觉晓。\n" * 5]
    return [text + end for text in (*alike, *mixed) for end in ("!", "中")]


def _fault(tokenizer: object, text: str) -> str:
    found = tokenizer.encode(text, add_special_tokens=True)  # type: ignore[attr-defined]
    if len(found.ids) > _GROWTH * len(text.encode()) + 100:
        return f"{len(text)} characters become {len(found.ids)} tokens"
    spelled = tokenizer.decode(found.ids)  # type: ignore[attr-defined]
    return f"{len(text)} characters are spelled as {len(spelled)}" if len(spelled) > _GROWTH * len(text.encode()) + 1000 else ""


def _give_up_rights() -> None:
    """From here on: no new file or socket, bounded memory and time. Windows offers none of it."""
    if sys.platform == "win32":
        return
    import resource

    for what, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, MOST_SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(what, (most, most))


if __name__ == "__main__":
    main()
