"""What a customer wants to buy."""

from typing import NamedTuple


class Item(NamedTuple):
    name: str
    cents: int  # of one piece
    count: int


class Cart:
    def __init__(self) -> None:
        self.items: list[Item] = []

    def add(self, name: str, cents: int, count: int = 1) -> None:
        self.items.append(Item(name, cents, count))

    def total(self) -> int:
        return sum(item.cents * item.count for item in self.items)
