"""What a run needs before it touches a weight: examples, their token ids, the accounts and the audit."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from weitiao.audit.checks import run_checks
from weitiao.audit.findings import AuditInput
from weitiao.audit.topics import describe_topics
from weitiao.config import RunConfig
from weitiao.config_tasks import GenerationTask, PreferenceTask, QaTask, TextTask
from weitiao.data.balance import balanced_weights, oversampled
from weitiao.data.cache import Cache, code_hash, entry_key
from weitiao.data.examples import Dataset, describe_lengths, label_counts, load_dataset
from weitiao.data.ledger import Ledger
from weitiao.data.packed import Packed, row_lengths, shortened
from weitiao.data.render import ChatEncoder
from weitiao.data.rows import Names, example_place, files_of
from weitiao.encode import encode
from weitiao.errors import DataError
from weitiao.language import t
from weitiao.progress import Reporter
from weitiao.records import SPLITS, Encoded, Example, Passage, SplitName, Tree
from weitiao.storage import write_json
from weitiao.tasks.classification import Classification, Prompt
from weitiao.tasks.generation import Passages, encode_chats, passage_lengths
from weitiao.tasks.preference import encode_pairs, longer_answers
from weitiao.tasks.text import blocks_of, passages_of


@dataclass(frozen=True)
class Prepared:
    """Encoded data. ``prompts`` are set for classification, ``passages`` (what is judged by its loss) for text and generation."""

    dataset: Dataset
    rows: Sequence[Encoded]
    prompts: dict[SplitName, list[Prompt]]
    passages: dict[SplitName, Sequence[Passage]]
    max_tokens: int
    repeated: dict[str, int]
    """How many more times than once the rows of a label are trained on (``data.balance``)."""
    trees: dict[SplitName, list[Tree]] = field(default_factory=dict)
    """The pairs of a preference task; their better answers are the ``passages``."""
    key: str = ""
    """Names all of this, if the audit of it may be kept in the cache."""

    @property
    def task(self) -> Classification | None:
        return self.dataset.task

    def shown(self, split: SplitName) -> Sequence[Prompt | Passage]:
        """The rows of a split as the model sees them (of texts that are trained on there are only blocks)."""
        return self.prompts.get(split) or self.passages.get(split, ())

    def examples(self, split: SplitName) -> Sequence[Example]:
        """The examples of a split as the model sees them (shortened where they were)."""
        return [row.example for row in self.shown(split)] or self.dataset.splits[split]

    @property
    def first_example(self) -> Example:
        """The first training example, as the model sees it."""
        return next((row.example for row in self.shown("train")), None) or self.dataset.splits["train"][0]


def longest_row(config: RunConfig, model_config: dict[str, Any]) -> int:
    """``data.max_tokens``, else the length that the base model was trained for."""
    if config.data.max_tokens is not None:
        return config.data.max_tokens
    return int(model_config.get("max_position_embeddings") or 2048)


def prepare(config: RunConfig, encoder: ChatEncoder, model_config: dict[str, Any], reporter: Reporter | None = None) -> Prepared:
    """Read the data and turn them into token ids; every row lands in the ledger. Raises DataError."""
    dataset = load_dataset(config, reporter)
    most = longest_row(config, model_config)
    prepared = encode_dataset(config, encoder, dataset, most, reporter)
    if not any(row.num_targets for row in prepared.rows):
        raise DataError(
            config.data.train,
            t("没有一行有可训练的词元", "no row has a trained token"),
            t("检查 data.max_tokens 和数据", "check data.max_tokens and the data"),
        )
    dataset.ledger.check()
    if not dataset.key:
        return prepared
    settings = {"most_tokens": most, "method": config.method.kind, "weights": config.train.class_weights}
    return replace(prepared, key=entry_key({"data": dataset.key, "encoder": encoder.decides, "code": _code(), **settings}))


def encode_dataset(config: RunConfig, encoder: ChatEncoder, dataset: Dataset, most: int, reporter: Reporter | None = None) -> Prepared:
    """The token ids of all splits, each row of at most ``most`` tokens (texts: in blocks of the task's own length). Rows that do not fit or
    that the template cannot write are booked as rejected, shortened ones as shortened."""
    if isinstance(config.task, PreferenceTask):
        pairs = {split: encode_preferences(config, encoder, dataset, split, most) for split in SPLITS}
        better = {split: [better_passage(e, tree) for e, tree in pairs[split]] for split in SPLITS}
        trees = {split: [tree for _, tree in pairs[split]] for split in SPLITS}
        return Prepared(dataset, [passage.blocks[0] for passage in better["train"]], {}, {**better}, most, {}, trees)
    most = config.task.block_tokens if isinstance(config.task, TextTask) else most
    packed = {split: _encoded(config, encoder, dataset, split, most, reporter) for split in SPLITS}

    if isinstance(config.task, TextTask):
        train = dataset.splits["train"]
        blocks = blocks_of(encoder, Names(train, range(len(train))), packed["train"], most)
        return Prepared(dataset, blocks, {}, {s: passages_of(encoder, dataset.splits[s], packed[s], most) for s in SPLITS[1:]}, most, {})
    if dataset.task is None:
        chats = {split: Passages(dataset.splits[split], packed[split]) for split in SPLITS}
        return Prepared(dataset, chats["train"].rows, {}, {**chats}, most, {})
    prompts = {s: [p for p in dataset.task.prompts(dataset.splits[s], packed[s]) if p is not None] for s in SPLITS}
    own, scored = prompts["train"], config.method.kind == "head"  # label numbers for a `score` head, answers for a language model
    rows = dataset.task.encode_for_score_head(own) if scored else dataset.task.encode_rows(encoder, own)
    rows, repeated = balanced(config, rows, [prompt.example.targets[0] for prompt in own])
    return Prepared(dataset, rows, prompts, {}, most, repeated)


def balanced(config: RunConfig, rows: list[Encoded], labels: Sequence[str]) -> tuple[list[Encoded], dict[str, int]]:
    """The rows repeated (``data.balance``) or weighted (``train.class_weights``) by their label, and how many were added to each label."""
    if config.train.class_weights == "balanced":
        weights = balanced_weights(labels)
        return [replace(row, weight=weights[label]) for row, label in zip(rows, labels, strict=True)], {}
    if config.data.balance == "none":
        return rows, {}
    chosen = oversampled(labels, config.seed)
    return [rows[i] for i in chosen], dict(Counter(labels[i] for i in chosen[len(rows) :]))


def _encoded(
    config: RunConfig, encoder: ChatEncoder, dataset: Dataset, split: SplitName, most_tokens: int, reporter: Reporter | None
) -> Packed:
    """The ids of a split's rows, each booked. Raises DataError where none can be used."""
    examples = dataset.splits[split]
    packed = encode(config, encoder, dataset.task, examples, most_tokens, reporter or Reporter(quiet=True))
    if split == "train" and isinstance(config.task, QaTask):
        packed = replace(packed, reasons={**packed.reasons, **_cut_answers(examples, packed)})
    _book(dataset.ledger, split, examples, packed)
    if examples and len(packed.reasons) == len(packed):
        raise _nothing_fits(dataset, split, most_tokens)
    return packed


def _book(ledger: Ledger, split: SplitName, examples: Sequence[Example], packed: Packed) -> None:
    """Every row: used or rejected, and which of the used ones were shortened."""
    used = Counter(files_of(examples))
    used.subtract(example_place(examples, place)[0] for place in packed.reasons)
    for file, rows in used.items():
        ledger.use(split, file, rows)
    for place, reason in packed.reasons.items():
        ledger.reject(split, *example_place(examples, place), reason)
    lengths, befores = packed.lengths, packed.befores
    for place in np.flatnonzero(befores > lengths).tolist():
        if place not in packed.reasons:
            file, line = example_place(examples, place)
            ledger.shorten(split, file, line, int(befores[place]), int(lengths[place]))


def _cut_answers(examples: Sequence[Example], packed: Packed) -> dict[int, str]:
    """The rows whose answer stood in the passage and is no longer there: learning it would be learning to make answers up."""
    cut = {}
    for place in np.flatnonzero(packed.befores > packed.lengths).tolist():
        example, kept = examples[place], packed[place].kept
        if example.targets[0] in example.document and example.targets[0] not in shortened(example.document, kept):
            cut[place] = "answer_cut"
    return cut


def encode_preferences(
    config: RunConfig, encoder: ChatEncoder, dataset: Dataset, split: SplitName, most_tokens: int
) -> list[tuple[Example, Tree]]:
    """The pairs of a split as the model sees them. Both answers follow the same prompt, shortened where the longer one would not fit; rows
    that do not fit or that the template cannot write are booked as rejected."""
    examples = list(dataset.splits[split])
    chats = encode_chats(encoder, longer_answers(encoder, examples), most_tokens, GenerationTask(train_on="last"), config.data)
    shown = [e if isinstance(c, str) else replace(c.passage.example, targets=e.targets) for e, c in zip(examples, chats, strict=True)]
    pairs = []
    for example, chat, tree in zip(shown, chats, encode_pairs(encoder, shown), strict=True):
        if isinstance(chat, str) or isinstance(tree, str):
            reason = chat if isinstance(chat, str) else f"bad_chat: {tree}"
            dataset.ledger.reject(split, example.file, example.line, reason)
            continue
        dataset.ledger.use(split, example.file)
        if chat.tokens_before > len(chat.encoded.tokens):
            dataset.ledger.shorten(split, example.file, example.line, chat.tokens_before, len(chat.encoded.tokens))
        pairs.append((example, tree))
    if examples and not pairs:
        raise _nothing_fits(dataset, split, most_tokens)
    return pairs


def better_passage(example: Example, tree: Tree) -> Passage:
    """The better answer of a pair behind its prompt."""
    better = tree.branches[0]
    encoded = Encoded(example.id, tree.prefix + better.tokens, (False,) * len(tree.prefix) + better.trained)
    return Passage(example, (encoded,), len(example.targets[0]))


def _nothing_fits(dataset: Dataset, split: SplitName, most_tokens: int) -> DataError:
    shown = "".join(f"\n  {line}" for line in dataset.ledger.rejections(3))
    return DataError(
        dataset.splits[split][0].file,
        t(f"{split} 没有一行放得进 {most_tokens} 个词元", f"no row of {split} fits into {most_tokens} tokens") + shown,
        t(
            "增大 data.max_tokens，缩短模板，或用 data.shorten=tail",
            "raise data.max_tokens, shorten the template, or use data.shorten=tail",
        ),
    )


def audit(prepared: Prepared, encoder: ChatEncoder, reporter: Reporter | None = None) -> dict[str, Any]:
    """``data/audit.json``: lengths, labels, one training row decoded with its trained part, and the findings of every check; taken from the
    cache where the same data were looked at before."""
    store, reporter = Cache.of_this_machine("audits"), reporter or Reporter(quiet=True)
    found = store.load(prepared.key, _read_audit, reporter) if prepared.key else None
    if found is None:
        found = _look(prepared, encoder)
        if prepared.key:
            store.save(prepared.key, 0, partial(_write_audit, found), reporter)
    return {"max_tokens": prepared.max_tokens, "repeated": prepared.repeated, "example": describe_row(prepared, encoder), **found}


def _look(prepared: Prepared, encoder: ChatEncoder) -> dict[str, Any]:
    """What an audit finds: lengths, labels, topics, findings."""
    lengths = {"train": describe_lengths(row_lengths(prepared.rows))}
    for split in SPLITS[1:]:
        if prepared.shown(split):
            own = [len(p.ids) for p in prepared.prompts.get(split, ())] or passage_lengths(prepared.passages[split])
            lengths[split] = describe_lengths(own)
    labels = {split: label_counts(prepared.examples(split)) for split in SPLITS} if prepared.task else {}
    dataset = prepared.dataset
    names = dataset.task.labels if dataset.task else ()
    seen = AuditInput(dataset.splits, names, prepared.rows, dataset.ledger.as_dict(), encoder.control_tokens)
    return {"lengths": lengths, "labels": labels, "topics": describe_topics(seen), "findings": run_checks(seen)}


def _write_audit(found: dict[str, Any], folder: Path) -> None:
    write_json(folder / "audit.json", found)


def _read_audit(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    return found


def _code() -> str:
    """A hash of the code that decides ids and findings."""
    sources = ("audit", "data", "tasks", "records.py", "encode.py", "prepare.py")
    return code_hash(sources, ("tokenizers", "tiktoken", "transformers", "numpy", "rapidfuzz", "scikit-learn"))


def describe_row(prepared: Prepared, encoder: ChatEncoder) -> dict[str, Any]:
    """The first training row decoded: its text, the trained part of it, and both in one with the trained part in 【 】."""
    row = prepared.rows[0]
    decode = encoder.tokenizer.decode
    text = str(decode(list(row.tokens)))
    if row.label >= 0 and prepared.task:
        label = prepared.task.labels[row.label]
        return {"id": row.id, "text": text, "trained_text": label, "marked": f"{text}【{label}】"}
    trained = str(decode([token for token, learned in zip(row.tokens, row.trained, strict=True) if learned]))
    return {"id": row.id, "text": text, "trained_text": trained, "marked": marked(row, decode)}


def marked(row: Encoded, decode: Callable[[list[int]], Any]) -> str:
    """A row's text with each run of trained tokens in 【 】."""
    parts = []
    for learned, run in groupby(zip(row.tokens, row.trained, strict=True), key=lambda pair: pair[1]):
        piece = str(decode([token for token, _ in run]))
        parts.append(f"【{piece}】" if learned else piece)
    return "".join(parts)
