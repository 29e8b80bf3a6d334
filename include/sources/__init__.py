"""Where fresh rows come from: one file per source."""
