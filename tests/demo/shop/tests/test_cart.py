import unittest

from shop.cart import Cart


class TheCart(unittest.TestCase):
    def test_an_empty_one_costs_nothing(self) -> None:
        self.assertEqual(Cart().total(), 0)

    def test_each_piece_counts(self) -> None:
        cart = Cart()
        cart.add("tea", 350)
        cart.add("cup", 1200, 2)
        self.assertEqual(cart.total(), 2750)
