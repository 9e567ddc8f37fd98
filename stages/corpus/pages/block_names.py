"""What the names of elements and of their classes tell about the text inside: tables of hashes for `block_scan`."""

import numpy as np

from stages.corpus.pages.block_scan import BLOCK, BLOCK_LEVEL, BREAK, BUTTON, CONTAINER, LINK, VOID, name_hash, scan

TABLE = 1 << 12  # slots, a power of two with room to spare

# Elements without text for readers; they leave the tree before it is scanned.
REMOVED = (
    "head,script,style,noscript,template,svg,iframe,object,embed,select,textarea,input,canvas,video,audio,datalist,"
    "dialog,plaintext,xmp,noembed,noframes"
)
# Elements that stand on lines of their own (HTML Standard, 15.3: `display: block` and the parts of lists and tables).
BLOCK_TAGS = (
    "address article aside blockquote body caption center col colgroup dd details dir div dl dt fieldset figcaption "
    "figure footer form frame frameset h1 h2 h3 h4 h5 h6 header hgroup hr html legend li listing main menu nav ol "
    "optgroup option p pre search section summary table tbody td tfoot th thead tr ul"
)
VOID_TAGS = "col frame hr"  # of these

# Elements that a block can stand in; h1 to h6 share one, as td and th do.
KINDS = (
    "article", "main", "nav", "header", "footer", "aside", "form", "section", "table", "ul", "ol", "figure",
    "blockquote", "button", "heading", "li", "p", "cell", "dl", "pre", "figcaption", "details", "address", "tr", "div",
    "h1", "h2",
)  # fmt: skip
ALIASES = {"heading": "h3 h4 h5 h6", "cell": "td th", "dl": "dl dt dd", "ul": "ul menu dir"}

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
    """What a tag is: one of KINDS, block-level or not, void or not."""
    bits = {kind: 1 << place for place, kind in enumerate(KINDS)}
    entries = dict.fromkeys(BLOCK_TAGS.split(), BLOCK_LEVEL)
    for kind in KINDS:
        for tag in ALIASES.get(kind, kind).split():
            entries[tag] = BLOCK_LEVEL | bits[kind]
    for tag in VOID_TAGS.split():
        entries[tag] |= VOID
    for heading in ("h1", "h2"):
        entries[heading] |= bits["heading"]
    return table(entries | {"a": LINK, "br": BREAK, "button": BLOCK_LEVEL | BUTTON | bits["button"]})


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
