"""Is asked for changes and answers: the word that the reviewer wants to see stands only in the review."""

from acting import Edit, commit, edit, find, kind, open_pull, read, verified

SHIPPING = '''\
"""What it costs to bring the goods to the customer."""

FLAT = 490
FREE_FROM = 5000


def shipping(cents: int) -> int:
    """The cents to pay for shipping goods that cost so many cents."""
    return 0 if cents >= FREE_FROM else FLAT
'''
TEST = """\
import unittest

from shop.shipping import shipping


class Shipping(unittest.TestCase):
    def test_it_is_free_from_fifty_euros(self) -> None:
        self.assertEqual((shipping(4999), shipping(5000)), (490, 0))
"""


def on_message(text, say, run):
    if kind(text) == "task" and "free from 50 euros" in text:
        edit(Edit("shop/shipping.py", "", SHIPPING), Edit("tests/test_shipping.py", "", TEST))
        if verified(run):
            commit(run, "Charge for shipping")
            open_pull(run, text, "Charge for shipping", "A flat rate below 50 euros; tested on both sides of it.")
    if kind(text) == "review":
        path, line = find(r"riley on (\S+):\d+", text), find(r"riley on \S+:(\d+)", text)
        tariff = find(r"tariff '([a-z0-9-]+)'", text)
        flat = read(path).split("\n")[int(line) - 1]
        edit(Edit(path, flat, f'TARIFF = "{tariff}"\n{flat}'))
        if verified(run):
            commit(run, "Name the tariff, as the reviewer asks")
