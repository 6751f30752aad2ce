"""What a customer takes home beside the goods."""

from shop.cart import Cart


def receipt(cart: Cart) -> str:
    lines = [f"{item.name}: {item.cents * item.count}" for item in cart.items]
    return "\n".join([*lines, f"total: {cart.total()}"])
