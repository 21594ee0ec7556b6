"""Which rows make the heaviest micro-batch, from their lengths alone (no torch: `weitiao check` asks too)."""

from collections.abc import Sequence


def heaviest(lengths: Sequence[int], batch_rows: int, most_tokens: int) -> tuple[int, int]:
    """(first, number): of rows sorted by length, longest first, those of the largest micro-batch that can occur, padding included. It need
    not hold the longest row: that one may have to stand alone where many shorter ones fill the limit."""

    def size(first: int) -> int:  # rows of a micro-batch whose longest is the row `first`
        return max(1, min(batch_rows, most_tokens // lengths[first], len(lengths) - first))

    first = max(range(len(lengths)), key=lambda i: size(i) * lengths[i])
    return first, size(first)
