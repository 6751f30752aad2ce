"""A tiny shop: a cart, prices in whole cents, and a receipt."""
