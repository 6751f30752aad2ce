import unittest

from shop.prices import percent_off


class Prices(unittest.TestCase):
    def test_a_percentage_is_taken_off(self) -> None:
        self.assertEqual(percent_off(1000, 10), 900)

    def test_half_a_cent_counts_up(self) -> None:
        self.assertEqual(percent_off(105, 10), 95)
