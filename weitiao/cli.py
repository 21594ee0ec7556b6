"""The program's first module. It imports nothing slow: from its first moment on Ctrl-C ends the program in one line."""

import os
import sys

try:
    from weitiao.interrupts import INTERRUPTED, Interrupts
except KeyboardInterrupt:  # some 10 ms, before anything can handle it
    raise SystemExit(130) from None


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 the run failed, 2 the input is wrong, 130 interrupted (Ctrl-C or SIGTERM)."""
    interrupts = Interrupts()
    try:
        code = _run()
        interrupts.ignore()
    except KeyboardInterrupt:  # while the commands were imported, or an error was being told
        interrupts.ignore()
        from weitiao.language import t

        print(t("已中断", "interrupted"), file=sys.stderr, flush=True)
        code = INTERRUPTED
    sys.exit(code)


def _run() -> int:
    from weitiao.terminal import prepare_streams

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # set, so that the tokenizer does not warn about forks it never sees
    prepare_streams()
    from weitiao.commands.line import run_command

    return run_command(sys.argv[1:])
