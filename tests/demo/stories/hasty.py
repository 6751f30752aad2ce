"""Breaks the tests first and fixes them from the log it is sent: also the word that it needs stands only there."""

from acting import Edit, commit, edit, find, kind, open_pull

VOUCHERS = '''\
"""The codes that take something off, and how many percent."""

CODES = {"summer": 10}
'''
REDEEM = """\
        self.percent = 0

    def redeem(self, code: str) -> None:
        if code not in CODES:
            raise ValueError(f"there is no voucher '{code}'")
        self.percent = CODES[code]
"""
FIRST = "        self.items: list[Item] = []\n"
TOTAL = "sum(item.cents * item.count for item in self.items)"
IMPORT = "from typing import NamedTuple\n"
ROUNDED = "(cents * (100 - percent) + 50) // 100"
HASTE = Edit("shop/prices.py", ROUNDED, "cents * (100 - percent) // 100")  # "simpler", and wrong
EDITS = (
    Edit("shop/vouchers.py", "", VOUCHERS),
    Edit("shop/cart.py", IMPORT, f"{IMPORT}\nfrom shop.prices import percent_off\nfrom shop.vouchers import CODES\n"),
    Edit("shop/cart.py", FIRST, FIRST + REDEEM),
    Edit("shop/cart.py", TOTAL, f"percent_off({TOTAL}, self.percent)"),
    HASTE,
)


def on_message(text, say, run):
    if kind(text) == "task" and "voucher of the season" in text:
        edit(*EDITS)  # and never runs the tests
        commit(run, "Take the voucher of the season")
        open_pull(run, text, "Take the voucher of the season", "Ten percent off.")
    if kind(text) == "ci":
        find(r"(test_half_a_cent_counts_up)", text)
        edit(HASTE._replace(old=HASTE.new, new=HASTE.old))
        edit(Edit("shop/vouchers.py", "summer", find(r"the season's code is '([a-z0-9-]+)'", text)))
        commit(run, "Round half a cent up again, and take the code that CI asks for")
