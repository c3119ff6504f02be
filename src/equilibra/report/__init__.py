"""Reports for people: self-contained HTML pages and the plots in them."""
