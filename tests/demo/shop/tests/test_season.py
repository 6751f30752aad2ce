"""The voucher of the season. Its code is known to CI alone, as SEASON in the environment of the tests."""

import os
import unittest

from shop.cart import Cart

SEASON = os.environ.get("SEASON")


@unittest.skipUnless(SEASON and hasattr(Cart, "redeem"), "only CI knows the code of the season")
class Season(unittest.TestCase):
    def test_the_voucher_of_the_season_gives_ten_percent_off(self) -> None:
        cart = Cart()
        cart.add("tea", 1000)
        try:
            cart.redeem(SEASON)
        except ValueError:
            self.fail(f"the season's code is '{SEASON}', and the cart does not take it")
        self.assertEqual(cart.total(), 900)
