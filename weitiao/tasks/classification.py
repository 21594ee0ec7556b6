"""Classification: give each text one label out of a set, the same for all rows or a row's own candidates.

The label is a name from beginning to end. A language model answers with the label's text; a `score` head with its index in ``labels``.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from weitiao.config_data import DataConfig
from weitiao.config_tasks import ClassificationTask
from weitiao.data.packed import WHOLE, PackedRow, shortened
from weitiao.data.render import ChatEncoder
from weitiao.data.rows import batches
from weitiao.records import Encoded, Example, Message

TEMPLATES = {
    "zh": "请判断下面的文本属于哪个类别，只回答类别名称。\n类别：{labels}\n文本：{text}",
    "en": "Which category does the text below belong to? Answer with the name of the category only.\nCategories: {labels}\nText: {text}",
}
_SEPARATORS = {"zh": "、", "en": ", "}


@dataclass(frozen=True)
class Classification:
    """The task with its label names settled."""

    config: ClassificationTask
    labels: tuple[str, ...]

    def prompt(self, document: str, candidates: Sequence[str] = ()) -> tuple[Message, ...]:
        """The chat up to the answer. ``candidates``: the row's own labels, else all."""
        template = self.config.template or TEMPLATES[self.config.language]
        options = _SEPARATORS[self.config.language].join(candidates or self.labels)
        before, after = template.split("{text}")
        user = before.replace("{labels}", options) + document + after.replace("{labels}", options)
        system = (Message("system", self.config.system),) if self.config.system is not None else ()
        return (*system, Message("user", user))

    def choices(self, example: Example) -> tuple[str, ...]:
        """The labels that this example may get."""
        return example.candidates or self.labels

    def encode_prompts(
        self, encoder: ChatEncoder, examples: Sequence[Example], most_tokens: int, data: DataConfig
    ) -> list["Prompt | None"]:
        """The prompts' ids, their document shortened where prompt and longest answer would pass ``most_tokens``. None: not even
        one token of the document fits, or ``data.shorten`` is none."""
        return self.prompts(examples, self.pack_prompts(encoder, examples, most_tokens, data))

    def prompts(self, examples: Iterable[Example], rows: Iterable[PackedRow]) -> list["Prompt | None"]:
        """The prompts of examples whose ids are known."""
        return [None if row.reason else self._prompt(example, row) for example, row in zip(examples, rows, strict=True)]

    def _prompt(self, example: Example, row: PackedRow) -> "Prompt":
        if row.kept != WHOLE:
            example = self._shown(example, row.kept)
        return Prompt(example, tuple(row.tokens), row.tokens_before)

    def _shown(self, example: Example, kept: tuple[int, int]) -> Example:
        """The example with what is left of its document."""
        document = shortened(example.document, kept)
        return replace(example, document=document, prompt=self.prompt(document, example.candidates))

    def pack_prompts(self, encoder: ChatEncoder, examples: Iterable[Example], most_tokens: int, data: DataConfig) -> Iterator[PackedRow]:
        """The prompts' ids as :meth:`encode_prompts` describes them, without the examples that were given."""
        answer_tokens: dict[str, int] = {}
        waiting: list[list[Example]] = []

        def room(example: Example) -> int:
            for label in self.choices(example):
                if label not in answer_tokens:
                    answer_tokens[label] = len(encoder.text(label)) + 1
            return most_tokens - max(answer_tokens[label] for label in self.choices(example))

        def written() -> Iterator[list[tuple[Message, ...]]]:
            for batch in batches(examples):
                waiting.append(batch)
                yield [example.prompt for example in batch]

        for found in encoder.chat_batches(written()):
            batch = waiting.pop(0)
            rows = [PackedRow("", ids, tokens_before=len(ids)) for ids in found]
            long = [(i, room(example)) for i, example in enumerate(batch) if len(rows[i].tokens) > room(example)]
            shorter: Sequence[PackedRow | None] = [None] * len(long)
            if data.shorten != "none":
                shorter = self._shortened(encoder, [(batch[i], len(rows[i].tokens), most) for i, most in long], data.shorten)
            for (i, _), row in zip(long, shorter, strict=True):
                rows[i] = row or PackedRow("too_long", tokens_before=len(rows[i].tokens))
            yield from rows

    def _shortened(self, encoder: ChatEncoder, long: Sequence[tuple[Example, int, int]], where: str) -> list[PackedRow | None]:
        """Examples (each with its length and the room for it) with shorter documents, many at a time; None where none fits."""
        results: list[PackedRow | None] = [None] * len(long)
        documents = encoder.measured([example.document for example, _, _ in long])
        guesses = [(i, documents[i].num_tokens - (length - room)) for i, (_, length, room) in enumerate(long)]
        while guesses := [(i, keep) for i, keep in guesses if keep >= 1]:
            kept = [documents[i].kept(keep, where) for i, keep in guesses]
            shown = [self._shown(long[i][0], cut).prompt for (i, _), cut in zip(guesses, kept, strict=True)]
            again = []
            for (i, keep), cut, ids in zip(guesses, kept, encoder.chats(shown), strict=True):
                over = len(ids) - long[i][2]
                if over <= 0:
                    results[i] = PackedRow("", ids, tokens_before=long[i][1], kept=cut)
                else:
                    again.append((i, min(keep - 1, keep - over)))
            guesses = again
        return results

    def encode_rows(self, encoder: ChatEncoder, prompts: Sequence["Prompt"]) -> list[Encoded]:
        """Training rows for a language model: the prompt, then the trained answer and its end token."""
        rows = []
        answers: dict[str, tuple[int, ...]] = {}
        for prompt in prompts:
            label = prompt.example.targets[0]
            if label not in answers:
                answers[label] = (*encoder.text(label), encoder.end_of_answer)
            answer = answers[label]
            rows.append(Encoded(prompt.example.id, prompt.ids + answer, (False,) * len(prompt.ids) + (True,) * len(answer)))
        return rows

    def encode_for_score_head(self, prompts: Sequence["Prompt"]) -> list[Encoded]:
        """Training rows for a `score` head: the prompt; the last token's hidden state decides."""
        number = {label: i for i, label in enumerate(self.labels)}
        return [
            Encoded(
                p.example.id, p.ids, (False,) * len(p.ids), number[p.example.targets[0]], tuple(number[c] for c in p.example.candidates)
            )
            for p in prompts
        ]


@dataclass(frozen=True, slots=True)
class Prompt:
    """An encoded prompt; ``example`` holds the text as it is shown to the model, ``tokens_before`` its length before shortening."""

    example: Example
    ids: tuple[int, ...]
    tokens_before: int

    @property
    def was_shortened(self) -> bool:
        """Whether part of the document was left out."""
        return self.tokens_before > len(self.ids)
