"""Crystal structures from files of the field's formats, and their duplicates."""
