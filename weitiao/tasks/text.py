"""Text: learn the language of documents by predicting each next token (self-supervised)."""

from array import array
from collections.abc import Iterable, Iterator, Sequence

from weitiao.data.packed import PackedRow
from weitiao.data.render import ChatEncoder
from weitiao.data.rows import batches
from weitiao.records import Encoded, Example, Passage


def pack_documents(encoder: ChatEncoder, examples: Iterable[Example]) -> Iterator[PackedRow]:
    """The ids of each document."""
    for batch in batches(examples):
        for ids in encoder.texts([example.document for example in batch]):
            yield PackedRow("", ids, tokens_before=len(ids))


def blocks_of(encoder: ChatEncoder, names: Iterable[str], documents: Iterable[PackedRow], block_tokens: int) -> list[Encoded]:
    """Documents joined by the end-of-text token (one before the first) and cut into blocks of ``block_tokens`` tokens; every token but a
    block's first is a target. Blocks overlap by one token, so that every token of the text is a target once. A block is named by its first
    document."""
    stream = array("I", [encoder.end_of_text])
    starts: list[tuple[int, str]] = []
    for name, document in zip(names, documents, strict=True):
        starts.append((len(stream) - 1, name))
        stream.extend(document.tokens)
        stream.append(encoder.end_of_text)
    blocks = []
    document_number = 0
    for start in range(0, len(stream) - 1, block_tokens - 1):
        while document_number + 1 < len(starts) and starts[document_number + 1][0] <= start:
            document_number += 1
        tokens = tuple(stream[start : start + block_tokens])
        blocks.append(Encoded(starts[document_number][1], tokens, (False,) + (True,) * (len(tokens) - 1)))
    return blocks


def encode_documents(encoder: ChatEncoder, examples: Sequence[Example], block_tokens: int) -> list[Passage]:
    """For evaluation: each document alone, from the end-of-text token on, in blocks as above; the end-of-text token after it is a target
    too."""
    return passages_of(encoder, examples, pack_documents(encoder, examples), block_tokens)


def passages_of(encoder: ChatEncoder, examples: Iterable[Example], documents: Iterable[PackedRow], block_tokens: int) -> list[Passage]:
    """The same for documents whose ids are known."""
    return [
        Passage(example, tuple(blocks_of(encoder, [example.id], [document], block_tokens)), len(example.document))
        for example, document in zip(examples, documents, strict=True)
    ]
