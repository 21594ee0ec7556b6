"""A split's examples → token ids, taken from the cache where they were made before."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from weitiao.config import RunConfig
from weitiao.config_tasks import GenerationTask, QaTask
from weitiao.data.cache import Cache, code_hash, entry_key
from weitiao.data.packed import Packed, PackedRow
from weitiao.data.render import ChatEncoder
from weitiao.data.rows import Examples
from weitiao.language import current, t
from weitiao.progress import Reporter
from weitiao.records import Example
from weitiao.tasks.classification import Classification
from weitiao.tasks.generation import pack_chats
from weitiao.tasks.text import pack_documents

_SOURCES = ("data", "tasks", "records.py", "encode.py")
"""The code that decides ids."""


def encode(
    config: RunConfig, encoder: ChatEncoder, task: Classification | None, examples: Sequence[Example], most_tokens: int, reporter: Reporter
) -> Packed:
    """The ids of the examples, or why they have none, in their order. ``task``: the labels of a classification."""
    store = Cache.of_this_machine("tokens")
    if not examples:
        return Packed.of(())
    if not isinstance(examples, Examples) or not store.takes(examples.num_bytes):
        return Packed.of(_rows(config, encoder, task, examples, most_tokens))
    settings = {
        "task": config.task.model_dump(mode="json"), "labels": task.labels if task else (), "shorten": config.data.shorten,
        "most_tokens": most_tokens, "language": current(),
    }  # fmt: skip
    key = entry_key({"rows": examples.digest, "encoder": encoder.decides, "code": _code(), **settings})
    packed = store.load(key, Packed.read, reporter)
    if packed is None:
        with reporter.bar(t("编码", "tokenising"), len(examples)) as bar:
            packed = Packed.of(_counted(_rows(config, encoder, task, examples, most_tokens), bar.advance))
        store.save(key, packed.num_bytes, packed.write, reporter)
    return packed


def _counted(rows: Iterable[PackedRow], advance: Callable[[int], None]) -> Iterator[PackedRow]:
    for row in rows:
        yield row
        advance(1)


def _rows(
    config: RunConfig, encoder: ChatEncoder, task: Classification | None, examples: Sequence[Example], most_tokens: int
) -> Iterator[PackedRow]:
    """Encoding, row by row, when it is asked for."""
    if task is not None:
        return task.pack_prompts(encoder, examples, most_tokens, config.data)
    if isinstance(config.task, (GenerationTask, QaTask)):
        return pack_chats(encoder, examples, most_tokens, config.task, config.data)
    return pack_documents(encoder, examples)


def _code() -> str:
    """A hash of the code that decides ids."""
    return code_hash(_SOURCES, ("tokenizers", "transformers", "jinja2"))
