"""A long token sequence, cut into what a model can read at once."""


def windows(length: int, limit: int, overlap: int) -> list[tuple[int, int, int]]:
    """(begin, score_from, end) of windows of at most `limit` tokens that score each of `length` tokens exactly once.

    Every window but the first reads the `overlap` tokens before its first scored one as context.
    """
    if not 0 <= overlap < limit:
        raise ValueError(f"overlap must be from 0 to {limit - 1}, got {overlap}")
    out = []
    scored = 0
    while scored < length:
        begin = max(0, scored - overlap)
        end = min(length, begin + limit)
        out.append((begin, scored, end))
        scored = end
    return out


def bos_windows(ids: list[int], bos: int, limit: int, overlap: int) -> list[tuple[list[int], int]]:
    """Sequences (tokens, index of the first scored one) for `lm.scoring`: each window behind a BOS, as rows are packed.

    `limit` is the model's max_seq_len: it reads that many tokens and predicts one more.
    """
    return [
        ([bos, *ids[begin:end]], 1 + score_from - begin)
        for begin, score_from, end in windows(len(ids), limit, min(overlap, limit - 1))
    ]
