import unittest

from shop.cart import Cart
from shop.receipt import receipt


class Receipt(unittest.TestCase):
    def test_items_come_first_and_the_total_last(self) -> None:
        cart = Cart()
        cart.add("tea", 350)
        cart.add("cup", 1200, 2)
        expected = [
            "tea: 350",
            "cup: 2400",
            "total: 2750",
        ]
        self.assertEqual(receipt(cart).split("\n"), expected)
