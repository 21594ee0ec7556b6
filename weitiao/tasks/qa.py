"""Question answering: answer a question in few words, from a passage or from memory; abstain where the passage does not hold the answer.

A question is a chat of one exchange. Of a row that is too long the passage is shortened, never the question.
"""

import re

from weitiao.config_tasks import QaTask
from weitiao.data.chats import Chat, Question
from weitiao.language import t
from weitiao.records import Message

TEMPLATES = {
    "zh": ("阅读短文，简短地回答问题，尽量用短文里的原话。\n短文：{context}\n问题：{question}", "简短地回答问题。\n问题：{question}"),
    "en": (
        "Read the passage and answer the question briefly, in the passage's words if you can.\nPassage: {context}\nQuestion: {question}",
        "Answer the question briefly.\nQuestion: {question}",
    ),
}
"""With and without a passage."""
ABSTAIN = {
    "zh": "\n短文里没有答案时，只回答：{answer}",
    "en": "\nWhere the passage does not hold the answer, reply only: {answer}",
}
_PLACES = re.compile(r"(\{question\}|\{context\})")


def question_chat(task: QaTask, question: Question) -> Chat | str:
    """The chat of a question; "no_answer: " and details where there is no answer and the task has no word for that."""
    if not question.answers and task.unanswerable is None:
        told = t(
            "答案是空列表；要学会拒答，设 task.unanswerable", "its list of answers is empty; to learn to abstain set task.unanswerable"
        )
        return f"no_answer: {told}"
    turn, place = user_turn(task, question)
    answers = question.answers or (str(task.unanswerable),)
    return Chat((turn, Message("assistant", answers[0])), answers, (), place)


def user_turn(task: QaTask, question: Question) -> tuple[Message, tuple[int, int] | None]:
    """What the user says, and where in it the passage stands (None: there is none)."""
    parts: list[str] = []
    place = None
    for part in _PLACES.split(_template(task, bool(question.passage))):
        if part == "{context}" and question.passage:
            start = sum(map(len, parts))
            place = (start, start + len(question.passage))
        parts.append({"{question}": question.question, "{context}": question.passage}.get(part, part))
    return Message("user", "".join(parts)), place


def _template(task: QaTask, has_passage: bool) -> str:
    if task.template is not None:
        return task.template
    chosen = TEMPLATES[task.language][0 if has_passage else 1]
    return chosen if task.unanswerable is None or not has_passage else _with_abstaining(chosen, task)


def _with_abstaining(template: str, task: QaTask) -> str:
    """The instruction on abstaining, behind the first line."""
    first, rest = template.split("\n", 1)
    return first + ABSTAIN[task.language].replace("{answer}", str(task.unanswerable)) + "\n" + rest
