"""Text: learn the language of documents by predicting each next token (self-supervised)."""

from collections.abc import Sequence

from weitiao.data.render import ChatEncoder
from weitiao.records import Encoded, Example, Passage


def encode_blocks(encoder: ChatEncoder, examples: Sequence[Example], block_tokens: int) -> list[Encoded]:
    """Documents joined by the end-of-text token (one before the first) and cut into blocks of ``block_tokens`` tokens; every token but a
    block's first is a target. Blocks overlap by one token, so that every token of the text is a target once. A block is named by its first
    document."""
    stream: list[int] = [encoder.end_of_text]
    starts: list[tuple[int, str]] = []
    for example, ids in zip(examples, encoder.texts([e.document for e in examples]), strict=True):
        starts.append((len(stream) - 1, example.id))
        stream.extend(ids)
        stream.append(encoder.end_of_text)
    blocks = []
    document = 0
    for start in range(0, len(stream) - 1, block_tokens - 1):
        while document + 1 < len(starts) and starts[document + 1][0] <= start:
            document += 1
        tokens = tuple(stream[start : start + block_tokens])
        blocks.append(Encoded(starts[document][1], tokens, (False,) + (True,) * (len(tokens) - 1)))
    return blocks


def encode_documents(encoder: ChatEncoder, examples: Sequence[Example], block_tokens: int) -> list[Passage]:
    """For evaluation: each document alone, from the end-of-text token on, in blocks as above; the end-of-text token after it is a target
    too."""
    return [Passage(example, tuple(encode_blocks(encoder, [example], block_tokens)), len(example.document)) for example in examples]
