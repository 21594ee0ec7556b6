"""Written replies of a run's model to new questions and chats: one text, or the rows of a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weitiao.config_tasks import GenerationTask, QaTask
from weitiao.data.chats import Question, Tags, read_prompt, read_question
from weitiao.data.ledger import describe_reason
from weitiao.data.shapes import find_layout
from weitiao.errors import DataError
from weitiao.evaluate.answers import write_answers
from weitiao.language import t
from weitiao.progress import Reporter
from weitiao.records import Example, Message, Row
from weitiao.tasks.generation import EncodedChat, encode_chats
from weitiao.tasks.qa import user_turn
from weitiao.tuned import Tuned

_TO_COME = "…"
"""Stands where the answer will be while a prompt is cut to fit."""


@dataclass(frozen=True)
class Reply:
    """A written answer. ``cut_off``: it was not over at `max_new_tokens`; ``shortened``: part of the passage or text was left out to fit;
    ``confidence``: the geometric mean of its tokens' probabilities."""

    text: str
    answer: str
    cut_off: bool
    shortened: bool
    confidence: float

    @property
    def shown(self) -> str:
        """For people."""
        return self.answer + (t("\n（没有写完）", "\n(not over)") if self.cut_off else "")

    def added(self) -> dict[str, Any]:
        """What a row of a file gets."""
        return {"prediction": self.answer, "cut_off": self.cut_off, "shortened": self.shortened, "confidence": self.confidence}

    def as_dict(self) -> dict[str, Any]:
        return {"text": self.text, **self.added()}


def text_example(tuned: Tuned, text: str, context: str = "") -> Example:
    """The prompt of one text: what the user says, or (qa) a question about ``context``."""
    task = tuned.config.task
    turn, place = user_turn(task, Question(text, context, ())) if isinstance(task, QaTask) else (Message("user", text), (0, len(text)))
    return _example("1", (turn,), place, (), tuned)


def file_examples(tuned: Tuned, source: Path, rows: Sequence[Row]) -> list[Example | str]:
    """The prompt of each row, read as the training file's rows were, or why there is none. A row's own answer is not looked at. Raises
    DataError where a column is missing."""
    columns, task = tuned.columns, tuned.config.task
    asked = {"prompt": columns.prompt, "input": columns.input, "messages": columns.messages}
    names = dict.fromkeys(name for row in rows for name in row.values)
    missing = ", ".join(repr(name) for name in asked.values() if name is not None and name not in names)
    if missing:
        listed = ", ".join(map(repr, names))
        cause = t(f"没有列 {missing}；训练数据有", f"has no column {missing}, which the training data had")
        raise DataError(str(source), cause, t(f"改列名；现有的列：{listed}", f"rename its columns; there are {listed}"))
    shape = tuned.shape or _shape(tuned)
    found: list[Example | str] = []
    for row in rows:
        if isinstance(task, QaTask):
            question = read_question(row.values, shape, columns, answered=False)
            turns = question if isinstance(question, str) else user_turn(task, question)
            found.append(_told(turns) if isinstance(turns, str) else _example(str(row.line), (turns[0],), turns[1], (), tuned))
        else:
            chat = read_prompt(row.values, shape, columns, Tags())
            found.append(
                _told(chat) if isinstance(chat, str) else _example(str(row.line), chat.turns[:-1], chat.document, chat.tools, tuned)
            )
    return found


def _shape(tuned: Tuned) -> str:
    """The shape that the training file's columns suggest, where its result does not say."""
    wanted = {field: name for field, name in tuned.columns.as_dict().items() if name is not None}
    return tuned.config.data.shape or find_layout(list(wanted.values()), [], "generation", wanted).shape


def _told(reason: str) -> str:
    return describe_reason(*reason.partition(": ")[::2])


def _example(name: str, turns: tuple[Message, ...], place: tuple[int, int] | None, tools: tuple[Any, ...], tuned: Tuned) -> Example:
    system = tuned.config.task.system if isinstance(tuned.config.task, (QaTask, GenerationTask)) else None
    if system is not None and turns[0].role != "system":
        turns = (Message("system", system), *turns)
    user = next(turn for turn in reversed(turns) if turn.role == "user")
    document = "" if place is None else user.content[place[0] : place[1]]
    return Example(name, turns, (_TO_COME,), document, "", 1, place=place, tools=tools)


def replies(tuned: Tuned, asked: Sequence[Example | str], reporter: Reporter) -> list[Reply | str]:
    """The reply to each prompt; the reason stays where there is no prompt, or it does not fit."""
    places = [place for place, example in enumerate(asked) if isinstance(example, Example)]
    examples = [example for example in asked if isinstance(example, Example)]
    encoded = encode_chats(tuned.encoder, examples, tuned.max_tokens, GenerationTask(train_on="last"), tuned.config.data)
    results: list[Reply | str] = [example if isinstance(example, str) else "" for example in asked]
    ready = [(place, chat) for place, chat in zip(places, encoded, strict=True) if isinstance(chat, EncodedChat)]
    for place, chat in zip(places, encoded, strict=True):
        if isinstance(chat, str):
            results[place] = _told(chat)
    with reporter.bar(t("写回答", "writing"), len(ready)) as bar:
        answers = write_answers(tuned.model, tuned.encoder, tuned.config, [chat.passage.example for _, chat in ready], bar.advance)
    for (place, chat), answer in zip(ready, answers, strict=True):
        shortened = chat.tokens_before > len(chat.encoded.tokens)
        text = next(turn.content for turn in reversed(chat.passage.example.prompt) if turn.role == "user")
        results[place] = Reply(text, answer.text, answer.cut_off, shortened, answer.confidence)
    return results
