"""Forward processes on Spaces, denoisers, and the objectives that train them."""
