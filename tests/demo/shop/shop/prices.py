"""Prices are whole cents."""


def percent_off(cents: int, percent: int) -> int:
    """`cents` less `percent` of it, to the nearest cent; half a cent counts up."""
    return (cents * (100 - percent) + 50) // 100
