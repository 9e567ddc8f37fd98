"""What is known of a text block before it is judged: its own text, markup, neighbours, and place in the page.

The features are those of boilerplate detection since Kohlschütter et al. (WSDM 2010: length and link density of a block
and its neighbours) and of Readability (scores of paragraphs handed up the tree), with words in class names beside them.
"""

from math import log1p

import numba
import numpy as np

from stages.corpus.pages.block_names import KINDS, NAMES, bit

REACH = (-3, -2, -1, 1, 2, 3)  # neighbours that a block sees
WINDOWS = (2, 5, 12)  # blocks to either side whose paragraphs are summed
LENGTHS = (20, 40, 80, 160, 320)  # characters outside links, the steps of a linear model
ANCESTORS = 4  # containers upwards, a block's own the first
PARAGRAPH = 80  # characters of a block that counts as a paragraph, if less than half of it is links
SIGNATURES = 1 << 12

OWN = (
    "log_chars", "link_density", "log_text", "log_words", "commas", "sentences", "ends_sentence", "ends_colon",
    "capitals", "digits", "first_capital", "first_digit", "symbols", "links",
)  # fmt: skip
BESIDE = ("ends_sentence", "same_container", "same_parent")
UPWARDS = ("share", "links_of", "mean_length", "log_blocks", "paragraphs_of")
PLACE = (
    "place", "rank", "paragraphs_before", "paragraphs_after", "from_first_paragraph", "from_last_paragraph", "since_h1",
    "has_h1", "log_blocks_of_page", "log_chars_of_page", "log_paragraphs_of_page", "in_best", "in_dense", "up_to_best",
    "up_to_dense", "below_best", "below_dense", "best_share", "depth", "score_of_host", "score_above_host",
    "signature_share", "log_signature_blocks",
)  # fmt: skip
FEATURE_NAMES = (
    *OWN,
    *(f"longer_{length}" for length in LENGTHS),
    *(f"is_{kind}" for kind in KINDS),
    *(f"in_{kind}" for kind in KINDS),
    *(f"named_{name}" for name in NAMES),
    *(f"inside_{name}" for name in NAMES),
    *(f"{what}{step:+d}" for step in REACH for what in ("log_chars", "link_density")),
    *(f"{what}{step:+d}" for step in (-1, 1) for what in BESIDE),
    *(f"paragraphs_within_{window}" for window in WINDOWS),
    *(f"{what}_{up}" for up in range(ANCESTORS) for what in UPWARDS),
    *PLACE,
)
LEAVES = bit("p") | bit("heading") | bit("li") | bit("cell")


@numba.njit(cache=True)
def _sums(blocks):
    """(characters, characters in links, characters of paragraphs) before each block: a container's is a difference."""
    count = len(blocks)
    chars, linked, prose = np.zeros(count + 1), np.zeros(count + 1), np.zeros(count + 1)
    for i in range(count):
        length, links = float(blocks[i].chars), float(blocks[i].link_chars)
        paragraph = length - links if length >= PARAGRAPH and links < 0.5 * length else 0.0
        chars[i + 1], linked[i + 1], prose[i + 1] = chars[i] + length, linked[i] + links, prose[i] + paragraph
    return chars, linked, prose


@numba.njit(cache=True)
def _scores(blocks, containers, chars, linked, leaves):
    """(Readability's score of each container, the container that each block's score goes to)."""
    host, score = np.zeros(len(blocks), np.int64), np.zeros(len(containers))
    for i in range(len(blocks)):
        block = blocks[i]
        container = containers[block.container]
        leaf = container.kind & leaves
        host[i] = max(container.parent, 0) if leaf else block.container
        text = float(block.chars - block.link_chars)
        if text >= 25:
            gain = (1 + block.commas + min(text // 100, 3)) * text / block.chars
            score[host[i]] += gain
            if host[i] > 0:
                score[containers[host[i]].parent] += gain / 2
    for row in range(len(containers)):
        start, end = containers[row].first_block, containers[row].end_block
        score[row] *= 1 - (linked[end] - linked[start]) / max(chars[end] - chars[start], 1.0)
    return score, host


@numba.njit(cache=True)
def _dense(containers, prose):
    """The deepest container that holds three fifths of the paragraphs."""
    dense = 0
    for row in range(len(containers)):
        held = prose[containers[row].end_block] - prose[containers[row].first_block]
        if containers[row].depth >= containers[dense].depth and held >= 0.6 * prose[-1] > 0:
            dense = row
    return dense


@numba.njit(cache=True)
def _steps_up(containers, other):
    """Steps from each container up to one that holds `other`."""
    steps = np.zeros(len(containers))
    for row in range(1, len(containers)):
        if not row <= other < containers[row].end_container:
            steps[row] = steps[containers[row].parent] + 1
    return steps


@numba.njit(cache=True)
def _signatures(blocks, containers, prose):
    """(Signature of each block: its element, the one above and the depth; paragraphs and blocks of each signature)."""
    signature = np.zeros(len(blocks), np.int64)
    held, uses = np.zeros(SIGNATURES), np.zeros(SIGNATURES)
    for i in range(len(blocks)):
        container = containers[blocks[i].container]
        above = containers[max(container.parent, 0)].tag
        signature[i] = (container.tag * 31 + above * 7 + container.depth) & (SIGNATURES - 1)
        held[signature[i]] += prose[i + 1] - prose[i]
        uses[signature[i]] += 1
    return signature, held, uses


@numba.njit(cache=True)
def _bits(bits, count, out, k):
    for place in range(count):
        out[k + place] = (bits >> place) & 1
    return k + count


@numba.njit(cache=True)
def _own(block, containers, kinds, names, out):
    """The block's text, the element and the names that it stands in."""
    length, links = float(block.chars), float(block.link_chars)
    out[0], out[1], out[2], out[3] = log1p(length), links / length, log1p(length - links), log1p(block.words)
    out[4], out[5] = min(block.commas, 20), min(block.sentences, 20)
    out[6], out[7] = block.ends_sentence, block.ends_colon
    out[8], out[9] = block.capitals / length, block.digits / length
    out[10], out[11] = block.first_capital, block.first_digit
    out[12], out[13] = block.symbols > 0, min(block.links, 10)
    k = 14
    for limit in LENGTHS:
        out[k] = length - links >= limit
        k += 1
    container = containers[block.container]
    parent = containers[max(container.parent, 0)]
    near = container.own_names | parent.own_names | containers[max(parent.parent, 0)].own_names
    k = _bits(container.kind, kinds, out, k)
    k = _bits(container.kinds, kinds, out, k)
    k = _bits(near, names, out, k)
    return _bits(container.names, names, out, k)


@numba.njit(cache=True)
def _around(i, blocks, containers, chars, linked, prose, out, k):
    """The neighbours, and the containers upwards."""
    count, row = len(blocks), blocks[i].container
    for step in REACH:
        at = i + step
        if 0 <= at < count:
            held = chars[at + 1] - chars[at]
            out[k], out[k + 1] = log1p(held), (linked[at + 1] - linked[at]) / held
        k += 2
    for step in (-1, 1):
        at = i + step
        if 0 <= at < count:
            other = blocks[at].container
            out[k], out[k + 1] = blocks[at].ends_sentence, other == row
            out[k + 2] = max(containers[other].parent, 0) == max(containers[row].parent, 0)
        k += 3
    for window in WINDOWS:
        out[k] = log1p(prose[min(i + window + 1, count)] - prose[max(i - window, 0)])
        k += 1
    for _ in range(ANCESTORS):
        start, end = containers[row].first_block, containers[row].end_block
        held, inside = max(chars[end] - chars[start], 1.0), prose[end] - prose[start]
        out[k], out[k + 1] = inside / max(prose[count], 1.0), (linked[end] - linked[start]) / held
        out[k + 2], out[k + 3], out[k + 4] = log1p(held / max(end - start, 1)), log1p(end - start), inside / held
        k += 5
        row = max(containers[row].parent, 0)
    return k


@numba.njit(cache=True)
def _fill(blocks, containers, kinds, names, leaves, h1_bit, table):
    count = len(blocks)
    chars, linked, prose = _sums(blocks)
    total = max(prose[count], 1.0)
    score, host = _scores(blocks, containers, chars, linked, leaves)
    best, dense = score.argmax(), _dense(containers, prose)
    up_best, up_dense = _steps_up(containers, best), _steps_up(containers, dense)
    best_score = max(score[best], 1e-9)
    best_share = (prose[containers[best].end_block] - prose[containers[best].first_block]) / total
    signature, held, uses = _signatures(blocks, containers, prose)
    first, last, h1 = -1, count - 1, -1
    for i in range(count):
        row = blocks[i].container
        if prose[i + 1] > prose[i] and dense <= row < containers[dense].end_container:
            first = i if first < 0 else first
            last = i
        if h1 < 0 and containers[row].kind & h1_bit:
            h1 = i
    first = max(first, 0)
    for i in range(count):
        out, row = table[i], blocks[i].container
        k = _own(blocks[i], containers, kinds, names, out)
        k = _around(i, blocks, containers, chars, linked, prose, out, k)
        out[k], out[k + 1] = chars[i + 1] / chars[count], i / count
        out[k + 2], out[k + 3] = prose[i] / total, (prose[count] - prose[i + 1]) / total
        out[k + 4], out[k + 5] = min(max(i - first, -30), 30), min(max(i - last, -30), 30)
        out[k + 6], out[k + 7] = min(max(i - h1, -30), 30) if h1 >= 0 else 0, h1 >= 0
        out[k + 8], out[k + 9], out[k + 10] = log1p(count), log1p(chars[count]), log1p(total)
        out[k + 11], out[k + 12] = up_best[row] == 0, up_dense[row] == 0
        out[k + 13], out[k + 14] = min(up_best[row], 10), min(up_dense[row], 10)
        depth = containers[row].depth
        out[k + 15], out[k + 16] = depth - containers[best].depth, depth - containers[dense].depth
        out[k + 17], out[k + 18] = best_share, depth
        out[k + 19] = score[host[i]] / best_score
        out[k + 20] = score[max(containers[host[i]].parent, 0)] / best_score
        out[k + 21], out[k + 22] = held[signature[i]] / total, log1p(uses[signature[i]])


def features(blocks: np.ndarray, containers: np.ndarray) -> np.ndarray:
    """float64 table, a row a block, columns FEATURE_NAMES, of the tables of `block_names.scanned`. Linear time."""
    table = np.zeros((len(blocks), len(FEATURE_NAMES)))
    if len(blocks):
        _fill(blocks, containers, len(KINDS), len(NAMES), LEAVES, bit("h1"), table)
    return table
