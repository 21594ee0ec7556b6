"""A split's examples → token ids, taken from the cache where they were made before."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from weitiao.config import RunConfig
from weitiao.config_tasks import GenerationTask, QaTask
from weitiao.crew import shared
from weitiao.data.cache import Cache, code_hash, entry_key
from weitiao.data.examples import examples_of
from weitiao.data.packed import Packed, PackedRow
from weitiao.data.render import ChatEncoder
from weitiao.data.rows import Examples, Rows
from weitiao.language import Language, current, t, use
from weitiao.machine import num_cores
from weitiao.model.plain_tokenizer import PlainTokenizer
from weitiao.progress import Reporter
from weitiao.records import Example, SplitName
from weitiao.tasks.classification import Classification
from weitiao.tasks.generation import pack_chats
from weitiao.tasks.text import pack_documents

_SOURCES = ("data", "tasks", "records.py", "encode.py")
"""The code that decides ids."""
QUICK_BYTES = 8_000_000
"""From so much text on a quicker way to the same ids is looked for, which takes as long as the tokenizers library takes for it."""
CREW_BYTES, MOST_PROCESSES = 20_000_000, 8
"""So much text is worth a process of its own, whose start takes a second and a half; more of them would wait for this one."""
PORTION_ROWS = 4096


def encode(
    config: RunConfig, encoder: ChatEncoder, task: Classification | None, examples: Sequence[Example], most_tokens: int, reporter: Reporter
) -> Packed:
    """The ids of the examples, or why they have none, in their order. ``task``: the labels of a classification."""
    store = Cache.of_this_machine("tokens")
    if not examples:
        return Packed.of(())
    if not isinstance(examples, Examples) or not (store.takes(examples.num_bytes) or examples.num_bytes >= QUICK_BYTES):
        return Packed.of(_rows(config, encoder, task, examples, most_tokens))
    settings = {
        "task": config.task.model_dump(mode="json"), "labels": task.labels if task else (), "shorten": config.data.shorten,
        "most_tokens": most_tokens, "language": current(),
    }  # fmt: skip
    key = entry_key({"rows": examples.digest, "encoder": encoder.decides, "code": _code(), **settings}) if store.folder else ""
    packed = store.load(key, Packed.read, reporter)
    if packed is None:
        with reporter.bar(t("编码", "tokenising"), len(examples)) as bar:
            packed = _packed(config, encoder, task, examples, most_tokens, bar.advance)
        store.save(key, packed.num_bytes, packed.write, reporter)
    return packed


def _packed(
    config: RunConfig,
    encoder: ChatEncoder,
    task: Classification | None,
    examples: Examples,
    most_tokens: int,
    advance: Callable[[int], None],
) -> Packed:
    """The ids of examples that are worth the trouble, by a crew of processes where there are enough of them."""
    if examples.num_bytes >= QUICK_BYTES:
        encoder.hasten()
    size = min(num_cores(), MOST_PROCESSES, examples.num_bytes // CREW_BYTES)
    if size < 2:
        return Packed.of(_counted(_rows(config, encoder, task, examples, most_tokens), advance))
    length = min(PORTION_ROWS, -(-len(examples) // (2 * size)))
    portions = [(start, min(start + length, len(examples))) for start in range(0, len(examples), length)]
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        examples.rows.write(Path(folder))
        copy = encoder.with_tokenizer(PlainTokenizer.like(encoder.tokenizer))
        job = _Job(config, copy, task, folder, examples.split, examples.numbers, most_tokens, current())
        for part in shared(_begin, job, portions, size):
            parts.append(part)
            advance(len(part))
    return Packed.joined(parts)


@dataclass(frozen=True)
class _Job:
    """What a process needs to know to encode a portion of the examples; ``folder`` holds their rows."""

    config: RunConfig
    encoder: ChatEncoder
    task: Classification | None
    folder: str
    split: SplitName
    numbers: Sequence[int]
    most_tokens: int
    language: Language


def _begin(job: _Job) -> Callable[[tuple[int, int]], Packed]:
    use(job.language)
    rows = Rows.read(Path(job.folder))

    def portion(span: tuple[int, int]) -> Packed:
        examples = examples_of(job.config, rows, job.numbers[slice(*span)], job.split, job.task)
        return Packed.of(_rows(job.config, job.encoder, job.task, examples, job.most_tokens))

    return portion


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
    return code_hash(_SOURCES, ("tokenizers", "tiktoken", "transformers", "jinja2"))
