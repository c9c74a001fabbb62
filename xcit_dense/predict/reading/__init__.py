"""Reading a user's images and videos, damaged ones among them."""
