"""The adsorbate's domain: atoms and small molecules on a crystal surface that does not move."""
