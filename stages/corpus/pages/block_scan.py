"""One pass over the bytes of a serialised page: its text blocks, and the tree of containers in which they stand.

A block is the text between two block-level tags: a paragraph, an item, a cell, a heading. In the serialisation of
Resiliparse's parser every container is closed and every `<` of a text or an attribute is escaped, so what looks like a
tag is one. Walking that parser's nodes from Python takes ten times as long as this.

Kernels here and in `block_features` get what other modules define (tables, masks, record types) as arguments: Numba
keeps compiled code until the file of the kernel changes, whatever it had imported.
"""

import numba
import numpy as np

# Flags of a tag; the lower bits say which of `block_names.KINDS` it is. A tag that isn't block-level is inline: so is
# one that nobody knows, as in CSS.
BLOCK_LEVEL, VOID, LINK, BREAK, BUTTON = 1 << 40, 1 << 41, 1 << 42, 1 << 43, 1 << 44
KINDS_MASK = (1 << 40) - 1

BLOCK = np.dtype(
    [
        ("origin", np.int64),  # the byte behind the tag before; differs from `start` by white space
        ("start", np.int64),
        ("end", np.int64),
        ("container", np.int64),
        ("chars", np.int64),  # white space collapsed
        ("link_chars", np.int64),
        ("links", np.int64),
        ("words", np.int64),
        ("feeds", np.int64),  # line feeds and breaks between them
        ("commas", np.int64),
        ("sentences", np.int64),
        ("capitals", np.int64),
        ("digits", np.int64),
        ("symbols", np.int64),  # | @ © »
        ("first_capital", np.bool_),
        ("first_digit", np.bool_),
        ("ends_sentence", np.bool_),
        ("ends_colon", np.bool_),
    ]
)
CONTAINER = np.dtype(  # numbered in document order; number 0 is the page itself
    [
        ("place", np.int64),  # the byte where its start tag begins
        ("tag", np.int64),  # hash of its name
        ("parent", np.int64),
        ("depth", np.int64),
        ("kind", np.int64),  # KINDS, a bit each: of itself
        ("kinds", np.int64),  # of itself and all that it stands in
        ("own_names", np.int64),  # groups of NAMES, a bit each
        ("names", np.int64),
        ("first_block", np.int64),
        ("end_block", np.int64),
        ("end_container", np.int64),
    ]
)


BASIS, PRIME, WIDTH = np.int64(2166136261), 16777619, 0xFFFFFFFF  # 32-bit FNV-1a


def name_hash(name: str) -> int:
    """The hash of an ASCII name, as the kernels compute it."""
    value = int(BASIS)
    for byte in name.encode():
        value = ((value ^ byte) * PRIME) & WIDTH
    return value


LESS, GREATER, SLASH, BANG, DASH, EQUALS, QUOTE, SPACE, SEMICOLON, AMPERSAND, COLON = b'<>/!-=" ;&:'

CLASS, ID, ROLE, ITEMPROP, STYLE, HIDDEN, ARIA_HIDDEN = (
    name_hash(name) for name in ("class", "id", "role", "itemprop", "style", "hidden", "aria-hidden")
)
LONGEST_NAME = 400  # bytes of an attribute that are read for words
LONGEST_BUTTON = 400  # bytes of a button within a sentence


@numba.njit(cache=True)
def _find(key, keys, values):
    slot = key & (len(keys) - 1)
    while keys[slot] != 0:
        if keys[slot] == key:
            return values[slot]
        slot = (slot + 1) & (len(keys) - 1)
    return 0


@numba.njit(cache=True)
def _word_bits(markup, start, end, keys, values):
    """The groups of the words of a name: `siteFooter` and `site-footer` are two words."""
    bits, key, inside, lower = 0, BASIS, False, False
    for at in range(start, min(end, start + LONGEST_NAME) + 1):
        byte = markup[at] if at < end else SPACE
        capital = 65 <= byte <= 90
        letter = capital or 97 <= byte <= 122
        if inside and (not letter or (capital and lower)):
            bits |= _find(key, keys, values)
            key, inside = BASIS, False
        if letter:
            key, inside = ((key ^ (byte | 32)) * PRIME) & WIDTH, True
        lower = letter and not capital
    return bits


@numba.njit(cache=True)
def _hides(markup, start, end):
    """Whether a style holds `display:none`."""
    for at in range(start, end - 11):  # d, s and y of `display`
        if markup[at] == 100 and markup[at + 2] == 115 and markup[at + 6] == 121 and markup[at + 7] == COLON:
            value = at + 8 + (markup[at + 8] == SPACE)
            if markup[value] == 110 and markup[value + 1] == 111:  # no
                return True
    return False


@numba.njit(cache=True)
def _attribute_bits(markup, start, end, keys, values, hidden):
    """The groups of the words in an element's names, and whether it is hidden."""
    bits, at = 0, start
    while at < end:
        if markup[at] == SPACE:
            at += 1
            continue
        key = BASIS
        while at < end and markup[at] != EQUALS and markup[at] != SPACE:
            key = ((key ^ np.int64(markup[at])) * PRIME) & WIDTH
            at += 1
        first = last = at + 2  # behind ="
        if at < end and markup[at] == EQUALS:
            while last < end and markup[last] != QUOTE:
                last += 1
            at = last + 1
        if key in (CLASS, ID, ROLE, ITEMPROP):
            bits |= _word_bits(markup, first, last, keys, values)
        elif (
            key == HIDDEN
            or (key == STYLE and _hides(markup, first, last))
            or (key == ARIA_HIDDEN and last - first == 4)  # "true"
        ):
            bits |= hidden
    return bits


@numba.njit(cache=True)
def _behind_declaration(markup, at):
    """The place behind a comment or a doctype."""
    size = len(markup)
    comment = at + 3 < size and markup[at + 2] == DASH and markup[at + 3] == DASH
    at += 4 if comment else 2
    while at < size and not (
        markup[at] == GREATER and (not comment or (markup[at - 1] == DASH and markup[at - 2] == DASH))
    ):
        at += 1
    return min(at + 1, size)


@numba.njit(cache=True)
def _count(block, byte, lead, linked):
    """Count a byte of a block's text; the lead byte of the character that it belongs to."""
    if byte & 0xC0 != 0x80:  # the first of its character
        block.chars += 1
        block.link_chars += linked
        block.capitals += 65 <= byte <= 90
        block.digits += 48 <= byte <= 57
        block.commas += byte == 44
        block.symbols += byte == 124 or byte == 64  # | and @
        return byte
    block.symbols += lead == 0xC2 and (byte == 0xA9 or byte == 0xBB)  # © and »
    block.sentences += lead == 0xE3 and byte == 0x82  # the third byte of 。
    block.commas += (lead == 0xE3 and byte == 0x81) or (lead == 0xEF and byte == 0x8C)  # 、 and ，
    return lead


@numba.njit(cache=True)
def _text_follows(markup, at):
    """Whether text stands right behind the end tag of the button that is open at a place."""
    size = min(len(markup), at + LONGEST_BUTTON)
    while at + 8 < size:
        if markup[at] == LESS and markup[at + 1] == SLASH and markup[at + 2] == 98 and markup[at + 3] == 117:  # </bu
            at += 9
            while at < size and markup[at] <= SPACE:
                at += 1
            return at < size and markup[at] != LESS
        at += 1
    return False


@numba.njit(cache=True)
def scan(markup, tag_keys, tag_values, name_keys, name_values, hidden, blocks, containers):
    """Fill `blocks` and `containers`, zeroed, with a row for every `<` and two more; (rows used of each).

    `hidden` is the bit that a hidden element gets among its names. Linear time.
    """
    size = len(markup)
    containers[0].parent = -1
    made, found, current, links, at = 1, 0, 0, 0, 0
    block = blocks[0]
    empty, gap, lead, feeds = True, False, 0, 0  # no text yet; white space and feeds before; the last character
    while at <= size:
        byte = np.int64(markup[at]) if at < size else LESS  # the end closes the last block
        if byte == LESS:
            if at + 1 < size and markup[at + 1] == BANG:
                at = _behind_declaration(markup, at)
                continue
            closing = at + 1 < size and markup[at + 1] == SLASH
            here, key = at + 1 + closing, BASIS
            while here < size and markup[here] != SPACE and markup[here] != GREATER and markup[here] != SLASH:
                key = ((key ^ np.int64(markup[here])) * PRIME) & WIDTH
                here += 1
            end = here
            while end < size and markup[end] != GREATER:
                end += 1
            tag = _find(key, tag_keys, tag_values)
            # A button within a sentence belongs to it, one among others is a block of its own.
            if tag & BUTTON and (
                containers[current].tag != key if closing else not empty or _text_follows(markup, end + 1)
            ):
                tag = 0
            if at < size and not tag & BLOCK_LEVEL:
                if tag & LINK:
                    links = max(links - 1, 0) if closing else links + 1  # the parser lets links stand in links
                    block.links += not closing
                elif tag & BREAK:
                    gap = True
                    feeds += 1
                at = end + 1
                continue
            if not empty:
                block.ends_sentence = lead in (33, 34, 46, 63, 0xE2, 0xE3, 0xEF)  # ! " . ? and the like of ” …
                block.ends_colon = lead == COLON
                block.container = current
                block.words += 1
                found += 1
                block = blocks[found]
            block.links = 0
            empty, gap, lead, feeds = True, False, 0, 0
            if at >= size:
                break
            if closing:
                if current > 0:
                    containers[current].end_block = found
                    containers[current].end_container = made
                    current = containers[current].parent
            elif not tag & VOID:
                row, around = containers[made], containers[current]
                row.place, row.tag, row.parent, row.depth = at, key, current, around.depth + 1
                row.kind = tag & KINDS_MASK
                row.kinds = around.kinds | row.kind
                row.own_names = _attribute_bits(markup, here, end, name_keys, name_values, hidden)
                row.names = around.names | row.own_names
                row.first_block = found
                current = made
                made += 1
            at = end + 1
            block.origin = at
            continue
        width = 1
        if byte == AMPERSAND:  # &amp; &lt; &gt; &nbsp;
            while at + width < size and width < 6 and markup[at + width - 1] != SEMICOLON:
                width += 1
            if width == 6 and markup[at + 1] == 110:
                byte = SPACE
        if byte <= SPACE:
            block.sentences += not gap and lead in (33, 46, 63)
            gap = True
            feeds += byte == 10
            at += width
            continue
        if empty:
            block.start = at
            block.first_capital = 65 <= byte <= 90 or byte == 0xC3  # or most likely À to Þ
            block.first_digit = 48 <= byte <= 57
        elif gap:
            block.chars += 1
            block.link_chars += links > 0
            block.words += 1
            block.feeds += feeds
        empty = gap = False
        feeds = 0
        lead = _count(block, byte, lead, links > 0)
        at += width
        block.end = at
    containers[0].end_block = found
    containers[0].end_container = made
    while current > 0:  # a serialisation closes everything; bytes cut short need not
        containers[current].end_block = found
        containers[current].end_container = made
        current = containers[current].parent
    return found, made
