"""What the names of elements and of their classes tell about the text inside: tables of hashes for `block_scan`."""

import numpy as np

from stages.corpus.pages.block_scan import BLOCK, BREAK, CONTAINER, INLINE, LINK, VOID, name_hash, scan

TABLE = 1 << 12  # slots, a power of two with room to spare

# Elements without text for readers; they leave the tree before it is scanned.
REMOVED = (
    "head,script,style,noscript,template,svg,iframe,object,embed,select,textarea,input,canvas,video,audio,map,dialog,"
    "plaintext,xmp,noembed,noframes"
)
INLINE_TAGS = (
    "a abbr acronym b bdi bdo big br center cite code data del dfn em font i img ins kbd label link mark meta nobr q s "
    "samp small span strike strong sub sup time tt u var wbr"
)
VOID_TAGS = "area base basefont bgsound col embed frame hr input keygen param source track"

# Elements that a block can stand in; h1 to h6 share one, as td and th do.
KINDS = (
    "article", "main", "nav", "header", "footer", "aside", "form", "section", "table", "ul", "ol", "figure",
    "blockquote", "button", "heading", "li", "p", "cell", "dl", "pre", "figcaption", "details", "address", "tr", "div",
    "h1", "h2",
)  # fmt: skip
ALIASES = {"heading": "h3 h4 h5 h6", "cell": "td th", "dl": "dt dd"}

# Words in the names that authors give to elements (class, id, role, itemprop), by what they tell.
NAMES = {
    "navigation": "nav navbar navigation menu submenu breadcrumb breadcrumbs toolbar pagination pager paging skip toc "
    "sitemap masthead topbar header navi crumbs crumb tabs tab site search dropdown",
    "comments": "comment comments commentlist disqus reply replies respond discussion livefyre commenting feedback",
    "sharing": "share sharing shares social follow twitter facebook tweet like likes pinterest linkedin whatsapp "
    "addthis sharedaddy connect",
    "related": "related recommend recommended recommendations popular trending more most also outbrain taboola "
    "teaser teasers card cards promo promos similar latest recirc recirculation upnext suggest suggested next "
    "previous prev read readmore stories articles posts list feed archive archives news headlines river stream "
    "grid items",
    "footer": "footer foot copyright legal disclaimer cookie cookies consent privacy gdpr bottom colophon credits",
    "side": "sidebar aside widget widgets rail right left secondary side sidecol complementary",
    "about": "author authors byline bylines date meta metadata tag tags category categories posted timestamp "
    "published bio credit kicker label eyebrow profile avatar info time topics topic writer contributor subtitle",
    "advertising": "ad ads adv advert advertisement advertising sponsor sponsored banner newsletter newsletters "
    "subscribe subscription subscriptions signup donate donation paywall login modal popup overlay offer signin "
    "register form cta promotion callout alert notice notification print email",
    "figure": "caption captions figure image images photo photos gallery media slide slideshow carousel thumbnail "
    "video player img picture",
    "hidden": "hidden hide screen reader sr assistive visually visuallyhidden offscreen",
    "content": "content article articles body entry post text story main blog paragraph copy rte richtext wysiwyg page",
    "body": "articlebody articlecontent storybody postbody entrycontent postcontent blogpost prose markdown hentry",
}
HIDDEN_BIT = 1 << list(NAMES).index("hidden")


def table(entries: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """(Hashes, values) with open addressing; an empty slot has hash 0."""
    keys, values = np.zeros(TABLE, np.int64), np.zeros(TABLE, np.int64)
    for name, value in entries.items():
        slot = name_hash(name) & (TABLE - 1)
        while keys[slot]:
            slot = (slot + 1) & (TABLE - 1)
        keys[slot], values[slot] = name_hash(name), value
    return keys, values


def tag_table() -> tuple[np.ndarray, np.ndarray]:
    """What a tag is: one of KINDS, and whether it is inline or void."""
    entries = dict.fromkeys(INLINE_TAGS.split(), INLINE) | dict.fromkeys(VOID_TAGS.split(), VOID)
    entries |= {"a": INLINE | LINK, "br": INLINE | BREAK}
    bits = {kind: 1 << place for place, kind in enumerate(KINDS)}
    entries |= {kind: bit for kind, bit in bits.items() if kind not in ALIASES or kind == "dl"}
    entries |= {tag: bits[kind] for kind, tags in ALIASES.items() for tag in tags.split()}
    for heading in ("h1", "h2"):
        entries[heading] |= bits["heading"]
    return table(entries)


def name_table() -> tuple[np.ndarray, np.ndarray]:
    """The group of NAMES of a word, as a bit."""
    entries: dict[str, int] = {}
    for place, words in enumerate(NAMES.values()):
        for word in words.split():
            entries[word] = entries.get(word, 0) | 1 << place
    return table(entries)


TAG_KEYS, TAG_VALUES = tag_table()
NAME_KEYS, NAME_VALUES = name_table()


def bit(kind: str) -> int:
    """The bit of one of KINDS."""
    return 1 << KINDS.index(kind)


def scanned(markup: bytes) -> tuple[np.ndarray, np.ndarray]:
    """(blocks, containers) of a serialised page: records of `block_scan.BLOCK` and `block_scan.CONTAINER`."""
    rows = markup.count(b"<") + 2
    blocks, containers = np.zeros(rows, BLOCK), np.zeros(rows, CONTAINER)
    found, made = scan(
        np.frombuffer(markup, np.uint8), TAG_KEYS, TAG_VALUES, NAME_KEYS, NAME_VALUES, HIDDEN_BIT, blocks, containers
    )
    return blocks[:found], containers[:made]
