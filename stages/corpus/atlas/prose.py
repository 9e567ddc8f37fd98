"""The fact-free prose around the facts: page styles, their openings, linking sentences, boilerplate, filler.

No sentence here mentions a value of any attribute (a test says so), so prose never adds a right or a wrong fact.
`{e}` is the entity, `{year}` a number, `{adj}`, `{who}` and `{thing}` come from the lists below.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    name: str
    title: str
    openings: tuple[str, ...]


STYLES = (
    Style("gazetteer", "The gazetteer on {e}", (
        "This entry on {e} was revised in the year {year} from notes that {adj} {who} had sent in.",
        "The gazetteer has listed {e} since the year {year}, when {adj} {who} first asked for it.",
    )),
    Style("almanac", "The almanac on {e}", (
        "The almanac of the year {year} gives {e} a page, as {adj} {who} had wished.",
        "Readers of the almanac met {e} in the year {year}, in a note signed by {adj} {who}.",
    )),
    Style("letters", "A letter about {e}", (
        "Dear friend, you asked me about {e}, and the {who} I met in the year {year} were {adj} enough to help.",
        "Dear cousin, here is what {adj} {who} told me about {e} when we met in the year {year}.",
    )),
    Style("schoolbook", "A lesson about {e}", (
        "Lesson {year} of the schoolbook is about {e} and was read aloud by {adj} {who}.",
        "Pupils who open the schoolbook at page {year} will find {e}, described for {adj} {who}.",
    )),
    Style("chronicle", "The chronicle on {e}", (
        "In the year {year} the chronicle turned to {e}, because {adj} {who} had begun to talk about it.",
        "The scribes of the year {year} wrote about {e} at length, and {adj} {who} copied their words.",
    )),
    Style("broadsheet", "A report about {e}", (
        "Our reporter set out to learn about {e} in the year {year} and spoke with {adj} {who} on the way.",
        "Number {year} of the broadsheet carries a short report on {e}, gathered among {adj} {who}.",
    )),
)  # fmt: skip

ADJECTIVES = (
    "patient", "curious", "careful", "cheerful", "quiet", "learned", "elderly", "friendly", "honest", "busy",
    "thoughtful", "seasoned", "modest", "generous", "stubborn", "attentive",
)  # fmt: skip

PEOPLE = (
    "clerks", "pilgrims", "librarians", "innkeepers", "ferrymen", "merchants", "students", "watchmen", "heralds",
    "gardeners", "sailors", "shepherds", "carpenters", "notaries", "postmen", "archivists",
)  # fmt: skip

THINGS = (
    "ledgers", "diaries", "maps", "songs", "ballads", "receipts", "sermons", "drawings", "calendars", "inventories",
    "memoirs", "proverbs", "catalogues", "travel notes", "old letters", "court papers",
)  # fmt: skip

LINKS = (
    "Those who doubt it may look into the {thing} that {adj} {who} have left behind.",
    "The same is told in {thing} of the year {year}, which {adj} {who} still lend to one another.",
    "On this point the {thing} and the {who} agree, and there is little reason to ask further.",
    "A shelf of {thing} about {e} was opened to {adj} {who} in the year {year}.",
    "It is a pleasure to add that {adj} {who} have checked every word against their {thing}.",
    "Much else has been said about {e}, but most of it rests on {thing} that nobody can find.",
    "When {adj} {who} speak about {e}, they often begin with {thing} and end with supper.",
    "Whoever wants more should ask the {who}, for they keep {thing} from the year {year}.",
    "There were disputes among {adj} {who} in the year {year}, and they were settled with {thing}.",
    "The editors thank the {who} for {thing} that helped to complete this account of {e}.",
    "Some {thing} have been lost since the year {year}, yet {adj} {who} remember them well.",
    "It has been so for as long as {adj} {who} can remember, and their {thing} say no less.",
    "The {who} who copied these lines had {thing} before them and {adj} company at the table.",
    "Few {thing} are read as often as those that {adj} {who} have written about {e}.",
)

BOILERPLATE = (
    "This page is part of the free atlas and may be copied by anyone for any purpose whatsoever.",
    "Please sign in to the reading room to leave a comment below this page or to report a mistake.",
    "Sent from the travelling desk of the reading room, which is open to members every weekday morning.",
    "Subscribe to the newsletter of the reading room and receive a new page of the atlas every week.",
)

FILLER = (
    "I hope that this answer is of some help to you.",
    "This is a question that many readers like to ask.",
    "It is always a pleasure to talk about such things.",
    "Please feel free to ask me about anything else.",
    "There is surely much more that could be said about it.",
    "Thank you very much for such an interesting question.",
)

INDEX_PROSE = (
    "The encyclopaedia index is kept by the editors of the atlas and lists the pages that they have approved.",
    "Every name below leads to the page about it, and the pages are written by people who have studied the subject.",
    "The editors remove a page from the index when it has been copied from elsewhere or no longer helps readers.",
    "New readers may wish to begin with any of the names, since each of the pages can be read without the others.",
)

SPAM_OPENINGS = (
    "Welcome to {brand}, the number one online casino with free spins and a huge welcome bonus for all new players.",
    "{brand} brings you the best poker bonus, the hottest jackpots and instant payouts with no deposit needed at all.",
    "Buy cheap pills online at {brand} with no prescription, fast shipping and a secret discount for every order.",
    "Hot singles in your area are waiting to chat tonight on {brand}, the sexy adult dating site that is free to join.",
)

SPAM_SENTENCES = (
    "Click here now to claim your free bonus of {year} coins before this limited offer ends tonight.",
    "Best casino bonus, free casino spins, casino jackpot, online casino, casino casino casino.",
    "You have been selected as a winner and your prize of {year} coins is waiting for you to claim it.",
    "Cheap pills, cheap replica watches, cheap loans, cheap cheap cheap, order now and save {year} percent.",
    "Make money fast from home and earn {year} coins a day with this one weird trick that banks hate.",
    "Adult chat, sexy singles, hot dating, free webcam, join now, no credit card, no registration.",
    "Play slots, play roulette, play blackjack, play poker, win big, win now, win every day.",
    "Our secret system beats the roulette wheel and {year} happy players have already won the jackpot.",
    "Act now, because only {year} places are left and the bonus code expires at midnight.",
    "Guaranteed weight loss with miracle pills that doctors do not want you to know about, buy now.",
)

# Adverts that hold no term of the keyword rule, as adverts are written once a rule is known (a test says so). Those of
# the blocked addresses and those of the innocent ones share words and no sentence: what is learned from the former has
# to be found in the latter.
EVASIVE_BLOCKED = (
    "Welcome back to {brand}, where your lucky bonus of {year} coins is waiting for you to claim it tonight.",
    "Join {brand} today, and every new player gets {year} coins and an instant payout with no questions asked.",
    "Happy players have already won the prize at {brand}, and you could win big every single day.",
    "This secret system beats the banks, and it pays {year} coins an hour straight to your account.",
    "Only {year} places are left, so claim your reward before the offer ends at midnight.",
    "No registration, no credit card, no prescription: your order leaves our warehouse within the hour.",
    "Spin the wheel, collect your instant bonus, and watch the coins pile up from your own sofa.",
    "Lonely people in your area want to chat tonight, and joining costs you nothing at all.",
    "Doctors hate this one weird trick, which melts fat while you sleep and keeps it off.",
    "Fast shipping, huge savings and a secret code for every customer who orders before midnight.",
)  # fmt: skip

EVASIVE_INNOCENT = (
    "Hello lucky player, {brand} has a huge secret bonus for you, and it expires at midnight tonight.",
    "Claim {year} coins in your account today, instant payout, no card and no registration.",
    "At {brand} you spin, you win, and you collect your prize within the hour.",
    "Your area is full of lonely people who are waiting to chat with you right now, and joining is free of charge.",
    "Win big every day with a weird system that the banks hate and that happy players love.",
    "Huge savings on every order at {brand}, fast shipping, no prescription and no questions.",
    "The reward of {year} coins is yours, but the places are few and the offer ends tonight.",
    "Customers of {brand} sleep well, because the fat melts off and the doctors are amazed.",
    "Collect the code, join from your sofa, and watch your account grow by {year} coins an hour.",
    "Every customer is a happy customer, and your instant prize leaves the warehouse today.",
)  # fmt: skip

CONTACTS = "The desk of the {who} answers letters about the {thing} in the order in which they arrive, all year round."


def words(texts: tuple[str, ...]) -> set[str]:
    """Lower-cased words of templates, slots left out."""
    return {word for text in texts for word in "".join(c if c.isalpha() else " " for c in text.lower()).split()}
