"""One module for each sub-command of ``clmer``; imported only when that command runs."""
