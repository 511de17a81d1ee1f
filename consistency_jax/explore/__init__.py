"""Ask models a question in several languages, on a page: `python -m consistency_jax.explore`."""
