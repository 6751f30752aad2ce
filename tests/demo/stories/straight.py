"""Goes straight through: does what the issue says, runs the tests, and opens the pull request."""

from acting import Edit, commit, edit, kind, open_pull, verified

MONEY = '''\
"""Money as people read it."""


def euros(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02} EUR"
'''
TEST = """\
import unittest

from shop.money import euros


class Money(unittest.TestCase):
    def test_cents_have_two_digits(self) -> None:
        self.assertEqual(euros(1205), "12.05 EUR")
"""
EDITS = (
    Edit("shop/money.py", "", MONEY),
    Edit("tests/test_money.py", "", TEST),
    Edit(
        "shop/receipt.py", "from shop.cart import Cart\n", "from shop.cart import Cart\nfrom shop.money import euros\n"
    ),
    Edit("shop/receipt.py", "{item.cents * item.count}", "{euros(item.cents * item.count)}"),
    Edit("shop/receipt.py", "{cart.total()}", "{euros(cart.total())}"),
    Edit("tests/test_receipt.py", "tea: 350", "tea: 3.50 EUR"),
    Edit("tests/test_receipt.py", "cup: 2400", "cup: 24.00 EUR"),
    Edit("tests/test_receipt.py", "total: 2750", "total: 27.50 EUR"),
)


def on_message(text, say, run):
    if kind(text) == "task" and "prices in euros" in text:
        edit(*EDITS)
        if verified(run):
            commit(run, "Show prices in euros")
            open_pull(run, text, "Show prices in euros", "Amounts have two digits; all tests pass.")
